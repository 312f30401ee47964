//! The life of a bundle task as users see it. Pure, like [`crate::instance`].
//!
//! ```text
//!  pending ─▶ waiting-for-shutdown ─▶ bundling ─▶ storing ─▶ complete
//!     └──────────────┴───────────────────┴──────────┴─ failed
//!     └── asked ─────┴───────────────────┴──────────┴─▶ cancelling ─▶ cancelled
//! ```
//!
//! A node may find the bundle complete before it hears that it is to be given up: then it is complete.

use control::node::{BundleReport, BundleSeen};
use types::StateReason;

/// What users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BundleState {
    /// Its node has not begun.
    Pending,
    /// The guest is being shut down.
    WaitingForShutdown,
    /// Parts are made and stored.
    Bundling,
    /// The last parts and the manifest are stored.
    Storing,
    /// It is to be given up; its node has not said that it is.
    Cancelling,
    /// The bundle is there.
    Complete,
    /// It is not, for a reason.
    Failed,
    /// It was given up.
    Cancelled,
}

impl BundleState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::WaitingForShutdown,
        Self::Bundling,
        Self::Storing,
        Self::Cancelling,
        Self::Complete,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::WaitingForShutdown => "waiting-for-shutdown",
            Self::Bundling => "bundling",
            Self::Storing => "storing",
            Self::Cancelling => "cancelling",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Complete | Self::Failed | Self::Cancelled => true,
            Self::Pending
            | Self::WaitingForShutdown
            | Self::Bundling
            | Self::Storing
            | Self::Cancelling => false,
        }
    }

    /// Where a task is after its node's report. A state only moves to the right, but that a node
    /// which lost its way begins again: then it is bundling again, and says so.
    pub fn on(self, report: &BundleReport) -> Self {
        let seen = match report.seen {
            BundleSeen::WaitingForShutdown => Self::WaitingForShutdown,
            BundleSeen::Bundling => Self::Bundling,
            BundleSeen::Storing => Self::Storing,
            BundleSeen::Complete => Self::Complete,
            BundleSeen::Failed => Self::Failed,
            BundleSeen::Cancelled => Self::Cancelled,
        };
        match self {
            _ if self.is_final() => self,
            Self::Cancelling if !seen.is_final() => self,
            _ => seen,
        }
    }
}

/// Why a task ends whose instance does.
pub fn instance_ended() -> StateReason {
    StateReason::new(
        "Client.InstanceTerminated",
        "Client.InstanceTerminated: the instance ended before its bundle was complete",
    )
}

/// Why a task ends whose node is declared dead.
pub fn node_lost() -> StateReason {
    StateReason::new(
        "Server.InternalError",
        "Server.InternalError: the instance's node was lost",
    )
}

/// Why a task ends that no node has ended in the time of its permission.
pub fn overdue() -> StateReason {
    StateReason::new(
        "Server.InternalError",
        "Server.InternalError: the bundle was not complete within a day",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: [BundleSeen; 6] = [
        BundleSeen::WaitingForShutdown,
        BundleSeen::Bundling,
        BundleSeen::Storing,
        BundleSeen::Complete,
        BundleSeen::Failed,
        BundleSeen::Cancelled,
    ];

    fn report(seen: BundleSeen) -> BundleReport {
        BundleReport {
            task: "bun-00000001".parse().unwrap(),
            seen,
            percent: 0,
            error: None,
        }
    }

    #[test]
    fn a_task_goes_its_way_and_what_has_ended_stays_so() {
        let mut state = BundleState::Pending;
        for (seen, next) in
            SEEN.into_iter()
                .zip(["waiting-for-shutdown", "bundling", "storing", "complete"])
        {
            state = state.on(&report(seen));
            assert_eq!(state.as_str(), next);
        }
        for state in BundleState::ALL
            .into_iter()
            .filter(|state| state.is_final())
        {
            assert!(
                SEEN.into_iter()
                    .all(|seen| state.on(&report(seen)) == state)
            );
        }
    }

    #[test]
    fn one_that_is_given_up_shows_so_until_its_node_has_ended_it_one_way_or_the_other() {
        for seen in SEEN {
            let next = BundleState::Cancelling.on(&report(seen));
            let ends = matches!(
                seen,
                BundleSeen::Complete | BundleSeen::Failed | BundleSeen::Cancelled
            );
            assert_eq!(next == BundleState::Cancelling, !ends);
        }
    }

    #[test]
    fn every_word_reads_back() {
        for state in BundleState::ALL {
            assert_eq!(BundleState::from_word(state.as_str()), Some(state));
        }
        assert_eq!(BundleState::from_word("none"), None);
    }
}
