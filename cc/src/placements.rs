//! Placements: what the CLC wishes of an instance, what its node says of it, and what the node is
//! still to be told.
//!
//! The newest epoch is the instance's place; whatever another node has of it is a stray, is told
//! to end, and takes room until it did. A placement whose node said `terminated` is over: its room
//! is free, and no late wish starts it again.

use control::{
    CallError, Code,
    cluster::{Reach, Roster},
    node::{InstanceReport, InstanceWish, Seen, Taken, Wanted},
};
use types::{NodeId, StateReason};

use crate::{
    book::{Book, Decision},
    ledger::{Change, PlacementRow},
    nodes::Node,
    shape,
};

const NODE_REMOVED: &str = "its node was removed from the cloud";
const NODE_DEAD: &str = "its node was declared dead";

impl Book {
    /// Takes a wish, if it is newer than what is wished already and has room where it points.
    pub fn wish(&self, wish: &InstanceWish) -> Result<Decision<Taken>, CallError> {
        match self.saved.placements.get(&wish.instance) {
            Some(row) if row.generation() >= wish.generation => Ok(Decision::unchanged(Taken {
                generation: row.generation(),
            })),
            Some(row) if row.epoch > wish.epoch => Err(conflict(wish, "was placed anew since")),
            Some(row) if row.epoch == wish.epoch => self.wish_again(row, wish),
            Some(_) | None => self.wish_first(wish),
        }
    }

    /// A newer wish for an instance that keeps its place.
    fn wish_again(
        &self,
        row: &PlacementRow,
        wish: &InstanceWish,
    ) -> Result<Decision<Taken>, CallError> {
        if row.node != wish.node {
            return Err(conflict(
                wish,
                &format!("has that placement on {}", row.node),
            ));
        }
        let grows = row.shape().is_some_and(|shape| shape != wish.spec.shape);
        if grows {
            return Err(conflict(wish, "keeps its shape for life"));
        }
        let row = PlacementRow {
            wish: Some(wish.clone()),
            ..row.clone()
        };
        Ok(self.taken(row, wish))
    }

    /// The wish that turns a hold, or room that is still there, into a placement.
    fn wish_first(&self, wish: &InstanceWish) -> Result<Decision<Taken>, CallError> {
        match wish.wanted {
            Wanted::Running => self.check_room(wish)?,
            Wanted::Terminated => self.check_node(wish)?,
        }
        let row = PlacementRow {
            instance: wish.instance.clone(),
            node: wish.node.clone(),
            epoch: wish.epoch,
            wish: Some(wish.clone()),
            report: None,
            takes_room: wish.wanted == Wanted::Running,
            ended: false,
        };
        Ok(self.taken(row, wish))
    }

