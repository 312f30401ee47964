//! File calls of the cache, off the async threads, each with its own time limit.
//!
//! A folder on a server that is away hangs for minutes, and every call into it waits in the kernel
//! where nothing can reach it. So each call runs on a thread of its own, whoever waits for it gives
//! up after a limit, and only so many may be stuck: a dead server costs a bounded number of threads
//! and nothing else. A stuck thread is also the probe: when it comes back, so is the file system.

use std::{ops::Deref, sync::Arc, time::Duration};

use tokio::{
    sync::{OnceCell, Semaphore, oneshot, watch},
    time::{Instant, timeout},
};

use super::folder::{Folder, FolderError};

/// How long one call may take. A local disk under load answers in a second, an NFS server that
/// fails over in ten.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long a whole image may take to reach the disk: 4 GB at 10 MB/s.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(400);
/// Calls at once, the stuck ones included: more than a node launches at a time.
const THREADS_MAX: usize = 64;

/// The folder, reached with patience that ends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    folder: Arc<Folder>,
    patience: Duration,
    threads: Arc<Semaphore>,
    silent: Arc<watch::Sender<Option<Instant>>>,
    prepared: Arc<OnceCell<()>>,
}

impl Files {
    /// Calls into that folder; nothing is touched yet.
    pub fn new(folder: Folder, patience: Duration) -> Self {
        Self {
            folder: Arc::new(folder),
            patience,
            threads: Arc::new(Semaphore::new(THREADS_MAX)),
            silent: Arc::new(watch::Sender::new(None)),
            prepared: Arc::default(),
        }
    }

    /// The folder, for what needs no file call: its paths.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Since when it has not answered; none while it does.
    pub fn silent_since(&self) -> watch::Receiver<Option<Instant>> {
        self.silent.subscribe()
    }

    /// Makes the folder ready at the first use, and does the call within the usual patience.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        self.run_within(self.patience, work).await
    }

    /// The same for a call that may take longer.
    pub async fn run_within<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Folder) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        self.prepare().await?;
        self.call(patience, work).await
    }

    /// Once for all; those who come meanwhile wait for the one who does it, and no longer than he.
    async fn prepare(&self) -> Result<(), FolderError> {
        let asked = Instant::now();
        let prepare = || self.call(self.patience, Folder::prepare);
        match timeout(self.patience, self.prepared.get_or_try_init(prepare)).await {
            Ok(prepared) => prepared.copied(),
            Err(_) => Err(self.gave_up(asked, self.patience)),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Folder) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let asked = Instant::now();
        let Ok(permit) = timeout(patience, self.threads.clone().acquire_owned()).await else {
            return Err(self.gave_up(asked, patience));
        };
        let permit = permit.expect("the semaphore is never closed");
        let (tell, told) = oneshot::channel();
        let (folder, silent) = (self.folder.clone(), self.silent.clone());
        let thread = std::thread::Builder::new().name("image-cache".to_owned());
        let started = thread.spawn(move || {
            let outcome = work(&folder);
            if !matches!(&outcome, Err(error) if error.is_silence()) {
                silent.send_if_modified(|since| since.take().is_some());
            }
            drop(permit);
            // Nobody waits any more: what was made is dropped here, where that may take its time.
            let _gone = tell.send(outcome);
        });
        if let Err(error) = started {
            return Err(self.folder.error("starting a thread for", error));
        }
        match timeout(patience, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self
                .folder
                .error("a defect at", std::io::Error::other("it panicked"))),
            Err(_) => Err(self.gave_up(asked, patience)),
        }
    }

    fn gave_up(&self, asked: Instant, patience: Duration) -> FolderError {
        self.silent.send_if_modified(|since| {
            let news = since.is_none();
            since.get_or_insert(asked);
            news
        });
        self.folder.silence(patience)
    }

    /// Does what nobody waits for. While all threads are stuck it is not done: whoever tidies up
    /// later does it.
    pub fn later(&self, work: impl FnOnce(&Folder) + Send + 'static) {
        let Ok(permit) = self.threads.clone().try_acquire_owned() else {
            return;
        };
        let folder = self.folder.clone();
        let thread = std::thread::Builder::new().name("image-cache".to_owned());
        let started = thread.spawn(move || {
            work(&folder);
            drop(permit);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "the image cache is not tidied up now");
        }
    }

    /// Wraps what must not be dropped on an async thread.
    pub fn own<T: Send + Sync + 'static>(&self, inner: T) -> Owned<T> {
        Owned {
            files: self.clone(),
            inner: Some(Arc::new(inner)),
        }
    }
}

/// Something of the folder whose end is a file call; dropped on a thread of its own.
#[derive(Debug)]
pub struct Owned<T: Send + Sync + 'static> {
    files: Files,
    inner: Option<Arc<T>>,
}

impl<T: Send + Sync + 'static> Owned<T> {
    /// Ends it, and returns when that is done or is not going to be.
    pub async fn end(mut self) {
        let inner = self.inner.take();
        let end = move |_: &Folder| {
            drop(inner);
            Ok(())
        };
        if let Err(error) = self.files.run(end).await {
            tracing::warn!(%error, "something half made stays for now");
        }
    }

    /// Another hold on it, for a file call.
    pub fn share(&self) -> Arc<T> {
        self.inner.clone().expect("it is there until it is dropped")
    }
}

impl<T: Send + Sync + 'static> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl<T: Send + Sync + 'static> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.files.later(move |_| drop(inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;

    fn files(patience: Duration) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path(), "node-00000001");
        (root, Files::new(folder, patience))
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_its_return_is_noticed() {
        let (_root, files) = files(Duration::from_millis(50));
        let mut silent = files.silent_since();
        let (let_go, held) = mpsc::channel::<()>();
        let hung = files.run(move |_| Ok(held.recv().is_ok())).await;
        assert!(hung.unwrap_err().is_silence());
        assert!(silent.borrow_and_update().is_some());

        drop(let_go);
        silent.wait_for(Option::is_none).await.unwrap();
        files.run(|_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn stuck_calls_take_a_bounded_number_of_threads() {
        let (_root, files) = files(Duration::from_millis(20));
        files.run(|_| Ok(())).await.unwrap();
        let open = Arc::new(AtomicBool::new(false));
        for _ in 0..THREADS_MAX + 3 {
            let open = open.clone();
            let hung = files.run(move |_| {
                while !open.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            });
            assert!(hung.await.unwrap_err().is_silence());
        }
        assert_eq!(files.threads.available_permits(), 0);
        open.store(true, Ordering::SeqCst);
        files.run(|_| Ok(())).await.unwrap();
    }
}
