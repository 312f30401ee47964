//! GetObjectAttributes: what is asked for by name, and the answer.

use crate::{Error, Result, checksum::Checksum, xml::Writer};

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the S3 API reference")]
pub enum Attribute {
    ETag,
    Checksum,
    ObjectParts,
    StorageClass,
    ObjectSize,
}

impl Attribute {
    const ALL: [(Self, &'static str); 5] = [
        (Self::ETag, "ETag"),
        (Self::Checksum, "Checksum"),
        (Self::ObjectParts, "ObjectParts"),
        (Self::StorageClass, "StorageClass"),
        (Self::ObjectSize, "ObjectSize"),
    ];

    /// Reads `x-amz-object-attributes`.
    pub fn parse_all(header: Option<&str>) -> Result<Vec<Self>> {
        let header = header.unwrap_or_default();
        let words = header.split(',').map(str::trim);
        let known = words.map(|word| {
            let known = Self::ALL.into_iter().find(|(_, name)| *name == word);
            known.map(|(known, _)| known).ok_or_else(|| {
                let message = "Invalid attribute name specified.";
                Error::invalid_argument("x-amz-object-attributes", word, message)
            })
        });
        known.collect()
    }
}

/// One part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its number.
    pub number: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// What is known of an object.
#[derive(Debug)]
pub struct ObjectAttributes<'a> {
    /// Its entity tag without quotes.
    pub etag: &'a str,
    /// Its checksum.
    pub checksum: Option<&'a Checksum>,
    /// Its parts; `None` if it was not uploaded in parts.
    pub parts: Option<&'a [ObjectPart]>,
    /// Its storage class.
    pub storage_class: &'a str,
    /// Its size in bytes.
    pub size: u64,
}

impl ObjectAttributes<'_> {
    /// The document with what was asked for; of the parts those after a number, so many at most.
    pub fn write(&self, asked: &[Attribute], after: u32, max_parts: u32) -> String {
        let wants = |attribute| asked.contains(&attribute);
        Writer::document("GetObjectAttributesResponse", |xml| {
            if wants(Attribute::ETag) {
                xml.text("ETag", self.etag);
            }
            if let Some(checksum) = self.checksum.filter(|_| wants(Attribute::Checksum)) {
                xml.nest("Checksum", |xml| {
                    xml.text(checksum.algorithm.element(), &checksum.value);
                    xml.text("ChecksumType", checksum.kind.as_str());
                });
            }
            if let Some(parts) = self.parts.filter(|_| wants(Attribute::ObjectParts)) {
                xml.nest("ObjectParts", |xml| {
                    write_parts(xml, parts, after, max_parts)
                });
            }
            if wants(Attribute::StorageClass) {
                xml.text("StorageClass", self.storage_class);
            }
            if wants(Attribute::ObjectSize) {
                xml.plain("ObjectSize", self.size);
            }
        })
    }
}

fn write_parts(xml: &mut Writer, parts: &[ObjectPart], after: u32, max_parts: u32) {
    let later = parts.iter().filter(|part| part.number > after);
    let shown: Vec<_> = later.clone().take(max_parts as usize).collect();
    xml.plain("PartsCount", parts.len());
    xml.plain("PartNumberMarker", after);
    xml.plain(
        "NextPartNumberMarker",
        shown.last().map_or(0, |part| part.number),
    );
    xml.plain("MaxParts", max_parts);
    xml.plain("IsTruncated", later.count() > shown.len());
    for part in shown {
        xml.nest("Part", |xml| {
            xml.plain("PartNumber", part.number);
            xml.plain("Size", part.size);
            if let Some(checksum) = &part.checksum {
                xml.text(checksum.algorithm.element(), &checksum.value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_answered_and_nothing_else() {
        let part = |number| ObjectPart {
            number,
            size: 5,
            checksum: None,
        };
        let parts = [part(1), part(2), part(3)];
        let attributes = ObjectAttributes {
            etag: "aa-3",
            checksum: None,
            parts: Some(&parts),
            storage_class: "STANDARD",
            size: 15,
        };
        let asked = Attribute::parse_all(Some("ObjectParts, ETag")).unwrap();
        let text = attributes.write(&asked, 1, 1);
        assert!(text.contains("<ETag>aa-3</ETag>") && !text.contains("ObjectSize"));
        assert!(text.contains("<PartsCount>3</PartsCount>"));
        assert!(text.contains("<IsTruncated>true</IsTruncated>"));
        assert!(text.contains("<PartNumber>2</PartNumber>") && !text.contains("<PartNumber>3"));
        assert!(Attribute::parse_all(Some("Colour")).is_err());
        assert!(Attribute::parse_all(None).is_err());
    }
}
