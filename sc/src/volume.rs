//! The life of a volume at its Storage Controller: pure.
//!
//! ```text
//!            made                 wished absent            removed
//! Creating ───────▶ Available ───────────────▶ Deleting ───────────▶ Deleted
//!    │ failed          │ its file is gone         ▲
//!    └───────▶ Error ◀─┘ ──── wished absent ──────┘
//! ```
//!
//! A failed removal stays `Deleting` and is tried again; whatever is wanted, the next wish wins.

use control::{
    CallError, Code,
    node::Taken,
    storage::{VolumeReport, VolumeSeen, VolumeWanted, VolumeWish},
};
use types::{Gib, VolumeId};

/// The largest volume: what one file holds on every file system that we take (ext4's limit).
pub const VOLUME_GIB_MAX: u32 = 16 * 1024;

/// What happens to a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The CLC does not want it any more.
    Unwanted,
    /// Its file is there.
    Made,
    /// Its file could not be made.
    NotMade(String),
    /// Its file is gone as it should be.
    Removed,
    /// Its file is gone and should not be.
    Vanished,
}

/// What is to be done for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Make its file.
    Make,
    /// Remove its file.
    Remove,
    /// It is as it should be, or only a new wish helps.
    Nothing,
}

/// What is seen after an event, with the reason if it is one for people.
pub fn on(seen: VolumeSeen, event: Event) -> (VolumeSeen, Option<String>) {
    use VolumeSeen::{Available, Creating, Deleted, Deleting, Error};
    match (seen, event) {
        (Creating | Available | Error, Event::Unwanted) => (Deleting, None),
        (Creating | Available, Event::Made) => (Available, None),
        (Creating, Event::NotMade(reason)) => (Error, Some(reason)),
        (Available, Event::Vanished) => (Error, Some("its file is gone from the pool".to_owned())),
        (Deleting | Deleted, Event::Removed) => (Deleted, None),
        // An answer that comes after the state went on changes nothing.
        (
            Deleting | Deleted,
            Event::Unwanted | Event::Made | Event::Vanished | Event::NotMade(_),
        )
        | (Error, Event::Made | Event::NotMade(_) | Event::Removed | Event::Vanished)
        | (Creating, Event::Removed | Event::Vanished)
        | (Available, Event::NotMade(_) | Event::Removed) => (seen, None),
    }
}

/// What a state asks for.
pub fn todo(seen: VolumeSeen) -> Todo {
    match seen {
        VolumeSeen::Creating => Todo::Make,
        VolumeSeen::Deleting => Todo::Remove,
        VolumeSeen::Available | VolumeSeen::Deleted | VolumeSeen::Error => Todo::Nothing,
    }
}

/// The record of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Which volume.
    pub id: VolumeId,
    /// The generation of the newest wish.
    pub generation: u64,
    /// Its size.
    pub size_gib: Gib,
    /// What it is seen to be.
    pub seen: VolumeSeen,
    /// Why, if something is wrong.
    pub reason: Option<String>,
}

impl Volume {
    /// What the CLC is told of it.
    pub fn report(&self, allocated_bytes: u64) -> VolumeReport {
        VolumeReport {
            volume: self.id.clone(),
            generation: self.generation,
            seen: self.seen,
            allocated_bytes,
            reason: self.reason.clone(),
        }
    }

    /// The record after an event.
    #[must_use]
    pub fn after(&self, event: Event) -> Self {
        let (seen, reason) = on(self.seen, event);
        let reason = if seen == self.seen {
            self.reason.clone()
        } else {
            reason
        };
        Self {
            seen,
            reason,
            ..self.clone()
        }
    }

    /// Whether it takes its size from what the pool may promise.
    pub fn is_provisioned(&self) -> bool {
        match self.seen {
            VolumeSeen::Creating | VolumeSeen::Available | VolumeSeen::Deleting => true,
            VolumeSeen::Deleted | VolumeSeen::Error => false,
        }
    }
}

/// What a wish leads to: the record to keep, if it changes, and the answer.
pub fn wish(
    known: Option<&Volume>,
    wish: &VolumeWish,
) -> Result<(Option<Volume>, Taken), CallError> {
    let taken = |generation| Taken { generation };
    let Some(known) = known else {
        check(wish)?;
        return Ok((Some(first(wish)), taken(wish.generation)));
    };
    if known.generation >= wish.generation {
        return Ok((None, taken(known.generation)));
    }
    let next = Volume {
        generation: wish.generation,
        ..known.clone()
    };
    let next = match wish.wanted {
        VolumeWanted::Absent => next.after(Event::Unwanted),
        VolumeWanted::Present => {
            keep(known, wish)?;
            next
        }
    };
    Ok((Some(next), taken(wish.generation)))
}

