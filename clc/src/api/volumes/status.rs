//! How volumes are: what is wrong with one that is in error, since when, and what its owner can do.
//! DescribeVolumes has no place for a reason; this is where EC2 tells of what befell a volume.

use ec2::volumes::{
    DescribeVolumeStatus, DescribeVolumeStatusOutput, VolumeStatusAction, VolumeStatusDetails,
    VolumeStatusEvent, VolumeStatusInfo, VolumeStatusItem,
};
use types::VolumeState;

use crate::{
    Caller, Clc,
    api::{
        errors::{Error, Result},
        filters::{Field, Filterable, Filters},
        naming,
        paging::{Page, by_time},
    },
    rows::{self, volumes::Volume as Row},
};

/// An event of a volume that is in error.
const EVENT: &str = "volume-state:error";
/// What is said where nobody gave a reason.
const NO_REASON: &str = "The Storage Controller gave no reason.";

/// Lists how volumes are, oldest first.
pub async fn describe_volume_status(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeVolumeStatus,
) -> Result<DescribeVolumeStatusOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.volume_ids.is_empty())?;
    let account = caller.account().clone();
    let volumes = clc
        .db
        .read(move |tx| Ok::<_, Error>(rows::volumes::list(tx, &account)?))
        .await?;

    let picked = naming::pick(volumes, &ask.volume_ids, |volume| &volume.id)?;
    let statuses = picked
        .into_iter()
        .map(|row| (by_time(row.created_at, row.id.as_str()), status(row)))
        .filter(|(_, status)| filters.admit(status))
        .collect();
    let (statuses, next_token) = page.cut(statuses, |(place, _)| place.clone());
    Ok(DescribeVolumeStatusOutput {
        volume_status_set: statuses.into_iter().map(|(_, status)| status).collect(),
        next_token,
    })
}

fn status(row: Row) -> VolumeStatusItem {
    let mut item = VolumeStatusItem {
        volume_status: summary(row.state),
        volume_id: row.id,
        availability_zone: row.zone,
        events_set: Vec::new(),
        actions_set: Vec::new(),
    };
    if row.state == VolumeState::Error {
        // One event for each volume: an error is final but for its removal.
        let event_id = item.volume_id.as_str().replacen("vol-", "evol-", 1);
        item.events_set.push(VolumeStatusEvent {
            event_type: EVENT,
            description: row.reason.unwrap_or_else(|| NO_REASON.to_owned()),
            event_id: event_id.clone(),
            not_before: row.state_since.into(),
        });
        item.actions_set.push(VolumeStatusAction {
            code: "delete-volume",
            description: "Delete the volume, and create another if it is still needed.",
            event_type: EVENT,
            event_id,
        });
    }
    item
}

fn summary(state: VolumeState) -> VolumeStatusInfo {
    let (status, enabled) = match state {
        VolumeState::Available | VolumeState::InUse => ("ok", "passed"),
        VolumeState::Error => ("impaired", "failed"),
        VolumeState::Creating | VolumeState::Deleting | VolumeState::Deleted => {
            ("insufficient-data", "insufficient-data")
        }
    };
    VolumeStatusInfo {
        status,
        details: vec![VolumeStatusDetails {
            name: "io-enabled",
            status: enabled,
        }],
    }
}

fn of_events(item: &VolumeStatusItem, look: fn(&VolumeStatusEvent) -> String) -> Vec<String> {
    item.events_set.iter().map(look).collect()
}

fn of_actions(item: &VolumeStatusItem, look: fn(&VolumeStatusAction) -> String) -> Vec<String> {
    item.actions_set.iter().map(look).collect()
}

fn of_details(item: &VolumeStatusItem, look: fn(&VolumeStatusDetails) -> &str) -> Vec<String> {
    let details = item.volume_status.details.iter();
    details.map(|detail| look(detail).to_owned()).collect()
}

impl Filterable for VolumeStatusItem {
    const FIELDS: &'static [Field<Self>] = &[
        ("action.code", |item| {
            of_actions(item, |action| action.code.to_owned())
        }),
        ("action.description", |item| {
            of_actions(item, |action| action.description.to_owned())
        }),
        ("action.event-id", |item| {
            of_actions(item, |action| action.event_id.clone())
        }),
        ("availability-zone", |item| {
            vec![item.availability_zone.to_string()]
        }),
        ("event.description", |item| {
            of_events(item, |event| event.description.clone())
        }),
        ("event.event-id", |item| {
            of_events(item, |event| event.event_id.clone())
        }),
        ("event.event-type", |item| {
            of_events(item, |event| event.event_type.to_owned())
        }),
        ("event.not-after", |_| vec![]),
        ("event.not-before", |item| {
            of_events(item, |event| event.not_before.0.to_string())
        }),
        ("volume-status.details-name", |item| {
            of_details(item, |detail| detail.name)
        }),
        ("volume-status.details-status", |item| {
            of_details(item, |detail| detail.status)
        }),
        ("volume-status.status", |item| {
            vec![item.volume_status.status.to_owned()]
        }),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}
