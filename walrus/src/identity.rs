//! Identities as the CLC tells them, kept on disk so that Walrus works while the CLC is away. The
//! file is sealed under a key that lies beside it, readable by its owner only: a copy of the data
//! without the key gives no secrets away.
//!
//! While the CLC answers, a key that is revoked there is refused here within a second. While it does
//! not, nobody can know: what was known serves for a time, then it only reads. That time is counted
//! over restarts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use control::{Changes, Cloud, Position, cloud::IdentityChange, feed::Poll, rpc::Call};
use daemon::{BoxError, Context, clock::SharedClock, files, ready::Condition};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::directory::Directory;

const FILE: &str = "identity.sealed";
const KEY_FILE: &str = "identity.key";
/// When the CLC was last heard: UTC milliseconds, as text.
const HEARD_FILE: &str = "identity.heard";
/// What the sealed bytes are, so that they cannot be taken for something else.
const PURPOSE: &[u8] = b"mallee-walrus identity 1";
const NONCE_BYTES: usize = 12;
/// How long one poll waits for news at most.
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

/// How far what is known may be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The CLC was heard lately enough: known keys read and write.
    Trusted {
        /// For so long, if it is not heard.
        for_ms: u64,
    },
    /// It was not heard for too long: known keys only read.
    ReadsOnly,
}

/// The standing after so long a silence. Pure.
fn standing(silent_ms: u64, trusted_ms: u64) -> Standing {
    match trusted_ms.checked_sub(silent_ms) {
        Some(for_ms) if for_ms > 0 => Standing::Trusted { for_ms },
        _ => Standing::ReadsOnly,
    }
}

/// The identities. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    now: Arc<RwLock<Now>>,
    path: PathBuf,
    cipher: ChaCha20Poly1305,
    clock: SharedClock,
    trusted_ms: u64,
    /// When the CLC was last heard, by the monotonic clock; before it began, if before the start.
    heard_ms: Arc<AtomicI64>,
}

