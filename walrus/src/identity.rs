//! Identities as the CLC tells them, kept on disk so that Walrus works while the CLC is away. The
//! file is sealed under a key that lies beside it, readable by its owner only: a copy of the data
//! without the key gives no secrets away.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use control::{Changes, Cloud, Position, cloud::IdentityChange, feed::Poll, rpc::Call};
use daemon::{BoxError, Context, files, ready::Condition};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::directory::Directory;

const FILE: &str = "identity.sealed";
const KEY_FILE: &str = "identity.key";
/// What the sealed bytes are, so that they cannot be taken for something else.
const PURPOSE: &[u8] = b"mallee-walrus identity 1";
const NONCE_BYTES: usize = 12;
/// How long one poll waits for news.
const POLL_WAIT_MS: u64 = 20_000;
/// How long after a failed poll the next one is tried.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Why kept identities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The key file does not hold 32 bytes.
    #[error("{0} does not hold a key; remove it and {FILE} beside it, and they are made anew")]
    BadKey(PathBuf),
    /// The seal is broken: another key, or damage.
    #[error("{0} cannot be opened with its key")]
    BadSeal(PathBuf),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    position: Option<Position>,
    items: Vec<IdentityChange>,
}

#[derive(Debug, Default)]
struct Now {
    directory: Arc<Directory>,
    position: Option<Position>,
}

/// The identities. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    now: Arc<RwLock<Now>>,
    path: PathBuf,
    cipher: ChaCha20Poly1305,
}

impl Identity {
    /// Opens what is kept in a folder; none is known if nothing is.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let cipher = ChaCha20Poly1305::new(&load_key(&folder.join(KEY_FILE))?);
        let path = folder.join(FILE);
        let now = match files::read(&path) {
            Ok(sealed) => open_seal(&cipher, &sealed).ok_or(Error::BadSeal(path.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Now::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            now: Arc::new(RwLock::new(now)),
            path,
            cipher,
        })
    }

    /// All identities as they are now.
    pub fn directory(&self) -> Arc<Directory> {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .directory
            .clone()
    }

    /// Whether the CLC was ever heard.
    pub fn is_known(&self) -> bool {
        self.position().is_some()
    }

    fn position(&self) -> Option<Position> {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .position
            .clone()
    }

    /// The revision of the CLC's feed that is known.
    pub fn revision(&self) -> u64 {
        self.position().map_or(0, |position| position.revision)
    }

    /// Takes up what the CLC told, on disk first.
    pub fn take_up(&self, changes: Changes<IdentityChange>) -> Result<(), Error> {
        let mut directory = Directory::clone(&self.directory());
        directory.apply(changes.items, changes.full);

        let kept = Kept {
            position: Some(changes.position),
            items: directory.all(),
        };
        files::publish(&self.path, &seal(&self.cipher, &kept))?;
        let now = Now {
            directory: Arc::new(directory),
            position: kept.position,
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    /// Follows the CLC's feed for as long as the daemon runs.
    pub async fn follow(
        self,
        cloud: impl Cloud,
        context: Context,
        ready: Condition,
    ) -> Result<(), BoxError> {
        let mut is_heard = true;
        while !context.cancel.is_cancelled() {
            let poll = Poll {
                after: self.position(),
                wait_ms: POLL_WAIT_MS,
            };
            let call = Call::new("identity").polling_ms(POLL_WAIT_MS);
            let told = tokio::select! {
                told = cloud.identity(&call, poll) => told,
                () = context.cancel.cancelled() => break,
            };
            match told {
                Ok(changes) => {
                    is_heard = true;
                    if changes.full || !changes.items.is_empty() {
                        tracing::info!(
                            revision = changes.position.revision,
                            changes = changes.items.len(),
                            "identities"
                        );
                        self.take_up(changes)?;
                    }
                    ready.met();
                }
                Err(error) => {
                    if std::mem::take(&mut is_heard) {
                        tracing::warn!(%error, "the Cloud Controller does not tell identities; those known stay");
                    }
                    if !self.is_known() {
                        ready.unmet(format!("no identities yet: {error}"));
                    }
                    tokio::select! {
                        () = context.clock.sleep(RETRY) => {}
                        () = context.cancel.cancelled() => {}
                    }
                }
            }
        }
        Ok(())
    }
}

fn load_key(path: &Path) -> Result<Key, Error> {
    match files::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let key: [u8; 32] = bytes
                .as_slice()
                .try_into()
                .map_err(|_| Error::BadKey(path.to_owned()))?;
            Ok(key.into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            files::publish(path, &key)?;
            Ok(key.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn seal(cipher: &ChaCha20Poly1305, kept: &Kept) -> Vec<u8> {
    let text = serde_json::to_vec(kept).expect("identities hold nothing that JSON cannot say");
    let text = Zeroizing::new(text);
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let payload = Payload {
        msg: &text,
        aad: PURPOSE,
    };
    let sealed = cipher.encrypt(Nonce::from_slice(&nonce), payload);
    let sealed = sealed.expect("identities are far smaller than the cipher's limit of 256 GiB");
    [nonce.as_slice(), &sealed].concat()
}

fn open_seal(cipher: &ChaCha20Poly1305, sealed: &[u8]) -> Option<Now> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
    let payload = Payload {
        msg: sealed,
        aad: PURPOSE,
    };
    let text = Zeroizing::new(cipher.decrypt(Nonce::from_slice(nonce), payload).ok()?);
    let kept: Kept = serde_json::from_slice(&text).ok()?;

    let mut directory = Directory::default();
    directory.apply(kept.items, true);
    Some(Now {
        directory: Arc::new(directory),
        position: kept.position,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::cloud::{AccessKey, Account, User};
    use types::Secret;

    fn told() -> Changes<IdentityChange> {
        let account: types::AccountId = "111111111111".parse().unwrap();
        Changes {
            position: Position {
                epoch: "e".into(),
                revision: 7,
            },
            full: true,
            items: vec![
                IdentityChange::Account(Account {
                    account: account.clone(),
                    name: "alice".into(),
                    canonical_id: "c".into(),
                    deleted: false,
                }),
                IdentityChange::User(User {
                    account: account.clone(),
                    name: "admin".into(),
                    path: "/".into(),
                    policies: vec![],
                    deleted: false,
                }),
                IdentityChange::Key(AccessKey {
                    id: "AKIAIOSFODNN7EXAMPLE".parse().unwrap(),
                    account,
                    user: "admin".into(),
                    secret: Secret::new("wJalrXUtnFEMI".into()),
                    active: true,
                    deleted: false,
                }),
            ],
        }
    }

    #[test]
    fn identities_survive_a_restart_and_are_not_readable_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        Identity::open(folder.path())
            .unwrap()
            .take_up(told())
            .unwrap();

        let again = Identity::open(folder.path()).unwrap();
        assert_eq!(again.revision(), 7);
        let directory = again.directory();
        let (secret, _) = directory.find_key("AKIAIOSFODNN7EXAMPLE").unwrap();
        assert_eq!(secret.reveal(), "wJalrXUtnFEMI");

        let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"wJalrXUt"));
    }

    #[test]
    fn a_broken_seal_is_an_error_and_not_an_empty_directory() {
        let folder = tempfile::tempdir().unwrap();
        Identity::open(folder.path())
            .unwrap()
            .take_up(told())
            .unwrap();
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(
            Identity::open(folder.path()),
            Err(Error::BadSeal(_))
        ));
    }
}
