//! Digests as types, so that a SHA-1 never stands where a SHA-256 is meant. Text is lower-case hex.

use std::{fmt, hint::black_box, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::digest::{FixedOutput, Update};

/// SHA-1 at work on bytes that come in pieces.
pub type Sha1 = Hashing<sha1::Sha1>;
/// SHA-256 at work on bytes that come in pieces.
pub type Sha256 = Hashing<sha2::Sha256>;

/// A hash function at work on bytes that come in pieces, and that often lie in memory and not in the
/// processor's cache.
#[derive(Debug, Default, Clone)]
pub struct Hashing<H>(H);

/// So much is brought into the cache and then hashed: it fits into the smallest of the field's.
const WARM_BYTES: usize = 32 << 10;
/// The unit in which memory comes into the cache.
const LINE_BYTES: usize = 64;

impl<H: Update> Hashing<H> {
    /// Takes the next bytes.
    ///
    /// The processor's own instructions for SHA hash a line as fast as memory gives it, but their loop
    /// is too long for the processor to look ahead for the next lines: it waits for each. So the lines
    /// are touched first, for many of which it waits at the same time: two thirds of the time.
    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(WARM_BYTES) {
            black_box(
                piece
                    .iter()
                    .step_by(LINE_BYTES)
                    .fold(0, |all, byte| all ^ byte),
            );
            self.0.update(piece);
        }
    }
}

/// Text that is not the hex form of a digest of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is {expected} hex digits")]
pub struct MalformedDigest {
    expected: usize,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $length:literal, $hasher:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The digest's bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Hashes `bytes` in one go.
            pub fn of(bytes: &[u8]) -> Self {
                let mut hasher = Hashing::<$hasher>::default();
                hasher.update(bytes);
                Self::from_hasher(hasher)
            }

            /// The digest of all that `hasher` has been fed.
            pub fn from_hasher(hasher: Hashing<$hasher>) -> Self {
                Self(hasher.0.finalize_fixed().into())
            }
        }

        impl From<[u8; $length]> for $name {
            fn from(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = MalformedDigest;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| MalformedDigest { expected: 2 * $length })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// SHA-1: what a bundle's manifest states of its parts and of its tar stream.
    Sha1Digest, 20, sha1::Sha1
);
digest_type!(
    /// SHA-256: what we compute ourselves and name cache entries by.
    Sha256Digest, 32, sha2::Sha256
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_print_and_parse_as_hex() {
        let digest = Sha1Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("a999".parse::<Sha1Digest>().is_err());
        assert!("zz".repeat(32).parse::<Sha256Digest>().is_err());
    }
}
