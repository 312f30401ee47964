//! Time from outside: wall time as UTC milliseconds, and a monotonic clock for leases and limits.
//!
//! Leases are measured on the monotonic clock only; wall time is for people and for records.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

/// Where time comes from. Everything that needs the time is given one.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// UTC in milliseconds since 1970. May jump, in both directions.
    fn now_ms(&self) -> i64;

    /// Milliseconds since this clock was made. Never goes back.
    fn monotonic_ms(&self) -> u64;

    /// Waits on the monotonic clock.
    async fn sleep(&self, time: Duration);
}

/// A clock that all parts of a daemon share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock. Its monotonic side is tokio's, so a test with paused time moves it.
#[derive(Debug, Clone)]
pub struct SystemClock {
    made: Instant,
}

impl SystemClock {
    /// The clock, ready to share.
    pub fn shared() -> SharedClock {
        Arc::new(Self {
            made: Instant::now(),
        })
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A clock for tests: starts at a fixed instant, follows tokio's (paused) time, and can be made to
/// jump or to run askew as a broken host's does.
#[derive(Debug)]
pub struct TestClock {
    base_ms: i64,
    jumped_ms: AtomicI64,
    made: Instant,
}

impl TestClock {
    /// A clock that reads `base_ms` now.
    pub fn at(base_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            base_ms,
            jumped_ms: AtomicI64::new(0),
            made: Instant::now(),
        })
    }

    /// Moves the wall time, not the monotonic time: what a bad NTP step does.
    pub fn jump(&self, by_ms: i64) {
        self.jumped_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        let run = i64::try_from(self.monotonic_ms()).unwrap_or(i64::MAX);
        self.base_ms
            .saturating_add(run)
            .saturating_add(self.jumped_ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_jump_moves_the_wall_clock_and_never_a_lease() {
        let clock = TestClock::at(1_000_000);
        clock.sleep(Duration::from_secs(5)).await;
        clock.jump(-60_000);
        assert_eq!(clock.now_ms(), 1_000_000 + 5_000 - 60_000);
        assert_eq!(clock.monotonic_ms(), 5_000);
    }

    #[test]
    fn the_system_clock_reads_a_time_after_this_was_written() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        assert!(SystemClock::shared().now_ms() > 1_760_000_000_000);
    }
}
