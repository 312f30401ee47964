//! Signatures that were used. Versions 1 and 2 cover so little of a request that a copy of a
//! mutating one is a second launch, and an address presigned by version 4 is there to be handed on;
//! the version 4 header relies on its window, because two honest calls within one second sign alike.
//!
//! The table here decides, in memory; the cloud behind the edge keeps a copy, written before the call
//! is made, from which the table is filled at the start.

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

/// A signature that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The signature, as it came.
    pub signature: String,
    /// The access key that it was made with.
    pub access_key: String,
    /// When it would be refused anyway.
    pub valid_until_ms: i64,
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
    /// The table as it was before a restart.
    pub fn of(used: Vec<Used>) -> Self {
        let mut seen = Seen::default();
        used.into_iter().for_each(|used| seen.remember(used));
        Self(Mutex::new(seen))
    }

    /// Admits a signature once; it is forgotten when it would be refused anyway.
    pub fn admit(&self, used: &Used, now_ms: i64) -> Admitted {
        let mut seen = self
            .0
            .lock()
            .expect("no one panics while holding this lock");
        seen.forget_until(now_ms);
        if seen.signatures.contains_key(&used.signature) {
            return Admitted::Again;
        }
        let share = seen.shares.get(&used.access_key).copied();
        if share.unwrap_or_default() >= SIGNATURES_PER_KEY_MAX
            || seen.signatures.len() >= SIGNATURES_MAX
        {
            return Admitted::NoRoom;
        }
        seen.remember(used.clone());
        Admitted::First
    }
}

impl Seen {
    fn remember(&mut self, used: Used) {
        let Used {
            signature,
            access_key,
            valid_until_ms,
        } = used;
        *self.shares.entry(access_key.clone()).or_default() += 1;
        self.by_end.insert((valid_until_ms, signature.clone()));
        self.signatures.insert(signature, access_key);
    }

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

    fn used(access_key: &str, signature: &str, valid_until_ms: i64) -> Used {
        Used {
            signature: signature.to_owned(),
            access_key: access_key.to_owned(),
            valid_until_ms,
        }
    }

    #[test]
    fn a_signature_is_admitted_once_while_it_would_be_valid() {
        let replays = Replays::default();
        assert_eq!(replays.admit(&used("k", "a", 1000), 0), Admitted::First);
        assert_eq!(replays.admit(&used("k", "a", 1000), 1000), Admitted::Again);
        assert_eq!(replays.admit(&used("k", "b", 1000), 0), Admitted::First);
        assert_eq!(replays.admit(&used("k", "a", 3000), 1001), Admitted::First);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_let_in() {
        let replays = Replays::default();
        for n in 0..SIGNATURES_MAX {
            let key = (n / SIGNATURES_PER_KEY_MAX).to_string();
            assert_eq!(
                replays.admit(&used(&key, &n.to_string(), 1000), 0),
                Admitted::First
            );
        }
        assert_eq!(
            replays.admit(&used("k", "one more", 1000), 0),
            Admitted::NoRoom
        );
        assert_eq!(
            replays.admit(&used("k", "one more", 2000), 1001),
            Admitted::First
        );
    }

    #[test]
    fn one_key_fills_its_own_share_and_gets_it_back() {
        let replays = Replays::default();
        for n in 0..SIGNATURES_PER_KEY_MAX {
            replays.admit(&used("loud", &n.to_string(), 1000), 0);
        }
        assert_eq!(replays.admit(&used("loud", "x", 1000), 0), Admitted::NoRoom);
        assert_eq!(replays.admit(&used("quiet", "y", 2000), 0), Admitted::First);
        assert_eq!(
            replays.admit(&used("loud", "x", 2000), 1001),
            Admitted::First
        );
        let shares = replays.0.lock().unwrap().shares.clone();
        assert_eq!((shares["loud"], shares["quiet"]), (1, 1));
    }

    #[test]
    fn what_was_used_before_a_restart_is_known_after_it() {
        let replays = Replays::of(vec![used("k", "a", 1000), used("k", "b", 2000)]);
        assert_eq!(replays.admit(&used("k", "b", 2000), 0), Admitted::Again);
        assert_eq!(replays.admit(&used("k", "a", 3000), 1001), Admitted::First);
        assert_eq!(replays.0.lock().unwrap().shares["k"], 2);
    }

    #[test]
    fn reading_is_not_mutating() {
        assert!(is_mutating("RunInstances") && is_mutating("RebootInstances"));
        assert!(!is_mutating("DescribeInstances") && !is_mutating("GetConsoleOutput"));
    }
}
