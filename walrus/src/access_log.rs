//! Server access logs: of buckets whose owners asked for it, a line for each request, delivered as
//! objects into the bucket that they named.
//!
//! ```text
//! request answered → line → queue → spool (synced) → after a minute, or when it is large: objects
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | a line, as AWS documents it. Pure |
//! | [`request`] | what of a request and its answer goes into a line |
//! | [`rule`] | lines of what a bucket's own rules do |
//! | [`sources`] | which buckets are logged, and where to |
//! | [`spool`] | lines on their way, in files that survive a restart |
//! | [`deliver`] | files of lines become objects, where that is allowed |
//!
//! As with AWS it is best effort: a request never waits for its line. What is in the spool survives
//! any end of the process; lines of the last quarter of a second before a kill may not be in it.

pub mod deliver;
pub mod record;
pub mod request;
pub mod rule;
pub mod sources;
pub mod spool;

use std::{path::Path, sync::Arc, time::Duration};

use daemon::{BoxError, Context};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use types::Timestamp;

use crate::{api::Api, metrics::Metrics};

pub use request::{Trail, Watch};
pub use rule::RuleLog;
pub use sources::{Source, Sources};
use spool::Spool;

/// Lines that may wait for the spool: a second of the most that Walrus serves, some 10 MiB.
const QUEUE_MAX: usize = 16_384;
/// Between two writes of the spool: the journal needs the disk more than we do.
const PAUSE: Duration = Duration::from_millis(250);

/// When lines become objects, and how many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a line waits for others.
    pub every: Duration,
    /// Bytes of lines that may be in the spool; beyond them lines are lost.
    pub spool_bytes_max: u64,
}

/// A line on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of which bucket, and where it goes.
    pub source: Arc<Source>,
    /// When its request came.
    pub at: Timestamp,
    /// The line, without its end.
    pub line: String,
}

/// Where lines are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Which buckets are logged.
    pub sources: Sources,
    queue: mpsc::Sender<Entry>,
    metrics: Metrics,
}

/// The other end.
pub type Lines = mpsc::Receiver<Entry>;

impl AccessLog {
    /// No bucket is logged yet.
    pub fn new(metrics: Metrics) -> (Self, Lines) {
        let (queue, lines) = mpsc::channel(QUEUE_MAX);
        let log = Self {
            sources: Sources::default(),
            queue,
            metrics,
        };
        (log, lines)
    }

    /// Hands a line in. It is lost, and counted, if too many wait.
    pub fn note(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.metrics.logged("lost", 1);
        }
    }
}

/// Spools and delivers for as long as the daemon runs; at its end what is queued goes to the spool.
pub async fn run(
    api: Arc<Api>,
    mut lines: Lines,
    folder: &Path,
    pace: Pace,
    context: Context,
) -> Result<(), BoxError> {
    let mut spool = match Spool::open(folder, pace.spool_bytes_max) {
        Ok(spool) => spool,
        // A full disk, for one: no reason to keep objects from anybody.
        Err(error) => {
            let error = daemon::chain(&error);
            tracing::error!(error, "access logs are lost until the next start");
            lines.close();
            context.cancel.cancelled().await;
            return Ok(());
        }
    };
    let every_ms = u64::try_from(pace.every.as_millis()).unwrap_or(u64::MAX);
    let mut due = context.clock.monotonic_ms() + every_ms;
    let mut batch = Vec::new();
    loop {
        let left = due.saturating_sub(context.clock.monotonic_ms());
        tokio::select! {
            _ = lines.recv_many(&mut batch, QUEUE_MAX) => {}
            () = context.clock.sleep(Duration::from_millis(left)) => {}
            () = context.cancel.cancelled() => {
                lines.close();
                while lines.recv_many(&mut batch, QUEUE_MAX).await > 0 {}
                write(spool, std::mem::take(&mut batch), &api.metrics).await?;
                return Ok(());
            }
        }
        if !batch.is_empty() {
            if !spool.has_begun() {
                due = context.clock.monotonic_ms() + every_ms;
            }
            spool = write(spool, std::mem::take(&mut batch), &api.metrics).await?;
            tokio::select! {
                () = context.clock.sleep(PAUSE) => {}
                () = context.cancel.cancelled() => {}
            }
        }
        let now = context.clock.monotonic_ms();
        if now >= due || spool.is_large() {
            due = now + every_ms;
            spool = deliver::all(&api, spool).await?;
        }
    }
}

async fn write(mut spool: Spool, batch: Vec<Entry>, metrics: &Metrics) -> Result<Spool, BoxError> {
    let count = batch.len() as u64;
    let written = tokio::task::spawn_blocking(move || {
        let kept = spool.append(&batch);
        (spool, kept)
    });
    let (spool, kept) = written.await?;
    let kept = kept.unwrap_or_else(|error| {
        tracing::error!(
            error = daemon::chain(&error),
            "lines of access logs are lost"
        );
        0
    });
    metrics.logged("kept", kept);
    metrics.logged("lost", count - kept);
    Ok(spool)
}
