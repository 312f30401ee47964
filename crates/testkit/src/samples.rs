//! Wishes, rosters and shapes for tests: valid in every field, plain in all that a test does not
//! look at.

use std::net::{Ipv4Addr, SocketAddr};

use control::{
    cluster::{Roster, RosterNode},
    node::{ImageRef, InstanceSpec, InstanceWish, InterfaceSpec, Metadata, Shape, Wanted},
};
use rand::SeedableRng;
use types::{
    AccountId, Gib, ImageId, ImageKind, InstanceId, MacAddr, Mib, NetworkInterfaceId, NodeId,
    Region, ReservationId, SubnetId, Timestamp, VpcId, instance::ShortId,
};

use crate::seed::TestRng;

/// The node of that number.
pub fn node(number: u32) -> NodeId {
    format!("node-{number:08x}").parse().expect("eight digits")
}

/// The instance of that number.
pub fn instance(number: u32) -> InstanceId {
    format!("i-{number:08x}").parse().expect("eight digits")
}

/// The reservation of that number.
pub fn reservation(number: u32) -> ReservationId {
    format!("r-{number:08x}").parse().expect("eight digits")
}

/// So many small instances' worth: 1 vCPU, 256 MiB, 5 GiB each.
pub fn smalls(count: u32) -> Shape {
    Shape {
        vcpus: count,
        memory_mib: Mib(256 * count),
        disk_gib: Gib(5 * count),
    }
}

/// A roster of the nodes of these numbers, all alive.
pub fn roster(generation: u64, nodes: impl IntoIterator<Item = u32>) -> Roster {
    let line = |number| RosterNode {
        node: node(number),
        address: SocketAddr::from(([127, 0, 0, 1], 8775)),
        dead: false,
    };
    Roster {
        generation,
        nodes: nodes.into_iter().map(line).collect(),
    }
}

/// A wish that an instance runs: generation 1, one small instance's shape.
pub fn wish(
    instance: InstanceId,
    reservation: ReservationId,
    node: NodeId,
    epoch: u64,
) -> InstanceWish {
    InstanceWish {
        spec: spec(&instance, reservation),
        instance,
        generation: 1,
        node,
        epoch,
        wanted: Wanted::Running,
        reboots: 0,
        bundle: None,
    }
}

/// The same at the next generation, to be terminated.
pub fn ended(wish: &InstanceWish) -> InstanceWish {
    InstanceWish {
        generation: wish.generation + 1,
        wanted: Wanted::Terminated,
        ..wish.clone()
    }
}

fn spec(instance: &InstanceId, reservation: ReservationId) -> InstanceSpec {
    // The rest of an instance follows from its id, so that two samples of it are equal.
    let bytes = instance.as_str().bytes();
    let seed = bytes.fold(0, |sum: u64, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    let mut rng = TestRng::seed_from_u64(seed);
    let region = Region::first();
    InstanceSpec {
        account: AccountId::mint(&mut rng),
        reservation,
        vm_type: "m1.small".to_owned(),
        shape: smalls(1),
        image: ImageRef {
            id: ImageId::mint(ImageKind::Machine, &mut rng),
            manifest_sha256: "00".repeat(32),
            size_bytes: 1 << 30,
        },
        kernel: None,
        ramdisk: None,
        interface: InterfaceSpec {
            id: NetworkInterfaceId::mint(&mut rng),
            short: ShortId(1),
            vpc: VpcId::mint(&mut rng),
            vpc_short: ShortId(1),
            subnet: SubnetId::mint(&mut rng),
            subnet_short: ShortId(1),
            mac: MacAddr::mint(&mut rng),
            private_address: Ipv4Addr::new(172, 31, 0, 10),
            public_address: None,
        },
        network_version: 0,
        metadata: Metadata {
            zone: region.first_zone(),
            region: region.to_string(),
            ami_manifest_path: "images/image.manifest.xml".to_owned(),
            launch_index: 0,
            private_dns_name: "ip-172-31-0-10.mallee-1.internal".to_owned(),
            public_dns_name: String::new(),
            key: None,
            security_groups: vec!["default".to_owned()],
            security_group_ids: vec!["sg-00000001".to_owned()],
            subnet_cidr: "172.31.0.0/20".to_owned(),
            vpc_cidr: "172.31.0.0/16".to_owned(),
            user_data: None,
            tokens_required: false,
            tags: Vec::new(),
            launched_at: Timestamp(0),
        },
    }
}
