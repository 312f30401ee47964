//! Rows → what a cluster or a store is told, whole. Reads, and decides nothing.

use base64::{Engine, engine::general_purpose::STANDARD};
use control::{
    node::{ImageRef, InstanceSpec, InstanceWish, InterfaceSpec, Metadata, Shape},
    storage::{VolumeWanted, VolumeWish},
};
use store::{Error, Tx};
use types::{ImageId, Region, SecurityGroupId};

use crate::rows::{
    bundle_tasks, images,
    instances::{self, Instance},
    network::{self, InterfaceRow, SubnetRow, VpcRow},
    tags,
    volumes::Volume,
};

/// What every wish has in common.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The region.
    pub region: Region,
    /// The domain of private names.
    pub domain: String,
}

/// What an instance is to be. None if it is placed nowhere, or is gone and has no interface left.
pub fn of_instance(
    tx: &Tx,
    around: &Surroundings,
    instance: &Instance,
) -> Result<Option<InstanceWish>, Error> {
    let (Some(node), Some(interface)) = (
        instance.node.clone(),
        network::interface_of(tx, &instance.id)?,
    ) else {
        return Ok(None);
    };
    Ok(Some(InstanceWish {
        instance: instance.id.clone(),
        generation: instance.generation,
        node,
        epoch: instance.epoch,
        wanted: instance.wanted,
        reboots: instance.reboots,
        bundle: bundle_tasks::wish_of(tx, &instance.id)?,
        spec: spec(tx, around, instance, &interface)?,
    }))
}

fn spec(
    tx: &Tx,
    around: &Surroundings,
    instance: &Instance,
    interface: &InterfaceRow,
) -> Result<InstanceSpec, Error> {
    let vpc = required(network::find_vpc(tx, &interface.vpc)?, &interface.vpc)?;
    let subnet = required(
        network::find_subnet(tx, &interface.subnet)?,
        &interface.subnet,
    )?;
    let optional = |id: &Option<ImageId>| id.as_ref().map(|id| image(tx, id)).transpose();
    Ok(InstanceSpec {
        account: instance.account.clone(),
        reservation: instance.reservation.clone(),
        vm_type: instance.vm_type.clone(),
        shape: Shape {
            vcpus: instance.vcpus,
            memory_mib: instance.memory,
            disk_gib: instance.disk,
        },
        image: image(tx, &instance.image)?,
        kernel: optional(&instance.kernel)?,
        ramdisk: optional(&instance.ramdisk)?,
        interface: interface_spec(interface, &vpc, &subnet),
        network_version: network::version(tx, &instance.zone)?,
        metadata: metadata(tx, around, instance, interface, &vpc, &subnet)?,
    })
}

fn image(tx: &Tx, id: &ImageId) -> Result<ImageRef, Error> {
    let image = required(images::find(tx, id)?, id)?;
    Ok(ImageRef {
        id: image.id,
        manifest_sha256: image.manifest_sha256,
        size_bytes: image.size_bytes,
    })
}

fn interface_spec(interface: &InterfaceRow, vpc: &VpcRow, subnet: &SubnetRow) -> InterfaceSpec {
    InterfaceSpec {
        id: interface.id.clone(),
        short: interface.short,
        vpc: vpc.id.clone(),
        vpc_short: vpc.short,
        subnet: subnet.id.clone(),
        subnet_short: subnet.short,
        mac: interface.mac,
        private_address: interface.private_address,
        public_address: interface.public_address,
    }
}

fn metadata(
    tx: &Tx,
    around: &Surroundings,
    instance: &Instance,
    interface: &InterfaceRow,
    vpc: &VpcRow,
    subnet: &SubnetRow,
) -> Result<Metadata, Error> {
    let groups = network::groups_of(tx, &interface.id)?;
    let names = groups
        .iter()
        .map(|id| network::group_name(tx, id))
        .collect::<Result<_, _>>()?;
    let image = required(images::find(tx, &instance.image)?, &instance.image)?;
    let user_data = instances::user_data(tx, &instance.id)?;
    let tags = if instance.metadata_tags {
        tags::of(tx, instance.id.as_str())?
    } else {
        Vec::new()
    };
    Ok(Metadata {
        region: around.region.to_string(),
        zone: instance.zone.clone(),
        ami_manifest_path: image.location,
        launch_index: instance.launch_index,
        private_dns_name: private_name(interface, &around.domain),
        public_dns_name: public_name(interface),
        key: instance.key_name.clone().zip(instance.public_key.clone()),
        security_groups: names,
        security_group_ids: groups.iter().map(SecurityGroupId::to_string).collect(),
        subnet_cidr: subnet.cidr.to_string(),
        vpc_cidr: vpc.cidr.to_string(),
        user_data: user_data.map(|bytes| STANDARD.encode(bytes)),
        tokens_required: instance.tokens_required,
        tags,
        launched_at: instance.launched_at,
    })
}

/// `ip-172-31-0-10`.
pub fn hostname(interface: &InterfaceRow) -> String {
    format!("ip-{}", interface.private_address).replace('.', "-")
}

/// `ip-172-31-0-10.mallee-1.internal`.
pub fn private_name(interface: &InterfaceRow, domain: &str) -> String {
    format!("{}.{domain}", hostname(interface))
}

/// The public address itself: a name that every client can resolve without a server of ours.
/// Nothing without a public address.
pub fn public_name(interface: &InterfaceRow) -> String {
    interface
        .public_address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

/// What a volume is to be.
pub fn of_volume(volume: &Volume) -> VolumeWish {
    VolumeWish {
        volume: volume.id.clone(),
        generation: volume.generation,
        wanted: if volume.is_wanted {
            VolumeWanted::Present
        } else {
            VolumeWanted::Absent
        },
        size_gib: volume.size,
        snapshot: volume.snapshot.clone(),
    }
}

/// A row that another row refers to; the foreign keys keep it there.
fn required<T>(row: Option<T>, id: &impl ToString) -> Result<T, Error> {
    row.ok_or_else(|| Error::Unreadable {
        row: id.to_string(),
        reason: "it is referred to and not there".to_owned(),
    })
}
