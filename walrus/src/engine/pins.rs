//! Files that somebody is reading are deleted after the last reader. A reader pins what a fact
//! names right after it saw the fact; if the files were doomed in between, it looks again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use super::blobs::{BlobId, BlobStore};

#[derive(Debug, Default)]
struct State {
    /// Readers of each file.
    pinned: HashMap<BlobId, usize>,
    /// Files that no fact names any more and that are still there.
    doomed: HashSet<BlobId>,
}

/// Who reads what.
#[derive(Debug, Clone)]
pub struct Pins {
    state: Arc<Mutex<State>>,
    remove: mpsc::Sender<BlobId>,
}

impl Pins {
    /// Starts the thread that deletes: deleting a large file takes milliseconds.
    pub fn start(blobs: BlobStore) -> Self {
        let (remove, doomed) = mpsc::channel::<BlobId>();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let body = move || {
            while let Ok(blob) = doomed.recv() {
                if let Err(error) = blobs.remove(&blob) {
                    tracing::warn!(%error, "an unused file stays until the next start");
                }
                lock(&shared).doomed.remove(&blob);
            }
        };
        let thread = std::thread::Builder::new()
            .name("blob-remover".into())
            .spawn(body);
        if let Err(error) = thread {
            tracing::warn!(%error, "unused files stay until the next start");
        }
        Self { state, remove }
    }

    /// Pins files. `None` if one of them is doomed: the fact is out of date.
    pub fn pin(&self, blobs: Vec<BlobId>) -> Option<Pin> {
        let mut state = lock(&self.state);
        if blobs.iter().any(|blob| state.doomed.contains(blob)) {
            return None;
        }
        for blob in &blobs {
            *state.pinned.entry(blob.clone()).or_default() += 1;
        }
        Some(Pin {
            pins: self.clone(),
            blobs,
        })
    }

    /// Deletes files that no fact names any more: now, or after their last reader.
    pub fn doom(&self, blobs: impl IntoIterator<Item = BlobId>) {
        let mut state = lock(&self.state);
        for blob in blobs {
            state.doomed.insert(blob.clone());
            if !state.pinned.contains_key(&blob) {
                // If the thread is gone the file is an orphan, swept at the next start.
                let _ = self.remove.send(blob);
            }
        }
    }

    fn release(&self, blobs: &[BlobId]) {
        let mut state = lock(&self.state);
        for blob in blobs {
            let readers = state.pinned.get_mut(blob).expect("a pin is a reader");
            *readers -= 1;
            if *readers == 0 {
                state.pinned.remove(blob);
                if state.doomed.contains(blob) {
                    let _ = self.remove.send(blob.clone());
                }
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change is one insertion or removal: a panic leaves nothing half-done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files that stay while this lives.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    blobs: Vec<BlobId>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.release(&self.blobs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::blobs::BlobPlace;

    fn until(condition: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            condition()
        })
    }

    #[test]
    fn a_file_goes_after_its_last_reader() {
        let folder = tempfile::tempdir().unwrap();
        let place = BlobPlace::Folder(folder.path().to_owned());
        let blobs = BlobStore::open(&place, folder.path()).unwrap();
        let blob = blobs.create().unwrap().finish().unwrap().keep();
        let pins = Pins::start(blobs.clone());

        let first = pins.pin(vec![blob.clone()]).unwrap();
        let second = pins.pin(vec![blob.clone()]).unwrap();
        pins.doom([blob.clone()]);
        assert!(
            pins.pin(vec![blob.clone()]).is_none(),
            "a doomed file gets no new readers"
        );
        drop(first);
        assert_eq!(blobs.is_there(&blob), Some(true));
        drop(second);
        assert!(until(|| blobs.is_there(&blob) == Some(false)));
    }
}
