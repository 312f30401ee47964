//! What a running daemon is given, and how its tasks live: started here, counted, told to stop
//! together, and never dead in silence.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BoxError, chain,
    clock::{SharedClock, SystemClock},
    metrics::Metrics,
    ready::Readiness,
    reconcile::{self, Board, Reconcile, Wake},
};

/// The surroundings of a daemon. Cheap to clone; every part gets one.
#[derive(Clone)]
pub struct Context {
    /// `clc`, `cc`, `nc`, `sc` or `walrus`.
    pub name: &'static str,
    /// Where durable state is.
    pub state: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// Cancelled when the daemon shall stop: listeners stop accepting, tasks finish their pass.
    pub cancel: CancellationToken,
    /// Named conditions behind `/readyz`.
    pub ready: Readiness,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The last result of every reconciler, behind `/tasks`.
    pub board: Board,
    tasks: TaskTracker,
    failed: Arc<Mutex<Option<String>>>,
}

impl Context {
    /// Surroundings with the machine's clock.
    pub fn new(name: &'static str, version: &str, state: impl AsRef<Path>) -> Self {
        let metrics = Metrics::new(name, version);
        Self {
            name,
            state: state.as_ref().to_owned(),
            clock: SystemClock::shared(),
            cancel: CancellationToken::new(),
            ready: Readiness::default(),
            board: Board::new(&metrics),
            metrics,
            tasks: TaskTracker::new(),
            failed: Arc::default(),
        }
    }

    /// The same with another clock: for tests and simulations.
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Where our certificates are.
    pub fn tls_dir(&self) -> PathBuf {
        self.state.join("tls")
    }

    /// Starts a task that lives as long as the daemon: it watches [`Context::cancel`] and returns.
    /// If it fails or panics, the whole daemon stops with that reason; a daemon with a dead part
    /// would look alive and do nothing.
    pub fn spawn<E: Into<BoxError>>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (cancel, failed) = (self.cancel.clone(), self.failed.clone());
        let inner = async move { task.await.map_err(Into::into) };
        self.tasks.spawn(async move {
            let why = match tokio::spawn(inner).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => chain(&*error),
                Err(panic) => panic.to_string(),
            };
            tracing::error!(task = name, error = why, "a task failed, stopping");
            let mut first = failed
                .lock()
                .expect("no one panics while holding this lock");
            first.get_or_insert(format!("{name}: {why}"));
            cancel.cancel();
        });
    }

    /// Starts short work on the side (a connection, one request's aftermath): counted at the
    /// drain, and its failure is its own affair.
    pub fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Starts a reconciler; see [`reconcile`].
    pub fn reconcile<R: Reconcile>(&self, reconciler: R, wake: Wake) {
        let driven = reconcile::drive(
            reconciler,
            wake,
            self.clock.clone(),
            self.cancel.clone(),
            self.board.clone(),
        );
        self.spawn(R::NAME, async move {
            driven.await;
            Ok::<(), BoxError>(())
        });
    }

    /// Stops everything and waits, `limit` at most. `Err` says what failed or how many did not stop.
    pub async fn drain(&self, limit: Duration) -> Result<(), String> {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            return Err(format!(
                "{} tasks did not stop within {limit:?}",
                self.tasks.len()
            ));
        }
        match self
            .failed
            .lock()
            .expect("no one panics while holding this lock")
            .take()
        {
            Some(failed) => Err(failed),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn context() -> Context {
        Context::new("test", "0", "/nonexistent")
    }

    #[tokio::test]
    async fn a_task_that_fails_stops_the_daemon_and_says_which() {
        let context = context();
        context.spawn("listener", async { Err("address in use") });
        context.cancel.cancelled().await;
        assert_eq!(
            context.drain(LIMIT).await.unwrap_err(),
            "listener: address in use"
        );
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_daemon_too() {
        let context = context();
        context.spawn("keeper", async {
            if true {
                panic!("boom");
            }
            Ok::<(), BoxError>(())
        });
        context.cancel.cancelled().await;
        assert!(context.drain(LIMIT).await.unwrap_err().contains("boom"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_work_in_progress_but_not_for_ever() {
        let quick = context();
        quick.detach(tokio::time::sleep(Duration::from_secs(1)));
        assert_eq!(quick.drain(LIMIT).await, Ok(()));

        let stubborn = context();
        stubborn.detach(std::future::pending());
        assert!(stubborn.drain(LIMIT).await.unwrap_err().contains("1 tasks"));
    }
}
