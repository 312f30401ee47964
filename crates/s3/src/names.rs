//! Bucket names and keys. A key is text in byte order and never a path: `..`, `//` and a leading
//! slash are letters like all others.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::AccountId;

use crate::{Code, Error, Result};

/// The longest key, in bytes of UTF-8 (S3 user guide, "Naming objects").
pub const MAX_KEY_BYTES: usize = 1024;

/// A bucket name that follows S3's rules: 3 to 63 of `a-z 0-9 . -`, and not an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BucketName(String);

impl BucketName {
    /// Reads a name, or answers `InvalidBucketName`.
    pub fn parse(text: &str) -> Result<Self> {
        if is_bucket_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::from(Code::InvalidBucketName).with("BucketName", text))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_bucket_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();

    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|&b| letters(b) || b == b'.' || b == b'-')
        && bytes.first().copied().is_some_and(letters)
        && bytes.last().copied().is_some_and(letters)
        && !["..", ".-", "-."].iter().any(|pair| text.contains(pair))
        && text.parse::<std::net::Ipv4Addr>().is_err()
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The account before a colon in a bucket's name (`account:bucket`, `:bucket`), as clients of radosgw
/// write tenants (Ceph documentation, "Multitenancy"). There is one namespace here, so it finds no
/// other bucket; it says whose the bucket must be. It is split off before a name is read and is never
/// a part of one, so that policies, logs and listings know one name for a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qualifier(String);

impl Qualifier {
    /// Takes it off a name that is decoded already. Nothing else here has a colon.
    pub fn split(text: &str) -> (Option<Self>, &str) {
        match text.split_once(':') {
            Some((account, name)) => (Some(Self(account.to_owned())), name),
            None => (None, text),
        }
    }

    /// Whether a bucket of this account may be meant; before a bare colon any may.
    pub fn admits(&self, owner: &AccountId) -> bool {
        self.0.is_empty() || self.0 == owner.as_str()
    }
}

/// An object's key: 1 to 1024 bytes of UTF-8, ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Reads a key from text that is already decoded.
    pub fn parse(text: &str) -> Result<Self> {
        match text.len() {
            0 => Err(Error::invalid_argument(
                "Key",
                "",
                "A key has at least one byte.",
            )),
            1..=MAX_KEY_BYTES => Ok(Self(text.to_owned())),
            size => Err(Error::from(Code::KeyTooLongError)
                .with("Size", size.to_string())
                .with("MaxSizeAllowed", MAX_KEY_BYTES.to_string())),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules() {
        for good in [
            "abc",
            "a.b",
            "my-bucket-1",
            "0ab",
            &"x".repeat(63),
            "1.2.3",
            "a--b",
        ] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "a..b",
            "a.-b",
            "1.2.3.4",
            "a/b",
            "..",
            &"x".repeat(64),
            "bücket",
            ":abc",
            "111111111111:abc",
        ] {
            assert!(BucketName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_qualifier_admits_its_own_account_and_none_admits_everybody() {
        let owner: AccountId = "111111111111".parse().unwrap();
        for (text, name, admits) in [
            ("111111111111:photos", "photos", true),
            (":photos", "photos", true),
            ("222222222222:photos", "photos", false),
            ("11111111111:photos", "photos", false),
            (" 111111111111:photos", "photos", false),
            ("*:photos", "photos", false),
            // A second colon stays in the name, which can be none then.
            (
                "111111111111:111111111111:photos",
                "111111111111:photos",
                true,
            ),
            ("::photos", ":photos", true),
        ] {
            let (qualifier, rest) = Qualifier::split(text);
            assert_eq!(rest, name, "{text}");
            assert_eq!(qualifier.unwrap().admits(&owner), admits, "{text}");
        }
        assert_eq!(Qualifier::split("photos"), (None, "photos"));
    }

    #[test]
    fn keys_are_limited_only_in_length() {
        for good in [
            "../x",
            "//",
            "/lead",
            "a//b",
            "%25",
            " ",
            "\u{1}",
            &"k".repeat(1024),
        ] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(
            Key::parse(&"k".repeat(1025)).unwrap_err().code,
            Code::KeyTooLongError
        );
        assert!(Key::parse("").is_err());
    }
}
