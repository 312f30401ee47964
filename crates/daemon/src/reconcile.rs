//! The driver of reconcilers: tasks that look at what is wanted and what is seen, and make it so.
//!
//! A pass takes no input and does not retry inside: the next pass is the retry. It runs on a
//! period, and at once when woken; one pass at a time. A pass that fails is tried again with
//! growing delays. Whatever happened last is on the [`Board`].

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, family::Family};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{BoxError, chain, clock::SharedClock, metrics::Metrics};

/// The first delay after a failure; doubled up to the period, or [`BACKOFF_MAX`] if that is longer.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// However long the period, a failing task looks again this often: a minute is what an operator
/// waits after repairing something before wondering.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Delays vary by up to a fifth, so that the tasks of a hundred nodes do not march in step.
const JITTER: f64 = 0.2;

/// Something that makes it so.
pub trait Reconcile: Send + 'static {
    /// A verb phrase that says what becomes true, `publish_network`.
    const NAME: &'static str;
    /// How often to look when nobody wakes us.
    const PERIOD: Duration;

    /// One look and one round of repairs. Must be safe to cut off anywhere and to run again.
    fn pass(&mut self) -> impl Future<Output = Result<Summary, BoxError>> + Send;
}

/// What a pass did: counts by word, `placed: 3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary(pub BTreeMap<&'static str, u64>);

impl Summary {
    /// A pass that found nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds to a count.
    pub fn count(&mut self, what: &'static str, n: u64) {
        if n > 0 {
            *self.0.entry(what).or_default() += n;
        }
    }
}

/// Wakes a reconciler now. Wakes during a pass make one more pass; none is lost, none piles up.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// A wake that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a pass.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody asks.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// The last result of one reconciler.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Passes so far.
    pub passes: u64,
    /// How many of them failed, one after another, up to now.
    pub failures_in_row: u32,
    /// When the last pass ended, UTC milliseconds.
    pub last_ended_ms: i64,
    /// When a pass last succeeded, UTC milliseconds; 0 for never.
    pub last_success_ms: i64,
    /// How long the last pass took.
    pub last_took_ms: u64,
    /// What the last pass did.
    pub last_summary: Summary,
    /// Why the last pass failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The last results of all reconcilers of a daemon.
#[derive(Debug, Clone)]
pub struct Board {
    statuses: Arc<Mutex<BTreeMap<&'static str, Status>>>,
    passes: Family<Vec<(&'static str, &'static str)>, Counter>,
}

impl Board {
    /// An empty board, whose pass counts are in the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let passes = Family::default();
        metrics
            .register(|r| r.register("task_passes", "Passes by task and result", passes.clone()));
        Self {
            statuses: Arc::default(),
            passes,
        }
    }

    /// A copy of what is on the board.
    pub fn statuses(&self) -> BTreeMap<&'static str, Status> {
        self.statuses
            .lock()
            .expect("no one panics while holding this lock")
            .clone()
    }

    fn note(
        &self,
        task: &'static str,
        ended_ms: i64,
        took_ms: u64,
        result: &Result<Summary, BoxError>,
    ) {
        let word = if result.is_ok() { "ok" } else { "error" };
        self.passes
            .get_or_create(&vec![("task", task), ("result", word)])
            .inc();
        let mut statuses = self
            .statuses
            .lock()
            .expect("no one panics while holding this lock");
        let status = statuses.entry(task).or_default();
        status.passes += 1;
        status.last_ended_ms = ended_ms;
        status.last_took_ms = took_ms;
        match result {
            Ok(summary) => {
                status.failures_in_row = 0;
                status.last_success_ms = ended_ms;
                status.last_summary = summary.clone();
                status.last_error = None;
            }
            Err(error) => {
                status.failures_in_row += 1;
                status.last_error = Some(chain(&**error));
            }
        }
    }
}

/// Runs passes until cancelled; a pass in progress is finished first.
pub async fn drive<R: Reconcile>(
    mut reconciler: R,
    wake: Wake,
    clock: SharedClock,
    cancel: CancellationToken,
    board: Board,
) {
    let mut failures = 0;
    while !cancel.is_cancelled() {
        let begun = clock.monotonic_ms();
        let result = reconciler.pass().await;
        board.note(
            R::NAME,
            clock.now_ms(),
            clock.monotonic_ms() - begun,
            &result,
        );
        failures = match &result {
            Ok(_) => 0,
            Err(error) => {
                warn_once(R::NAME, failures, &**error);
                failures + 1
            }
        };

        let wait = delay(R::PERIOD, failures);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep(wait) => {}
            // A failing task is not to be hammered by wakes: they count once it works again.
            () = wake.woken(), if failures == 0 => {}
        }
    }
}

