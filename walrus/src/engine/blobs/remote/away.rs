//! Whether the store is there. When it went away, those who come are refused at once instead of
//! holding a thread each until their own patience ends; now and then one of them tries.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::engine::failure::{Failure, Result};

/// How long all are refused before one may try.
const REST: Duration = Duration::from_secs(1);

/// What is known of the store.
#[derive(Debug, Default)]
pub(super) struct Availability(Mutex<Option<Away>>);

#[derive(Debug)]
struct Away {
    why: String,
    until: Instant,
}

/// How somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// As often as it takes.
    Patient,
    /// Once: nobody has answered lately.
    Probe,
}

impl Availability {
    /// Lets somebody ask, or says why nobody needs to.
    pub(super) fn enter(&self, now: Instant) -> Result<Turn> {
        let mut away = self.lock();
        match &mut *away {
            None => Ok(Turn::Patient),
            Some(away) if now < away.until => Err(Failure::Away(away.why.clone())),
            Some(away) => {
                away.until = now + REST;
                Ok(Turn::Probe)
            }
        }
    }

    /// It answered, whatever it said.
    pub(super) fn here(&self) {
        if let Some(away) = self.lock().take() {
            tracing::info!(was = away.why, "the store of large objects answers again");
        }
    }

    /// It did not answer, or serves nobody.
    pub(super) fn away(&self, now: Instant, why: String) {
        let mut away = self.lock();
        if away.is_none() {
            tracing::warn!(why, "the store of large objects is away");
        }
        let until = now + REST;
        *away = Some(Away { why, until });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Away>> {
        // It is replaced whole: a panic leaves nothing half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_away_one_tries_and_the_others_are_refused() {
        let (store, start) = (Availability::default(), Instant::now());
        assert_eq!(store.enter(start).unwrap(), Turn::Patient);
        store.away(start, "no route".into());
        for now in [start, start + REST / 2] {
            let refused = store.enter(now).unwrap_err();
            assert!(matches!(refused, Failure::Away(why) if why == "no route"));
        }
        let later = start + REST;
        assert_eq!(store.enter(later).unwrap(), Turn::Probe);
        assert!(
            store.enter(later + REST / 2).is_err(),
            "one tries at a time"
        );
        store.here();
        assert_eq!(store.enter(later).unwrap(), Turn::Patient);
    }
}