    /// A ledger that is new knows neither who is there nor who was removed.
    fn check_node(&self, wish: &InstanceWish) -> Result<(), CallError> {
        match self.unsettled() {
            Some(why) if self.nodes.get(&wish.node).is_none() => {
                Err(CallError::new(Code::NotReady, why))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_room(&self, wish: &InstanceWish) -> Result<(), CallError> {
        let node = self.nodes.get(&wish.node).ok_or_else(|| {
            CallError::new(
                Code::NotReady,
                format!("{} is not on the roster", wish.node),
            )
        })?;
        if node.reach == Reach::Dead {
            return Err(conflict(wish, "is placed on a node that was declared dead"));
        }
        if self
            .held_for(wish)
            .is_some_and(|held| held == wish.spec.shape)
        {
            return Ok(());
        }
        let room = self.room(&wish.node).ok_or_else(|| {
            CallError::new(
                Code::NotReady,
                format!("{} has not said what it has", wish.node),
            )
        })?;
        match shape::lacks(wish.spec.shape, room) {
            None => Ok(()),
            Some(lacking) => Err(CallError::new(
                Code::NoRoom,
                format!(
                    "the hold of {} is over, and {}: {lacking}",
                    wish.instance, wish.node
                ),
            )),
        }
    }

    /// Records the wish. Where nobody is left to carry it out, it is carried out.
    fn taken(&self, row: PlacementRow, wish: &InstanceWish) -> Decision<Taken> {
        let gone = match self.nodes.get(&row.node).map(|node| node.reach) {
            None => Some(NODE_REMOVED),
            Some(Reach::Dead) => Some(NODE_DEAD),
            Some(Reach::Unknown | Reach::Up | Reach::Unreachable) => None,
        };
        let over = row.ended || gone.is_some();
        let row = if wish.wanted == Wanted::Terminated && over {
            ended(&row, gone)
        } else {
            row
        };
        let reports = row.report.iter().filter(|_| row.ended).cloned().collect();
        Decision {
            answer: Taken {
                generation: wish.generation,
            },
            changes: vec![Change::Placement(Box::new(row))],
            reports,
        }
    }

    /// The placements that are to end on nodes which a new roster gives up: they have ended. What is
    /// not to end keeps its record, which is the CLC's to change.
    pub(crate) fn ends_without_a_node(&self, roster: &Roster) -> Vec<PlacementRow> {
        let to_end = self
            .saved
            .placements
            .values()
            .filter(|row| !row.ended && row.is_to_end());
        let ends = to_end.filter_map(|row| {
            let line = roster.nodes.iter().find(|line| line.node == row.node);
            let why = match line {
                Some(line) => line.dead.then_some(NODE_DEAD),
                None => Some(NODE_REMOVED),
            };
            why.map(|why| ended(row, Some(why)))
        });
        ends.collect()
    }

    /// What a node's word on an instance changes. The node is who its certificate says.
    pub fn heard(&self, node: &NodeId, report: &InstanceReport) -> Decision<()> {
        let row = self.saved.placements.get(&report.instance);
        match row {
            None => self.adopt(node, report, None),
            Some(row) if report.epoch > row.epoch => self.adopt(node, report, Some(row)),
            Some(row) if is_of(row, node, report.epoch) && !row.ended => self.follow(row, report),
            // A stray's word is nothing the CLC should see as the instance's state.
            Some(_) => Decision::unchanged(()),
        }
    }

    /// A node knows of a placement that we do not: our ledger is younger, or older, than it.
    fn adopt(
        &self,
        node: &NodeId,
        report: &InstanceReport,
        known: Option<&PlacementRow>,
    ) -> Decision<()> {
        let row = PlacementRow {
            instance: report.instance.clone(),
            node: node.clone(),
            epoch: report.epoch,
            wish: None,
            report: Some(report.clone()),
            takes_room: true,
            ended: report.seen == Seen::Terminated,
        };
        let same_place = known.is_some_and(|row| row.node == *node);
        let wish = known
            .and_then(|row| row.wish.clone())
            .filter(|_| same_place);
        let epoch = self.saved.epoch.max(report.epoch);
        Decision {
            answer: (),
            changes: vec![
                Change::Epoch(epoch),
                Change::Placement(Box::new(PlacementRow { wish, ..row })),
            ],
            reports: vec![report.clone()],
        }
    }

    fn follow(&self, row: &PlacementRow, report: &InstanceReport) -> Decision<()> {
        let matters = row.report.as_ref().is_none_or(|old| {
            (old.seen, old.generation, &old.reason, old.reboots)
                != (
                    report.seen,
                    report.generation,
                    &report.reason,
                    report.reboots,
                )
        });
        let changes = matters.then(|| {
            Change::Placement(Box::new(PlacementRow {
                report: Some(report.clone()),
                takes_room: true,
                ended: report.seen == Seen::Terminated,
                ..row.clone()
            }))
        });
        Decision {
            answer: (),
            changes: changes.into_iter().collect(),
            reports: vec![report.clone()],
        }
    }

    /// Whether what a node says of an instance is of a placement that is not its, or is over.
    pub fn is_stray(&self, node: &NodeId, report: &InstanceReport) -> bool {
        let Some(row) = self.saved.placements.get(&report.instance) else {
            return false;
        };
        let mine = is_of(row, node, report.epoch) && !row.ended;
        report.seen != Seen::Terminated && !mine && report.epoch <= row.epoch
    }

    /// Ends the placements of instances that ran on a node which has long been without them.
    pub fn lost(&self, now: u64) -> Decision<()> {
        let mut decision = Decision::unchanged(());
        for node in self.nodes.iter().filter(|n| n.reach == Reach::Up) {
            let over = |since: &u64| now.saturating_sub(*since) >= self.limits.missing_ms;
            let missing = node.missing.iter().filter(|(_, since)| over(since));
            for row in missing.filter_map(|(i, _)| self.saved.placements.get(i)) {
                if row.ended || row.node != node.roster.node {
                    continue;
                }
                let why = format!("{} no longer has this instance", row.node);
                let row = ended(row, Some(&why));
                decision.reports.extend(row.report.clone());
                decision.changes.push(Change::Placement(Box::new(row)));
            }
        }
        decision
    }

    /// The ended placements that have been remembered long enough.
    pub fn forgotten(&self, now: u64) -> Vec<Change> {
        self.forget_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(instance, _)| Change::PlacementGone(instance.clone()))
            .collect()
    }

    /// The wishes that a node has not taken yet.
    pub fn owed(&self, node: &NodeId) -> Vec<InstanceWish> {
        let Some(entry) = self.nodes.get(node).filter(|n| n.reach != Reach::Dead) else {
            return Vec::new();
        };
        let own = self
            .placed_on(node)
            .filter_map(|row| self.owed_for(entry, row));
        let strays = entry
            .strays
            .iter()
            .filter_map(|i| self.saved.placements.get(i))
            .filter(|row| row.node != *node)
            .filter_map(|row| owed_to_stray(entry, row));
        own.chain(strays).collect()
    }

    fn owed_for(&self, node: &Node, row: &PlacementRow) -> Option<InstanceWish> {
        let wish = row.wish.as_ref()?;
        let is_back = node.strays.contains(&row.instance);
        let is_lost = node.missing.contains_key(&row.instance);
        let owed = if row.ended {
            // What has ended for everybody is not to live on where it turns up again.
            is_back.then(|| to_end(wish))?
        } else if is_lost && wish.wanted == Wanted::Running {
            return None;
        } else {
            wish.clone()
        };
        is_owed(node, &owed).then_some(owed)
    }
}

/// The wish that ends an instance; ours if the CLC has not said one.
fn to_end(wish: &InstanceWish) -> InstanceWish {
    let generation = match wish.wanted {
        Wanted::Terminated => wish.generation,
        Wanted::Running => wish.generation + 1,
    };
    InstanceWish {
        generation,
        wanted: Wanted::Terminated,
        ..wish.clone()
    }
}

/// A stray is told that its instance is to end here, at the generation that it is to run elsewhere.
fn owed_to_stray(node: &Node, row: &PlacementRow) -> Option<InstanceWish> {
    let wish = row.wish.as_ref()?;
    is_owed(node, wish).then(|| InstanceWish {
        node: node.roster.node.clone(),
        wanted: Wanted::Terminated,
        ..wish.clone()
    })
}

fn is_owed(node: &Node, wish: &InstanceWish) -> bool {
    let taken = node.taken.get(&wish.instance).copied().unwrap_or(0);
    let refused = node.refused.get(&wish.instance);
    wish.generation > taken && refused.is_none_or(|(generation, _)| *generation < wish.generation)
}

fn is_of(row: &PlacementRow, node: &NodeId, epoch: u64) -> bool {
    row.epoch == epoch && row.node == *node
}

fn conflict(wish: &InstanceWish, why: &str) -> CallError {
    CallError::new(Code::Conflict, format!("{} {why}", wish.instance))
}

/// The placement as it is once nothing is left of it.
fn ended(row: &PlacementRow, why: Option<&str>) -> PlacementRow {
    let reason = why.map(|why| StateReason::new("Server.InternalError", why));
    PlacementRow {
        report: Some(ended_report(row, row.generation(), reason)),
        ended: true,
        ..row.clone()
    }
}

fn ended_report(
    row: &PlacementRow,
    generation: u64,
    reason: Option<StateReason>,
) -> InstanceReport {
    let last = row.report.as_ref();
    let (instance, node) = (row.instance.clone(), row.node.clone());
    InstanceReport {
        reason: reason.or_else(|| last.and_then(|r| r.reason.clone())),
        reboots: last.map_or(0, |r| r.reboots),
        timeline: last.map_or_else(Vec::new, |r| r.timeline.clone()),
        ..InstanceReport::new(instance, node, row.epoch, generation, Seen::Terminated)
    }
}