impl Identity {
    /// Opens what is kept in a folder; none is known if nothing is. `trusted` is how long it is
    /// relied on without the CLC.
    pub fn open(folder: &Path, clock: SharedClock, trusted: Duration) -> Result<Self, Error> {
        let cipher = ChaCha20Poly1305::new(&load_key(&folder.join(KEY_FILE))?);
        let path = folder.join(FILE);
        let now = match files::read(&path) {
            Ok(sealed) => open_seal(&cipher, &sealed).ok_or(Error::BadSeal(path.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Now::default(),
            Err(error) => return Err(error.into()),
        };
        let silent_ms = silence_before(&folder.join(HEARD_FILE), clock.now_ms())?;
        let begun_ms = i64::try_from(clock.monotonic_ms()).unwrap_or(i64::MAX);
        Ok(Self {
            now: Arc::new(RwLock::new(now)),
            path,
            cipher,
            trusted_ms: u64::try_from(trusted.as_millis()).unwrap_or(u64::MAX),
            heard_ms: Arc::new(AtomicI64::new(begun_ms.saturating_sub(silent_ms))),
            clock,
        })
    }

    /// How long the CLC was not heard.
    pub fn silent_ms(&self) -> u64 {
        let now_ms = i64::try_from(self.clock.monotonic_ms()).unwrap_or(i64::MAX);
        let heard_ms = self.heard_ms.load(Ordering::Relaxed);
        u64::try_from(now_ms.saturating_sub(heard_ms)).unwrap_or(0)
    }

    /// How far what is known may be relied on now.
    pub fn standing(&self) -> Standing {
        standing(self.silent_ms(), self.trusted_ms)
    }

    /// The CLC answered just now. On disk, too, so that a restart does not begin the time anew; a
    /// full disk is no reason to end.
    fn heard(&self) {
        let now_ms = i64::try_from(self.clock.monotonic_ms()).unwrap_or(i64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
        let path = self.path.with_file_name(HEARD_FILE);
        let text = self.clock.now_ms().to_string();
        if let Err(error) = files::publish(&path, text.as_bytes()) {
            let error = daemon::chain(&error);
            tracing::warn!(error, "when the Cloud Controller was heard is not kept");
        }
    }

    /// A poll ends well before the time is over in which it must.
    fn poll_wait_ms(&self) -> u64 {
        POLL_WAIT_MS.min(self.trusted_ms / 4)
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
            let wait_ms = self.poll_wait_ms();
            let poll = Poll {
                after: self.position(),
                wait_ms,
            };
            let call = Call::new("identity").polling_ms(wait_ms);
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
                    self.heard();
                    ready.met();
                }
                Err(error) => {
                    if std::mem::take(&mut is_heard) {
                        tracing::warn!(%error, "the Cloud Controller does not tell identities; those known stay");
                    }
                    self.tell(&ready, &error.to_string());
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

impl Identity {
    /// Says what it means that the CLC is not heard.
    fn tell(&self, ready: &Condition, error: &str) {
        let silent_s = self.silent_ms() / 1000;
        match self.standing() {
            _ if !self.is_known() => ready.unmet(format!("no identities yet: {error}")),
            Standing::Trusted { for_ms } => ready.met_but(format!(
                "the Cloud Controller has not been heard for {silent_s} s; known keys serve for \
                 another {} s, then they only read; new sessions are refused: {error}",
                for_ms / 1000
            )),
            Standing::ReadsOnly => ready.unmet(format!(
                "the Cloud Controller has not been heard for {silent_s} s: known keys only read, \
                 new sessions are refused: {error}"
            )),
        }
    }
}

/// How long the CLC had not been heard before this start. Nothing is known of a first start, and of
/// one after an upgrade.
fn silence_before(path: &Path, now_ms: i64) -> Result<i64, Error> {
    match files::read(path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let heard_ms: Option<i64> = text.trim().parse().ok();
            // What cannot be read must not give more time than there is.
            Ok(heard_ms.map_or(i64::MAX / 2, |heard_ms| {
                now_ms.saturating_sub(heard_ms).max(0)
            }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
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
    use daemon::clock::TestClock;
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

    fn open(folder: &Path) -> Result<Identity, Error> {
        open_at(folder, 1_000_000_000)
    }

    fn open_at(folder: &Path, now_ms: i64) -> Result<Identity, Error> {
        Identity::open(folder, TestClock::at(now_ms), Duration::from_secs(900))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_serves_for_its_time_and_then_only_reads() {
        let folder = tempfile::tempdir().unwrap();
        let identity = open(folder.path()).unwrap();
        identity.heard();
        assert_eq!(identity.standing(), Standing::Trusted { for_ms: 900_000 });
        tokio::time::sleep(Duration::from_secs(899)).await;
        assert_eq!(identity.standing(), Standing::Trusted { for_ms: 1_000 });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(identity.standing(), Standing::ReadsOnly);
        identity.heard();
        assert_eq!(identity.standing(), Standing::Trusted { for_ms: 900_000 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_gives_no_more_time() {
        let folder = tempfile::tempdir().unwrap();
        open_at(folder.path(), 1_000_000_000).unwrap().heard();
        let later = open_at(folder.path(), 1_000_000_000 + 600_000).unwrap();
        assert_eq!(later.standing(), Standing::Trusted { for_ms: 300_000 });
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(later.standing(), Standing::ReadsOnly);
        let much_later = open_at(folder.path(), 1_000_000_000 + 90_000_000).unwrap();
        assert_eq!(much_later.standing(), Standing::ReadsOnly);
        // A clock that was set back is no reason to distrust.
        let earlier = open_at(folder.path(), 1).unwrap();
        assert_eq!(earlier.standing(), Standing::Trusted { for_ms: 900_000 });
        std::fs::write(folder.path().join(HEARD_FILE), "rubbish").unwrap();
        assert_eq!(open(folder.path()).unwrap().standing(), Standing::ReadsOnly);
    }

    #[tokio::test]
    async fn identities_survive_a_restart_and_are_not_readable_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().take_up(told()).unwrap();

        let again = open(folder.path()).unwrap();
        assert_eq!(again.revision(), 7);
        let directory = again.directory();
        let (secret, _) = directory.find_key("AKIAIOSFODNN7EXAMPLE").unwrap();
        assert_eq!(secret.reveal(), "wJalrXUtnFEMI");

        let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"wJalrXUt"));
    }

    #[tokio::test]
    async fn a_broken_seal_is_an_error_and_not_an_empty_directory() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().take_up(told()).unwrap();
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(folder.path()), Err(Error::BadSeal(_))));
    }
}
