//! What runs beside the requests: the gauges, a watch on the engine, and the scrub.

use std::time::Duration;

use daemon::{BoxError, Context, ready::Condition};
use types::Timestamp;

use crate::{
    engine::{Engine, Result, scrub::Scrub},
    identity::Identity,
    metrics::Metrics,
    quotas,
};

/// How often gauges are set.
const GAUGES: Duration = Duration::from_secs(5);
/// Between two steps of the scrub at least: a million small files are no reason to hurry.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// How often the scrub looks whether it is time for a pass, or for another try after an error.
const REST: Duration = Duration::from_secs(60);

/// Sets the gauges, and ends the daemon if the engine stops: a restart recovers.
pub async fn watch(
    engine: Engine,
    identity: Identity,
    metrics: Metrics,
    context: Context,
) -> Result<(), BoxError> {
    loop {
        let heard = (identity.revision(), identity.silent_ms());
        metrics.state(engine.groups(), heard);
        metrics.room(&engine.room()?, engine.totals().await.unwrap_or_default());
        let waiting = engine.view(|view| view.waiting()).await.unwrap_or_default();
        let lost = engine.events().borrow().lost;
        metrics.waiting(waiting, lost);
        metrics.quotas(quotas::limited(&engine).await.unwrap_or_default());
        tokio::select! {
            why = engine.stopped() => return Err(why.into()),
            () = context.cancel.cancelled() => return Ok(()),
            () = context.clock.sleep(GAUGES) => {}
        }
    }
}

/// How often another store is swept: what its answers that were lost have left is not much.
const SWEEP: Duration = Duration::from_secs(24 * 3600);
/// What is deleted in another store may take so long at the end.
const SETTLE: Duration = Duration::from_secs(5);

/// Says whether the store of large objects is there, and sweeps it once after the start and then each
/// day.
pub async fn follow_store(
    engine: Engine,
    there: Condition,
    context: Context,
) -> Result<(), BoxError> {
    let mut rested = SWEEP;
    loop {
        match engine.blocking(Engine::probe_blobs).await {
            Ok(()) => there.met(),
            Err(error) => there.unmet(daemon::chain(&error)),
        }
        if rested >= SWEEP {
            match engine.blocking(Engine::sweep).await {
                Ok(swept) => {
                    tracing::info!(swept, "the store of large objects was swept");
                    rested = Duration::ZERO;
                }
                Err(error) => tracing::warn!(error = daemon::chain(&error), "it is swept later"),
            }
        }
        tokio::select! {
            () = context.cancel.cancelled() => {
                let settle = |engine: &Engine| {
                    engine.settle_blobs(SETTLE);
                    Ok(())
                };
                return Ok(engine.blocking(settle).await?);
            }
            () = context.clock.sleep(GAUGES) => rested += GAUGES,
        }
    }
}

/// How fast and how often everything is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes read in a second, on average.
    pub bytes_per_s: u64,
    /// From the beginning of one pass to that of the next.
    pub every_ms: i64,
}

impl Pace {
    fn after(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64).max(STEP_PAUSE)
    }
}

/// Scrubs, pass after pass, from where it was.
pub async fn scrub(
    engine: Engine,
    pace: Pace,
    metrics: Metrics,
    context: Context,
) -> Result<(), BoxError> {
    let mut scrub = Scrub::resume(&engine);
    loop {
        let now = Timestamp(context.clock.now_ms());
        metrics.scrub(scrub.progress());
        let is_due = scrub.progress().began.as_millis() + pace.every_ms <= now.as_millis();
        if !scrub.is_under_way() && is_due {
            scrub.begin(now);
        }
        let rest = if scrub.is_under_way() {
            let stepped;
            (scrub, stepped) = step(scrub, now).await?;
            match stepped {
                Ok(bytes) => pace.after(bytes),
                Err(error) => {
                    tracing::error!(error = daemon::chain(&error), "the scrub pauses");
                    REST
                }
            }
        } else {
            REST
        };
        tokio::select! {
            () = context.cancel.cancelled() => return Ok(scrub.keep()?),
            () = context.clock.sleep(rest) => {}
        }
    }
}

async fn step(mut scrub: Scrub, now: Timestamp) -> Result<(Scrub, Result<u64>), BoxError> {
    let stepped = tokio::task::spawn_blocking(move || {
        let stepped = scrub.step(now);
        (scrub, stepped)
    });
    Ok(stepped.await?)
}
