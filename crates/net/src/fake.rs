//! An applier without a host: it remembers what it was told, and fails where it is asked to.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use types::VpcId;

use crate::{
    apply::{Applied, Applier, Failure},
    desired::Desired,
};

/// A node's network that exists only in memory.
#[derive(Debug, Default)]
pub struct FakeApplier(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    applied: Desired,
    failing_node: bool,
    failing: BTreeSet<VpcId>,
}

impl FakeApplier {
    /// What is so now.
    pub fn applied(&self) -> Desired {
        self.state().applied.clone()
    }

    /// Makes a VPC fail from now on, or heals it.
    pub fn fail_vpc(&self, vpc: &VpcId, fails: bool) {
        let failing = &mut self.state().failing;
        if fails {
            failing.insert(vpc.clone())
        } else {
            failing.remove(vpc)
        };
    }

    /// Makes the node as a whole fail from now on, or heals it.
    pub fn fail_node(&self, fails: bool) {
        self.state().failing_node = fails;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Applier for FakeApplier {
    async fn apply(&self, desired: &Desired) -> Applied {
        let mut state = self.state();
        let mut applied = Applied {
            version: desired.version,
            problems: desired.problems.clone(),
            ..Applied::default()
        };
        if state.failing_node {
            applied.failures.push(failure(None));
            return applied;
        }
        let failing = desired
            .vpcs
            .iter()
            .filter(|vpc| state.failing.contains(&vpc.vpc));
        applied
            .failures
            .extend(failing.map(|vpc| failure(Some(vpc.vpc.clone()))));
        applied.changes = usize::from(state.applied != *desired);
        state.applied = desired.clone();
        applied
    }
}

fn failure(vpc: Option<VpcId>) -> Failure {
    Failure {
        vpc,
        why: "it was told to fail".to_owned(),
    }
}
