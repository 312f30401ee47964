//! Holds that may stand at a cluster and that nobody wants: the answer to one was lost or came too
//! late, or the launch was not recorded. They are given back by [`crate::tasks::release_holds`].
//!
//! Memory only: whatever is forgotten here ends with its lease.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use control::cluster::HOLD_LEASE_MS;
use types::{ReservationId, Zone};

/// Holds that are given back at once. More than that end with their lease: it is the whole room of a
/// cluster that answers nobody.
const RELEASES_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Releases(Mutex<BTreeMap<(Zone, ReservationId), u64>>);

impl Releases {
    /// A hold is to be given back, as long as its lease may last.
    pub fn add(&self, zone: Zone, reservation: ReservationId, now_ms: u64) {
        let mut held = self.held();
        if held.len() < RELEASES_MAX {
            held.insert((zone, reservation), now_ms + HOLD_LEASE_MS);
        }
    }

    /// What is to be given back. What has ended by its lease is left out, and forgotten.
    pub fn due(&self, now_ms: u64) -> Vec<(Zone, ReservationId)> {
        let mut held = self.held();
        held.retain(|_, until_ms| now_ms < *until_ms);
        held.keys().cloned().collect()
    }

    /// It was given back.
    pub fn done(&self, zone: Zone, reservation: ReservationId) {
        self.held().remove(&(zone, reservation));
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<(Zone, ReservationId), u64>> {
        self.0
            .lock()
            .expect("no one panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_due_until_it_is_given_back_or_its_lease_is_over() {
        let zone: Zone = "mallee-1a".parse().unwrap();
        let of = |n: char| -> ReservationId {
            format!("r-{}", n.to_string().repeat(17)).parse().unwrap()
        };
        let releases = Releases::default();
        releases.add(zone.clone(), of('1'), 0);
        releases.add(zone.clone(), of('2'), 1);
        assert_eq!(releases.due(1).len(), 2);
        releases.done(zone.clone(), of('1'));
        assert_eq!(releases.due(HOLD_LEASE_MS), [(zone, of('2'))]);
        assert_eq!(releases.due(HOLD_LEASE_MS + 1), []);
    }
}
