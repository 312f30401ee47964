//! The write side: image → tar with one member, of its data only → SHA-1 → gzip → AES-128-CBC → parts of 10 MiB.
//!
//! One pass, the stages on threads of their own ([`compress`]), one part in memory. Where parts go is
//! a [`PartSink`]: a folder, or an uploader. The manifest comes last, and is the caller's to store.

mod archive;
mod compress;
mod source;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use aes::cipher::{BlockModeEncrypt, KeyIvInit, inout::InOutBuf};
use types::AccountId;

use crate::{
    digest::Sha1Digest,
    keys::{BundleKey, WrappedKey},
    manifest::{
        Architecture, Bundler, DeviceMapping, Kind, MAX_BUNDLE_NAME_BYTES, MAX_PARTS, Manifest,
        PART_BYTES, Part, is_bundle_name,
    },
};
pub use source::{Image, Source};

type Encryptor = cbc::Encryptor<aes::Aes128>;

const AES_BLOCK: usize = 16;

/// Where finished parts go, in order.
pub trait PartSink {
    /// Takes part `file_name`; returns when it is safe. May block.
    fn put(&mut self, file_name: &str, bytes: Vec<u8>) -> io::Result<()>;
}

/// A folder that parts are written into, as `euca-bundle-image -d` does.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl PartSink for Folder {
    fn put(&mut self, file_name: &str, bytes: Vec<u8>) -> io::Result<()> {
        fs::write(self.0.join(file_name), bytes)
    }
}

/// What is to be cut into parts.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The bundle's name: the prefix of its files.
    pub name: &'a str,
    /// Bytes of the raw image; exactly so many are read.
    pub size_bytes: u64,
    /// What the parts are encrypted with. The same key, image and name make the same parts, byte for
    /// byte: so a run that broke off is done again without storing again what is there.
    pub key: &'a BundleKey,
}

/// Parts that were made, and what a manifest says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    /// SHA-1 of the tar stream.
    pub digest: Sha1Digest,
    /// Bytes of all parts together.
    pub bundled_bytes: u64,
    /// The parts in order.
    pub parts: Vec<Part>,
}

/// What a manifest says of an image besides its bytes.
#[derive(Debug, Clone)]
pub struct Label {
    /// Machine, kernel or RAM disk.
    pub kind: Kind,
    /// The machine that the image is for.
    pub architecture: Architecture,
    /// The account that bundles.
    pub user: AccountId,
    /// The kernel to boot with, if not the image's own.
    pub kernel_id: Option<String>,
    /// The RAM disk to boot with, if not the image's own.
    pub ramdisk_id: Option<String>,
    /// Device names wished for.
    pub block_device_mapping: Vec<DeviceMapping>,
    /// The key wrapped for the cloud (`EUCALYPTUS_CERT`), which opens the bundle to run it.
    pub cloud_key: WrappedKey,
    /// The key wrapped for the user, so that the user can open it too; empty without a certificate.
    pub user_key: WrappedKey,
}

impl Bundled {
    /// The manifest, which is stored last.
    pub fn manifest(self, order: Order<'_>, label: Label) -> Manifest {
        let mut block_device_mapping = label.block_device_mapping;
        block_device_mapping.sort();
        Manifest {
            bundler: Bundler::ours(),
            architecture: label.architecture,
            block_device_mapping,
            product_codes: Vec::new(),
            kernel_id: label.kernel_id,
            ramdisk_id: label.ramdisk_id,
            name: order.name.to_owned(),
            user: label.user,
            kind: label.kind,
            digest: self.digest,
            size_bytes: order.size_bytes,
            bundled_bytes: self.bundled_bytes,
            cloud_key: label.cloud_key,
            user_key: label.user_key,
            parts: self.parts,
            signature: None,
        }
    }
}

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The name is no base name, or too long.
    #[error(
        "{0:?} cannot be the name of a bundle: at most {MAX_BUNDLE_NAME_BYTES} bytes, no slash"
    )]
    Name(String),
    /// The image ended before its size, or could not be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// A part could not be stored, or the image needs too many parts.
    #[error("cannot store the bundle")]
    Store(#[source] io::Error),
    /// A stage died; a bug.
    #[error("the bundler stopped without a reason")]
    Lost,
}

/// Bundles `image` into `sink`, which is called on this thread. `progress` hears how many bytes of
/// the image have been taken.
pub fn bundle(
    order: Order<'_>,
    image: &mut dyn Image,
    sink: &mut dyn PartSink,
    progress: &mut dyn FnMut(u64),
) -> Result<Bundled, BundleError> {
    if !is_bundle_name(order.name) {
        return Err(BundleError::Name(order.name.to_owned()));
    }
    let mut parts = PartWriter::new(order.name, order.key, sink);
    let digest = compress::tar_and_gzip(order, image, &mut |member, reached| {
        parts.write_all(member).map_err(BundleError::Store)?;
        progress(reached);
        Ok(())
    })?;
    let (parts, bundled_bytes) = parts.finish().map_err(BundleError::Store)?;
    Ok(Bundled {
        digest,
        bundled_bytes,
        parts,
    })
}

/// Encrypts what it is given and cuts it into parts.
struct PartWriter<'a> {
    name: &'a str,
    cipher: Encryptor,
    /// Ciphertext of the part being filled, then plaintext that is not yet a whole block.
    part: Vec<u8>,
    encrypted: usize,
    parts: Vec<Part>,
    bundled_bytes: u64,
    sink: &'a mut dyn PartSink,
}

impl<'a> PartWriter<'a> {
    fn new(name: &'a str, secret: &BundleKey, sink: &'a mut dyn PartSink) -> Self {
        Self {
            name,
            cipher: Encryptor::new(secret.key().into(), secret.iv().into()),
            part: Vec::with_capacity(PART_BYTES as usize),
            encrypted: 0,
            parts: Vec::new(),
            bundled_bytes: 0,
            sink,
        }
    }

    /// Encrypts the whole blocks that are waiting.
    fn encrypt(&mut self) {
        let (blocks, _) = InOutBuf::from(&mut self.part[self.encrypted..]).into_chunks();
        self.encrypted += blocks.len() * AES_BLOCK;
        self.cipher.encrypt_blocks_inout(blocks);
    }

    fn store(&mut self) -> io::Result<()> {
        if self.parts.len() == MAX_PARTS {
            return Err(io::Error::other(
                "the image needs more parts than a bundle may have",
            ));
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES as usize));
        self.encrypted = 0;
        let file_name = format!("{}.part.{:02}", self.name, self.parts.len());
        let digest = Sha1Digest::of(&part);
        self.bundled_bytes += part.len() as u64;
        self.sink.put(&file_name, part)?;
        self.parts.push(Part { file_name, digest });
        Ok(())
    }

    /// Pads the last block as PKCS#7 wants it, stores the last part.
    fn finish(mut self) -> io::Result<(Vec<Part>, u64)> {
        let pad = AES_BLOCK - self.part.len() % AES_BLOCK;
        self.part.resize(self.part.len() + pad, pad as u8);
        self.encrypt();
        self.store()?;
        Ok((self.parts, self.bundled_bytes))
    }
}

impl Write for PartWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART_BYTES as usize - self.part.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.part.extend_from_slice(taken);
        if self.part.len() == PART_BYTES as usize {
            self.encrypt();
            self.store()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
