//! Documents of multipart uploads.

use types::{AccountId, Timestamp};

use crate::{
    Code, Error, Result,
    acl::People,
    checksum::{Algorithm, Checksum},
    documents::access::write_owner,
    headers::ChecksumPlan,
    query::encode_key,
    request::{ListParts, ListUploads, MAX_PARTS},
    xml::{Element, Writer, malformed},
};

/// Answer of CreateMultipartUpload.
pub fn write_created(bucket: &str, key: &str, upload_id: &str) -> String {
    Writer::document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", bucket);
        xml.text("Key", key);
        xml.text("UploadId", upload_id);
    })
}

/// Answer of CompleteMultipartUpload.
pub fn write_completed(
    location: &str,
    bucket: &str,
    key: &str,
    etag: &str,
    checksum: Option<&Checksum>,
) -> String {
    Writer::document("CompleteMultipartUploadResult", |xml| {
        xml.text("Location", location);
        xml.text("Bucket", bucket);
        xml.text("Key", key);
        xml.text("ETag", format!("\"{etag}\""));
        if let Some(checksum) = checksum {
            xml.text(checksum.algorithm.element(), &checksum.value);
            xml.text("ChecksumType", checksum.kind.as_str());
        }
    })
}

/// One part as CompleteMultipartUpload names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPart {
    /// Its number.
    pub number: u32,
    /// Its entity tag without quotes.
    pub etag: String,
    /// Its checksum, if it is named.
    pub checksum: Option<(Algorithm, String)>,
}

/// Reads the list of parts: at least one, in ascending order.
pub fn read_parts(body: &[u8]) -> Result<Vec<NamedPart>> {
    let complete = Element::read(body, "CompleteMultipartUpload")?;
    let parts: Vec<_> = complete
        .all("Part")
        .map(named_part)
        .collect::<Result<_>>()?;

    if parts.is_empty() || parts.len() > MAX_PARTS as usize {
        return Err(malformed("it names no part, or more than 10000"));
    }
    if parts.windows(2).any(|pair| pair[0].number > pair[1].number) {
        return Err(Code::InvalidPartOrder.into());
    }
    Ok(as_named_last(parts))
}

/// A part that was sent twice may stand in the list as often, by the tags of both: what is named last
/// counts, as what was sent last does.
fn as_named_last(parts: Vec<NamedPart>) -> Vec<NamedPart> {
    let mut once: Vec<NamedPart> = Vec::with_capacity(parts.len());
    for part in parts {
        match once.last_mut().filter(|last| last.number == part.number) {
            Some(last) => *last = part,
            None => once.push(part),
        }
    }
    once
}

fn named_part(part: &Element) -> Result<NamedPart> {
    let number = part.required("PartNumber")?;
    let number = number
        .trim()
        .parse()
        .ok()
        .filter(|number| (1..=MAX_PARTS).contains(number));
    let number = number.ok_or_else(|| {
        Error::new(
            Code::InvalidArgument,
            "PartNumber must be an integer between 1 and 10000, inclusive",
        )
    })?;
    let checksum = Algorithm::ALL.into_iter().find_map(|algorithm| {
        part.text_of(algorithm.element())
            .map(|text| (algorithm, text.trim().to_owned()))
    });
    let etag = part.required("ETag")?.trim().trim_matches('"').to_owned();
    Ok(NamedPart {
        number,
        etag,
        checksum,
    })
}

/// One part of ListParts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLine {
    /// Its number.
    pub number: u32,
    /// When it was written.
    pub modified: Timestamp,
    /// Its entity tag without quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// An upload that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadLine {
    /// Its key.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// Who began it, and will own the object.
    pub owner: AccountId,
    /// When.
    pub initiated: Timestamp,
    /// The object's storage class.
    pub storage_class: String,
    /// Its checksums.
    pub checksum: ChecksumPlan,
}

fn write_plan(xml: &mut Writer, plan: &ChecksumPlan) {
    if let (Some(algorithm), Some(kind)) = (plan.algorithm, plan.kind) {
        xml.text("ChecksumAlgorithm", algorithm.name());
        xml.text("ChecksumType", kind.as_str());
    }
}

