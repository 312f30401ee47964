//! How far nodes' copies of images are: heard from the nodes, told to those who come to need one.
//!
//! The first node that made an entry from its bundle says what it is, block by block. One that comes
//! to something else is no source for the others, and is logged.

use std::sync::Arc;

use control::{
    CallError, Code,
    caches::{Blocks, Copied, CopyPeer, CopyReport, FilledBy},
    cloud::{Ticket, TicketAsk},
    cluster::Reach,
    node::Done,
};
use daemon::tls::Peer;
use store::Tx;
use types::{ImageId, NodeId, Secret, Zone};

use super::{Refused, internal, join::node_id};
use crate::{
    Clc,
    copies::{AGAIN_MS, From},
    rows::{copies, images, instances, nodes},
};

/// The name of an entry: two ids, a digest, a recipe and a form.
const ENTRY_BYTES_MAX: usize = 160;

/// Who speaks: a node, and its zone.
pub(super) fn speaker(peer: &Peer) -> Result<(NodeId, Zone), CallError> {
    let zone = peer.zone.as_deref().and_then(|zone| zone.parse().ok());
    let zone = zone.ok_or_else(|| CallError::new(Code::Invalid, "a node belongs to a zone"))?;
    Ok((node_id(peer)?, zone))
}

/// Whether that is the name of an entry of that image.
fn check_entry(image: &ImageId, entry: &str) -> Result<(), CallError> {
    let is_its = entry
        .strip_prefix(image.as_str())
        .is_some_and(|rest| rest.starts_with('_'));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if is_its && entry.len() <= ENTRY_BYTES_MAX && entry.bytes().all(is_plain) {
        return Ok(());
    }
    let what = format!("that is no cache entry of {image}");
    Err(CallError::new(Code::Invalid, what))
}

/// Whether the node has a reason to have the image: an instance, or the administrator's wish.
pub(super) fn has_reason(
    tx: &Tx,
    node: &NodeId,
    image: &ImageId,
    is_warmed: bool,
) -> Result<(), CallError> {
    if is_warmed || instances::needs_image(tx, node, image).map_err(internal)? {
        return Ok(());
    }
    let text = format!("no instance that is placed on {node} needs {image}");
    Err(CallError::new(Code::Forbidden, text))
}

/// Takes in how far a node's copy is.
pub(super) async fn note(
    clc: &Arc<Clc>,
    peer: &Peer,
    report: CopyReport,
) -> Result<Done, CallError> {
    let (node, zone) = speaker(peer)?;
    check_entry(&report.image, &report.entry)?;
    let now_ms = clc.clock.monotonic_ms();
    let of = (&zone, report.entry.as_str());
    let may = clc.copies.makes(of, &node) || clc.copies.is_warmed(&node, &report.image, now_ms);
    let (written, now, who) = (report.clone(), clc.now(), node.clone());
    match &report.copy {
        Copied::Filling { .. } => {}
        Copied::Gone => {
            let gone = move |tx: &Tx| copies::delete_copy(tx, &written.entry, &who);
            clc.db.write(gone).await.map_err(internal)?;
        }
        Copied::Whole { blocks } => {
            let blocks = blocks.clone();
            let write = move |tx: &Tx| {
                has_reason(tx, &who, &written.image, may).map_err(Refused)?;
                whole(tx, &who, &written, blocks.as_ref(), now).map_err(Refused)
            };
            clc.db.write(write).await?;
        }
    }
    clc.copies.on(of, &node, &report.copy, now_ms);
    Ok(Done {})
}