fn first(wish: &VolumeWish) -> Volume {
    let seen = match wish.wanted {
        VolumeWanted::Present => VolumeSeen::Creating,
        // Never heard of here, but a file may be left from before our records: look and remove.
        VolumeWanted::Absent => VolumeSeen::Deleting,
    };
    Volume {
        id: wish.volume.clone(),
        generation: wish.generation,
        size_gib: wish.size_gib,
        seen,
        reason: None,
    }
}

fn check(wish: &VolumeWish) -> Result<(), CallError> {
    if wish.wanted == VolumeWanted::Absent {
        return Ok(());
    }
    let invalid = |what: String| Err(CallError::new(Code::Invalid, what));
    if !(1..=VOLUME_GIB_MAX).contains(&wish.size_gib.0) {
        return invalid(format!(
            "a volume has 1 to {VOLUME_GIB_MAX} GiB, not {}",
            wish.size_gib.0
        ));
    }
    if let Some(snapshot) = &wish.snapshot {
        return invalid(format!(
            "{snapshot}: volumes from snapshots are not served yet"
        ));
    }
    Ok(())
}

fn keep(known: &Volume, wish: &VolumeWish) -> Result<(), CallError> {
    let why = match known.seen {
        VolumeSeen::Deleting | VolumeSeen::Deleted => "is deleted, and does not come back",
        VolumeSeen::Creating | VolumeSeen::Available | VolumeSeen::Error
            if known.size_gib != wish.size_gib =>
        {
            "keeps its size: resizing is not served yet"
        }
        VolumeSeen::Creating | VolumeSeen::Available | VolumeSeen::Error => return Ok(()),
    };
    Err(CallError::new(
        Code::Conflict,
        format!("{} {why}", wish.volume),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(generation: u64, wanted: VolumeWanted) -> VolumeWish {
        VolumeWish {
            volume: "vol-00000001".parse().unwrap(),
            generation,
            wanted,
            size_gib: Gib(1),
            snapshot: None,
        }
    }

    fn present() -> Volume {
        let (row, _) = wish(None, &wished(1, VolumeWanted::Present)).unwrap();
        row.unwrap()
    }

    #[test]
    fn a_volume_is_made_then_available_then_removed() {
        let made = present().after(Event::Made);
        assert_eq!(made.seen, VolumeSeen::Available);
        let (unwanted, taken) = wish(Some(&made), &wished(2, VolumeWanted::Absent)).unwrap();
        let unwanted = unwanted.unwrap();
        assert_eq!((unwanted.seen, taken.generation), (VolumeSeen::Deleting, 2));
        assert_eq!(unwanted.after(Event::Removed).seen, VolumeSeen::Deleted);
    }

    #[test]
    fn an_older_wish_changes_nothing_and_learns_what_is_newer() {
        let (unwanted, _) = wish(Some(&present()), &wished(2, VolumeWanted::Absent)).unwrap();
        let late = wish(unwanted.as_ref(), &wished(1, VolumeWanted::Present)).unwrap();
        assert_eq!(late, (None, Taken { generation: 2 }));
    }

    #[test]
    fn what_is_deleted_does_not_come_back_and_sizes_stay() {
        let gone = present().after(Event::Unwanted).after(Event::Removed);
        let back = wish(Some(&gone), &wished(9, VolumeWanted::Present));
        assert_eq!(back.unwrap_err().code, Code::Conflict);
        let larger = VolumeWish {
            size_gib: Gib(2),
            ..wished(9, VolumeWanted::Present)
        };
        assert_eq!(
            wish(Some(&present()), &larger).unwrap_err().code,
            Code::Conflict
        );
    }

    #[test]
    fn sizes_and_sources_that_cannot_be_are_refused() {
        for size in [0, VOLUME_GIB_MAX + 1] {
            let odd = VolumeWish {
                size_gib: Gib(size),
                ..wished(1, VolumeWanted::Present)
            };
            assert_eq!(wish(None, &odd).unwrap_err().code, Code::Invalid);
        }
        let copy = VolumeWish {
            snapshot: Some("snap-00000001".parse().unwrap()),
            ..wished(1, VolumeWanted::Present)
        };
        assert_eq!(wish(None, &copy).unwrap_err().code, Code::Invalid);
    }

    #[test]
    fn a_wish_for_the_end_always_leads_there_whatever_came_before() {
        let events = [
            Event::Made,
            Event::NotMade("full".into()),
            Event::Vanished,
            Event::Removed,
            Event::Unwanted,
        ];
        for first in &events {
            for second in &events {
                let row = present().after(first.clone()).after(second.clone());
                let end = row.after(Event::Unwanted).after(Event::Removed);
                assert_eq!(end.seen, VolumeSeen::Deleted, "{first:?}, {second:?}");
            }
        }
    }
}