/// The same failure every pass is one line in the log, not a thousand; `/tasks` has it all along.
fn warn_once(task: &'static str, failures_before: u32, error: &(dyn std::error::Error + 'static)) {
    if failures_before.is_power_of_two() || failures_before == 0 {
        tracing::warn!(
            task,
            failures = failures_before + 1,
            error = chain(error),
            "pass failed"
        );
    } else {
        tracing::debug!(
            task,
            failures = failures_before + 1,
            error = chain(error),
            "pass failed"
        );
    }
}

fn delay(period: Duration, failures: u32) -> Duration {
    let plain = match failures {
        0 => period,
        n => BACKOFF_MIN
            .saturating_mul(1 << n.saturating_sub(1).min(16))
            .min(period.max(BACKOFF_MIN))
            .min(BACKOFF_MAX),
    };
    plain.mul_f64(1.0 + JITTER * (rand::random::<f64>() - 0.5))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock::TestClock;

    struct Counting {
        passes: Arc<AtomicU32>,
        fail_first: u32,
    }

    impl Reconcile for Counting {
        const NAME: &'static str = "count";
        const PERIOD: Duration = Duration::from_secs(10);

        async fn pass(&mut self) -> Result<Summary, BoxError> {
            let n = self.passes.fetch_add(1, Ordering::SeqCst);
            if n < self.fail_first {
                return Err(format!("failure {n}").into());
            }
            let mut summary = Summary::nothing();
            summary.count("counted", 1);
            Ok(summary)
        }
    }

    struct Rig {
        passes: Arc<AtomicU32>,
        wake: Wake,
        board: Board,
        cancel: CancellationToken,
    }

    fn rig(fail_first: u32) -> Rig {
        let rig = Rig {
            passes: Arc::default(),
            wake: Wake::new(),
            board: Board::new(&Metrics::new("test", "0")),
            cancel: CancellationToken::new(),
        };
        let counting = Counting {
            passes: rig.passes.clone(),
            fail_first,
        };
        tokio::spawn(drive(
            counting,
            rig.wake.clone(),
            TestClock::at(0),
            rig.cancel.clone(),
            rig.board.clone(),
        ));
        rig
    }

    impl Rig {
        async fn after(&self, time: Duration) -> u32 {
            tokio::time::sleep(time).await;
            self.passes.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_runs_at_start_then_by_period_then_at_once_when_woken() {
        let rig = rig(0);
        assert_eq!(rig.after(Duration::from_secs(1)).await, 1);
        assert_eq!(rig.after(Duration::from_secs(12)).await, 2);
        rig.wake.wake();
        assert_eq!(rig.after(Duration::from_millis(1)).await, 3);
        rig.cancel.cancel();
        assert_eq!(rig.after(Duration::from_secs(100)).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_during_a_pass_make_one_more_pass() {
        let rig = rig(0);
        for _ in 0..5 {
            rig.wake.wake();
        }
        assert_eq!(rig.after(Duration::from_secs(1)).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_backs_off_ignores_wakes_and_shows_why() {
        let rig = rig(3);
        tokio::time::sleep(Duration::from_millis(10)).await;
        rig.wake.wake();
        assert_eq!(rig.after(Duration::from_millis(10)).await, 1);
        let status = &rig.board.statuses()["count"];
        assert_eq!(status.last_error.as_deref(), Some("failure 0"));

        // 100 + 200 + 400 ms, each give or take a tenth.
        assert_eq!(
            rig.after(Duration::from_secs(1)).await,
            5,
            "the saved wake counts once it works"
        );
        let status = &rig.board.statuses()["count"];
        assert_eq!(
            (status.failures_in_row, status.last_error.clone()),
            (0, None)
        );
        assert_eq!(status.last_summary.0["counted"], 1);
    }

    #[test]
    fn delays_never_exceed_the_period_or_a_minute() {
        let hour = Duration::from_secs(3600);
        assert!(delay(hour, 40) <= BACKOFF_MAX.mul_f64(1.1));
        assert!(delay(Duration::from_secs(1), 40) <= Duration::from_millis(1100));
        assert!(delay(hour, 0) >= hour.mul_f64(0.9));
    }
}
