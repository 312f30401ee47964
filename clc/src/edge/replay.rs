//! Signatures that were used. Versions 1 and 2 cover so little of a request that a copy of a
//! mutating one is a second launch; version 4 relies on its window, because two honest calls within
//! one second sign alike.
//!
//! Memory only: after a restart, requests of the last five minutes could come again. A ClientToken
//! closes that gap where it matters.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Mutex,
};

/// Mutating calls remembered at once; five minutes at 300 a second.
const SIGNATURES_MAX: usize = 100_000;

/// Used signatures, until they would be refused anyway.
#[derive(Debug, Default)]
pub struct Replays(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    signatures: HashSet<String>,
    by_end: BTreeSet<(i64, String)>,
}

/// What became of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Seen for the first time, and remembered.
    First,
    /// It was used already.
    Again,
    /// There is no room to remember it, so it cannot be let in.
    NoRoom,
}

impl Replays {
    /// Admits a signature once; it is forgotten after `valid_until_ms`.
    pub fn admit(&self, signature: &str, valid_until_ms: i64, now_ms: i64) -> Admitted {
        let mut seen = self
            .0
            .lock()
            .expect("no one panics while holding this lock");
        seen.forget_until(now_ms);
        if seen.signatures.contains(signature) {
            return Admitted::Again;
        }
        if seen.signatures.len() >= SIGNATURES_MAX {
            return Admitted::NoRoom;
        }
        seen.signatures.insert(signature.to_owned());
        seen.by_end.insert((valid_until_ms, signature.to_owned()));
        Admitted::First
    }
}

impl Seen {
    fn forget_until(&mut self, now_ms: i64) {
        while self
            .by_end
            .first()
            .is_some_and(|(end_ms, _)| *end_ms < now_ms)
        {
            let (_, signature) = self.by_end.pop_first().expect("there is a first");
            self.signatures.remove(&signature);
        }
    }
}

/// Whether an action changes anything, by EC2's own habit of naming.
pub fn is_mutating(action: &str) -> bool {
    !["Describe", "Get", "List"]
        .iter()
        .any(|prefix| action.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_admitted_once_while_it_would_be_valid() {
        let replays = Replays::default();
        assert_eq!(replays.admit("a", 1000, 0), Admitted::First);
        assert_eq!(replays.admit("a", 1000, 1000), Admitted::Again);
        assert_eq!(replays.admit("b", 1000, 0), Admitted::First);
        assert_eq!(replays.admit("a", 3000, 1001), Admitted::First);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_let_in() {
        let replays = Replays::default();
        for n in 0..SIGNATURES_MAX {
            replays.admit(&n.to_string(), 1000, 0);
        }
        assert_eq!(replays.admit("one more", 1000, 0), Admitted::NoRoom);
        assert_eq!(replays.admit("one more", 2000, 1001), Admitted::First);
    }

    #[test]
    fn reading_is_not_mutating() {
        assert!(is_mutating("RunInstances") && is_mutating("RebootInstances"));
        assert!(!is_mutating("DescribeInstances") && !is_mutating("GetConsoleOutput"));
    }
}
