//! The encryption that a bucket's new objects get unless their writer says otherwise.

use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Result,
    xml::{Element, Writer, malformed},
};

/// Under the key that we keep.
pub const AES256: &str = "AES256";
/// Under a key of ours that has a name.
pub const KMS: &str = "aws:kms";

/// A bucket's default encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultEncryption {
    /// Whether one key for the whole bucket was asked for; given back, and of no effect.
    pub bucket_key: bool,
    /// The name of the key, if it is not the key for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
}

impl DefaultEncryption {
    /// Reads a ServerSideEncryptionConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "ServerSideEncryptionConfiguration")?;
        let rule = configuration.child("Rule");
        let rule = rule.ok_or_else(|| malformed("there is no Rule"))?;
        let default = rule.child("ApplyServerSideEncryptionByDefault");
        let default = default.ok_or_else(|| malformed("the Rule applies nothing"))?;
        let bucket_key = rule.text_of("BucketKeyEnabled").map(str::trim) == Some("true");
        let kms_key = default.text_of("KMSMasterKeyID");
        let kms_key = kms_key.map(|name| name.trim().to_owned());
        match default.required("SSEAlgorithm")?.trim() {
            AES256 if kms_key.is_some() => {
                let why = "a KMSMasterKeyID is not applicable if the default sse algorithm is not \
                           aws:kms";
                Err(Error::new(Code::InvalidArgument, why))
            }
            KMS if kms_key.is_none() => {
                let why = "aws:kms needs a KMSMasterKeyID: this store has no key by default.";
                Err(Error::new(Code::InvalidArgument, why))
            }
            AES256 | KMS => Ok(Self {
                bucket_key,
                kms_key,
            }),
            other if other.starts_with("aws:") => Err(Error::not_implemented(other)),
            _ => Err(malformed("SSEAlgorithm is unknown")),
        }
    }

    /// The document.
    pub fn write(&self) -> String {
        Writer::document("ServerSideEncryptionConfiguration", |xml| {
            xml.nest("Rule", |xml| {
                xml.nest("ApplyServerSideEncryptionByDefault", |xml| {
                    let algorithm = self.kms_key.as_ref().map_or(AES256, |_| KMS);
                    xml.text("SSEAlgorithm", algorithm);
                    xml.maybe("KMSMasterKeyID", self.kms_key.as_ref());
                });
                xml.plain("BucketKeyEnabled", self.bucket_key);
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_our_own_are_known() {
        let read = |algorithm: &str, more: &str| {
            let text = format!(
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                 <SSEAlgorithm>{algorithm}</SSEAlgorithm>{more}</ApplyServerSideEncryptionByDefault></Rule>\
                 </ServerSideEncryptionConfiguration>"
            );
            DefaultEncryption::read(text.as_bytes())
        };
        let key = "<KMSMasterKeyID>k</KMSMasterKeyID>";
        for good in [read("AES256", ""), read("aws:kms", key)] {
            let good = good.unwrap();
            let again = DefaultEncryption::read(good.write().as_bytes());
            assert_eq!(again.unwrap(), good);
        }
        for (algorithm, more, code) in [
            ("aws:kms", "", Code::InvalidArgument),
            ("AES256", key, Code::InvalidArgument),
            ("aws:kms:dsse", key, Code::NotImplemented),
            ("ROT13", "", Code::MalformedXML),
        ] {
            assert_eq!(read(algorithm, more).unwrap_err().code, code, "{algorithm}");
        }
    }
}