fn whole(
    tx: &Tx,
    node: &NodeId,
    report: &CopyReport,
    blocks: Option<&Blocks>,
    now: types::Timestamp,
) -> Result<(), CallError> {
    let entry = &report.entry;
    if images::find(tx, &report.image).map_err(internal)?.is_none() {
        return Err(CallError::not_found(&report.image));
    }
    let known = copies::blocks(tx, entry).map_err(internal)?;
    match (&known, blocks) {
        (Some(known), Some(told)) if known != told => {
            tracing::error!(%node, entry, "came to other bytes than the first node did");
            return copies::delete_copy(tx, entry, node).map_err(internal);
        }
        // The CLC has forgotten what it once told; the next one reads the bundle.
        (None, None) => return Ok(()),
        (Some(_), _) => {}
        (None, Some(told)) => {
            let of = (&report.image, entry.as_str());
            copies::insert_blocks(tx, of, told, node, now).map_err(internal)?;
        }
    }
    copies::insert_copy(tx, entry, node).map_err(internal)
}

/// What is known of an entry in a zone.
#[derive(Default)]
pub(super) struct Known {
    blocks: Option<Blocks>,
    whole: Vec<nodes::NodeRow>,
    all: Vec<nodes::NodeRow>,
}

impl Known {
    /// Reads it, for a node that names the entry.
    pub(super) fn read(tx: &Tx, zone: &Zone, ask: &TicketAsk) -> Result<Self, CallError> {
        let Some(entry) = &ask.entry else {
            return Ok(Self::default());
        };
        check_entry(&ask.image.id, entry)?;
        let all = nodes::of_zone(tx, zone).map_err(internal)?;
        let whole = copies::of_zone(tx, entry, zone).map_err(internal)?;
        Ok(Self {
            blocks: copies::blocks(tx, entry).map_err(internal)?,
            whole: all
                .iter()
                .filter(|row| whole.contains(&row.id))
                .cloned()
                .collect(),
            all,
        })
    }
}

/// The ticket of a node that is not to read the bundle now; none if it is.
pub(super) fn instead(
    clc: &Clc,
    (node, zone): (&NodeId, &Zone),
    ask: &TicketAsk,
    known: Known,
) -> Option<Ticket> {
    let entry = ask.entry.as_deref()?;
    let reached = clc.seen.cluster(zone).nodes;
    let answers = |row: &&nodes::NodeRow| {
        let status = reached.get(&row.id);
        status.is_none_or(|status| matches!(status.reach, Reach::Up | Reach::Unknown))
    };
    let whole: Vec<NodeId> = known
        .whole
        .iter()
        .filter(answers)
        .map(|row| row.id.clone())
        .collect();
    let whole = known.blocks.is_some().then_some(&whole[..]);
    let now_ms = clc.clock.monotonic_ms();
    let from = clc
        .copies
        .ask((zone, entry), node, whole, ask.peers_failed, now_ms);
    let none = Ticket {
        image: ask.image.id.clone(),
        parts: Vec::new(),
        key: Secret::new(String::new()),
        iv: Secret::new(String::new()),
        digest_sha1: String::new(),
        size_bytes: ask.image.size_bytes,
        bundled_bytes: 0,
        valid_ms: 0,
        blocks: None,
        peers: Vec::new(),
        filled_by: None,
    };
    match from {
        From::Bundle => None,
        From::Wait { node, percent } => Some(Ticket {
            filled_by: Some(FilledBy {
                node,
                percent,
                again_ms: AGAIN_MS,
            }),
            ..none
        }),
        From::Peers(peers) => {
            let peer = |node: NodeId| {
                let row = known.all.iter().find(|row| row.id == node)?;
                let address = row.address;
                Some(CopyPeer { node, address })
            };
            Some(Ticket {
                blocks: known.blocks,
                peers: peers.into_iter().filter_map(peer).collect(),
                ..none
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_named_after_its_image_and_is_plain_text() {
        let image: ImageId = "emi-12345678".parse().unwrap();
        let good = format!("{image}_{}_r1.disk", "ab".repeat(32));
        assert!(check_entry(&image, &good).is_ok());
        let long = format!("{image}_{}", "a".repeat(200));
        for bad in [
            "",
            "emi-12345678",
            "emi-123456789_x",
            "emi-87654321_x",
            &long,
        ] {
            assert!(check_entry(&image, bad).is_err(), "{bad}");
        }
        assert!(check_entry(&image, "emi-12345678_../../etc").is_err());
    }
}