/// Answer of ListParts; `parts` may hold one more than fits, which says that there are more.
pub fn write_part_list(
    bucket: &str,
    upload: &UploadLine,
    list: &ListParts,
    parts: &[PartLine],
    people: &dyn People,
) -> String {
    let truncated = parts.len() > list.max_parts as usize;
    let shown = &parts[..parts.len().min(list.max_parts as usize)];

    Writer::document("ListPartsResult", |xml| {
        xml.text("Bucket", bucket);
        xml.text("Key", &upload.key);
        xml.text("UploadId", &upload.upload_id);
        write_owner(xml, "Initiator", &people.person(&upload.owner));
        write_owner(xml, "Owner", &people.person(&upload.owner));
        xml.text("StorageClass", &upload.storage_class);
        xml.plain("PartNumberMarker", list.after);
        xml.plain(
            "NextPartNumberMarker",
            shown.last().map_or(0, |part| part.number),
        );
        xml.plain("MaxParts", list.max_parts);
        xml.plain("IsTruncated", truncated);
        write_plan(xml, &upload.checksum);
        for part in shown {
            xml.nest("Part", |xml| {
                xml.plain("PartNumber", part.number);
                xml.plain("LastModified", part.modified);
                xml.text("ETag", format!("\"{}\"", part.etag));
                xml.plain("Size", part.size);
                if let Some(checksum) = &part.checksum {
                    xml.text(checksum.algorithm.element(), &checksum.value);
                }
            });
        }
    })
}

/// A page of uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// The uploads, by key and then by id.
    pub uploads: Vec<UploadLine>,
    /// The common prefixes.
    pub prefixes: Vec<String>,
    /// Key and upload id of the last line, if there are more.
    pub next: Option<(String, String)>,
}

/// Answer of ListMultipartUploads.
pub fn write_upload_list(
    bucket: &str,
    list: &ListUploads,
    page: &UploadPage,
    people: &dyn People,
) -> String {
    let shown = |text: &str| {
        if list.encode {
            encode_key(text)
        } else {
            text.to_owned()
        }
    };

    Writer::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", bucket);
        xml.text("KeyMarker", shown(&list.key_marker));
        xml.text("UploadIdMarker", &list.upload_id_marker);
        if let Some((key, upload_id)) = &page.next {
            xml.text("NextKeyMarker", shown(key));
            xml.text("NextUploadIdMarker", upload_id);
        }
        xml.text("Prefix", shown(&list.prefix));
        xml.maybe("Delimiter", list.delimiter.as_deref().map(shown));
        xml.maybe("EncodingType", list.encode.then_some("url"));
        xml.plain("MaxUploads", list.max_uploads);
        xml.plain("IsTruncated", page.next.is_some());
        for upload in &page.uploads {
            xml.nest("Upload", |xml| {
                xml.text("Key", shown(&upload.key));
                xml.text("UploadId", &upload.upload_id);
                write_owner(xml, "Initiator", &people.person(&upload.owner));
                write_owner(xml, "Owner", &people.person(&upload.owner));
                xml.text("StorageClass", &upload.storage_class);
                xml.plain("Initiated", upload.initiated);
                write_plan(xml, &upload.checksum);
            });
        }
        for prefix in &page.prefixes {
            xml.nest("CommonPrefixes", |xml| xml.text("Prefix", shown(prefix)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(parts: &[(&str, &str)]) -> Result<Vec<NamedPart>> {
        let lines = parts.iter().map(|(number, etag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        });
        let lines: String = lines.collect();
        read_parts(format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>").as_bytes())
    }

    #[test]
    fn of_a_part_that_is_named_twice_the_last_name_counts() {
        let parts = complete(&[("1", "a"), ("1", "b"), ("2", "c"), ("3", "d"), ("3", "e")]);
        let parts = parts.unwrap();
        let named: Vec<_> = parts
            .iter()
            .map(|part| (part.number, part.etag.as_str()))
            .collect();
        assert_eq!(named, [(1, "b"), (2, "c"), (3, "e")]);
    }

    #[test]
    fn parts_come_in_ascending_order() {
        let parts = complete(&[("1", "&quot;aa&quot;"), ("3", "bb")]).unwrap();
        assert_eq!((parts[0].etag.as_str(), parts[1].number), ("aa", 3));
        assert_eq!(
            complete(&[("2", "a"), ("1", "b")]).unwrap_err().code,
            Code::InvalidPartOrder
        );
        assert_eq!(
            complete(&[("1", "a"), ("2", "b"), ("1", "c")])
                .unwrap_err()
                .code,
            Code::InvalidPartOrder
        );
        assert_eq!(complete(&[]).unwrap_err().code, Code::MalformedXML);
        assert_eq!(
            complete(&[("0", "a")]).unwrap_err().code,
            Code::InvalidArgument
        );
    }
}
