//! Signatures that were used. Versions 1 and 2 cover so little of a request that a copy of a
//! mutating one is a second launch, and an address presigned by version 4 is there to be handed on;
//! the version 4 header relies on its window, because two honest calls within one second sign alike.
//!
//! Memory only: after a restart, requests of the last fifteen minutes could come again. A
//! ClientToken closes that gap where it matters.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
};

/// Mutating calls remembered at once; five minutes at 300 a second.
const SIGNATURES_MAX: usize = 100_000;
/// Those of one access key; five minutes at 16 a second. Whoever fills their share locks out nobody
/// else.
const SIGNATURES_PER_KEY_MAX: usize = SIGNATURES_MAX / 20;

/// Used signatures, until they would be refused anyway.
#[derive(Debug, Default)]
pub struct Replays(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Each signature and the access key that it was made with.
    signatures: HashMap<String, String>,
    by_end: BTreeSet<(i64, String)>,
    /// How many signatures each access key has here; none has zero.
    shares: HashMap<String, usize>,
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
    /// Admits a signature of an access key once; it is forgotten after `valid_until_ms`.
    pub fn admit(
        &self,
        access_key: &str,
        signature: &str,
        valid_until_ms: i64,
        now_ms: i64,
    ) -> Admitted {
        let mut seen = self
            .0
            .lock()
            .expect("no one panics while holding this lock");
        seen.forget_until(now_ms);
        if seen.signatures.contains_key(signature) {
            return Admitted::Again;
        }
        let share = seen.shares.get(access_key).copied().unwrap_or_default();
        if share >= SIGNATURES_PER_KEY_MAX || seen.signatures.len() >= SIGNATURES_MAX {
            return Admitted::NoRoom;
        }
        seen.shares.insert(access_key.to_owned(), share + 1);
        seen.signatures
            .insert(signature.to_owned(), access_key.to_owned());
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
            if let Some(access_key) = self.signatures.remove(&signature) {
                self.give_back(&access_key);
            }
        }
    }

    fn give_back(&mut self, access_key: &str) {
        let Some(share) = self.shares.get_mut(access_key) else {
            return;
        };
        *share -= 1;
        if *share == 0 {
            self.shares.remove(access_key);
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
        assert_eq!(replays.admit("k", "a", 1000, 0), Admitted::First);
        assert_eq!(replays.admit("k", "a", 1000, 1000), Admitted::Again);
        assert_eq!(replays.admit("k", "b", 1000, 0), Admitted::First);
        assert_eq!(replays.admit("k", "a", 3000, 1001), Admitted::First);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_let_in() {
        let replays = Replays::default();
        for n in 0..SIGNATURES_MAX {
            let key = (n / SIGNATURES_PER_KEY_MAX).to_string();
            assert_eq!(
                replays.admit(&key, &n.to_string(), 1000, 0),
                Admitted::First
            );
        }
        assert_eq!(replays.admit("k", "one more", 1000, 0), Admitted::NoRoom);
        assert_eq!(replays.admit("k", "one more", 2000, 1001), Admitted::First);
    }

    #[test]
    fn one_key_fills_its_own_share_and_gets_it_back() {
        let replays = Replays::default();
        for n in 0..SIGNATURES_PER_KEY_MAX {
            replays.admit("loud", &n.to_string(), 1000, 0);
        }
        assert_eq!(replays.admit("loud", "x", 1000, 0), Admitted::NoRoom);
        assert_eq!(replays.admit("quiet", "y", 2000, 0), Admitted::First);
        assert_eq!(replays.admit("loud", "x", 2000, 1001), Admitted::First);
        let shares = replays.0.lock().unwrap().shares.clone();
        assert_eq!((shares["loud"], shares["quiet"]), (1, 1));
    }

    #[test]
    fn reading_is_not_mutating() {
        assert!(is_mutating("RunInstances") && is_mutating("RebootInstances"));
        assert!(!is_mutating("DescribeInstances") && !is_mutating("GetConsoleOutput"));
    }
}
