//! Holds: room that is kept for a launch between the question and the wish.
//!
//! A hold is keyed by its reservation: the same question gets the same answer for as long as the
//! lease lasts, and asking again prolongs it. The part whose instances are wished for becomes their
//! placement; what is left when the lease ends, or when the hold is given back, is free again, and
//! one that was given back is not given out again by a question that comes late.

use std::collections::BTreeSet;

use control::{
    CallError, Code,
    cluster::{Hold, HoldAsk, HoldRelease, Placement, Rejected},
    node::{Done, Shape},
};
use types::{NodeId, ReservationId};

use crate::{
    book::{Book, Decision},
    ledger::{Change, HoldRow},
    schedule::{Ask, Candidate, Plan, plan},
};

/// Instances in one hold: what RunInstances admits in one call, with room.
pub(crate) const HOLD_INSTANCES_MAX: usize = 1000;
/// Refusals that fit into a sentence.
const REFUSALS_TOLD: usize = 5;

impl Book {
    /// Finds room for a launch, or answers what it answered before.
    pub fn hold(&self, ask: &HoldAsk) -> Result<Decision<Hold>, CallError> {
        check(ask)?;
        if let Some(why) = self.unsettled() {
            return Err(CallError::new(Code::NotReady, why));
        }
        if self.given_back.contains_key(&ask.reservation) {
            let what = format!("the hold {} was given back", ask.reservation);
            return Err(CallError::new(Code::Conflict, what));
        }
        if let Some(row) = self.saved.holds.get(&ask.reservation) {
            return Ok(Decision::unchanged(answer(row)));
        }
        if let Some(hold) = self.placed_before(ask)? {
            return Ok(Decision::unchanged(hold));
        }
        self.find_room(ask)
    }

    fn find_room(&self, ask: &HoldAsk) -> Result<Decision<Hold>, CallError> {
        let candidates = self.nodes.iter().map(|node| Candidate {
            node: node.roster.node.clone(),
            free: self.free(node),
        });
        let wanted = Ask {
            count: ask.instances.len(),
            min_count: ask.min_count as usize,
            shape: ask.shape,
        };
        let plan = plan(
            self.limits.policy,
            self.last_used.as_ref(),
            candidates.collect(),
            wanted,
        )
        .map_err(|rejected| no_room(ask, &rejected))?;

        let row = self.held(ask, plan);
        let newest = row.placements.last().map_or(self.saved.epoch, |p| p.epoch);
        Ok(Decision {
            answer: answer(&row),
            changes: vec![Change::Epoch(newest), Change::Hold(row)],
            reports: Vec::new(),
        })
    }

    fn held(&self, ask: &HoldAsk, plan: Plan) -> HoldRow {
        let places = ask.instances.iter().zip(plan.chosen);
        let placements =
            (self.saved.epoch + 1..)
                .zip(places)
                .map(|(epoch, (instance, (node, why)))| Placement {
                    instance: instance.clone(),
                    node,
                    epoch,
                    why,
                });
        HoldRow {
            reservation: ask.reservation.clone(),
            shape: ask.shape,
            placements: placements.collect(),
            rejected: plan.rejected,
        }
    }

    /// A question that comes again after its instances have got their places.
    fn placed_before(&self, ask: &HoldAsk) -> Result<Option<Hold>, CallError> {
        let rows = ask.instances.iter();
        let rows: Vec<_> = rows.map_while(|i| self.saved.placements.get(i)).collect();
        if let Some(row) = rows.iter().find(|row| row.ended) {
            let what = format!("{} was placed before and is gone", row.instance);
            return Err(CallError::new(Code::Conflict, what));
        }
        if rows.is_empty() || rows.len() < ask.min_count as usize {
            return Ok(None);
        }
        let placements = rows.into_iter().map(|row| Placement {
            instance: row.instance.clone(),
            node: row.node.clone(),
            epoch: row.epoch,
            why: "placed before".to_owned(),
        });
        Ok(Some(Hold {
            placements: placements.collect(),
            rejected: Vec::new(),
        }))
    }

