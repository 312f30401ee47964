//! Changes after a revision, by long poll.
//!
//! The server keeps the latest value of each thing with the revision of its last change. A reader
//! says the position it has; an answer comes at once if there is something newer, else when there
//! is or when the wait is over. A feed has an epoch, new with each start of the server: a position
//! of another epoch gets the full list of what the server knows by now. What is absent from it may
//! only not have been heard of yet: a thing is gone when its last value said so.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::watch;

/// Where a reader is in a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which life of the server.
    pub epoch: String,
    /// The last change that was seen.
    pub revision: u64,
}

/// A poll of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Where the reader is; none asks for the full list.
    pub after: Option<Position>,
    /// How long to wait for a change, [`crate::POLL_WAIT_MS_MAX`] at most.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
pub struct Changes<T> {
    /// Where the reader is after this.
    pub position: Position,
    /// Whether `items` is everything the server knows, after its start maybe not yet everything.
    pub full: bool,
    /// The latest value of each thing that changed.
    pub items: Vec<T>,
}

/// The serving end of a feed. Cheap to update; wakes its pollers.
///
/// A thing that goes away leaves no tombstone: its last value must say that it is gone
/// (`terminated`, `deleted`), and [`Feed::forget`] drops it once readers had time to see it.
#[derive(Debug)]
pub struct Feed<K, T> {
    epoch: String,
    state: Mutex<State<K, T>>,
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<K, T> {
    revision: u64,
    items: BTreeMap<K, (u64, T)>,
}

impl<K: Ord + Clone, T: Clone + PartialEq> Feed<K, T> {
    /// An empty feed. The epoch must differ from that of every earlier life: take random bits.
    pub fn new(epoch: String) -> Self {
        let state = State {
            revision: 0,
            items: BTreeMap::new(),
        };
        Self {
            epoch,
            state: Mutex::new(state),
            revision: watch::Sender::new(0),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<K, T>> {
        // A panic while it was held cannot have left it half-made: each update is one insert.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets the value of a thing. The same value again is no change.
    pub fn set(&self, key: K, value: T) {
        let mut state = self.state();
        if state.items.get(&key).is_some_and(|(_, old)| *old == value) {
            return;
        }
        state.revision += 1;
        let revision = state.revision;
        state.items.insert(key, (revision, value));
        self.revision.send_replace(revision);
    }

    /// Drops a thing whose last value said that it is gone.
    pub fn forget(&self, key: &K) {
        self.state().items.remove(key);
    }

    /// The latest value of a thing.
    pub fn get(&self, key: &K) -> Option<T> {
        self.state().items.get(key).map(|(_, value)| value.clone())
    }

    /// All values, in the order of their keys.
    pub fn all(&self) -> Vec<T> {
        self.state()
            .items
            .values()
            .map(|(_, value)| value.clone())
            .collect()
    }

    fn after(&self, after: Option<&Position>) -> Changes<T> {
        let state = self.state();
        let known = after.filter(|p| p.epoch == self.epoch && p.revision <= state.revision);
        let seen = known.map_or(0, |p| p.revision);
        let items = state
            .items
            .values()
            .filter(|(at, _)| known.is_none() || *at > seen);
        Changes {
            position: Position {
                epoch: self.epoch.clone(),
                revision: state.revision,
            },
            full: known.is_none(),
            items: items.map(|(_, value)| value.clone()).collect(),
        }
    }

    /// Answers a poll: at once if something is newer, else when it is or after the wait.
    pub async fn poll(&self, poll: &Poll) -> Changes<T> {
        let mut revision = self.revision.subscribe();
        let first = self.after(poll.after.as_ref());
        if first.full || !first.items.is_empty() || poll.wait_ms == 0 {
            return first;
        }
        let wait = Duration::from_millis(poll.wait_ms.min(crate::POLL_WAIT_MS_MAX));
        let seen = first.position.revision;
        // The sender lives in self: waiting ends by a change or by time.
        let _ = tokio::time::timeout(wait, revision.wait_for(|now| *now > seen)).await;
        self.after(poll.after.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(after: Option<Position>, wait_ms: u64) -> Poll {
        Poll { after, wait_ms }
    }

    #[tokio::test]
    async fn a_stranger_gets_everything_and_a_regular_what_changed() {
        let feed = Feed::new("e1".into());
        feed.set("a", 1);
        feed.set("b", 1);
        let all = feed.poll(&poll(None, 0)).await;
        assert!(all.full);
        assert_eq!(all.items, [1, 1]);

        feed.set("b", 2);
        feed.set("a", 1);
        let some = feed.poll(&poll(Some(all.position), 0)).await;
        assert!(!some.full);
        assert_eq!(some.items, [2]);
    }

    #[tokio::test]
    async fn a_position_of_another_life_gets_everything() {
        let feed = Feed::new("e2".into());
        feed.set("a", 1);
        let old = Position {
            epoch: "e1".into(),
            revision: 7,
        };
        assert!(feed.poll(&poll(Some(old), 0)).await.full);
        let ahead = Position {
            epoch: "e2".into(),
            revision: 7,
        };
        assert!(feed.poll(&poll(Some(ahead), 0)).await.full);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_waits_for_a_change_and_no_longer_than_asked() {
        let feed = std::sync::Arc::new(Feed::new("e1".into()));
        feed.set("a", 1);
        let here = feed.poll(&poll(None, 0)).await.position;

        let empty = feed.poll(&poll(Some(here.clone()), 1000)).await;
        assert!(empty.items.is_empty() && !empty.full);

        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { feed.poll(&poll(Some(here), 10_000)).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        feed.set("a", 2);
        assert_eq!(waiting.await.unwrap().items, [2]);
    }
}
