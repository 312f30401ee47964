//! The state machine of a volume: what is wanted, reported and due comes in, what users see goes out.
//! Pure.
//!
//! ```text
//! creating ── made ──▶ available ── its file is lost ──▶ error
//!    │ │                   │                               │  ▲
//!    │ └ refused, failed, overdue ──────────────────▶ error│  │ overdue
//!    └──── given up ──▶ deleting ◀──── given up ───────────┘  │
//!                          │ └────────────────────────────────┘
//!                          └ removed ──▶ deleted ◀── removed ── error, if it was given up
//! ```
//!
//! `creating` and `deleting` belong to the zone's Storage Controller, which is told again and again;
//! their deadline is `limits.volume_s`. What is in `error` may be given up at any time, again if it
//! was before; nothing is asked of a store for it otherwise.

use control::storage::{VolumeReport, VolumeSeen};
use types::VolumeState;

/// Where a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// What users see.
    pub state: VolumeState,
    /// Whether it is to be.
    pub is_wanted: bool,
}

/// What happens to a volume.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Its store said something.
    Reported(&'a VolumeReport),
    /// Its store will not have it, for this reason.
    Refused(&'a str),
    /// Nothing has come of it for too long; this is what is known.
    Overdue(&'a str),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Same,
    /// Another state, with the reason where something is wrong.
    Becomes(VolumeState, Option<String>),
}

impl Life {
    /// What follows from an event.
    pub fn on(self, event: Event<'_>) -> Next {
        match self.state {
            VolumeState::Creating => creating(event),
            VolumeState::Available => available(event),
            VolumeState::Deleting => deleting(event),
            VolumeState::Error if !self.is_wanted => given_up_in_error(event),
            // Attachments are ours to decide, and a state never goes back.
            VolumeState::InUse | VolumeState::Deleted | VolumeState::Error => Next::Same,
        }
    }
}

fn creating(event: Event<'_>) -> Next {
    match event {
        Event::Reported(report) => match report.seen {
            VolumeSeen::Available => Next::Becomes(VolumeState::Available, None),
            VolumeSeen::Error => failed(report),
            VolumeSeen::Creating | VolumeSeen::Deleting | VolumeSeen::Deleted => Next::Same,
        },
        Event::Refused(why) => error(why.to_owned()),
        Event::Overdue(known) => error(format!("The volume was not made in time: {known}")),
    }
}

/// Its file may vanish later, too.
fn available(event: Event<'_>) -> Next {
    match event {
        Event::Reported(report) if report.seen == VolumeSeen::Error => failed(report),
        Event::Reported(_) | Event::Refused(_) | Event::Overdue(_) => Next::Same,
    }
}

fn deleting(event: Event<'_>) -> Next {
    match event {
        Event::Overdue(known) => error(format!(
            "The volume was not removed in time, and its space may be taken still: {known}"
        )),
        Event::Reported(_) | Event::Refused(_) => given_up_in_error(event),
    }
}

fn given_up_in_error(event: Event<'_>) -> Next {
    match event {
        Event::Reported(report) if report.seen == VolumeSeen::Deleted => {
            Next::Becomes(VolumeState::Deleted, None)
        }
        Event::Reported(_) | Event::Refused(_) | Event::Overdue(_) => Next::Same,
    }
}

fn failed(report: &VolumeReport) -> Next {
    Next::Becomes(VolumeState::Error, report.reason.clone())
}

fn error(why: String) -> Next {
    Next::Becomes(VolumeState::Error, Some(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use VolumeSeen as Seen;
    use VolumeState as State;

    fn after(state: State, is_wanted: bool, event: Event<'_>) -> State {
        match (Life { state, is_wanted }).on(event) {
            Next::Same => state,
            Next::Becomes(state, _) => state,
        }
    }

    fn said(seen: Seen) -> VolumeReport {
        VolumeReport {
            volume: "vol-0123456789abcdef0".parse().unwrap(),
            generation: 1,
            seen,
            allocated_bytes: 0,
            reason: (seen == Seen::Error).then(|| "no such file".to_owned()),
        }
    }

    #[test]
    fn reports_lead_on_and_never_back() {
        for (state, is_wanted, seen, expected) in [
            (State::Creating, true, Seen::Available, State::Available),
            (State::Creating, true, Seen::Creating, State::Creating),
            (State::Creating, true, Seen::Error, State::Error),
            (State::Available, true, Seen::Error, State::Error),
            (State::Available, true, Seen::Creating, State::Available),
            (State::Deleting, false, Seen::Available, State::Deleting),
            (State::Deleting, false, Seen::Deleted, State::Deleted),
            (State::Error, true, Seen::Available, State::Error),
            (State::Error, true, Seen::Deleted, State::Error),
            (State::Error, false, Seen::Deleted, State::Deleted),
            (State::Deleted, false, Seen::Available, State::Deleted),
            (State::InUse, true, Seen::Deleted, State::InUse),
        ] {
            let report = said(seen);
            let became = after(state, is_wanted, Event::Reported(&report));
            assert_eq!(became, expected, "{state:?} {is_wanted} {seen:?}");
        }
    }

    #[test]
    fn what_is_on_its_way_has_a_deadline_and_what_has_arrived_has_none() {
        for (state, is_wanted, expected) in [
            (State::Creating, true, State::Error),
            (State::Deleting, false, State::Error),
            (State::Available, true, State::Available),
            (State::InUse, true, State::InUse),
            (State::Error, false, State::Error),
            (State::Deleted, false, State::Deleted),
        ] {
            assert_eq!(after(state, is_wanted, Event::Overdue("why")), expected);
        }
    }

    #[test]
    fn whatever_is_wrong_comes_with_its_reason() {
        let lost = said(Seen::Error);
        for (state, event, part) in [
            (State::Creating, Event::Reported(&lost), "no such file"),
            (State::Creating, Event::Refused("it is full"), "it is full"),
            (
                State::Creating,
                Event::Overdue("it is silent"),
                "it is silent",
            ),
            (
                State::Deleting,
                Event::Overdue("it is silent"),
                "it is silent",
            ),
        ] {
            let is_wanted = state == State::Creating;
            let Next::Becomes(State::Error, Some(why)) = (Life { state, is_wanted }).on(event)
            else {
                panic!("{state:?} {event:?}")
            };
            assert!(why.contains(part), "{why}");
        }
    }
}
