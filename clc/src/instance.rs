//! The life of an instance as users see it: what is wanted and what a node says go in, the next
//! state comes out. Pure; rows and messages are elsewhere.
//!
//! ```text
//!              running                   shutting-down, or asked
//!  pending ──────────────▶ running ───────────────▶ shutting-down ──▶ terminated
//!     └── shutting-down, or asked, or given up ────────────▲              ▲
//!     └── terminated (the launch failed) ─────────────────────────────────┘
//! ```
//!
//! A state only moves to the right: a late or repeated report changes nothing. Stopping and
//! stopped belong to instances whose root is a volume.

use control::node::{InstanceReport, Seen, Wanted};
use types::{InstanceState, NodeId, StateReason};

/// What there is to decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// What users see.
    pub state: InstanceState,
    /// What it is to be.
    pub wanted: Wanted,
    /// Where it is placed.
    pub node: Option<NodeId>,
    /// The number of that placement.
    pub epoch: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its node said something.
    Reported(&'a InstanceReport),
    /// The administrator has declared its node dead.
    NodeLost,
    /// The launch made no progress for too long.
    Overdue,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Same,
    /// Users see this state now, for this reason if it is a new one.
    Becomes(InstanceState, Option<StateReason>),
    /// It is wished away, for this reason.
    Ends(StateReason),
}

impl Life {
    /// What follows from an event.
    pub fn on(&self, event: Event<'_>) -> Next {
        match event {
            Event::Reported(report) if !self.is_about_us(report) => Next::Same,
            Event::Reported(report) => self.on_report(report),
            Event::NodeLost => self.on_node_lost(),
            Event::Overdue => self.on_overdue(),
        }
    }

    /// A report of an earlier placement, or from another node, speaks of something else.
    fn is_about_us(&self, report: &InstanceReport) -> bool {
        self.node.as_ref() == Some(&report.node) && self.epoch == report.epoch
    }

    fn on_report(&self, report: &InstanceReport) -> Next {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        match (self.state, report.seen) {
            (Pending, Seen::Running) => Next::Becomes(Running, None),
            (Pending | Running, Seen::ShuttingDown) => {
                Next::Becomes(ShuttingDown, report.reason.clone())
            }
            (Pending, Seen::Terminated) => Next::Becomes(Terminated, Some(launch_failed(report))),
            (Running, Seen::Terminated) => Next::Becomes(Terminated, Some(went_down(report))),
            // The reason was given when it began to go down; a node's own may say more.
            (ShuttingDown, Seen::Terminated) => match self.wanted {
                Wanted::Terminated => Next::Becomes(Terminated, None),
                Wanted::Running => Next::Becomes(Terminated, Some(went_down(report))),
            },
            (Pending, Seen::Pending)
            | (Running, Seen::Pending | Seen::Running)
            | (ShuttingDown, Seen::Pending | Seen::Running | Seen::ShuttingDown)
            | (Terminated, _)
            | (Stopping | Stopped, _) => Next::Same,
        }
    }

    /// Nobody is there to say that it is gone, so the declaration says it, for what was wished away,
    /// was going down by itself or never ran: first it is wished away, so that its cluster keeps no
    /// room for it. What ran keeps its record: its disk may be found whole.
    fn on_node_lost(&self) -> Next {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        match (self.state, self.wanted) {
            (Terminated, _) | (Running | Stopping | Stopped, Wanted::Running) => Next::Same,
            (ShuttingDown, Wanted::Running) => Next::Ends(shut_itself_down()),
            (Pending, Wanted::Running) => Next::Ends(StateReason::new(
                "Server.InternalError",
                "Server.InternalError: its node was lost before it ran",
            )),
            (_, Wanted::Terminated) => Next::Becomes(Terminated, None),
        }
    }

    fn on_overdue(&self) -> Next {
        match (self.state, self.wanted) {
            (InstanceState::Pending, Wanted::Running) => Next::Ends(StateReason::new(
                "Server.InternalError",
                "Server.InternalError: the launch made no progress and was given up",
            )),
            (_, Wanted::Running | Wanted::Terminated) => Next::Same,
        }
    }
}

fn launch_failed(report: &InstanceReport) -> StateReason {
    report.reason.clone().unwrap_or_else(|| {
        StateReason::new(
            "Server.InternalError",
            "Server.InternalError: Internal error on launch",
        )
    })
}

fn went_down(report: &InstanceReport) -> StateReason {
    report.reason.clone().unwrap_or_else(shut_itself_down)
}

