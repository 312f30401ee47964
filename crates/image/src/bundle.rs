//! The write side: image → tar with one member → SHA-1 → gzip → AES-128-CBC → parts of 10 MiB.
//!
//! One pass, one part in memory. Where parts go is a [`PartSink`]: a folder, or an uploader. The
//! result is the manifest, which the caller writes last.

use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
};

use aes::cipher::{BlockModeEncrypt, KeyIvInit, inout::InOutBuf};
use flate2::{Compression, write::GzEncoder};
use sha1::{Digest, Sha1};
use types::AccountId;

use crate::{
    digest::Sha1Digest,
    keys::{BundleKey, Certificate, KeyError},
    manifest::{
        Architecture, Bundler, DeviceMapping, Kind, MAX_PARTS, Manifest, PART_BYTES, Part,
        is_file_name,
    },
    tar,
};

type Encryptor = cbc::Encryptor<aes::Aes128>;

/// Gzip's level: 1 packs file systems to within a tenth of level 6, four times as fast.
const COMPRESSION: Compression = Compression::fast();
const AES_BLOCK: usize = 16;
/// Bytes read from the image at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// A tar header's name field, less the room for `.part.NNNN`.
const MAX_NAME_BYTES: usize = 90;

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

/// What is to be bundled, for whom.
#[derive(Debug)]
pub struct Order<'a> {
    /// The bundle's name: the prefix of its files.
    pub name: &'a str,
    /// Bytes of the raw image; exactly so many are read.
    pub size_bytes: u64,
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
    /// The cloud's certificate (`EUCALYPTUS_CERT`): only it can open the bundle.
    pub cloud: &'a Certificate,
    /// The user's certificate, so that the user can open it too.
    pub user_certificate: Option<&'a Certificate>,
}

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The name is no base name, or too long.
    #[error("{0:?} cannot be the name of a bundle: at most {MAX_NAME_BYTES} bytes, no slash")]
    Name(String),
    /// The image ended before its size, or could not be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// A part could not be stored, or the image needs too many parts.
    #[error("cannot store the bundle")]
    Store(#[source] io::Error),
    /// A key could not be wrapped.
    #[error("cannot wrap the bundle's key")]
    Key(#[from] KeyError),
}

/// Bundles `image` into `sink`. `progress` hears how many bytes of the image have been taken.
pub fn bundle(
    order: &Order<'_>,
    image: &mut dyn Read,
    sink: &mut dyn PartSink,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, BundleError> {
    if !is_file_name(order.name) || order.name.len() > MAX_NAME_BYTES {
        return Err(BundleError::Name(order.name.to_owned()));
    }
    let secret = BundleKey::mint();
    let parts = PartWriter::new(order.name, &secret, sink);
    let mut stream = TarStream {
        sha1: Sha1::new(),
        gzip: GzEncoder::new(parts, COMPRESSION),
    };

    stream.write(&tar::header(order.name, order.size_bytes))?;
    copy_image(order.size_bytes, image, &mut stream, progress)?;
    stream.write_zeros(tar::padding(order.size_bytes))?;
    let (digest, parts) = stream.finish()?;
    let (parts, bundled_bytes) = parts.finish().map_err(BundleError::Store)?;

    let mut block_device_mapping = order.block_device_mapping.clone();
    block_device_mapping.sort();
    Ok(Manifest {
        bundler: Bundler::ours(),
        architecture: order.architecture,
        block_device_mapping,
        product_codes: Vec::new(),
        kernel_id: order.kernel_id.clone(),
        ramdisk_id: order.ramdisk_id.clone(),
        name: order.name.to_owned(),
        user: order.user.clone(),
        kind: order.kind,
        digest,
        size_bytes: order.size_bytes,
        bundled_bytes,
        cloud_key: secret.wrap(order.cloud)?,
        user_key: match order.user_certificate {
            Some(certificate) => secret.wrap(certificate)?,
            None => Default::default(),
        },
        parts,
        signature: None,
    })
}

fn copy_image(
    size_bytes: u64,
    image: &mut dyn Read,
    stream: &mut TarStream<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BundleError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut taken = 0;
    while taken < size_bytes {
        let wanted = (size_bytes - taken).min(CHUNK_BYTES as u64) as usize;
        image
            .read_exact(&mut buffer[..wanted])
            .map_err(BundleError::Read)?;
        stream.write(&buffer[..wanted])?;
        taken += wanted as u64;
        progress(taken);
    }
    Ok(())
}

/// The tar stream on its way: hashed, then compressed.
struct TarStream<'a> {
    sha1: Sha1,
    gzip: GzEncoder<PartWriter<'a>>,
}

impl<'a> TarStream<'a> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.sha1.update(bytes);
        self.gzip.write_all(bytes).map_err(BundleError::Store)
    }

    fn write_zeros(&mut self, count: u64) -> Result<(), BundleError> {
        self.write(&vec![
            0;
            usize::try_from(count)
                .expect("padding is less than two records")
        ])
    }

    fn finish(self) -> Result<(Sha1Digest, PartWriter<'a>), BundleError> {
        let parts = self.gzip.finish().map_err(BundleError::Store)?;
        Ok((Sha1Digest::from_hasher(self.sha1), parts))
    }
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
