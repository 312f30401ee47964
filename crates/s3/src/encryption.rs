//! Encryption at the server, as requests ask for it: under keys that Walrus keeps, one for all or
//! named ones, or under a key that comes with every request and is forgotten after it.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use md5::{Digest, Md5};

use crate::{
    Code, Error, Result,
    documents::encryption::{AES256, KMS},
    headers::Headers,
};

const SERVER: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
/// What would have to be told again to open an object.
const KMS_CONTEXT: &str = "x-amz-server-side-encryption-context";
/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

/// A key that comes with a request. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Its MD5 in base64, as it came: what is kept of it and given back.
    pub md5: String,
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CustomerKey({})", self.md5)
    }
}

/// How a writer wants an object to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    Default,
    /// Under a key of ours.
    Server,
    /// Under that key of ours.
    Kms(String),
    /// Under this key.
    Customer(CustomerKey),
    /// In a way that is refused so, once it is known that its writer may write.
    Refused(Box<Error>),
}

impl Headers<'_> {
    /// How an object is to be kept.
    pub fn encryption(self) -> Encryption {
        let asked = self.asked_encryption();
        asked.unwrap_or_else(|error| Encryption::Refused(Box::new(error)))
    }

    fn asked_encryption(self) -> Result<Encryption> {
        let customer = self.customer_key("x-amz-server-side-encryption-customer-")?;
        let (server, named) = (self.text(SERVER), self.text(KMS_KEY));
        if named.is_some() && server.as_deref() != Some(KMS) {
            let why = "Server Side Encryption with AWS KMS managed key requires HTTP header \
                       x-amz-server-side-encryption : aws:kms";
            return Err(invalid(why));
        }
        match (server.as_deref(), customer) {
            (None, None) => Ok(Encryption::Default),
            (None, Some(key)) => Ok(Encryption::Customer(key)),
            (Some(AES256), None) => Ok(Encryption::Server),
            (Some(KMS), None) if self.0.contains_key(KMS_CONTEXT) => {
                Err(Error::not_implemented(KMS_CONTEXT))
            }
            (Some(KMS), None) => named.map(Encryption::Kms).ok_or_else(|| {
                invalid("aws:kms needs the name of a key: this store has none by default.")
            }),
            (Some(other), None) if other.starts_with("aws:") => {
                Err(Error::not_implemented(&format!("{SERVER}: {other}")))
            }
            (Some(other), None) => {
                let message = "The encryption method specified is not supported";
                Err(Error::invalid_argument(SERVER, other, message))
            }
            (Some(_), Some(_)) => Err(invalid(
                "Server Side Encryption with Customer provided key is incompatible with the \
                 encryption method specified",
            )),
        }
    }

    /// A key in three headers that begin so; all three must be there and fit one another.
    pub fn customer_key(self, prefix: &str) -> Result<Option<CustomerKey>> {
        let text = |name: &str| self.text(&format!("{prefix}{name}"));
        let (algorithm, key, md5) = (text("algorithm"), text("key"), text("key-md5"));
        let Some(algorithm) = algorithm else {
            return match (key, md5) {
                (None, None) => Ok(None),
                _ => Err(invalid(
                    "Requests specifying Server Side Encryption with Customer provided keys must \
                     provide a valid encryption algorithm.",
                )),
            };
        };
        if algorithm != AES256 {
            return Err(Error::new(
                Code::InvalidEncryptionAlgorithmError,
                Code::InvalidEncryptionAlgorithmError.message(),
            ));
        }
        let key = key.ok_or_else(|| {
            invalid(
                "Requests specifying Server Side Encryption with Customer provided keys must \
                 provide an appropriate secret key.",
            )
        })?;
        let md5 = md5.ok_or_else(|| {
            invalid(
                "Requests specifying Server Side Encryption with Customer provided keys must \
                 provide the client calculated MD5 of the secret key.",
            )
        })?;
        let bytes = BASE64
            .decode(key.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let key: [u8; KEY_BYTES] = bytes
            .ok_or_else(|| invalid("The secret key was invalid for the specified algorithm."))?;
        if BASE64.encode(Md5::digest(key)) != md5.trim() {
            return Err(invalid(
                "The calculated MD5 hash of the key did not match the hash that was provided.",
            ));
        }
        Ok(Some(CustomerKey { key, md5 }))
    }
}

fn invalid(why: &'static str) -> Error {
    Error::new(Code::InvalidArgument, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&'static str, &str)]) -> Result<Encryption> {
        let pairs = pairs.iter();
        let map = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Headers(&map.collect()).asked_encryption()
    }

    const ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
    const KEY: &str = "x-amz-server-side-encryption-customer-key";
    const MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
    const A_KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";

    #[test]
    fn keys_are_ours_or_come_whole() {
        assert_eq!(ask(&[]).unwrap(), Encryption::Default);
        assert_eq!(ask(&[(SERVER, "AES256")]).unwrap(), Encryption::Server);
        let whole = [
            (ALGORITHM, "AES256"),
            (KEY, A_KEY),
            (MD5, "DWygnHRtgiJ77HCm+1rvHw=="),
        ];
        let Encryption::Customer(key) = ask(&whole).unwrap() else {
            panic!("a key came")
        };
        assert!(!format!("{key:?}").contains("pO3u"));
        let named = ask(&[(SERVER, "aws:kms"), (KMS_KEY, "k")]).unwrap();
        assert_eq!(named, Encryption::Kms("k".to_owned()));
    }

    #[test]
    fn half_a_key_and_two_ways_at_once_are_refused() {
        for bad in [
            &[(ALGORITHM, "AES256")][..],
            &[(ALGORITHM, "AES256"), (KEY, A_KEY)],
            &[(KEY, A_KEY)],
            &[(ALGORITHM, "AES256"), (KEY, "c2hvcnQ="), (MD5, "x")],
            &[
                (ALGORITHM, "AES256"),
                (KEY, A_KEY),
                (MD5, "AAAAAAAAAAAAAAAAAAAAAA=="),
            ],
            &[(SERVER, "aws:kms")],
            &[(KMS_KEY, "k")],
            &[(SERVER, "AES256"), (KMS_KEY, "k")],
            &[
                (SERVER, "AES256"),
                (ALGORITHM, "AES256"),
                (KEY, A_KEY),
                (MD5, "x"),
            ],
            &[(SERVER, "ROT13")],
        ] {
            assert_eq!(ask(bad).unwrap_err().code, Code::InvalidArgument, "{bad:?}");
        }
        for bad in [
            &[(SERVER, "aws:kms:dsse")][..],
            &[(SERVER, "aws:kms"), (KMS_KEY, "k"), (KMS_CONTEXT, "e30=")],
        ] {
            assert_eq!(ask(bad).unwrap_err().code, Code::NotImplemented, "{bad:?}");
        }
    }
}
