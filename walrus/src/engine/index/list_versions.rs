//! Lists of versions: both tables as one, by key and newest first, with the prefixes rolled up.

use rusqlite::params;
use s3::{
    BucketName, Key, VersionId,
    documents::versions::{VersionContent, VersionLine, VersionPage},
    request::ListVersions,
    version::{marker_of, order_of_marker},
};

use super::{
    View, kept_at,
    list::{ROWS, after_prefix, rolled_up, start, text},
    record_at,
    versions::depth,
};
use crate::engine::{facts::Object, failure::Result};

/// Where the walk goes on: behind this depth of this key.
struct From {
    key: Vec<u8>,
    depth: i64,
}

impl From {
    /// With the first version of the first key from there on.
    fn key(key: Vec<u8>) -> Self {
        Self {
            key,
            depth: i64::MIN,
        }
    }
}

/// What the page holds so far.
struct Lines<'a> {
    list: &'a ListVersions,
    page: VersionPage,
    /// The last line's name and marker, once something is on the page.
    last: Option<(String, String)>,
    /// The key whose newest version was seen.
    key: Option<String>,
}

impl Lines<'_> {
    fn is_full(&self) -> bool {
        let lines = self.page.versions.len() + self.page.prefixes.len();
        lines >= self.list.max_keys as usize
    }

    fn push_prefix(&mut self, common: &str) {
        self.last = Some((common.to_owned(), String::new()));
        self.page.prefixes.push(common.to_owned());
    }

    fn push_version(&mut self, object: Object) {
        let key = object.key.as_str().to_owned();
        let is_latest = self.key.as_ref() != Some(&key);
        self.last = Some((key.clone(), marker_of(&object.version, object.order)));
        self.key = Some(key);
        self.page.versions.push(line(object, is_latest));
    }
}

impl View<'_> {
    /// A page of a bucket's versions.
    pub fn list_versions(self, bucket: &BucketName, list: &ListVersions) -> Result<VersionPage> {
        let mut lines = Lines {
            list,
            page: VersionPage::default(),
            last: None,
            key: None,
        };
        let mut next = self.first_of(bucket, list)?;
        // A walk that begins amid the versions of a key has the newest behind it.
        if next.as_ref().is_some_and(|from| from.depth > i64::MIN) {
            lines.key = Some(list.key_marker.clone());
        }
        while let Some(from) = next.take().filter(|_| list.max_keys > 0) {
            next = self.walk_versions(bucket, from, &mut lines)?;
        }
        Ok(lines.page)
    }

    fn first_of(self, bucket: &BucketName, list: &ListVersions) -> Result<Option<From>> {
        let (prefix, delimiter) = (list.prefix.as_str(), list.delimiter.as_deref());
        let marker = list.version_marker.as_str();
        let inside = list.key_marker.starts_with(prefix)
            && rolled_up(&list.key_marker, prefix, delimiter).is_none();
        if marker.is_empty() || !inside {
            let key = start(prefix, &list.key_marker, delimiter);
            return Ok(key.map(From::key));
        }

        let order = match order_of_marker(marker)? {
            Some(order) => Some(order),
            None => self.order_of_null(bucket, &list.key_marker)?,
        };
        Ok(match order {
            Some(order) => Some(From {
                key: list.key_marker.as_bytes().to_vec(),
                depth: depth(order),
            }),
            None => start(prefix, &list.key_marker, delimiter).map(From::key),
        })
    }

    fn order_of_null(self, bucket: &BucketName, key: &str) -> Result<Option<u64>> {
        let null = self.find_version(bucket, &Key::parse(key)?, &VersionId::null())?;
        Ok(null.map(|kept| kept.thing.order))
    }

    /// All versions of the keys after one, each key's newest first: until there are enough, and those
    /// of the last key to their end.
    pub fn versions_by_key(
        self,
        bucket: &BucketName,
        after: Option<&Key>,
        enough: u32,
    ) -> Result<Vec<Vec<Object>>> {
        let mut query = self.0.prepare_cached(
            "SELECT key, depth, record, segment, offset, length FROM objects \
             WHERE bucket = ?1 AND key > ?2 \
             UNION ALL \
             SELECT key, depth, record, segment, offset, length FROM versions \
             WHERE bucket = ?1 AND key > ?2 \
             ORDER BY key, depth",
        )?;
        let after = after.map(|key| key.as_str().as_bytes()).unwrap_or_default();
        let mut rows = query.query(params![bucket.as_str(), after])?;
        let mut keys: Vec<Vec<Object>> = Vec::new();
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let key: Vec<u8> = row.get(0)?;
            let object = kept_at(&key, record_at(row, 2)?)?.thing;
            match keys.last_mut() {
                Some(last) if last[0].key == object.key => last.push(object),
                _ if count >= enough => break,
                _ => keys.push(vec![object]),
            }
            count += 1;
        }
        Ok(keys)
    }

    /// Puts lines on the page up to where it is full, the rows are at their end or a prefix is to
    /// be stepped over; answers where to go on.
    fn walk_versions(
        self,
        bucket: &BucketName,
        from: From,
        lines: &mut Lines<'_>,
    ) -> Result<Option<From>> {
        let (prefix, delimiter) = (lines.list.prefix.as_str(), lines.list.delimiter.as_deref());
        let mut query = self.0.prepare_cached(
            "SELECT key, depth, record, segment, offset, length FROM objects WHERE bucket = ?1 \
             AND (key, depth) > (?2, ?4) AND (?3 IS NULL OR key < ?3) \
             UNION ALL \
             SELECT key, depth, record, segment, offset, length FROM versions WHERE bucket = ?1 \
             AND (key, depth) > (?2, ?4) AND (?3 IS NULL OR key < ?3) \
             ORDER BY key, depth LIMIT ?5",
        )?;
        let end = after_prefix(prefix.as_bytes());
        let mut rows = query.query(params![bucket.as_str(), from.key, end, from.depth, ROWS])?;
        let mut last = None;
        let mut fetched = 0;
        while let Some(row) = rows.next()? {
            fetched += 1;
            let key = text(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
            if lines.is_full() {
                lines.page.next = lines.last.take();
                return Ok(None);
            }
            if let Some(common) = rolled_up(key, prefix, delimiter) {
                lines.push_prefix(common);
                let key = after_prefix(common.as_bytes());
                return Ok(key.map(From::key));
            }
            last = Some(From {
                key: key.as_bytes().to_vec(),
                depth: row.get(1)?,
            });
            lines.push_version(kept_at(key.as_bytes(), record_at(row, 2)?)?.thing);
        }
        Ok(last.filter(|_| fetched == ROWS))
    }
}

fn line(object: Object, is_latest: bool) -> VersionLine {
    let content = (!object.is_marker()).then(|| VersionContent {
        size: object.size,
        storage_class: object.attributes.storage_class().to_owned(),
        etag: object.etag,
        checksum: object.checksum,
    });
    VersionLine {
        key: object.key.as_str().to_owned(),
        version: object.version,
        is_latest,
        modified: object.modified,
        owner: object.owner,
        content,
    }
}
