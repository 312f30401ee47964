//! The cloud and its instances at a glance, for the administrator's command.

use std::{collections::BTreeMap, sync::Arc};

use control::{
    CallError, Role,
    cloud::{CloudStatus, InstanceList, InstanceStatus, ServiceStatus},
    cluster::{NodeStatus, Reach},
    node::Shape,
    storage::PoolReport,
};
use store::{Error, Tx};
use types::{InstanceState, Zone};

use super::internal;
use crate::{
    Clc,
    rows::{
        cloud,
        instances::{self, Instance},
        network,
        nodes::{self, NodeRow},
        services::{self, ServiceRow},
    },
    seen::Answers,
};

/// The cloud at a glance.
pub(super) async fn cloud(clc: &Arc<Clc>) -> Result<CloudStatus, CallError> {
    let rows = clc.db.read(Rows::read).await.map_err(internal)?;
    Ok(CloudStatus {
        region: clc.region.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        services: rows.services.iter().map(|row| service(clc, row)).collect(),
        nodes: rows.nodes.iter().map(|row| node(clc, row)).collect(),
        objects: clc.seen.objects().status,
        pools: pools(clc, &rows.zones),
        instances: rows.instances,
        addresses: (
            rows.addresses_taken,
            clc.config.network.pool().count() as u64,
        ),
    })
}

struct Rows {
    zones: Vec<Zone>,
    services: Vec<ServiceRow>,
    nodes: Vec<NodeRow>,
    instances: Vec<(InstanceState, u64)>,
    addresses_taken: u64,
}

impl Rows {
    fn read(tx: &Tx) -> Result<Self, Error> {
        let mut counts: BTreeMap<u16, (InstanceState, u64)> = BTreeMap::new();
        for instance in instances::list_all(tx)? {
            counts
                .entry(instance.state.code())
                .or_insert((instance.state, 0))
                .1 += 1;
        }
        Ok(Self {
            zones: cloud::zones(tx)?,
            services: services::list(tx)?,
            nodes: nodes::list(tx)?,
            instances: counts.into_values().collect(),
            addresses_taken: network::taken_public(tx)?.len() as u64,
        })
    }
}

fn service(clc: &Clc, row: &ServiceRow) -> ServiceStatus {
    let answers = match (row.role, &row.zone) {
        (Role::Cc, Some(zone)) => clc.seen.cluster(zone).answers,
        (Role::Sc, Some(zone)) => clc.seen.storage(zone).answers,
        (Role::Walrus, _) => clc.seen.objects().answers,
        (Role::Clc | Role::Nc | Role::Admin, _) | (Role::Cc | Role::Sc, None) => Answers::NotYet,
    };
    ServiceStatus {
        role: row.role,
        name: row.name.clone(),
        zone: row.zone.clone(),
        address: Some(row.address),
        state: answers.word(),
        seen_at: answers.last(),
    }
}

fn node(clc: &Clc, row: &NodeRow) -> NodeStatus {
    let seen = clc.seen.cluster(&row.zone).nodes.remove(&row.id);
    seen.unwrap_or_else(|| NodeStatus {
        node: row.id.clone(),
        reach: if row.dead {
            Reach::Dead
        } else {
            Reach::Unknown
        },
        why: format!(
            "the Cluster Controller of {} has not spoken of it",
            row.zone
        ),
        report: None,
        committed: Shape::default(),
    })
}

fn pools(clc: &Clc, zones: &[Zone]) -> Vec<(Zone, PoolReport)> {
    let pool = |zone: &Zone| Some((zone.clone(), clc.seen.storage(zone).pool?));
    zones.iter().filter_map(pool).collect()
}

/// All instances, in the order of their launch.
pub(super) async fn instances(clc: &Arc<Clc>) -> Result<InstanceList, CallError> {
    let read = |tx: &Tx| {
        let all = instances::list_all(tx)?;
        all.iter()
            .map(|instance| of_instance(tx, instance))
            .collect::<Result<_, Error>>()
    };
    Ok(InstanceList {
        instances: clc.db.read(read).await.map_err(internal)?,
    })
}

/// One instance.
pub(super) fn of_instance(tx: &Tx, instance: &Instance) -> Result<InstanceStatus, Error> {
    let interface = network::interface_of(tx, &instance.id)?;
    let private = interface
        .as_ref()
        .map(|interface| interface.private_address);
    let public = interface
        .as_ref()
        .and_then(|interface| interface.public_address);
    Ok(InstanceStatus {
        instance: instance.id.clone(),
        account: instance.account.clone(),
        state: instance.state,
        reason: instance.state_reason().cloned(),
        vm_type: instance.vm_type.clone(),
        image: instance.image.clone(),
        node: instance.node.clone(),
        zone: instance.zone.clone(),
        private_address: private
            .map(|address| address.to_string())
            .unwrap_or_default(),
        public_address: public
            .map(|address| address.to_string())
            .unwrap_or_default(),
        launched_at: instance.launched_at,
    })
}