    /// Gives a hold back. What its instances have already is theirs.
    pub fn release(&self, ask: &HoldRelease) -> Decision<Done> {
        let known = self.saved.holds.contains_key(&ask.reservation);
        let gone = known.then(|| Change::HoldGone(ask.reservation.clone()));
        Decision {
            answer: Done {},
            changes: gone.into_iter().collect(),
            reports: Vec::new(),
        }
    }

    /// Remembers that a hold was given back, for as long as it could have lasted: the question for it
    /// may still be on its way, slower than the word that nobody wants it.
    pub fn note_given_back(&mut self, reservation: ReservationId, now: u64) {
        self.given_back.retain(|_, until| now < *until);
        self.given_back
            .insert(reservation, now + self.limits.lease_ms);
    }

    /// Prolongs the lease of a hold that was asked for again.
    pub fn prolong(&mut self, reservation: &ReservationId, now: u64) {
        if let Some(until) = self.leases.get_mut(reservation) {
            *until = now + self.limits.lease_ms;
        }
    }

    /// Lets no lease run for so long, and nothing be forgotten: the CLC, which asked for the holds
    /// and has yet to hear what ended, cannot be heard.
    pub fn stand_still(&mut self, for_ms: u64) {
        let ends = self.leases.values_mut().chain(self.forget_at.values_mut());
        ends.for_each(|until| *until += for_ms);
    }

    /// The holds whose lease is over.
    pub fn lapsed(&self, now: u64) -> Vec<Change> {
        self.leases
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(reservation, _)| Change::HoldGone(reservation.clone()))
            .collect()
    }

    /// Whether room is kept for just this placement; by how much.
    pub(crate) fn held_for(&self, wish: &control::node::InstanceWish) -> Option<Shape> {
        let row = self.saved.holds.get(&wish.spec.reservation)?;
        let same = |p: &Placement| {
            (&p.instance, &p.node, p.epoch) == (&wish.instance, &wish.node, wish.epoch)
        };
        row.placements.iter().any(same).then_some(row.shape)
    }

    /// The nodes that a hold has room on.
    pub fn nodes_of_hold(&self, reservation: &ReservationId) -> BTreeSet<NodeId> {
        let row = self.saved.holds.get(reservation);
        let placements = row.into_iter().flat_map(|row| &row.placements);
        placements.map(|p| p.node.clone()).collect()
    }
}

fn check(ask: &HoldAsk) -> Result<(), CallError> {
    let count = ask.instances.len();
    let distinct: BTreeSet<_> = ask.instances.iter().collect();
    let wrong = if count == 0 || count > HOLD_INSTANCES_MAX {
        format!("a hold is for 1 to {HOLD_INSTANCES_MAX} instances, not {count}")
    } else if distinct.len() != count {
        "an instance stands in the hold twice".to_owned()
    } else if ask.min_count == 0 || ask.min_count as usize > count {
        format!("the least of {count} instances cannot be {}", ask.min_count)
    } else {
        return Ok(());
    };
    Err(CallError::new(Code::Invalid, wrong))
}

fn answer(row: &HoldRow) -> Hold {
    Hold {
        placements: row.placements.clone(),
        rejected: row.rejected.clone(),
    }
}

fn no_room(ask: &HoldAsk, rejected: &[Rejected]) -> CallError {
    let told: Vec<String> = rejected
        .iter()
        .take(REFUSALS_TOLD)
        .map(|r| format!("{}: {}", r.node, r.why))
        .collect();
    let more = match rejected.len().saturating_sub(REFUSALS_TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let nodes = if told.is_empty() {
        "there are no nodes".to_owned()
    } else {
        told.join("; ")
    };
    let least = ask.min_count;
    CallError::new(
        Code::NoRoom,
        format!("no room for {least} instances: {nodes}{more}"),
    )
}
