//! Instances as answers show them: rows put together with their interfaces, groups and tags, and the
//! filters that look at them.
//!
//! One instance is four small queries; many are four large ones, since a query for each of ten
//! thousand would take longer than writing the answer.

use std::collections::HashMap;

use ec2::{
    GroupIdentifier, Tag,
    instances::{
        HttpTokens, Instance, MetadataOptions, Monitoring, Placement, Reservation, Switch,
    },
};
use store::Tx;
use types::{
    AccountId, InstanceId, InstanceState, NetworkInterfaceId, ReservationId, SecurityGroupId,
    StateReason,
};

use crate::{
    Caller, Clc,
    api::{
        errors::Result,
        filters::{Field, Filterable},
        is_before, network_interfaces, tags,
    },
    rows::{self, instances::Instance as Row, network::InterfaceRow},
    wish,
};

/// Up to so many instances are looked up one by one.
const FEW: usize = 32;
/// Of so many pending instances a listing says what they are at: reading their reports takes longer
/// than listing them.
const STAGES_MAX: usize = 256;
/// The root disk as the guest and the metadata service name it.
pub(in crate::api) const ROOT_DEVICE: &str = "/dev/vda";

/// What an instance's look depends on besides its rows.
#[derive(Debug, Clone)]
pub(in crate::api) struct Around {
    domain: String,
    /// Before 2011 a group's id was its name.
    names_for_ids: bool,
}

impl Around {
    pub(in crate::api) fn of(clc: &Clc, caller: &Caller) -> Self {
        Self {
            domain: network_interfaces::domain(clc),
            names_for_ids: is_before(caller.api_version(), "2011-01-01"),
        }
    }
}

/// An instance with the reservation that it is part of.
pub(in crate::api) struct Shown {
    pub(in crate::api) reservation: ReservationId,
    pub(in crate::api) owner: AccountId,
    pub(in crate::api) instance: Instance,
}

/// What lies around rows, by what it belongs to.
struct Parts {
    interfaces: HashMap<InstanceId, InterfaceRow>,
    members: HashMap<NetworkInterfaceId, Vec<SecurityGroupId>>,
    names: HashMap<SecurityGroupId, String>,
    tags: HashMap<String, Vec<(String, String)>>,
    /// What the nodes of those that are pending are at.
    stages: HashMap<InstanceId, String>,
}

/// Puts instances of one account together.
pub(super) fn from_rows(
    tx: &Tx,
    around: &Around,
    account: &AccountId,
    rows: Vec<Row>,
) -> Result<Vec<Shown>> {
    let mut parts = if rows.len() <= FEW {
        of_few(tx, &rows)?
    } else {
        of_account(tx, account)?
    };
    let pending = |row: &&Row| row.state == InstanceState::Pending;
    for row in rows.iter().filter(pending).take(STAGES_MAX) {
        if let Some(report) = rows::instances::seen(tx, &row.id)? {
            parts.stages.insert(row.id.clone(), report.progress());
        }
    }
    Ok(rows
        .into_iter()
        .map(|row| one(around, &mut parts, row))
        .collect())
}

fn of_few(tx: &Tx, rows: &[Row]) -> Result<Parts> {
    let mut parts = Parts {
        interfaces: HashMap::new(),
        members: HashMap::new(),
        names: HashMap::new(),
        tags: HashMap::new(),
        stages: HashMap::new(),
    };
    for row in rows {
        parts
            .tags
            .insert(row.id.to_string(), rows::tags::of(tx, row.id.as_str())?);
        let Some(interface) = rows::network::interface_of(tx, &row.id)? else {
            continue;
        };
        let groups = rows::network::groups_of(tx, &interface.id)?;
        for id in &groups {
            if let Some(group) = rows::security_groups::find(tx, &row.account, id)? {
                parts.names.insert(group.id, group.name);
            }
        }
        parts.members.insert(interface.id.clone(), groups);
        parts.interfaces.insert(row.id.clone(), interface);
    }
    Ok(parts)
}