fn shut_itself_down() -> StateReason {
    StateReason::new(
        "Client.InstanceInitiatedShutdown",
        "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        "node-0123456789abcdef0".parse().unwrap()
    }

    fn life(state: InstanceState, wanted: Wanted) -> Life {
        Life {
            state,
            wanted,
            node: Some(node()),
            epoch: 2,
        }
    }

    fn report(seen: Seen) -> InstanceReport {
        let instance = "i-0123456789abcdef0".parse().unwrap();
        InstanceReport::new(instance, node(), 2, 1, seen)
    }

    fn becomes(next: Next) -> Option<InstanceState> {
        match next {
            Next::Becomes(state, _) => Some(state),
            Next::Same | Next::Ends(_) => None,
        }
    }

    const SEEN: [Seen; 4] = [
        Seen::Pending,
        Seen::Running,
        Seen::ShuttingDown,
        Seen::Terminated,
    ];

    #[test]
    fn a_launch_runs_and_a_failed_one_ends_with_the_nodes_reason() {
        let pending = life(InstanceState::Pending, Wanted::Running);
        assert_eq!(
            becomes(pending.on(Event::Reported(&report(Seen::Running)))),
            Some(InstanceState::Running)
        );
        let reason = StateReason::new("Client.InvalidImage", "part 3 is corrupt");
        let failed = InstanceReport {
            reason: Some(reason.clone()),
            ..report(Seen::Terminated)
        };
        assert_eq!(
            pending.on(Event::Reported(&failed)),
            Next::Becomes(InstanceState::Terminated, Some(reason))
        );
    }

    #[test]
    fn no_report_ever_takes_a_state_back() {
        let rank = |state: InstanceState| match state {
            InstanceState::Pending => 0,
            InstanceState::Running => 1,
            InstanceState::ShuttingDown | InstanceState::Stopping => 2,
            InstanceState::Terminated | InstanceState::Stopped => 3,
        };
        for state in InstanceState::ALL {
            for wanted in [Wanted::Running, Wanted::Terminated] {
                for seen in SEEN {
                    let next = life(state, wanted).on(Event::Reported(&report(seen)));
                    assert!(becomes(next).is_none_or(|next| rank(next) > rank(state)));
                }
            }
        }
    }

    #[test]
    fn a_report_of_an_older_placement_or_another_node_changes_nothing() {
        let pending = life(InstanceState::Pending, Wanted::Running);
        let old = InstanceReport {
            epoch: 1,
            ..report(Seen::Terminated)
        };
        assert_eq!(pending.on(Event::Reported(&old)), Next::Same);
        let other = InstanceReport {
            node: "node-11111111111111111".parse().unwrap(),
            ..report(Seen::Terminated)
        };
        assert_eq!(pending.on(Event::Reported(&other)), Next::Same);
    }

    #[test]
    fn what_is_being_terminated_is_gone_only_when_its_node_says_so() {
        let going = life(InstanceState::ShuttingDown, Wanted::Terminated);
        for seen in [Seen::Pending, Seen::Running, Seen::ShuttingDown] {
            assert_eq!(going.on(Event::Reported(&report(seen))), Next::Same);
        }
        assert_eq!(
            going.on(Event::Reported(&report(Seen::Terminated))),
            Next::Becomes(InstanceState::Terminated, None)
        );
    }

    #[test]
    fn a_launch_without_progress_is_given_up_and_nothing_else_is() {
        let pending = life(InstanceState::Pending, Wanted::Running);
        assert!(matches!(pending.on(Event::Overdue), Next::Ends(_)));
        for state in [
            InstanceState::Running,
            InstanceState::ShuttingDown,
            InstanceState::Terminated,
        ] {
            assert_eq!(life(state, Wanted::Running).on(Event::Overdue), Next::Same);
        }
    }

    #[test]
    fn a_lost_node_ends_what_was_wished_away_and_leaves_what_ran() {
        for state in InstanceState::ALL {
            let next = life(state, Wanted::Terminated).on(Event::NodeLost);
            let ends = state != InstanceState::Terminated;
            assert_eq!(becomes(next) == Some(InstanceState::Terminated), ends);
        }
        let ran = life(InstanceState::Running, Wanted::Running);
        assert_eq!(ran.on(Event::NodeLost), Next::Same);
    }

    #[test]
    fn a_lost_node_wishes_away_what_went_down_by_itself_and_what_never_ran() {
        for (state, code) in [
            (
                InstanceState::ShuttingDown,
                "Client.InstanceInitiatedShutdown",
            ),
            (InstanceState::Pending, "Server.InternalError"),
        ] {
            let next = life(state, Wanted::Running).on(Event::NodeLost);
            assert!(matches!(next, Next::Ends(reason) if reason.code == code));
        }
    }
}
