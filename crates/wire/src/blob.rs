//! Bytes as base64 text: user data, public keys, console output.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Old clients leave the padding out, or a stray bit in the last digit; nothing is ambiguous by it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Bytes that travel as base64. Line breaks inside are allowed: Python's old encoder makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// Reads base64, or says that it is none.
    pub fn parse(text: &str) -> Result<Self, NotBase64> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        LENIENT.decode(digits).map(Self).map_err(|_| NotBase64)
    }

    /// The bytes as padded base64 on one line.
    pub fn to_base64(&self) -> String {
        LENIENT.encode(&self.0)
    }
}

/// Text that is no base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid BASE64 encoding")]
pub struct NotBase64;

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_any_client_is_read() {
        for text in ["aGVsbG8=", "aGVs\nbG8=\n", "aGVsbG8", " aGVsbG8= "] {
            assert_eq!(Blob::parse(text).unwrap().0, b"hello", "{text:?}");
        }
        assert_eq!(Blob::parse("h%llo"), Err(NotBase64));
        assert_eq!(Blob(b"hello".to_vec()).to_base64(), "aGVsbG8=");
    }
}
