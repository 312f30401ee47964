//! The newest document, on disk before anyone hears that it was taken.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard},
};

use daemon::{BoxError, files};
use types::network::NetworkDocument;

/// The file's name in the state folder.
const FILE: &str = "network.json";

/// The document that this node holds.
pub(super) struct Held {
    path: PathBuf,
    document: RwLock<Option<Arc<NetworkDocument>>>,
    writing: tokio::sync::Mutex<()>,
}

impl Held {
    /// What an earlier life held. A file that cannot be understood is an error that names it:
    /// guests may be running on what it said, and guessing would cut them off.
    pub(super) fn load(state: &Path) -> Result<Self, BoxError> {
        let path = state.join(FILE);
        let document = match files::read(&path) {
            Ok(bytes) => Some(Arc::new(parse(&bytes, &path)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path,
            document: RwLock::new(document),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn document(&self) -> Option<Arc<NetworkDocument>> {
        self.read().clone()
    }

    /// Takes a document if it is newer. Gives the version that is held then, and whether it is new.
    pub(super) async fn take(
        &self,
        document: NetworkDocument,
    ) -> Result<(u64, bool), files::Error> {
        let _turn = self.writing.lock().await;
        if let Some(held) = self.document()
            && held.version >= document.version
        {
            return Ok((held.version, false));
        }
        let version = document.version;
        let bytes = serde_json::to_vec(&document).expect("a document has string keys only");
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || files::publish(path, &bytes))
            .await
            .expect("publishing a file does not panic")?;
        *self
            .document
            .write()
            .expect("no one panics while holding this lock") = Some(Arc::new(document));
        Ok((version, true))
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Arc<NetworkDocument>>> {
        self.document
            .read()
            .expect("no one panics while holding this lock")
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<NetworkDocument, BoxError> {
    serde_json::from_slice(bytes)
        .map_err(|error| format!("{} is no network document: {error}", path.display()).into())
}
