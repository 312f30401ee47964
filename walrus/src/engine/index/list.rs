//! Listing by prefix and delimiter, at the speed of the index: a rolled-up prefix costs one seek,
//! however many keys lie below it.

use rusqlite::params;
use s3::{
    BucketName,
    documents::{
        list::{ObjectLine, Page},
        multipart::{UploadLine, UploadPage},
    },
    request::{ListObjects, ListUploads},
};

use super::{View, kept, kept_at, record_at};
use crate::engine::{
    facts::Upload,
    failure::{Failure, Result},
    journal::Location,
};

/// Rows fetched at once: a page and the one that says that there is more.
pub(super) const ROWS: u32 = 1001;

/// The first bytes that no text with this prefix reaches; `None` if there are none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

/// The common prefix that a key is rolled up into.
pub(super) fn rolled_up<'a>(
    key: &'a str,
    prefix: &str,
    delimiter: Option<&str>,
) -> Option<&'a str> {
    let rest = key.strip_prefix(prefix)?;
    let at = rest.find(delimiter?)?;
    Some(&key[..prefix.len() + at + delimiter?.len()])
}

/// Where a walk over keys begins, inclusive. A marker inside a common prefix skips all of it: the
/// prefix was on the page before.
pub(super) fn start(prefix: &str, after: &str, delimiter: Option<&str>) -> Option<Vec<u8>> {
    if after.is_empty() || after < prefix {
        return Some(prefix.as_bytes().to_vec());
    }
    match rolled_up(after, prefix, delimiter) {
        Some(common) => after_prefix(common.as_bytes()),
        None => Some([after.as_bytes(), &[0]].concat()),
    }
}

/// What the walk found at one place.
enum Line {
    Prefix(String),
    Key(String, (String, Location)),
}

impl Line {
    fn name(&self) -> &str {
        match self {
            Self::Prefix(name) | Self::Key(name, _) => name,
        }
    }
}

impl View<'_> {
    /// A page of a bucket's objects.
    pub fn list_objects(self, bucket: &BucketName, list: &ListObjects) -> Result<Page> {
        let mut page = Page::default();
        let limit = list.max_keys as usize;
        if limit == 0 {
            return Ok(page);
        }
        let (prefix, delimiter) = (list.prefix.as_str(), list.delimiter.as_deref());
        let first = start(prefix, list.after(), delimiter);
        let mut lines = self.walk(bucket, prefix, delimiter, first, limit + 1)?;

        if lines.len() > limit {
            lines.truncate(limit);
            page.next = lines.last().map(|line| line.name().to_owned());
        }
        for line in lines {
            match line {
                Line::Prefix(name) => page.prefixes.push(name),
                Line::Key(key, record) => page.objects.push(object_line(&key, record)?),
            }
        }
        Ok(page)
    }

    fn walk(
        self,
        bucket: &BucketName,
        prefix: &str,
        delimiter: Option<&str>,
        first: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Line>> {
        let end = after_prefix(prefix.as_bytes());
        let mut lines: Vec<Line> = Vec::new();
        let mut next = first;

        while let Some(from) = next.take().filter(|_| lines.len() < limit) {
            let mut query = self.0.prepare_cached(
                "SELECT key, record, segment, offset, length FROM objects \
                 WHERE bucket = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) \
                 ORDER BY key LIMIT ?4",
            )?;
            let mut rows = query.query(params![bucket.as_str(), from, end, ROWS])?;
            let mut last: Option<Vec<u8>> = None;
            let mut fetched = 0;
            while let Some(row) = rows.next()? {
                fetched += 1;
                let key = text(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
                if let Some(common) = rolled_up(key, prefix, delimiter) {
                    lines.push(Line::Prefix(common.to_owned()));
                    next = after_prefix(common.as_bytes());
                    last = None;
                    break;
                }
                last = Some([key.as_bytes(), &[0]].concat());
                lines.push(Line::Key(key.to_owned(), record_at(row, 1)?));
                if lines.len() == limit {
                    return Ok(lines);
                }
            }
            if let Some(last) = last
                && fetched == ROWS
            {
                next = Some(last);
            }
        }
        Ok(lines)
    }

    /// A page of a bucket's uploads.
    pub fn list_uploads(self, bucket: &BucketName, list: &ListUploads) -> Result<UploadPage> {
        let mut page = UploadPage::default();
        let limit = list.max_uploads as usize;
        let (prefix, delimiter) = (list.prefix.as_str(), list.delimiter.as_deref());
        let end = after_prefix(prefix.as_bytes());
        let skipped = rolled_up(&list.key_marker, prefix, delimiter);

        let mut query = self.0.prepare_cached(
            "SELECT key, id, record, segment, offset, length FROM uploads WHERE bucket = ?1 AND key >= ?2 \
             AND (?3 IS NULL OR key < ?3) AND (key > ?4 OR (key = ?4 AND ?5 <> '' AND id > ?5)) \
             ORDER BY key, id",
        )?;
        let mut rows = query.query(params![
            bucket.as_str(),
            prefix.as_bytes(),
            end,
            list.key_marker.as_bytes(),
            list.upload_id_marker
        ])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let key = text(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?.to_owned();
            let id: String = row.get(1)?;
            let common = rolled_up(&key, prefix, delimiter);
            if common.is_some()
                && (common == skipped || common == page.prefixes.last().map(String::as_str))
            {
                continue;
            }
            if page.uploads.len() + page.prefixes.len() >= limit {
                page.next = last.filter(|_| limit > 0);
                break;
            }
            last = Some((common.unwrap_or(&key).to_owned(), id));
            match common {
                Some(common) => page.prefixes.push(common.to_owned()),
                None => page.uploads.push(upload_line(record_at(row, 2)?)?),
            }
        }
        Ok(page)
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Failure::Record("a key is not UTF-8".to_owned()))
}

fn object_line(key: &str, record: (String, Location)) -> Result<ObjectLine> {
    let object = kept_at(key.as_bytes(), record)?.thing;
    Ok(ObjectLine {
        storage_class: object.attributes.storage_class().to_owned(),
        key: object.key.as_str().to_owned(),
        size: object.size,
        etag: object.etag,
        modified: object.modified,
        owner: object.owner,
        checksum: object.checksum,
    })
}

fn upload_line(record: (String, Location)) -> Result<UploadLine> {
    Ok(kept::<Upload>(record)?.thing.line())
}

impl Upload {
    /// The upload as lists show it.
    pub fn line(&self) -> UploadLine {
        UploadLine {
            key: self.key.as_str().to_owned(),
            upload_id: self.id.clone(),
            owner: self.owner.clone(),
            initiated: self.initiated,
            storage_class: self.attributes.storage_class().to_owned(),
            checksum: self.checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_beyond_all_its_keys() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn a_marker_inside_a_common_prefix_skips_it() {
        assert_eq!(start("", "a/", Some("/")), Some(b"a0".to_vec()));
        assert_eq!(start("", "a/b", Some("/")), Some(b"a0".to_vec()));
        assert_eq!(start("", "a/b", None), Some(b"a/b\0".to_vec()));
        assert_eq!(start("p", "a", Some("/")), Some(b"p".to_vec()));
    }
}
