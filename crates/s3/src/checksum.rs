//! Checksum algorithms as S3 spells them. Computing them is Walrus's.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An algorithm that we compute, keep and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// CRC-32 (ISO HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME, AWS's default today.
    Crc64nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// `x-amz-checksum-crc32` and so on: header, and trailer.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// `ChecksumCRC32` and so on, in documents.
    pub const fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// `CRC32` and so on: the value of `x-amz-checksum-algorithm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Bytes of a value before base64.
    pub const fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Reads an algorithm's name in any case. S3's newer ones (SHA512, MD5, XXHASH…) are refused
    /// by name, all else is an error.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Self::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| {
            let upper = name.to_ascii_uppercase();
            if upper == "SHA512" || upper == "MD5" || upper.starts_with("XXHASH") {
                Error::not_implemented(&format!("The checksum algorithm {upper}"))
            } else {
                Error::invalid_argument(
                    "x-amz-checksum-algorithm",
                    name,
                    "Checksum algorithm provided is unsupported. \
                     Please try again with any of the valid types: \
                     [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
                )
            }
        })
    }

    /// The algorithm whose header this is.
    pub fn from_header(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.header().eq_ignore_ascii_case(name))
    }
}

/// Whether a multipart object's checksum is over its bytes or over its parts' checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// Over all bytes.
    FullObject,
    /// Over the parts' checksums, then `-N`.
    Composite,
}

impl Kind {
    /// The word of `x-amz-checksum-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "FULL_OBJECT" => Ok(Self::FullObject),
            "COMPOSITE" => Ok(Self::Composite),
            other => Err(Error::invalid_argument(
                "x-amz-checksum-type",
                other,
                "Value for x-amz-checksum-type header is invalid.",
            )),
        }
    }
}

/// A checksum that is kept with an object or a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: Algorithm,
    /// Base64, with `-N` after it if composite.
    pub value: String,
    /// Over what.
    pub kind: Kind,
}
