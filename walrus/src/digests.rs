//! Digests of a body: the MD5 that becomes its tag, and the checksums that were claimed or will be
//! kept. What was claimed must come out, or nothing is kept.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use s3::{
    Code, Error, Result,
    checksum::{Algorithm, Checksum, Kind},
    headers::{BodyClaims, checked_value},
};
use sha1::Sha1;
use sha2::Sha256;

/// What is kept if the client names no algorithm, as AWS has it since 2024.
pub const DEFAULT: Algorithm = Algorithm::Crc64nvme;

#[derive(Debug)]
enum Hasher {
    Crc(crc_fast::Digest, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        let crc = |kind| Self::Crc(crc_fast::Digest::new(kind), algorithm.value_bytes());
        match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(data),
            Self::Sha1(digest) => digest.update(data),
            Self::Sha256(digest) => digest.update(data),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Crc(digest, bytes) => {
                BASE64.encode(&digest.finalize().to_be_bytes()[8 - bytes..])
            }
            Self::Sha1(digest) => BASE64.encode(digest.finalize()),
            Self::Sha256(digest) => BASE64.encode(digest.finalize()),
        }
    }
}

/// Digests in the making.
#[derive(Debug)]
pub struct Digests {
    md5: Option<Md5>,
    hashers: Vec<(Algorithm, Hasher)>,
    keep: Algorithm,
}

/// Digests of a body that is what was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The MD5, if one was asked for.
    pub md5: [u8; 16],
    /// The checksum to keep.
    pub checksum: Checksum,
}

impl Digests {
    /// For a body that is kept: its MD5, what the claims name, and what is kept with it, which is
    /// `plan` if an upload has one.
    pub fn for_object(claims: &BodyClaims, plan: Option<Algorithm>) -> Self {
        let claimed = claims
            .checksum
            .as_ref()
            .map(|(algorithm, _)| *algorithm)
            .or(claims.trailer);
        let keep = plan.or(claimed).unwrap_or(DEFAULT);
        let mut algorithms = vec![keep];
        algorithms.extend(claimed.filter(|claimed| *claimed != keep));
        Self {
            md5: Some(Md5::new()),
            hashers: algorithms
                .into_iter()
                .map(|one| (one, Hasher::new(one)))
                .collect(),
            keep,
        }
    }

    /// For a document, whose claims are checked and then forgotten.
    pub fn for_document(claims: &BodyClaims) -> Self {
        Self::for_object(claims, None)
    }

    /// More of the body.
    pub fn update(&mut self, data: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(data);
        }
        for (_, hasher) in &mut self.hashers {
            hasher.update(data);
        }
    }

    /// Compares with what was claimed in headers and in the trailer.
    pub fn verify(self, claims: &BodyClaims, trailers: &[(String, String)]) -> Result<Verified> {
        let md5 = self
            .md5
            .map(|md5| md5.finalize().into())
            .unwrap_or_default();
        if claims.md5.is_some_and(|claimed| claimed != md5) {
            let computed = BASE64.encode(md5);
            return Err(Error::from(Code::BadDigest).with("CalculatedDigest", computed));
        }
        let values: Vec<(Algorithm, String)> = self
            .hashers
            .into_iter()
            .map(|(one, hasher)| (one, hasher.finish()))
            .collect();
        for (algorithm, claimed) in claimed(claims, trailers)? {
            let computed = values.iter().find(|(one, _)| *one == algorithm);
            if computed.is_none_or(|(_, value)| *value != claimed) {
                let name = algorithm.name();
                return Err(Error::new(
                    Code::BadDigest,
                    format!("The {name} you specified did not match the calculated checksum."),
                ));
            }
        }
        let value = values.into_iter().find(|(one, _)| *one == self.keep);
        let (algorithm, value) = value.expect("what is kept is computed");
        Ok(Verified {
            md5,
            checksum: Checksum {
                algorithm,
                value,
                kind: Kind::FullObject,
            },
        })
    }
}

fn claimed(claims: &BodyClaims, trailers: &[(String, String)]) -> Result<Vec<(Algorithm, String)>> {
    let mut all: Vec<_> = claims.checksum.clone().into_iter().collect();
    for (name, value) in trailers {
        if let Some(algorithm) = Algorithm::from_header(name) {
            all.push((algorithm, checked_value(algorithm, value)?));
        }
    }
    if let Some(promised) = claims.trailer
        && !trailers
            .iter()
            .any(|(name, _)| Algorithm::from_header(name) == Some(promised))
    {
        return Err(Error::new(
            Code::InvalidRequest,
            "The trailer that x-amz-trailer names did not come.",
        ));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(claims: &BodyClaims) -> Digests {
        let mut digests = Digests::for_object(claims, None);
        digests.update(b"1234");
        digests.update(b"56789");
        digests
    }

    #[test]
    fn checksums_are_the_published_ones() {
        // The catalogue's check values for "123456789".
        for (algorithm, value) in [
            (Algorithm::Crc32, "y/Q5Jg=="),
            (Algorithm::Crc32c, "4waSgw=="),
            (Algorithm::Crc64nvme, "rosUhgp5mIg="),
            (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ] {
            let claims = BodyClaims {
                checksum: Some((algorithm, value.to_owned())),
                ..BodyClaims::default()
            };
            let verified = digests(&claims).verify(&claims, &[]).unwrap();
            assert_eq!(verified.checksum.value, value, "{algorithm:?}");
            assert_eq!(
                hex::encode(verified.md5),
                "25f9e794323b453885f5181f1b624d0b"
            );
        }
    }

    #[test]
    fn a_wrong_claim_is_a_bad_digest_wherever_it_stands() {
        let wrong = (Algorithm::Crc32, "AAAAAA==".to_owned());
        let header = BodyClaims {
            checksum: Some(wrong),
            ..BodyClaims::default()
        };
        assert_eq!(
            digests(&header).verify(&header, &[]).unwrap_err().code,
            Code::BadDigest
        );

        let trailer = BodyClaims {
            trailer: Some(Algorithm::Crc32),
            ..BodyClaims::default()
        };
        let said = |value: &str| vec![("x-amz-checksum-crc32".to_owned(), value.to_owned())];
        let verify = |said: &[_]| digests(&trailer).verify(&trailer, said);
        assert!(verify(&said("y/Q5Jg==")).is_ok());
        assert_eq!(verify(&said("AAAAAA==")).unwrap_err().code, Code::BadDigest);
        assert_eq!(verify(&[]).unwrap_err().code, Code::InvalidRequest);

        let md5 = BodyClaims {
            md5: Some([0; 16]),
            ..BodyClaims::default()
        };
        assert_eq!(
            digests(&md5).verify(&md5, &[]).unwrap_err().code,
            Code::BadDigest
        );
    }
}