fn of_account(tx: &Tx, account: &AccountId) -> Result<Parts> {
    let interfaces = rows::network::interfaces_of_account(tx, account)?;
    let groups = rows::security_groups::list(tx, account)?;
    Ok(Parts {
        interfaces: interfaces
            .into_iter()
            .map(|one| (one.instance.clone(), one))
            .collect(),
        members: rows::security_groups::by_interface(tx, account)?,
        names: groups
            .into_iter()
            .map(|group| (group.id, group.name))
            .collect(),
        tags: rows::tags::by_resource(tx, account, "instance")?,
        stages: HashMap::new(),
    })
}

fn one(around: &Around, parts: &mut Parts, row: Row) -> Shown {
    // A terminated instance has given its interface back; EC2 shows none then either.
    let interface = parts.interfaces.remove(&row.id);
    let members = interface
        .as_ref()
        .and_then(|one| parts.members.remove(&one.id))
        .unwrap_or_default();
    let group_set: Vec<GroupIdentifier> = members
        .iter()
        .map(|id| {
            let name = parts.names.get(id).map_or("", String::as_str);
            let mut group = GroupIdentifier::new(id, name);
            if around.names_for_ids {
                group.group_id.clone_from(&group.group_name);
            }
            group
        })
        .collect();
    let tags = parts.tags.remove(row.id.as_str()).unwrap_or_default();
    let mut row = row;
    if let Some(stage) = parts
        .stages
        .remove(&row.id)
        .filter(|stage| !stage.is_empty())
    {
        let pending = StateReason::new("pending", format!("pending: {stage}"));
        row.reason.get_or_insert(pending);
    }
    Shown {
        reservation: row.reservation.clone(),
        owner: row.account.clone(),
        instance: instance(around, row, interface.as_ref(), group_set, tags),
    }
}

fn instance(
    around: &Around,
    row: Row,
    interface: Option<&InterfaceRow>,
    group_set: Vec<GroupIdentifier>,
    tags: Vec<(String, String)>,
) -> Instance {
    let is_pending = row.state == InstanceState::Pending;
    let state_reason = row.state_reason().cloned().map(Into::into);
    Instance {
        metadata_options: metadata_options(&row, is_pending),
        instance_id: row.id,
        image_id: row.image,
        instance_state: row.state.into(),
        private_dns_name: interface
            .map_or_else(String::new, |one| wish::private_name(one, &around.domain)),
        dns_name: interface.map_or_else(String::new, crate::wish::public_name),
        reason: row.transition,
        key_name: row.key_name,
        ami_launch_index: row.launch_index,
        product_codes: Vec::new(),
        instance_type: row.vm_type,
        launch_time: row.launched_at.into(),
        placement: Placement {
            availability_zone: row.zone,
            group_name: "",
            tenancy: "default",
        },
        kernel_id: row.kernel,
        ramdisk_id: row.ramdisk,
        monitoring: Monitoring { state: "disabled" },
        subnet_id: interface.map(|one| one.subnet.clone()),
        vpc_id: interface.map(|one| one.vpc.clone()),
        private_ip_address: interface.map(|one| one.private_address),
        ip_address: interface.and_then(|one| one.public_address),
        source_dest_check: interface.map(|_| true),
        state_reason,
        architecture: row.architecture,
        root_device_type: "instance-store",
        root_device_name: ROOT_DEVICE,
        block_device_mapping: Vec::new(),
        virtualization_type: "hvm",
        client_token: row.client_token,
        tag_set: tags::shown(tags),
        hypervisor: "kvm",
        network_interface_set: interface
            .map(|one| network_interfaces::of_instance(one, group_set.clone(), &around.domain))
            .into_iter()
            .collect(),
        group_set,
        ebs_optimized: false,
    }
}

fn metadata_options(row: &Row, is_pending: bool) -> MetadataOptions {
    let switch = |is_on: bool| {
        if is_on {
            Switch::Enabled
        } else {
            Switch::Disabled
        }
    };
    MetadataOptions {
        state: if is_pending { "pending" } else { "applied" },
        http_tokens: if row.tokens_required {
            HttpTokens::Required
        } else {
            HttpTokens::Optional
        },
        http_put_response_hop_limit: row.hop_limit,
        http_endpoint: Switch::Enabled,
        instance_metadata_tags: switch(row.metadata_tags),
    }
}

