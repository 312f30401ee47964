//! Versioning: the bucket's setting, and lists of versions.

use serde::{Deserialize, Serialize};
use types::{AccountId, Timestamp};

use crate::{
    Error, Result, VersionId,
    acl::People,
    checksum::Checksum,
    documents::access::write_owner,
    query::encode_key,
    request::ListVersions,
    xml::{Element, Writer, malformed},
};

/// Whether a bucket keeps old versions. A bucket that never did has no such setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    /// Every write is a new version.
    Enabled,
    /// Writes replace the null version; versions that are there stay.
    Suspended,
}

impl Versioning {
    /// Reads a VersioningConfiguration. Deleting with a second factor is refused by name.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "VersioningConfiguration")?;
        if configuration.text_of("MfaDelete").map(str::trim) == Some("Enabled") {
            return Err(Error::not_implemented("MfaDelete"));
        }
        match configuration.required("Status")?.trim() {
            "Enabled" => Ok(Self::Enabled),
            "Suspended" => Ok(Self::Suspended),
            _ => Err(malformed("Status is Enabled or Suspended")),
        }
    }
}

/// The document; empty for a bucket that never kept versions.
pub fn write_versioning(versioning: Option<Versioning>) -> String {
    Writer::document("VersioningConfiguration", |xml| {
        let status = versioning.map(|versioning| match versioning {
            Versioning::Enabled => "Enabled",
            Versioning::Suspended => "Suspended",
        });
        xml.maybe("Status", status);
    })
}

/// One version of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionLine {
    /// Its key.
    pub key: String,
    /// Its id.
    pub version: VersionId,
    /// Whether it is what a request without a version id means.
    pub is_latest: bool,
    /// When it was written.
    pub modified: Timestamp,
    /// Whose it is.
    pub owner: AccountId,
    /// What it holds; a delete marker holds nothing.
    pub content: Option<VersionContent>,
}

/// What a version that is no delete marker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionContent {
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag without quotes.
    pub etag: String,
    /// Its storage class.
    pub storage_class: String,
    /// Its checksum's algorithm is listed.
    pub checksum: Option<Checksum>,
}

/// A page of a list of versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// The versions by key, newest first.
    pub versions: Vec<VersionLine>,
    /// The common prefixes.
    pub prefixes: Vec<String>,
    /// Key and version marker of the last line, if there are more.
    pub next: Option<(String, String)>,
}

/// Answer of ListObjectVersions.
pub fn write_version_list(
    bucket: &str,
    list: &ListVersions,
    page: &VersionPage,
    people: &dyn People,
) -> String {
    let shown = |text: &str| {
        if list.encode {
            encode_key(text)
        } else {
            text.to_owned()
        }
    };

    Writer::document("ListVersionsResult", |xml| {
        xml.text("Name", bucket);
        xml.text("Prefix", shown(&list.prefix));
        xml.text("KeyMarker", shown(&list.key_marker));
        xml.text("VersionIdMarker", &list.version_marker);
        if let Some((key, version)) = &page.next {
            xml.text("NextKeyMarker", shown(key));
            xml.text("NextVersionIdMarker", version);
        }
        xml.plain("MaxKeys", list.max_keys);
        xml.maybe("Delimiter", list.delimiter.as_deref().map(shown));
        xml.maybe("EncodingType", list.encode.then_some("url"));
        xml.plain("IsTruncated", page.next.is_some());
        for line in &page.versions {
            let element = match line.content {
                Some(_) => "Version",
                None => "DeleteMarker",
            };
            xml.nest(element, |xml| write_line(xml, line, &shown, people));
        }
        for prefix in &page.prefixes {
            xml.nest("CommonPrefixes", |xml| xml.text("Prefix", shown(prefix)));
        }
    })
}

fn write_line(
    xml: &mut Writer,
    line: &VersionLine,
    shown: &dyn Fn(&str) -> String,
    people: &dyn People,
) {
    xml.text("Key", shown(&line.key));
    xml.text("VersionId", line.version.as_str());
    xml.plain("IsLatest", line.is_latest);
    xml.plain("LastModified", line.modified);
    if let Some(content) = &line.content {
        xml.text("ETag", format!("\"{}\"", content.etag));
        if let Some(checksum) = &content.checksum {
            xml.text("ChecksumAlgorithm", checksum.algorithm.name());
            xml.text("ChecksumType", checksum.kind.as_str());
        }
        xml.plain("Size", content.size);
        xml.text("StorageClass", &content.storage_class);
    }
    write_owner(xml, "Owner", &people.person(&line.owner));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn versioning_is_on_or_suspended() {
        let read = |status: &str| {
            let text = format!(
                "<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
            );
            Versioning::read(text.as_bytes())
        };
        assert_eq!(read("Enabled").unwrap(), Versioning::Enabled);
        assert_eq!(read("Suspended").unwrap(), Versioning::Suspended);
        assert_eq!(read("Off").unwrap_err().code, Code::MalformedXML);
        let mfa = "<VersioningConfiguration><Status>Enabled</Status>\
                   <MfaDelete>Enabled</MfaDelete></VersioningConfiguration>";
        let refused = Versioning::read(mfa.as_bytes()).unwrap_err();
        assert_eq!(refused.code, Code::NotImplemented);
    }
}
