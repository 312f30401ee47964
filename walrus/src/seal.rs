//! Encryption of bodies at rest. Every object (or upload) has a data key of its own, which is kept
//! wrapped: under the key file's key, under a named key that is made of it, or under the key that came
//! with the request. A file is sealed
//! block by block with AES-256-GCM under a key made of the data key and the file's salt, so that any
//! range can be read, and no nonce is ever used twice under one key.
//!
//! ```text
//! key file ──HMAC(name)──▶ named key
//! key file, named or customer's key ──wraps──▶ data key ──HMAC(salt)──▶ file's key ──block n──▶ nonce n
//! ```

use std::{ops::Range, path::Path};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use daemon::files;
use hmac::{Hmac, Mac};
use s3::{
    Code, Error,
    documents::encryption::DefaultEncryption,
    encryption::{CustomerKey, KEY_BYTES},
};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    crc32c,
    engine::{
        Failure, Result,
        facts::{Sealing, Under},
    },
};

/// Plain bytes of a sealed block.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// What sealing adds to each block.
const TAG_BYTES: u64 = 16;
const NONCE_BYTES: usize = 12;
const KEY_FILE: &str = "encryption.key";
/// What a named key is made of besides its name.
const NAMED: &[u8] = b"mallee-walrus named key 1";
/// What a wrapped key is, so that it cannot be taken for something else.
const PURPOSE: &[u8] = b"mallee-walrus data key 1";

/// The key of the key file: what it wraps is lost with it.
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<[u8; KEY_BYTES]>,
    /// Names of keys that may be used. What was sealed under another one stays closed.
    names: Vec<String>,
}

