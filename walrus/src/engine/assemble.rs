//! An upload's parts become an object: pure. Tag and composite checksum are those of S3: the digest
//! of the parts' digests, then a dash and their number.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use s3::{
    Code, Error, Result,
    checksum::{Algorithm, Checksum, Kind},
    documents::multipart::NamedPart,
};
use sha1::Sha1;
use sha2::Sha256;
use types::Timestamp;

use super::facts::{Body, Object, Part, Piece, Upload};

/// Every part but the last has at least this size (S3 user guide, "Amazon S3 multipart upload limits").
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// The largest object.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Makes the object, or says which part is not right.
pub fn assemble(
    upload: Upload,
    there: &[Part],
    named: &[NamedPart],
    said: Option<&(Algorithm, String)>,
    now: Timestamp,
) -> Result<Object> {
    let parts: Vec<&Part> = named
        .iter()
        .map(|named| find_part(there, named))
        .collect::<Result<_>>()?;
    check_sizes(&parts)?;

    let checksum = whole_checksum(&upload, &parts)?;
    if let Some((algorithm, value)) = said {
        let same = checksum.as_ref().is_some_and(|checksum| {
            checksum.algorithm == *algorithm && same_value(&checksum.value, value)
        });
        if !same {
            return Err(Error::new(
                Code::BadDigest,
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    algorithm.name()
                ),
            ));
        }
    }
    let size = parts.iter().map(|part| part.piece.size).sum();
    Ok(Object {
        bucket: upload.bucket,
        key: upload.key,
        version: s3::VersionId::null(),
        order: 0,
        etag: etag(&parts)?,
        size,
        modified: now,
        owner: upload.owner,
        acl: upload.acl,
        attributes: upload.attributes,
        checksum,
        tags: upload.tags,
        lock: upload.lock,
        encryption: upload.encryption,
        body: Body::Pieces(parts.iter().map(|part| piece_of(part)).collect()),
        upload_id: Some(upload.id),
    })
}

fn piece_of(part: &Part) -> Piece {
    Piece {
        checksum: part.checksum.clone(),
        ..part.piece.clone()
    }
}

/// A client may leave the `-N` of a composite checksum away.
fn same_value(ours: &str, theirs: &str) -> bool {
    ours == theirs
        || ours
            .split_once('-')
            .is_some_and(|(value, _)| value == theirs)
}

fn find_part<'a>(there: &'a [Part], named: &NamedPart) -> Result<&'a Part> {
    let found = there.binary_search_by_key(&named.number, |part| part.number);
    let part = found
        .ok()
        .map(|at| &there[at])
        .filter(|part| part.etag == named.etag);
    let same = part.filter(|part| match (&named.checksum, &part.checksum) {
        (Some((algorithm, value)), Some(kept)) => {
            kept.algorithm != *algorithm || kept.value == *value
        }
        _ => true,
    });
    same.ok_or_else(|| {
        Error::from(Code::InvalidPart)
            .with("PartNumber", named.number.to_string())
            .with("ETag", named.etag.clone())
    })
}

fn check_sizes(parts: &[&Part]) -> Result<()> {
    let (_, all_but_last) = parts
        .split_last()
        .ok_or_else(|| Error::from(Code::MalformedXML))?;
    if let Some(small) = all_but_last
        .iter()
        .find(|part| part.piece.size < PART_BYTES_MIN)
    {
        return Err(Error::from(Code::EntityTooSmall)
            .with("ProposedSize", small.piece.size.to_string())
            .with("MinSizeAllowed", PART_BYTES_MIN.to_string())
            .with("PartNumber", small.number.to_string())
            .with("ETag", small.etag.clone()));
    }
    let size: u64 = parts.iter().map(|part| part.piece.size).sum();
    if size > OBJECT_BYTES_MAX {
        return Err(Code::EntityTooLarge.into());
    }
    Ok(())
}

fn etag(parts: &[&Part]) -> Result<String> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(hex::decode(&part.etag).map_err(|_| Error::from(Code::InternalError))?);
    }
    Ok(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
}

/// The checksum that the upload's plan asks for, from those of its parts.
fn whole_checksum(upload: &Upload, parts: &[&Part]) -> Result<Option<Checksum>> {
    let (Some(algorithm), Some(kind)) = (upload.checksum.algorithm, upload.checksum.kind) else {
        return Ok(None);
    };
    let mut values = Vec::new();
    for part in parts {
        let kept = part
            .checksum
            .as_ref()
            .filter(|kept| kept.algorithm == algorithm);
        let value = kept.and_then(|kept| BASE64.decode(&kept.value).ok());
        let value = value.ok_or_else(|| {
            Error::from(Code::InvalidPart).with("PartNumber", part.number.to_string())
        })?;
        values.push((value, part.piece.size));
    }
    let value = match kind {
        Kind::FullObject => BASE64.encode(full(algorithm, &values)?),
        Kind::Composite => format!(
            "{}-{}",
            BASE64.encode(composite(algorithm, &values)),
            parts.len()
        ),
    };
    Ok(Some(Checksum {
        algorithm,
        value,
        kind,
    }))
}

