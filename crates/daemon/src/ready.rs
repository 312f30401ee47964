//! Readiness: named conditions, each of which holds or says why not.
//!
//! Alive and ready are two things: `/healthz` answers as soon as the process does, `/readyz` once
//! every condition holds. A condition may come and go while the daemon runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::Serialize;

/// The conditions of one daemon, shared by whoever reports and whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, State>>>);

/// How it is with one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It holds, with a remark if there is something to know.
    Met(Option<String>),
    /// It does not hold, and why.
    Unmet(String),
}

/// One condition, held by the part of the daemon that knows.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    all: Readiness,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every condition holds.
    pub ready: bool,
    /// Each condition, by name.
    pub conditions: Vec<ConditionReport>,
}

/// One line of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// Why not; or what there is to know although it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// Declares a condition; until it is met the daemon is not ready, because it is `starting`.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.lock()
            .entry(name)
            .or_insert_with(|| State::Unmet("starting".to_owned()));
        Condition {
            name,
            all: self.clone(),
        }
    }

    /// The state of all conditions now.
    pub fn report(&self) -> Report {
        let conditions: Vec<ConditionReport> = self
            .lock()
            .iter()
            .map(|(name, state)| match state.clone() {
                State::Met(reason) => ConditionReport {
                    name,
                    ready: true,
                    reason,
                },
                State::Unmet(reason) => ConditionReport {
                    name,
                    ready: false,
                    reason: Some(reason),
                },
            })
            .collect();
        Report {
            ready: conditions.iter().all(|condition| condition.ready),
            conditions,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.0
            .lock()
            .expect("no one panics while holding this lock")
    }
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.set(State::Met(None));
    }

    /// The condition holds, and an operator should know this.
    pub fn met_but(&self, remark: impl Into<String>) {
        self.set(State::Met(Some(remark.into())));
    }

    /// The condition does not hold, and why, in words for an operator.
    pub fn unmet(&self, reason: impl Into<String>) {
        self.set(State::Unmet(reason.into()));
    }

    fn set(&self, state: State) {
        let before = self.all.lock().insert(self.name, state.clone());
        let was_met = matches!(before, Some(State::Met(_)));
        match state {
            State::Met(_) if !was_met => tracing::info!(condition = self.name, "ready"),
            State::Unmet(reason) if was_met => {
                tracing::warn!(condition = self.name, reason, "not ready");
            }
            State::Met(_) | State::Unmet(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_ready_when_every_condition_holds_and_says_which_does_not() {
        let readiness = Readiness::default();
        let (database, peer) = (readiness.condition("database"), readiness.condition("peer"));
        database.met();
        peer.unmet("the CLC does not answer");

        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(
            report.conditions[1].reason.as_deref(),
            Some("the CLC does not answer")
        );

        peer.met_but("it answers slowly");
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(
            report.conditions[1].reason.as_deref(),
            Some("it answers slowly")
        );
        peer.met();
        assert_eq!(readiness.report().conditions[1].reason, None);
        database.unmet("disk full");
        assert!(!readiness.report().ready);
    }
}
