//! Why an instance is what it is: every daemon's moments, and who has to act next.

use std::sync::Arc;

use control::{
    CallError,
    cloud::Explanation,
    cluster::Rejected,
    node::{InstanceReport, Wanted},
    timeline::Moment,
};
use store::{Error, Tx};
use types::{InstanceId, InstanceState};

use super::{internal, status};
use crate::{
    Clc,
    rows::instances::{self, Instance},
};

/// Explains an instance.
pub(super) async fn explain(clc: &Arc<Clc>, id: InstanceId) -> Result<Explanation, CallError> {
    let asked = id.clone();
    let (pending_s, now) = (clc.config.limits.pending_s, clc.now());
    let told = clc
        .db
        .read(move |tx| {
            let Some(instance) = instances::load(tx, &asked)? else {
                return Ok(None);
            };
            let mut told = tell(tx, &instance)?;
            let left_s = u64::try_from(now.millis_since(instance.state_since) / 1000)
                .map_or(pending_s, |gone| pending_s.saturating_sub(gone));
            told.waits_for = waits_for(&instance, instances::seen(tx, &asked)?.as_ref(), left_s);
            Ok::<_, Error>(Some(told))
        })
        .await
        .map_err(internal)?;
    told.ok_or_else(|| CallError::not_found(id))
}

fn tell(tx: &Tx, instance: &Instance) -> Result<Explanation, Error> {
    let (why, rejected, mut timeline) = instances::history(tx, &instance.id)?.unwrap_or_default();
    if let Some(node) = &instance.node {
        timeline.insert(timeline.len().min(1), placed(&format!("on {node}: {why}")));
    }
    let report = instances::seen(tx, &instance.id)?;
    timeline.extend(report.into_iter().flat_map(|report| report.timeline));
    Ok(Explanation {
        status: status::of_instance(tx, instance)?,
        timeline,
        // Kept for people: a list that does not read is no reason to say nothing.
        rejected: serde_json::from_str::<Vec<Rejected>>(&rejected).unwrap_or_default(),
        waits_for: None,
    })
}

fn placed(detail: &str) -> Moment {
    Moment {
        by: "cc".to_owned(),
        step: "placed".to_owned(),
        elapsed_ms: 0,
        detail: detail.trim_end_matches([':', ' ']).to_owned(),
    }
}

/// Who has to act, for what is on its way or of no use; nothing for what has arrived.
fn waits_for(instance: &Instance, report: Option<&InstanceReport>, left_s: u64) -> Option<String> {
    let on_its_way = match (instance.state, instance.wanted) {
        (InstanceState::Pending | InstanceState::ShuttingDown | InstanceState::Stopping, _) => true,
        (InstanceState::Running, Wanted::Terminated) => true,
        (InstanceState::Running, Wanted::Running) => instance.impaired.is_some(),
        (InstanceState::Terminated | InstanceState::Stopped, _) => false,
    };
    if !on_its_way {
        return None;
    }
    let node = instance
        .node
        .as_ref()
        .map_or("a node", |node| node.as_str());
    if instance.unreachable_since.is_some() {
        return Some(format!(
            "{node}, which does not answer: its return, or its being declared dead"
        ));
    }
    if instance.taken_generation < instance.generation {
        return Some(format!(
            "the Cluster Controller of {}, to take the wish",
            instance.zone
        ));
    }
    let stage = report
        .map(InstanceReport::progress)
        .filter(|stage| !stage.is_empty());
    let what = stage.as_deref().unwrap_or("to act on the wish");
    Some(match instance.state {
        InstanceState::Pending => {
            format!("{node}, {what}; given up {left_s} s from now if nothing changes")
        }
        _ => format!("{node}, {what}"),
    })
}