fn crc_of(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

/// A CRC of the whole from the CRCs of its parts.
fn full(algorithm: Algorithm, values: &[(Vec<u8>, u64)]) -> Result<Vec<u8>> {
    let crc = crc_of(algorithm).ok_or_else(|| Error::from(Code::InvalidRequest))?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };

    let mut whole: Option<u64> = None;
    for (value, size) in values {
        let part = number(value);
        whole = Some(whole.map_or(part, |before| {
            crc_fast::checksum_combine(crc, before, part, *size)
        }));
    }
    let bytes = whole.unwrap_or_default().to_be_bytes();
    Ok(bytes[8 - algorithm.value_bytes()..].to_vec())
}

fn composite(algorithm: Algorithm, values: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let all: Vec<u8> = values
        .iter()
        .flat_map(|(value, _)| value.iter().copied())
        .collect();
    match algorithm {
        Algorithm::Sha1 => Sha1::digest(&all).to_vec(),
        Algorithm::Sha256 => Sha256::digest(&all).to_vec(),
        Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64nvme => {
            let crc = crc_of(algorithm).expect("these three are CRCs");
            let bytes = crc_fast::checksum(crc, &all).to_be_bytes();
            bytes[8 - algorithm.value_bytes()..].to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::blobs::BlobId;
    use s3::headers::{Attributes, ChecksumPlan};

    fn upload(algorithm: Algorithm, kind: Kind) -> Upload {
        Upload {
            id: "u".into(),
            bucket: s3::BucketName::parse("bucket").unwrap(),
            key: s3::Key::parse("key").unwrap(),
            owner: "111111111111".parse().unwrap(),
            initiated: Timestamp(0),
            acl: s3::Acl::default(),
            attributes: Attributes::default(),
            checksum: ChecksumPlan {
                algorithm: Some(algorithm),
                kind: Some(kind),
            },
            tags: Default::default(),
            lock: Default::default(),
            encryption: None,
        }
    }

    fn part(number: u32, data: &[u8], crc: CrcAlgorithm) -> Part {
        let sum = crc_fast::checksum(crc, data).to_be_bytes();
        Part {
            upload_id: "u".into(),
            number,
            etag: hex::encode(Md5::digest(data)),
            modified: Timestamp(0),
            checksum: Some(Checksum {
                algorithm: Algorithm::Crc64nvme,
                value: BASE64.encode(sum),
                kind: Kind::FullObject,
            }),
            piece: Piece {
                blob: BlobId::mint(),
                size: data.len() as u64,
                salt: None,
                checksum: None,
            },
        }
    }

    fn named(part: &Part) -> NamedPart {
        NamedPart {
            number: part.number,
            etag: part.etag.clone(),
            checksum: None,
        }
    }

    #[test]
    fn a_full_checksum_is_that_of_all_bytes() {
        let crc = CrcAlgorithm::Crc64Nvme;
        let (first, second) = (vec![7; 5 << 20], vec![9; 100]);
        let parts = [part(1, &first, crc), part(4, &second, crc)];
        let upload = upload(Algorithm::Crc64nvme, Kind::FullObject);
        let names = [named(&parts[0]), named(&parts[1])];
        let object = assemble(upload, &parts, &names, None, Timestamp(1)).unwrap();

        let whole = crc_fast::checksum(crc, &[first, second].concat()).to_be_bytes();
        assert_eq!(object.checksum.unwrap().value, BASE64.encode(whole));
        assert!(object.etag.ends_with("-2"));
        assert_eq!(object.size, (5 << 20) + 100);
    }

    #[test]
    fn parts_must_be_the_ones_that_are_there() {
        let crc = CrcAlgorithm::Crc64Nvme;
        let parts = [part(1, b"small", crc), part(2, b"last", crc)];
        let check = |names: &[NamedPart], code| {
            let upload = upload(Algorithm::Crc64nvme, Kind::FullObject);
            let error = assemble(upload, &parts, names, None, Timestamp(1)).unwrap_err();
            assert_eq!(error.code, code);
        };
        check(&[named(&parts[0]), named(&parts[1])], Code::EntityTooSmall);
        check(
            &[NamedPart {
                number: 3,
                ..named(&parts[0])
            }],
            Code::InvalidPart,
        );
        check(
            &[NamedPart {
                etag: "x".into(),
                ..named(&parts[0])
            }],
            Code::InvalidPart,
        );
    }
}
