//! What to do with an outcome, and how long to wait: pure.

use std::time::Duration;

/// After the first failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// After many: whoever comes back is told within five minutes.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// It will never be taken, and why.
    Refused(String),
    /// It was not taken this time, and why.
    Later(String),
}

impl Outcome {
    /// By the status of the answer. What says that the message itself is wrong will say so again;
    /// what says anything else may be mended at the other end.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            400 | 413 | 415 | 422 => Self::Refused(format!("it answers {status}")),
            _ => Self::Later(format!("it answers {status}")),
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// They are delivered: forget them.
    Done,
    /// They never will be: forget them.
    GiveUp,
    /// The same again, after a while.
    Again(Duration),
}

/// How a destination fared so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    batch: u32,
    failures: u32,
    /// So many events go one by one, until the one that is refused is found.
    singly: usize,
}

impl Retry {
    /// Events of one message, at best.
    pub fn new(batch: u32) -> Self {
        Self {
            batch,
            failures: 0,
            singly: 0,
        }
    }

    /// Events of the next message.
    pub fn batch(&self) -> u32 {
        if self.singly > 0 { 1 } else { self.batch }
    }

    /// A message of so many events had that outcome. `chance` spreads the waits of many.
    pub fn on(&mut self, outcome: &Outcome, events: usize, chance: u8) -> Next {
        match outcome {
            Outcome::Delivered => {
                self.failures = 0;
                self.singly = self.singly.saturating_sub(events);
                Next::Done
            }
            Outcome::Refused(_) if events == 1 => {
                self.failures = 0;
                self.singly = self.singly.saturating_sub(1);
                Next::GiveUp
            }
            Outcome::Refused(_) => {
                self.singly = events;
                Next::Again(Duration::ZERO)
            }
            Outcome::Later(_) => {
                self.failures = self.failures.saturating_add(1);
                Next::Again(pause(self.failures, chance))
            }
        }
    }
}

/// Twice as long each time, less a quarter at most.
fn pause(failures: u32, chance: u8) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    let whole = doubled.min(PAUSE_MAX);
    whole - whole.mul_f64(f64::from(chance) / 255.0 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later() -> Outcome {
        Outcome::of(503)
    }

    #[test]
    fn a_dead_destination_is_tried_more_and_more_rarely() {
        let mut retry = Retry::new(100);
        let mut waited = Vec::new();
        for _ in 0..40 {
            match retry.on(&later(), 100, 0) {
                Next::Again(pause) => waited.push(pause.as_secs()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(waited[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waited[10..].iter().all(|secs| *secs == 300));
        assert_eq!(pause(4, 255), Duration::from_secs(6));
        assert_eq!(retry.on(&Outcome::Delivered, 100, 0), Next::Done);
        assert_eq!(retry.on(&later(), 100, 0), Next::Again(PAUSE_FIRST));
    }

    #[test]
    fn of_many_only_the_one_that_is_refused_is_given_up() {
        let mut retry = Retry::new(100);
        assert_eq!(
            retry.on(&Outcome::of(400), 3, 0),
            Next::Again(Duration::ZERO)
        );
        for (status, next) in [(200, Next::Done), (400, Next::GiveUp), (200, Next::Done)] {
            assert_eq!(retry.batch(), 1);
            assert_eq!(retry.on(&Outcome::of(status), 1, 0), next);
        }
        assert_eq!(retry.batch(), 100);
    }

    #[test]
    fn what_may_be_mended_is_tried_again() {
        for status in [301, 401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(Outcome::of(status), Outcome::Later(_)), "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert!(
                matches!(Outcome::of(status), Outcome::Refused(_)),
                "{status}"
            );
        }
        assert_eq!(Outcome::of(204), Outcome::Delivered);
    }
}
