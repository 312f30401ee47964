//! `If-Match` and its relatives. Reads are judged in the order of RFC 9110 (13.2.2); writes know
//! only the two tag conditions, deletes also time and size; both are judged inside the commit.

use crate::{Code, Result};
use types::Timestamp;

/// A list of entity tags, or the star.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ETags {
    /// `*`: any object.
    Any,
    /// These tags, without quotes. Weak tags never match: we give out strong ones.
    These(Vec<String>),
}

impl ETags {
    /// Reads the header's value.
    pub fn parse(header: &str) -> Self {
        if header.trim() == "*" {
            return Self::Any;
        }
        let tags = header
            .split(',')
            .map(|tag| tag.trim().trim_matches('"').to_owned());
        Self::These(tags.collect())
    }

    /// Whether an object with this tag is meant.
    pub fn match_tag(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// Conditions of a read, or (spelled `x-amz-copy-source-if-*`) of a copy's source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// Only if the tag is one of these.
    pub if_match: Option<ETags>,
    /// Only if the tag is none of these.
    pub if_none_match: Option<ETags>,
    /// Only if changed after this second.
    pub if_modified_since: Option<Timestamp>,
    /// Only if not changed after this second.
    pub if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// `Ok` if the object may be sent, `NotModified` or `PreconditionFailed` if not.
    pub fn judge(&self, etag: &str, modified: Timestamp) -> Result<()> {
        let changed_after = |limit: Timestamp| modified.as_secs() > limit.as_secs();

        let agreed = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.match_tag(etag),
            (None, Some(limit)) => !changed_after(limit),
            (None, None) => true,
        };
        if !agreed {
            return Err(Code::PreconditionFailed.into());
        }

        let fresh = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => !tags.match_tag(etag),
            (None, Some(limit)) => changed_after(limit),
            (None, None) => true,
        };
        if fresh {
            Ok(())
        } else {
            Err(Code::NotModified.into())
        }
    }
}

/// Conditions of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteConditions {
    /// Only over an object with one of these tags.
    pub if_match: Option<ETags>,
    /// Only if there is no such object (the star), or none with these tags.
    pub if_none_match: Option<ETags>,
}

impl WriteConditions {
    /// Judges against the object that is there now, `None` if there is none.
    pub fn judge(&self, etag: Option<&str>) -> Result<()> {
        match (&self.if_match, etag) {
            // S3 answers 404 to If-Match where there is nothing (PutObject reference).
            (Some(_), None) => return Err(Code::NoSuchKey.into()),
            (Some(tags), Some(etag)) if !tags.match_tag(etag) => {
                return Err(Code::PreconditionFailed.into());
            }
            _ => {}
        }
        match (&self.if_none_match, etag) {
            (Some(tags), Some(etag)) if tags.match_tag(etag) => {
                Err(Code::PreconditionFailed.into())
            }
            _ => Ok(()),
        }
    }
}

/// Conditions of a delete. What is not there is deleted already, whatever they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteConditions {
    /// Only an object with one of these tags.
    pub if_match: Option<ETags>,
    /// Only an object that was written in this second.
    pub modified: Option<Timestamp>,
    /// Only an object of this size.
    pub size: Option<u64>,
}

impl DeleteConditions {
    /// Judges against the version that is to be deleted; a delete marker has no tag.
    pub fn judge(&self, etag: Option<&str>, modified: Timestamp, size: u64) -> Result<()> {
        let tag_fits = match (&self.if_match, etag) {
            (None, _) | (Some(ETags::Any), None) => true,
            (Some(ETags::These(_)), None) => false,
            (Some(tags), Some(etag)) => tags.match_tag(etag),
        };
        let time_fits = self
            .modified
            .is_none_or(|asked| asked.as_secs() == modified.as_secs());
        if tag_fits && time_fits && self.size.is_none_or(|asked| asked == size) {
            Ok(())
        } else {
            Err(Code::PreconditionFailed.into())
        }
    }
}

/// A date as headers have it (RFC 2822) or as documents have it (RFC 3339).
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let header = jiff::fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp());
    let instant = header.or_else(|_| text.parse::<jiff::Timestamp>()).ok()?;
    Some(Timestamp(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_outranks_a_date() {
        let now = Timestamp(10_000);
        let mut ask = ReadConditions {
            if_match: Some(ETags::parse("\"aa\", \"bb\"")),
            if_unmodified_since: Some(Timestamp(0)),
            ..ReadConditions::default()
        };
        assert!(ask.judge("bb", now).is_ok());
        assert_eq!(
            ask.judge("cc", now).unwrap_err().code,
            Code::PreconditionFailed
        );

        ask = ReadConditions {
            if_none_match: Some(ETags::Any),
            ..ReadConditions::default()
        };
        assert_eq!(ask.judge("bb", now).unwrap_err().code, Code::NotModified);

        let ask = ReadConditions {
            if_modified_since: Some(now),
            ..ReadConditions::default()
        };
        assert_eq!(
            ask.judge("bb", Timestamp(10_900)).unwrap_err().code,
            Code::NotModified
        );
        assert!(ask.judge("bb", Timestamp(11_000)).is_ok());
    }

    #[test]
    fn a_delete_wants_what_it_names() {
        let named = |tag: &str| DeleteConditions {
            if_match: Some(ETags::parse(tag)),
            ..DeleteConditions::default()
        };
        let now = Timestamp(10_000);
        assert!(named("aa").judge(Some("aa"), now, 1).is_ok());
        assert!(named("bb").judge(Some("aa"), now, 1).is_err());
        assert!(named("*").judge(None, now, 0).is_ok(), "a marker is there");
        assert!(named("aa").judge(None, now, 0).is_err());

        let date = "Thu, 01 Jan 1970 00:00:10 GMT";
        let dated = DeleteConditions {
            modified: parse_date(date),
            size: Some(1),
            ..DeleteConditions::default()
        };
        assert!(dated.judge(Some("aa"), Timestamp(10_999), 1).is_ok());
        assert!(dated.judge(Some("aa"), Timestamp(11_000), 1).is_err());
        assert!(dated.judge(Some("aa"), now, 2).is_err());
        assert_eq!(parse_date("1970-01-01T00:00:10Z"), parse_date(date));
    }

    #[test]
    fn a_lock_is_taken_once() {
        let lock = WriteConditions {
            if_none_match: Some(ETags::Any),
            ..WriteConditions::default()
        };
        assert!(lock.judge(None).is_ok());
        assert_eq!(
            lock.judge(Some("aa")).unwrap_err().code,
            Code::PreconditionFailed
        );

        let swap = WriteConditions {
            if_match: Some(ETags::parse("aa")),
            ..WriteConditions::default()
        };
        assert!(swap.judge(Some("aa")).is_ok());
        assert_eq!(
            swap.judge(Some("bb")).unwrap_err().code,
            Code::PreconditionFailed
        );
        assert_eq!(swap.judge(None).unwrap_err().code, Code::NoSuchKey);
    }
}