/// Instances in their order, by reservation.
pub(in crate::api) fn together(all: Vec<Shown>) -> Vec<Reservation> {
    let mut reservations: Vec<Reservation> = Vec::new();
    for Shown {
        reservation,
        owner,
        instance,
    } in all
    {
        match reservations
            .last_mut()
            .filter(|last| last.reservation_id == reservation)
        {
            Some(last) => last.instances_set.push(instance),
            None => reservations.push(Reservation {
                reservation_id: reservation,
                owner_id: owner,
                group_set: instance.group_set.clone(),
                instances_set: vec![instance],
            }),
        }
    }
    reservations
}

type Look = fn(&Shown) -> Vec<String>;

fn text(value: &impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn maybe<T: ToString>(value: Option<&T>) -> Vec<String> {
    value.map(ToString::to_string).into_iter().collect()
}

const GROUP_IDS: Look = |one| {
    one.instance
        .group_set
        .iter()
        .map(|group| group.group_id.clone())
        .collect()
};
const GROUP_NAMES: Look = |one| {
    one.instance
        .group_set
        .iter()
        .map(|group| group.group_name.clone())
        .collect()
};
const PUBLIC: Look = |one| maybe(one.instance.ip_address.as_ref());
const PRIVATE: Look = |one| maybe(one.instance.private_ip_address.as_ref());
/// Of volumes, spot requests, placement groups: no instance has any.
const NONE: Look = |_| Vec::new();

impl Filterable for Shown {
    const FIELDS: &'static [Field<Self>] = &[
        ("affinity", NONE),
        ("architecture", |one| text(&one.instance.architecture)),
        ("association.allocation-id", NONE),
        ("association.association-id", NONE),
        ("association.ip-owner-id", |one| {
            PUBLIC(one).iter().map(|_| "amazon".to_owned()).collect()
        }),
        ("association.public-ip", PUBLIC),
        ("availability-zone", |one| {
            text(&one.instance.placement.availability_zone)
        }),
        ("block-device-mapping.attach-time", NONE),
        ("block-device-mapping.delete-on-termination", NONE),
        ("block-device-mapping.device-name", NONE),
        ("block-device-mapping.status", NONE),
        ("block-device-mapping.volume-id", NONE),
        ("client-token", |one| text(&one.instance.client_token)),
        ("dns-name", |one| text(&one.instance.dns_name)),
        ("group-id", GROUP_IDS),
        ("group-name", GROUP_NAMES),
        ("hypervisor", |one| text(&one.instance.hypervisor)),
        ("iam-instance-profile.arn", NONE),
        ("image-id", |one| text(&one.instance.image_id)),
        ("instance-id", |one| text(&one.instance.instance_id)),
        ("instance-lifecycle", NONE),
        ("instance-state-code", |one| {
            text(&one.instance.instance_state.code)
        }),
        ("instance-state-name", |one| {
            text(&one.instance.instance_state.name.as_str())
        }),
        ("instance-type", |one| text(&one.instance.instance_type)),
        ("instance.group-id", GROUP_IDS),
        ("instance.group-name", GROUP_NAMES),
        ("ip-address", PUBLIC),
        ("kernel-id", |one| maybe(one.instance.kernel_id.as_ref())),
        ("key-name", |one| maybe(one.instance.key_name.as_ref())),
        ("launch-index", |one| text(&one.instance.ami_launch_index)),
        ("launch-time", |one| text(&one.instance.launch_time.0)),
        ("metadata-options.http-tokens", |one| {
            let is_required = one.instance.metadata_options.http_tokens == HttpTokens::Required;
            text(&if is_required { "required" } else { "optional" })
        }),
        ("monitoring-state", |one| {
            text(&one.instance.monitoring.state)
        }),
        ("network-interface.addresses.association.ip-owner-id", NONE),
        ("network-interface.addresses.association.public-ip", PUBLIC),
        ("network-interface.addresses.primary", |one| {
            PRIVATE(one).iter().map(|_| "true".to_owned()).collect()
        }),
        ("network-interface.addresses.private-ip-address", PRIVATE),
        ("network-interface.attachment.attach-time", NONE),
        ("network-interface.attachment.attachment-id", |one| {
            interfaces(one, |i| i.attachment.attachment_id.to_string())
        }),
        (
            "network-interface.attachment.delete-on-termination",
            |one| interfaces(one, |_| "true".to_owned()),
        ),
        ("network-interface.attachment.device-index", |one| {
            interfaces(one, |_| "0".to_owned())
        }),
        ("network-interface.attachment.instance-owner-id", |one| {
            text(&one.owner)
        }),
        ("network-interface.attachment.status", |one| {
            interfaces(one, |_| "attached".to_owned())
        }),
        ("network-interface.availability-zone", |one| {
            text(&one.instance.placement.availability_zone)
        }),
        ("network-interface.description", |one| {
            interfaces(one, |i| i.description.clone())
        }),
        ("network-interface.group-id", GROUP_IDS),
        ("network-interface.group-name", GROUP_NAMES),
        ("network-interface.mac-address", |one| {
            interfaces(one, |i| i.mac_address.to_string())
        }),
        ("network-interface.network-interface-id", |one| {
            interfaces(one, |i| i.network_interface_id.to_string())
        }),
        ("network-interface.network-interface.id", |one| {
            interfaces(one, |i| i.network_interface_id.to_string())
        }),
        ("network-interface.owner-id", |one| text(&one.owner)),
        ("network-interface.private-dns-name", |one| {
            interfaces(one, |i| i.private_dns_name.clone())
        }),
        ("network-interface.requester-id", NONE),
        ("network-interface.requester-managed", |one| {
            interfaces(one, |_| "false".to_owned())
        }),
        ("network-interface.source-dest-check", |one| {
            interfaces(one, |_| "true".to_owned())
        }),
        ("network-interface.source-destination-check", |one| {
            interfaces(one, |_| "true".to_owned())
        }),
        ("network-interface.status", |one| {
            interfaces(one, |i| i.status.clone())
        }),
        ("network-interface.subnet-id", |one| {
            interfaces(one, |i| i.subnet_id.to_string())
        }),
        ("network-interface.vpc-id", |one| {
            interfaces(one, |i| i.vpc_id.to_string())
        }),
        ("owner-id", |one| text(&one.owner)),
        ("placement-group-name", NONE),
        ("platform", NONE),
        ("private-dns-name", |one| {
            text(&one.instance.private_dns_name)
        }),
        ("private-ip-address", PRIVATE),
        ("product-code", NONE),
        ("product-code.type", NONE),
        ("ramdisk-id", |one| maybe(one.instance.ramdisk_id.as_ref())),
        ("reason", |one| text(&one.instance.reason)),
        ("requester-id", NONE),
        ("reservation-id", |one| text(&one.reservation)),
        ("root-device-name", |one| {
            text(&one.instance.root_device_name)
        }),
        ("root-device-type", |one| {
            text(&one.instance.root_device_type)
        }),
        ("source-dest-check", |one| {
            maybe(one.instance.source_dest_check.as_ref())
        }),
        ("spot-instance-request-id", NONE),
        ("state-reason-code", |one| {
            maybe(
                one.instance
                    .state_reason
                    .as_ref()
                    .map(|reason| &reason.code),
            )
        }),
        ("state-reason-message", |one| {
            maybe(
                one.instance
                    .state_reason
                    .as_ref()
                    .map(|reason| &reason.message),
            )
        }),
        ("subnet-id", |one| maybe(one.instance.subnet_id.as_ref())),
        ("tenancy", |one| text(&one.instance.placement.tenancy)),
        ("virtualization-type", |one| {
            text(&one.instance.virtualization_type)
        }),
        ("vpc-id", |one| maybe(one.instance.vpc_id.as_ref())),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.instance.tag_set)
    }
}

fn interfaces(
    one: &Shown,
    look: fn(&ec2::network_interfaces::InstanceNetworkInterface) -> String,
) -> Vec<String> {
    one.instance
        .network_interface_set
        .iter()
        .map(look)
        .collect()
}
