//! Answers of ListObjects, both versions.

use types::{AccountId, Timestamp};

use crate::{
    acl::People,
    checksum::Checksum,
    documents::access::write_owner,
    query::encode_key,
    request::{ListObjects, ListVersion, token_of},
    xml::Writer,
};

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLine {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// Whose it is.
    pub owner: AccountId,
    /// Its storage class.
    pub storage_class: String,
    /// Its checksum's algorithm is listed.
    pub checksum: Option<Checksum>,
}

/// A page of a list: keys, rolled-up prefixes, and whether there is more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects, in byte order.
    pub objects: Vec<ObjectLine>,
    /// The common prefixes, in byte order.
    pub prefixes: Vec<String>,
    /// The last key or prefix of the page, if the list goes on after it.
    pub next: Option<String>,
}

/// Writes a page for the request that asked for it.
pub fn write_page(bucket: &str, list: &ListObjects, page: &Page, people: &dyn People) -> String {
    let shown = |text: &str| {
        if list.encode {
            encode_key(text)
        } else {
            text.to_owned()
        }
    };

    Writer::document("ListBucketResult", |xml| {
        xml.text("Name", bucket);
        xml.text("Prefix", shown(&list.prefix));
        match &list.version {
            ListVersion::V1 { marker } => {
                xml.text("Marker", shown(marker));
                xml.maybe("NextMarker", next_marker(list, page).map(shown));
            }
            ListVersion::V2 {
                token, start_after, ..
            } => {
                xml.plain("KeyCount", page.objects.len() + page.prefixes.len());
                xml.maybe("ContinuationToken", token.as_ref());
                xml.maybe("NextContinuationToken", page.next.as_deref().map(token_of));
                xml.maybe("StartAfter", start_after.as_deref().map(shown));
            }
        }
        xml.plain("MaxKeys", list.max_keys);
        xml.maybe("Delimiter", list.delimiter.as_deref().map(shown));
        xml.maybe("EncodingType", list.encode.then_some("url"));
        xml.plain("IsTruncated", page.next.is_some());
        write_lines(xml, list, page, people);
    })
}

/// Version 1 names the next marker only beside a delimiter; else the last key is the marker.
fn next_marker<'a>(list: &ListObjects, page: &'a Page) -> Option<&'a str> {
    list.delimiter.as_ref().and(page.next.as_deref())
}

fn write_lines(xml: &mut Writer, list: &ListObjects, page: &Page, people: &dyn People) {
    let shown = |text: &str| {
        if list.encode {
            encode_key(text)
        } else {
            text.to_owned()
        }
    };
    let owners = match &list.version {
        ListVersion::V1 { .. } => true,
        ListVersion::V2 { fetch_owner, .. } => *fetch_owner,
    };

    for object in &page.objects {
        xml.nest("Contents", |xml| {
            xml.text("Key", shown(&object.key));
            xml.plain("LastModified", object.modified);
            xml.text("ETag", format!("\"{}\"", object.etag));
            if let Some(checksum) = &object.checksum {
                xml.text("ChecksumAlgorithm", checksum.algorithm.name());
                xml.text("ChecksumType", checksum.kind.as_str());
            }
            xml.plain("Size", object.size);
            if owners {
                write_owner(xml, "Owner", &people.person(&object.owner));
            }
            xml.text("StorageClass", &object.storage_class);
        });
    }
    for prefix in &page.prefixes {
        xml.nest("CommonPrefixes", |xml| xml.text("Prefix", shown(prefix)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(version: ListVersion) -> ListObjects {
        ListObjects {
            prefix: "a b".into(),
            delimiter: Some("/".into()),
            max_keys: 2,
            encode: true,
            version,
        }
    }

    fn page() -> Page {
        Page {
            objects: vec![ObjectLine {
                key: "a b+".into(),
                size: 3,
                etag: "aa".into(),
                modified: Timestamp(0),
                owner: "111111111111".parse().unwrap(),
                storage_class: "STANDARD".into(),
                checksum: None,
            }],
            prefixes: vec!["a b/".into()],
            next: Some("a b/".into()),
        }
    }

    #[test]
    fn version_one_names_its_next_marker() {
        let text = write_page(
            "bucket",
            &list(ListVersion::V1 {
                marker: String::new(),
            }),
            &page(),
            &crate::documents::access::tests::Numbers,
        );
        assert!(text.contains("<NextMarker>a%20b/</NextMarker>"));
        assert!(text.contains("<Key>a%20b%2B</Key>"));
        assert!(text.contains("<DisplayName>alice</DisplayName>"));
        assert!(text.contains("<ETag>&quot;aa&quot;</ETag>"));
    }

    #[test]
    fn version_two_counts_and_gives_a_token() {
        let version = ListVersion::V2 {
            token: None,
            after: String::new(),
            start_after: None,
            fetch_owner: false,
        };
        let text = write_page(
            "bucket",
            &list(version),
            &page(),
            &crate::documents::access::tests::Numbers,
        );
        assert!(text.contains("<KeyCount>2</KeyCount>"));
        assert!(text.contains(&format!(
            "<NextContinuationToken>{}</NextContinuationToken>",
            token_of("a b/")
        )));
        assert!(!text.contains("<Owner>"));
    }
}