/// Under which key something new is sealed.
#[derive(Debug, Clone, Copy)]
pub enum Outer<'a> {
    /// The key file's.
    Server,
    /// The one of that name.
    Kms(&'a str),
    /// The customer's.
    Customer(&'a CustomerKey),
}

impl<'a> Outer<'a> {
    /// What a bucket says.
    pub fn of_default(default: &'a DefaultEncryption) -> Self {
        default.kms_key.as_deref().map_or(Self::Server, Self::Kms)
    }
}

impl MasterKey {
    /// Reads the key file of a folder, or makes it for a store that is new. An older one whose key
    /// file is gone is refused: with another key it would hold objects that no single key opens.
    pub fn open(folder: &Path, is_new: bool) -> std::io::Result<Self> {
        let path = folder.join(KEY_FILE);
        match files::read(&path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                let wrong = |why: &str| {
                    let text = format!("{} {why}; restore it from your backup", path.display());
                    std::io::Error::new(std::io::ErrorKind::InvalidData, text)
                };
                let (key, sum) = bytes
                    .split_first_chunk::<KEY_BYTES>()
                    .ok_or_else(|| wrong("is too short for a key"))?;
                let key = Zeroizing::new(*key);
                match sum {
                    // Written before there were checksums.
                    [] => files::publish(&path, &with_checksum(&key))?,
                    sum if sum == checksum(&key) => {}
                    _ => return Err(wrong("is not what was written")),
                }
                Ok(Self::of(key))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !is_new {
                    return Err(missing(&path));
                }
                let key = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
                files::publish(&path, &with_checksum(&key))?;
                Ok(Self::of(key))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn of(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let names = Vec::new();
        Self { key, names }
    }

    /// The same with these named keys.
    #[must_use]
    pub fn with_names(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }

    fn named(&self, name: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        if !self.names.iter().any(|known| known == name) {
            return Err(Error::from(Code::KmsNotFound).with("KeyId", name).into());
        }
        let mut mac = hmac_under(&self.key);
        mac.update(NAMED);
        mac.update(name.as_bytes());
        Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    /// A new data key, wrapped.
    pub fn make(&self, outer: Outer<'_>) -> Result<(Sealing, DataKey)> {
        let data = DataKey(Zeroizing::new(rand::random()));
        let (under, key) = match outer {
            Outer::Server => (Under::Server, wrap(&self.key, &data)),
            Outer::Kms(name) => (
                Under::Kms(name.to_owned()),
                wrap(&*self.named(name)?, &data),
            ),
            Outer::Customer(customer) => (
                Under::Customer(customer.md5.clone()),
                wrap(&customer.key, &data),
            ),
        };
        let sealing = Sealing {
            under,
            key,
            salt: DataKey::salt(),
        };
        Ok((sealing, data))
    }

    /// The data key of what is kept, if the right key came with the request, or none was needed.
    pub fn open_data_key(
        &self,
        sealing: Option<&Sealing>,
        customer: Option<&CustomerKey>,
    ) -> Result<Option<DataKey>> {
        let invalid = |why: &'static str| Err(Error::new(Code::InvalidRequest, why).into());
        let Some(sealing) = sealing else {
            return match customer {
                None => Ok(None),
                Some(_) => invalid("The encryption parameters are not applicable to this object."),
            };
        };
        let damaged = || Failure::Damaged("a wrapped key cannot be opened".to_owned());
        match (&sealing.under, customer) {
            (Under::Server, None) => {
                let key = unwrap(&self.key, &sealing.key).ok_or_else(damaged)?;
                Ok(Some(key))
            }
            (Under::Kms(name), None) => {
                let key = unwrap(&*self.named(name)?, &sealing.key).ok_or_else(damaged)?;
                Ok(Some(key))
            }
            (Under::Server | Under::Kms(_), Some(_)) => {
                invalid("The encryption parameters are not applicable to this object.")
            }
            (Under::Customer(_), None) => invalid(
                "The object was stored using a form of Server Side Encryption. The correct \
                 parameters must be provided to retrieve the object.",
            ),
            (Under::Customer(_), Some(customer)) => match unwrap(&customer.key, &sealing.key) {
                Some(key) => Ok(Some(key)),
                None => invalid(
                    "The provided encryption parameters did not match the ones used originally.",
                ),
            },
        }
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

/// A bit that flips in the key must not seal what the key in the backup cannot open.
fn checksum(key: &[u8; KEY_BYTES]) -> [u8; 4] {
    crc32c::of(key).to_le_bytes()
}

fn with_checksum(key: &[u8; KEY_BYTES]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([key.as_slice(), &checksum(key)].concat())
}

fn missing(path: &Path) -> std::io::Error {
    let text = format!(
        "{0} is missing, which opens what is encrypted in this store: restore it from its backup (if \
         nothing here was ever encrypted, or it is lost for good: `head -c 32 /dev/urandom > {0}`, \
         owner and mode as its folder's)",
        path.display()
    );
    std::io::Error::new(std::io::ErrorKind::NotFound, text)
}

/// The key that an object's files are sealed under.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

fn hmac_under(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length")
}

fn cipher(key: &[u8; KEY_BYTES]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

fn wrap(outer: &[u8; KEY_BYTES], data: &DataKey) -> String {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let payload = Payload {
        msg: data.0.as_slice(),
        aad: PURPOSE,
    };
    let sealed = cipher(outer).encrypt(&Nonce::from(nonce), payload);
    let sealed = sealed.expect("a key is far smaller than the cipher's limit");
    BASE64.encode([nonce.as_slice(), &sealed].concat())
}

fn unwrap(outer: &[u8; KEY_BYTES], wrapped: &str) -> Option<DataKey> {
    let bytes = BASE64.decode(wrapped).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let payload = Payload {
        msg: sealed,
        aad: PURPOSE,
    };
    let plain = Zeroizing::new(cipher(outer).decrypt(&Nonce::from(nonce), payload).ok()?);
    Some(DataKey(Zeroizing::new(plain.as_slice().try_into().ok()?)))
}

impl DataKey {
    /// A new salt: each file has its own.
    pub fn salt() -> String {
        hex::encode(rand::random::<[u8; 16]>())
    }

    fn file(&self, salt: &str) -> FileKey {
        let mut mac = hmac_under(&self.0);
        mac.update(salt.as_bytes());
        let key: [u8; KEY_BYTES] = mac.finalize().into_bytes().into();
        FileKey(cipher(&key))
    }

    /// What seals a file as it is written.
    pub fn sealer(&self, salt: &str) -> Sealer {
        Sealer {
            key: self.file(salt),
            gathered: Vec::new(),
            block: 0,
        }
    }

    /// What opens parts of a file.
    pub fn opener(&self, salt: &str) -> Opener {
        Opener(self.file(salt))
    }

    /// Seals a small body at once.
    pub fn seal(&self, salt: &str, plain: &[u8]) -> Vec<u8> {
        let mut sealer = self.sealer(salt);
        let mut sealed = sealer.push(plain);
        sealed.extend(sealer.finish());
        sealed
    }
}

struct FileKey(Aes256Gcm);

impl FileKey {
    fn nonce(block: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[4..].copy_from_slice(&block.to_be_bytes());
        nonce
    }

    fn seal(&self, block: u64, plain: &[u8]) -> Vec<u8> {
        let sealed = self.0.encrypt(&Nonce::from(Self::nonce(block)), plain);
        sealed.expect("a block is far smaller than the cipher's limit")
    }

    fn open(&self, block: u64, sealed: &[u8]) -> Result<Vec<u8>> {
        let plain = self.0.decrypt(&Nonce::from(Self::nonce(block)), sealed);
        plain.map_err(|_| Failure::Damaged(format!("block {block} is not what was sealed")))
    }
}

/// Seals what it is given, block by block.
pub struct Sealer {
    key: FileKey,
    gathered: Vec<u8>,
    block: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer at block {}", self.block)
    }
}

impl Sealer {
    /// Takes plain bytes; gives the blocks that are full.
    pub fn push(&mut self, mut plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        while !plain.is_empty() {
            let room = BLOCK_BYTES as usize - self.gathered.len();
            let (now, later) = plain.split_at(room.min(plain.len()));
            self.gathered.extend_from_slice(now);
            plain = later;
            if self.gathered.len() == BLOCK_BYTES as usize {
                sealed.extend(self.seal_block());
            }
        }
        sealed
    }

    /// Gives the last block.
    pub fn finish(mut self) -> Vec<u8> {
        if self.gathered.is_empty() {
            return Vec::new();
        }
        self.seal_block()
    }

    fn seal_block(&mut self) -> Vec<u8> {
        let sealed = self.key.seal(self.block, &self.gathered);
        self.block += 1;
        self.gathered.clear();
        sealed
    }
}

/// Opens what a [`Sealer`] sealed.
pub struct Opener(FileKey);

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener")
    }
}

impl Opener {
    /// The bytes of the file that hold these plain bytes: whole blocks.
    pub fn sealed_range(plain: &Range<u64>, size: u64) -> Range<u64> {
        let first = plain.start / BLOCK_BYTES;
        let end = plain.end.div_ceil(BLOCK_BYTES);
        first * (BLOCK_BYTES + TAG_BYTES)..(end * (BLOCK_BYTES + TAG_BYTES)).min(sealed_size(size))
    }

    /// Opens whole blocks; gives the plain bytes that were asked for.
    pub fn open(&self, plain: &Range<u64>, sealed: &[u8]) -> Result<Vec<u8>> {
        let first = plain.start / BLOCK_BYTES;
        let mut out = Vec::with_capacity(sealed.len());
        let blocks = sealed.chunks((BLOCK_BYTES + TAG_BYTES) as usize);
        for (block, sealed) in (first..).zip(blocks) {
            out.extend(self.0.open(block, sealed)?);
        }
        let skipped = (plain.start - first * BLOCK_BYTES) as usize;
        let length = (plain.end - plain.start) as usize;
        let asked = out.get(skipped..skipped + length);
        let asked = asked.ok_or_else(|| Failure::Damaged("a sealed file is too short".to_owned()));
        asked.map(<[u8]>::to_vec)
    }
}

/// Bytes of a file that holds so many plain ones.
pub fn sealed_size(plain: u64) -> u64 {
    plain + TAG_BYTES * plain.div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> MasterKey {
        MasterKey::of(Zeroizing::new([7; KEY_BYTES]))
    }

    fn customer(byte: u8) -> CustomerKey {
        CustomerKey {
            key: [byte; KEY_BYTES],
            md5: "m".into(),
        }
    }

    #[test]
    fn any_range_of_a_sealed_file_can_be_opened() {
        let (_, key) = master().make(Outer::Server).unwrap();
        let plain: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let sealed = key.seal("salt", &plain);
        assert_eq!(sealed.len() as u64, sealed_size(plain.len() as u64));
        for range in [
            0..1_u64,
            65_535..65_537,
            100..199_999,
            131_072..131_073,
            199_999..200_000,
        ] {
            let bytes = Opener::sealed_range(&range, plain.len() as u64);
            let cut = &sealed[bytes.start as usize..bytes.end as usize];
            let got = key.opener("salt").open(&range, cut).unwrap();
            assert_eq!(got, &plain[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn blocks_cannot_be_changed_exchanged_or_moved_to_another_file() {
        let (_, key) = master().make(Outer::Server).unwrap();
        let plain = vec![1; 2 * BLOCK_BYTES as usize];
        let sealed = key.seal("salt", &plain);
        let whole = 0..plain.len() as u64;
        let mut flipped = sealed.clone();
        flipped[5] ^= 1;
        let middle = sealed.len() / 2;
        let exchanged = [&sealed[middle..], &sealed[..middle]].concat();
        for bad in [&flipped, &exchanged] {
            assert!(key.opener("salt").open(&whole, bad).is_err());
        }
        assert!(key.opener("other").open(&whole, &sealed).is_err());
        assert!(key.opener("salt").open(&whole, &sealed[..middle]).is_err());
    }

    #[test]
    fn a_data_key_opens_with_its_own_key_only() {
        let master = master().with_names(vec!["k".to_owned(), "l".to_owned()]);
        let make = |outer: Outer<'_>| master.make(outer).unwrap().0;
        let (ours, theirs) = (make(Outer::Server), make(Outer::Customer(&customer(1))));
        let open = |sealing: Option<&Sealing>, key: Option<&CustomerKey>| {
            master.open_data_key(sealing, key).map(|key| key.is_some())
        };
        assert!(open(Some(&ours), None).unwrap());
        assert!(open(Some(&theirs), Some(&customer(1))).unwrap());
        assert!(!open(None, None).unwrap());
        assert!(open(Some(&theirs), None).is_err());
        assert!(open(Some(&theirs), Some(&customer(2))).is_err());
        assert!(open(Some(&ours), Some(&customer(1))).is_err());
        assert!(open(None, Some(&customer(1))).is_err());

        let named = make(Outer::Kms("k"));
        assert!(open(Some(&named), None).unwrap());
        assert!(open(Some(&named), Some(&customer(1))).is_err());
        let renamed = Sealing {
            under: Under::Kms("l".to_owned()),
            ..named.clone()
        };
        assert!(open(Some(&renamed), None).is_err());
        assert!(master.make(Outer::Kms("m")).is_err());
        let without = master.clone().with_names(Vec::new());
        assert!(without.open_data_key(Some(&named), None).is_err());
    }

    #[test]
    fn the_key_file_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let refused = MasterKey::open(folder.path(), false).unwrap_err();
        assert!(refused.to_string().contains("backup"), "{refused}");
        let first = MasterKey::open(folder.path(), true).unwrap();
        let second = MasterKey::open(folder.path(), false).unwrap();
        assert_eq!(first.key, second.key);
        std::fs::write(folder.path().join(KEY_FILE), b"short").unwrap();
        assert!(MasterKey::open(folder.path(), true).is_err());
    }

    #[test]
    fn a_flipped_bit_in_the_key_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open(folder.path(), true).unwrap().key;
        let path = folder.path().join(KEY_FILE);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let refused = MasterKey::open(folder.path(), false).unwrap_err();
            assert!(refused.to_string().contains("restore it"), "bit {bit}");
        }
        // A key of former times has no checksum until the next start.
        std::fs::write(&path, key.as_slice()).unwrap();
        assert_eq!(MasterKey::open(folder.path(), false).unwrap().key, key);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}
