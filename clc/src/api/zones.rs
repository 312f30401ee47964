//! Availability zones, and on `verbose` the room in each.

use ec2::{
    Code,
    zones::{AvailabilityZone, DescribeAvailabilityZones, DescribeAvailabilityZonesOutput},
};
use types::{VmType, Zone};

use super::{
    capacity,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
};
use crate::{Caller, Clc, rows, seen::Answers};

/// The zone name by which Eucalyptus's administrators ask for the room.
const VERBOSE: &str = "verbose";

impl Filterable for AvailabilityZone {
    const FIELDS: &'static [Field<Self>] = &[
        ("group-name", |zone| {
            zone.group_name.iter().cloned().collect()
        }),
        ("message", |zone| {
            zone.message_set
                .iter()
                .map(|message| message.message.clone())
                .collect()
        }),
        ("opt-in-status", |zone| {
            zone.opt_in_status.iter().cloned().collect()
        }),
        ("region-name", |zone| {
            zone.region_name.iter().cloned().collect()
        }),
        ("state", |zone| vec![zone.zone_state.clone()]),
        ("zone-id", |zone| zone.zone_id.iter().cloned().collect()),
        ("zone-name", |zone| vec![zone.zone_name.clone()]),
        ("zone-type", |zone| zone.zone_type.iter().cloned().collect()),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

/// Lists the zones. The room is for the cloud's first account: it tells of everybody's instances.
pub async fn describe_availability_zones(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeAvailabilityZones,
) -> Result<DescribeAvailabilityZonesOutput> {
    let filters = Filters::of(ask.filters)?;
    let is_verbose = ask.zone_names.iter().any(|name| name == VERBOSE);
    let mut names = ask.zone_names;
    names.retain(|name| name != VERBOSE);
    names.extend(ask.zone_ids);

    let (zones, first) = clc
        .db
        .read(|tx| Ok::<_, Error>((rows::cloud::zones(tx)?, rows::identity::first_account(tx)?)))
        .await?;
    let shows_room = is_verbose && first.as_ref() == Some(caller.account());
    for name in &names {
        must_be(&zones, name)?;
    }
    let mut all = Vec::new();
    for zone in zones
        .iter()
        .filter(|zone| names.is_empty() || names.iter().any(|name| name == zone.as_str()))
    {
        let shown = shown(clc, zone);
        if filters.admit(&shown) {
            all.push(shown);
            if shows_room {
                all.extend(room(clc, zone));
            }
        }
    }
    Ok(DescribeAvailabilityZonesOutput {
        availability_zone_info: all,
    })
}

/// Refuses a zone that does not exist.
pub(super) fn must_be(zones: &[Zone], name: &str) -> Result<Zone> {
    zones
        .iter()
        .find(|zone| zone.as_str() == name)
        .cloned()
        .ok_or_else(|| {
            let message = format!(
                "The availability zone '{}' does not exist",
                name.escape_debug()
            );
            Error::new(Code::InvalidZoneNotFound, message)
        })
}

fn shown(clc: &Clc, zone: &Zone) -> AvailabilityZone {
    let region = clc.region.to_string();
    let is_silent = matches!(clc.seen.cluster(zone).answers, Answers::Not(..));
    AvailabilityZone {
        zone_name: zone.to_string(),
        zone_state: if is_silent { "impaired" } else { "available" }.to_owned(),
        zone_id: Some(zone.to_string()),
        group_name: Some(region.clone()),
        network_border_group: Some(region.clone()),
        region_name: Some(region),
        zone_type: Some("availability-zone".to_owned()),
        opt_in_status: Some("opt-in-not-required".to_owned()),
        message_set: Vec::new(),
    }
}

/// The rows that euca-describe-availability-zones prints as they come: columns made of blanks.
fn room(clc: &Clc, zone: &Zone) -> Vec<AvailabilityZone> {
    let row = |name: String, state: String| AvailabilityZone {
        zone_name: format!("|- {name}"),
        zone_state: state,
        region_name: Some(clc.region.to_string()),
        zone_id: None,
        group_name: None,
        network_border_group: None,
        zone_type: None,
        opt_in_status: None,
        message_set: Vec::new(),
    };
    let head = row(
        "vm types".to_owned(),
        "free / max   cpu   ram  disk".to_owned(),
    );
    let types = VmType::defaults().into_iter().map(|vm_type| {
        let capacity::Room { free, max } = capacity::room(clc, zone, &vm_type);
        let (cpu, ram, disk) = (vm_type.vcpus, vm_type.memory.0, vm_type.disk.0);
        row(
            vm_type.name,
            format!("{free:04} / {max:04}  {cpu:2}   {ram:4}  {disk:4}"),
        )
    });
    std::iter::once(head).chain(types).collect()
}
