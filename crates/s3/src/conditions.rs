//! `If-Match` and its relatives. Reads are judged in the order of RFC 9110 (13.2.2); writes know
//! only the two tag conditions, and are judged inside the commit.

use crate::{Code, Result};
use types::Timestamp;

/// A list of entity tags, or the star.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any object.
    Any,
    /// These tags, without quotes. Weak tags never match: we give out strong ones.
    These(Vec<String>),
}

impl Tags {
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
    pub if_match: Option<Tags>,
    /// Only if the tag is none of these.
    pub if_none_match: Option<Tags>,
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
    pub if_match: Option<Tags>,
    /// Only if there is no such object (the star), or none with these tags.
    pub if_none_match: Option<Tags>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_outranks_a_date() {
        let now = Timestamp(10_000);
        let mut ask = ReadConditions {
            if_match: Some(Tags::parse("\"aa\", \"bb\"")),
            if_unmodified_since: Some(Timestamp(0)),
            ..ReadConditions::default()
        };
        assert!(ask.judge("bb", now).is_ok());
        assert_eq!(
            ask.judge("cc", now).unwrap_err().code,
            Code::PreconditionFailed
        );

        ask = ReadConditions {
            if_none_match: Some(Tags::Any),
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
    fn a_lock_is_taken_once() {
        let lock = WriteConditions {
            if_none_match: Some(Tags::Any),
            ..WriteConditions::default()
        };
        assert!(lock.judge(None).is_ok());
        assert_eq!(
            lock.judge(Some("aa")).unwrap_err().code,
            Code::PreconditionFailed
        );

        let swap = WriteConditions {
            if_match: Some(Tags::parse("aa")),
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
