//! The encryption that a bucket's new objects get unless their writer says otherwise.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    xml::{Element, Writer, malformed},
};

/// The one algorithm there is: keys that we keep.
pub const AES256: &str = "AES256";

/// A bucket's default encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultEncryption {
    /// Whether one key for the whole bucket was asked for; given back, and of no effect.
    pub bucket_key: bool,
}

impl DefaultEncryption {
    /// Reads a ServerSideEncryptionConfiguration. Keys of a key service are refused by name.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "ServerSideEncryptionConfiguration")?;
        let rule = configuration.child("Rule");
        let rule = rule.ok_or_else(|| malformed("there is no Rule"))?;
        let default = rule.child("ApplyServerSideEncryptionByDefault");
        let default = default.ok_or_else(|| malformed("the Rule applies nothing"))?;
        match default.required("SSEAlgorithm")?.trim() {
            AES256 => Ok(Self {
                bucket_key: rule.text_of("BucketKeyEnabled").map(str::trim) == Some("true"),
            }),
            other if other.starts_with("aws:") => Err(Error::not_implemented(other)),
            _ => Err(malformed("SSEAlgorithm is unknown")),
        }
    }

    /// The document.
    pub fn write(self) -> String {
        Writer::document("ServerSideEncryptionConfiguration", |xml| {
            xml.nest("Rule", |xml| {
                xml.nest("ApplyServerSideEncryptionByDefault", |xml| {
                    xml.text("SSEAlgorithm", AES256);
                });
                xml.plain("BucketKeyEnabled", self.bucket_key);
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn only_keys_of_our_own_are_known() {
        let read = |algorithm: &str| {
            let text = format!(
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                 <SSEAlgorithm>{algorithm}</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
                 </ServerSideEncryptionConfiguration>"
            );
            DefaultEncryption::read(text.as_bytes())
        };
        let ours = read("AES256").unwrap();
        assert_eq!(
            DefaultEncryption::read(ours.write().as_bytes()).unwrap(),
            ours
        );
        assert_eq!(read("aws:kms").unwrap_err().code, Code::NotImplemented);
        assert_eq!(read("ROT13").unwrap_err().code, Code::MalformedXML);
    }
}
