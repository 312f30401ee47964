//! The threads that speak to the other store. The engine blocks, whoever runs it: under a runtime,
//! in a command, or on a thread of its own; so requests have a small runtime of their own.

use std::{future::Future, sync::mpsc, thread};

use tokio::{runtime, sync::oneshot};

use crate::engine::failure::{Failure, Result};

/// Signing, hashing by TLS and moving bytes: more threads would take them from the engine.
const THREADS: usize = 2;

/// A runtime that lives as long as this.
#[derive(Debug)]
pub(super) struct Worker {
    handle: runtime::Handle,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    pub(super) fn start() -> Result<Self> {
        let failed = |source| Failure::Io {
            what: "start the threads for the other store".to_owned(),
            source,
        };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("remote-blobs")
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        // A runtime may not end where another one runs: it has a thread to end on.
        thread::Builder::new()
            .name("remote-blobs".into())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }

    /// Runs something that nobody waits for.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// Begins something; its outcome is asked for later.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Begun<T> {
        let (tell, told) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Whoever is gone does not want to know.
            let _ = tell.send(work.await);
        });
        Begun(told)
    }

    /// Runs something and blocks until it is done.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.begin(work).outcome()
    }
}

/// Something that is under way.
#[derive(Debug)]
pub(super) struct Begun<T>(mpsc::Receiver<Result<T>>);

impl<T> Begun<T> {
    /// Blocks until it is done.
    pub(super) fn outcome(self) -> Result<T> {
        let gone = || Failure::Stopped("a request to the other store was given up".to_owned());
        self.0.recv().unwrap_or_else(|_| Err(gone()))
    }
}
