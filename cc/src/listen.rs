//! What a node's answer does to the book: one poll taken in whole.
//!
//! First the durable part is decided, then, once it is committed, the node table is brought up to
//! date. A poll that could not be committed is not noted, and is asked for again.

use std::collections::{BTreeMap, BTreeSet};

use control::{
    CallError, Changes,
    cluster::Reach,
    node::{InstanceReport, NodeChange, NodeReport, Seen, Wanted},
};
use types::{InstanceId, NodeId};

use crate::{
    book::{Book, Decision},
    ledger::Change,
};

impl Book {
    /// What a poll of a node changes durably.
    pub fn decide_heard(&self, node: &NodeId, said: &Changes<NodeChange>) -> Decision<()> {
        let mut decision = Decision::unchanged(());
        if self.nodes.get(node).is_none_or(|n| n.reach == Reach::Dead) {
            return decision;
        }
        for report in instances(node, said) {
            let mut more = self.heard(node, report);
            decision.changes.append(&mut more.changes);
            decision.reports.append(&mut more.reports);
        }
        decision
    }

    /// Notes on the node table what a poll said, after its changes were committed. Says whether
    /// the CLC should hear of the node.
    pub fn note_heard(&mut self, node: &NodeId, said: &Changes<NodeChange>, now: u64) -> bool {
        let mut news = self.nodes.answered(node, now);
        if self.nodes.get(node).is_none_or(|n| n.reach == Reach::Dead) {
            return news;
        }
        let reports: Vec<&InstanceReport> = instances(node, said).collect();
        let strays: BTreeSet<InstanceId> = reports
            .iter()
            .filter(|report| self.is_stray(node, report))
            .map(|report| report.instance.clone())
            .collect();
        if said.full {
            self.note_all(node, &reports, now);
        }
        let Some(entry) = self.nodes.get_mut(node) else {
            return news;
        };
        for report in reports {
            let instance = &report.instance;
            let taken = entry.taken.entry(instance.clone()).or_default();
            *taken = (*taken).max(report.generation);
            keep(&mut entry.strays, instance, strays.contains(instance));
            keep(
                &mut entry.present,
                instance,
                report.seen != Seen::Terminated,
            );
            entry.missing.remove(instance);
        }
        if let Some(report) = node_report(node, said) {
            news |= entry.report.as_ref() != Some(report);
            entry.report = Some(report.clone());
        }
        news
    }

    /// A full list: what is not in it, the node does not have.
    fn note_all(&mut self, node: &NodeId, reports: &[&InstanceReport], now: u64) {
        let listed: BTreeMap<_, _> = reports
            .iter()
            .map(|report| (report.instance.clone(), report.generation))
            .collect();
        let missing: Vec<InstanceId> = self
            .placed_on(node)
            .filter(|row| !row.ended && row.has_run() && !listed.contains_key(&row.instance))
            .map(|row| row.instance.clone())
            .collect();
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        entry.heard = true;
        entry.network_taken = 0;
        entry
            .present
            .retain(|instance| listed.contains_key(instance));
        entry
            .strays
            .retain(|instance| listed.contains_key(instance));
        entry
            .missing
            .retain(|instance, _| missing.contains(instance));
        for instance in missing {
            entry.missing.entry(instance).or_insert(now);
        }
        entry.taken = listed;
        entry.refused.clear();
    }

    /// The end of the wait of a new ledger, if this was it.
    pub fn settle(&self) -> Option<Change> {
        self.settles().then_some(Change::Settled)
    }

    /// A node took a wish.
    pub fn note_taken(&mut self, node: &NodeId, instance: &InstanceId, generation: u64) {
        if let Some(entry) = self.nodes.get_mut(node) {
            let taken = entry.taken.entry(instance.clone()).or_default();
            *taken = (*taken).max(generation);
        }
    }

    /// A node took a network document.
    pub fn note_network(&mut self, node: &NodeId, version: u64) {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.network_taken = entry.network_taken.max(version);
        }
    }

    /// A node refused a wish for good: it is not sent again, and whoever asks can read why.
    pub fn refused(
        &mut self,
        node: &NodeId,
        instance: &InstanceId,
        generation: u64,
        error: &CallError,
    ) -> Option<InstanceReport> {
        let row = self.saved.placements.get(instance)?;
        let entry = self.nodes.get_mut(node)?;
        entry
            .refused
            .insert(instance.clone(), (generation, error.message.clone()));
        let wish = row
            .wish
            .as_ref()
            .filter(|_| row.node == *node && !row.ended)?;
        let seen = match (wish.wanted, &row.report) {
            (Wanted::Running, None) => Seen::Pending,
            (Wanted::Terminated, None) => Seen::ShuttingDown,
            (_, Some(report)) => report.seen,
        };
        let told = InstanceReport::new(instance.clone(), node.clone(), row.epoch, 0, seen);
        Some(InstanceReport {
            stage: format!("{node} refused: {}", error.message),
            ..row.report.clone().unwrap_or(told)
        })
    }
}

fn keep(set: &mut BTreeSet<InstanceId>, instance: &InstanceId, is_in: bool) {
    if is_in {
        set.insert(instance.clone());
    } else {
        set.remove(instance);
    }
}

/// The instances in a poll; a node speaks for itself only.
fn instances<'a>(
    node: &'a NodeId,
    said: &'a Changes<NodeChange>,
) -> impl Iterator<Item = &'a InstanceReport> {
    said.items.iter().filter_map(move |item| match item {
        NodeChange::Instance(report) if report.node == *node => Some(&**report),
        NodeChange::Instance(_) | NodeChange::Node(_) => None,
    })
}

fn node_report<'a>(node: &NodeId, said: &'a Changes<NodeChange>) -> Option<&'a NodeReport> {
    said.items.iter().rev().find_map(|item| match item {
        NodeChange::Node(report) if report.node == *node => Some(report),
        NodeChange::Node(_) | NodeChange::Instance(_) => None,
    })
}
