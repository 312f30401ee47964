//! The one thread that writes.
//!
//! It takes whatever is waiting, runs each closure in a savepoint of one transaction, commits once,
//! and only then answers all of them. A closure that fails undoes its own savepoint and harms no
//! other. Nobody is told of success before the commit is on disk.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rusqlite::Connection;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

use crate::{Error, Tx};

/// Writes that may wait. Beyond this, callers wait to queue: memory is bounded.
const WAITING_MAX: usize = 1024;
/// Writes in one commit: enough to share a slow disk's flush among all who wait, few enough that
/// the first of them is not kept for long.
const GROUP_MAX: usize = 256;

/// How a group ended: committed, or why not.
type Fate = Result<(), String>;

/// A write in the queue.
trait Job: Send {
    /// Runs the closure; whether its writes are to be kept.
    fn run(&mut self, tx: &Tx) -> bool;
    /// Answers the caller, now that the group's fate is known.
    fn answer(self: Box<Self>, fate: Fate);
}

struct Write<F, T, E> {
    closure: Option<F>,
    result: Option<Result<T, E>>,
    tell: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Write<F, T, E>
where
    F: FnOnce(&Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &Tx) -> bool {
        let closure = self.closure.take().expect("a job is run once");
        let result = catch_unwind(AssertUnwindSafe(|| closure(tx)))
            .unwrap_or_else(|panic| Err(Error::Panicked(panic_text(&*panic)).into()));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, fate: Fate) {
        let result = match (fate, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(Error::Closed.into()),
            // An error was read off the same rolled-back rows: it is no truer than a success.
            (Err(why), _) => Err(Error::NotWritten(why).into()),
        };
        let _caller_gone = self.tell.send(result);
    }
}

/// The way in for writes.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Box<dyn Job>>);

impl Writer {
    /// Starts the thread, which ends when the last handle is gone.
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(connection, receiver))?;
        Ok(Self(sender))
    }

    /// Runs a closure in the next group and waits for its commit.
    pub(crate) async fn write<T, E>(
        &self,
        closure: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job = Box::new(Write {
            closure: Some(closure),
            result: None,
            tell,
        });
        self.0.send(job).await.map_err(|_| Error::Closed)?;
        answer(told).await?
    }
}

/// Waits for the writer's answer. On a runtime of one thread (tests and simulations) it waits as
/// blocking work, because that holds a paused clock: else time would run on while the disk writes.
async fn answer<T: Send + 'static>(told: oneshot::Receiver<T>) -> Result<T, Error> {
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        return told.await.map_err(|_| Error::Closed);
    }
    let waiting = tokio::task::spawn_blocking(|| told.blocking_recv());
    match waiting.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Error::Closed),
    }
}

fn run(connection: Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        let fate = commit_group(&connection, &mut jobs, &mut waiting);
        if let Err(why) = &fate {
            tracing::error!(
                why,
                writes = jobs.len(),
                "a group of writes was rolled back"
            );
            let _nothing_open = connection.execute_batch("ROLLBACK");
        }
        for job in jobs {
            job.answer(fate.clone());
        }
    }
    // The next start would do it too; this way a stopped daemon's file is whole by itself.
    let _best_effort = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
}

/// Runs the first job, and all that came meanwhile, in one transaction.
fn commit_group(
    connection: &Connection,
    jobs: &mut Vec<Box<dyn Job>>,
    waiting: &mut mpsc::Receiver<Box<dyn Job>>,
) -> Fate {
    let said = |error: rusqlite::Error| error.to_string();
    connection.execute_batch("BEGIN IMMEDIATE").map_err(said)?;
    let mut at = 0;
    while let Some(job) = jobs.get_mut(at) {
        connection.execute_batch("SAVEPOINT one").map_err(said)?;
        let keep = job.run(connection);
        if connection.is_autocommit() {
            return Err("SQLite ended the transaction: the disk is full or fails".to_owned());
        }
        let end = if keep {
            "RELEASE one"
        } else {
            "ROLLBACK TO one; RELEASE one"
        };
        connection.execute_batch(end).map_err(said)?;
        at += 1;
        if at == jobs.len() && at < GROUP_MAX {
            jobs.extend(waiting.try_recv().ok());
        }
    }
    connection.execute_batch("COMMIT").map_err(said)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
