//! A bundle's manifest: who bundled what, the wrapped key, and the parts with their digests.
//!
//! The reader trusts nothing: a manifest is written by a user and names files, sizes and digests
//! that a node will act on. It accepts what euca2ools 1 to 3.4 and the EC2 AMI tools write; unknown
//! elements are skipped, known ones may stand once. It fetches nothing and decrypts nothing.

mod read;
mod write;

use std::{fmt, str::FromStr};

use types::AccountId;

pub(crate) use read::is_file_name;

/// The longest name of a bundle: a tar header's name field, less the room for `.part.NNNN`.
pub const MAX_BUNDLE_NAME_BYTES: usize = 90;

/// Whether a bundle may have this name: a base name with room for what follows it.
pub fn is_bundle_name(name: &str) -> bool {
    is_file_name(name) && name.len() <= MAX_BUNDLE_NAME_BYTES
}

pub use crate::tree::XmlError;
use crate::{digest::Sha1Digest, keys::WrappedKey};

/// The size into which bundlers cut a bundle: 10 MiB. Also the largest part that we read, since a
/// part is held in memory while it is checked.
pub const PART_BYTES: u64 = 10 * 1024 * 1024;
/// Parts of one bundle: about 97 GiB compressed, far above what anyone uploads in one go.
pub const MAX_PARTS: usize = 10_000;
/// The largest manifest: [`MAX_PARTS`] parts of about 400 bytes each.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// The largest image that a manifest may declare; an installation sets its own, lower limit.
pub const MAX_IMAGE_BYTES: u64 = 1 << 40;

/// The manifest of one bundle, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What made the bundle.
    pub bundler: Bundler,
    /// The machine that the image is for.
    pub architecture: Architecture,
    /// Virtual device names and the devices that the bundler wished for them, sorted.
    pub block_device_mapping: Vec<DeviceMapping>,
    /// Product codes, as written.
    pub product_codes: Vec<String>,
    /// The kernel to boot with: an id, or `true` where the image is itself a kernel.
    pub kernel_id: Option<String>,
    /// The RAM disk to boot with: an id, or `true` where the image is itself a RAM disk.
    pub ramdisk_id: Option<String>,
    /// The bundle's name: the prefix of its files.
    pub name: String,
    /// The account that bundled it.
    pub user: AccountId,
    /// Whether it is a machine, kernel or RAM disk image.
    pub kind: Kind,
    /// SHA-1 of the tar stream.
    pub digest: Sha1Digest,
    /// Bytes of the raw image.
    pub size_bytes: u64,
    /// Bytes of all parts together.
    pub bundled_bytes: u64,
    /// Key and IV, wrapped for the cloud.
    pub cloud_key: WrappedKey,
    /// Key and IV, wrapped for the user; empty where the bundler had no user certificate.
    pub user_key: WrappedKey,
    /// The parts in order.
    pub parts: Vec<Part>,
    /// The user's signature over the manifest's middle, where there is one. Not checked by us, as it
    /// never was: the signer's key is the user's own.
    pub signature: Option<Vec<u8>>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// A base name: never a path. It is a key beside the manifest, in the manifest's own bucket.
    pub file_name: String,
    /// SHA-1 of the file.
    pub digest: Sha1Digest,
}

/// The tool that made a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundler {
    /// Its name: `euca2ools`, `ec2-ami-tools`, `mallee`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its release; `0` from euca2ools.
    pub release: String,
}

impl Bundler {
    /// This program.
    pub fn ours() -> Self {
        Self {
            name: "mallee".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: "0".to_owned(),
        }
    }
}

/// A wish for a device name: `ephemeral0` at `sda2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceMapping {
    /// `ami`, `root`, `swap`, `ephemeralN`.
    pub virtual_name: String,
    /// `sda1`, `/dev/sda2`.
    pub device: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The word that manifests use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = ManifestError;
            fn from_str(word: &str) -> Result<Self, ManifestError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(invalid(stringify!($name), concat!("is none of", $(" ", $word),+))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// Architectures that euca2ools offers.
    Architecture {
        /// 32-bit x86.
        I386 = "i386",
        /// 64-bit x86.
        X86_64 = "x86_64",
        /// 32-bit ARM.
        Armhf = "armhf",
        /// 32-bit POWER.
        Ppc = "ppc",
        /// 64-bit POWER, big-endian.
        Ppc64 = "ppc64",
        /// 64-bit POWER, little-endian.
        Ppc64le = "ppc64le",
    }
);

words!(
    /// What an image is.
    Kind {
        /// A disk or a root partition (EMI).
        Machine = "machine",
        /// A kernel (EKI).
        Kernel = "kernel",
        /// An initial RAM disk (ERI).
        Ramdisk = "ramdisk",
    }
);

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest is larger than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    /// Not XML as we accept it; a truncated manifest is this.
    #[error("the manifest cannot be read: {0}")]
    Xml(#[from] XmlError),
    /// A required element is not there.
    #[error("the manifest has no {0}")]
    Missing(&'static str),
    /// An element that may stand once stands twice.
    #[error("the manifest has more than one {0}")]
    Repeated(&'static str),
    /// An element's value is not acceptable.
    #[error("the manifest's {field} {why}")]
    Invalid {
        /// The element.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A part's entry is not acceptable.
    #[error("part {index} of the manifest {why}")]
    Part {
        /// The part, counted from 0.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn invalid(field: &'static str, why: &'static str) -> ManifestError {
    ManifestError::Invalid { field, why }
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(document: &[u8]) -> Result<Self, ManifestError> {
        read::read(document)
    }

    /// The document as euca2ools writes it: one line, compact; signed where a key is given.
    pub fn to_xml(
        &self,
        signer: Option<&crate::keys::CloudKey>,
    ) -> Result<String, crate::keys::KeyError> {
        write::write(self, signer)
    }
}
