//! What a Node Controller answers to its Cluster Controller.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use types::{
    AccountId, BundleId, Gib, ImageId, InstanceId, MacAddr, Mib, NetworkInterfaceId, NodeId,
    ReservationId, StateReason, SubnetId, Timestamp, VpcId, Zone, instance::ShortId,
    network::NetworkDocument,
};

use crate::{
    caches::{CacheReport, CachesAsk, NodeEvict, NodeWarm},
    error::CallError,
    feed::{Changes, Poll},
    peer::Role,
    rpc::rpc,
    timeline::Moment,
};

/// What an instance is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Made ready and running.
    Running,
    /// Stopped, its disks wiped, forgotten.
    Terminated,
}

/// Everything there is to know about an instance that is to be. Said whole, each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceWish {
    /// Which instance.
    pub instance: InstanceId,
    /// Grows with every change of the wish.
    pub generation: u64,
    /// Where it is placed.
    pub node: NodeId,
    /// Grows with every placement: a node refuses a start of an older one.
    pub epoch: u64,
    /// What it is to be.
    pub wanted: Wanted,
    /// How many reboots have been asked for in its life.
    #[serde(default)]
    pub reboots: u32,
    /// A bundle to be made of its root disk, until its end is known above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleWish>,
    /// What it is made of.
    pub spec: InstanceSpec,
}

/// A bundle to be made of an instance's root disk: the guest is shut down, its disk bundled and
/// stored, the guest started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleWish {
    /// Which task. A node does each once.
    pub task: BundleId,
    /// Whether it is to be given up.
    #[serde(default)]
    pub cancelled: bool,
}

/// What an instance is made of; fixed for its life, but for what the metadata shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Whose it is.
    pub account: AccountId,
    /// Its reservation.
    pub reservation: ReservationId,
    /// The instance type's name.
    pub vm_type: String,
    /// Its shape.
    pub shape: Shape,
    /// The root disk.
    pub image: ImageRef,
    /// The kernel, where it does not boot from its own disk.
    #[serde(default)]
    pub kernel: Option<ImageRef>,
    /// The ramdisk that goes with the kernel.
    #[serde(default)]
    pub ramdisk: Option<ImageRef>,
    /// Its interface.
    pub interface: InterfaceSpec,
    /// The version of the network document without which it must not start.
    pub network_version: u64,
    /// What the metadata service shows.
    pub metadata: Metadata,
}

/// What an instance takes from a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: Mib,
    /// All local disk in GiB.
    pub disk_gib: Gib,
}

/// An image, by what makes its content unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The image.
    pub id: ImageId,
    /// SHA-256 of its manifest, in hex.
    pub manifest_sha256: String,
    /// The size of the plain image in bytes.
    pub size_bytes: u64,
}

/// The interface as the domain needs it; its rules are in the network document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSpec {
    /// Which interface.
    pub id: NetworkInterfaceId,
    /// Names its tap.
    pub short: ShortId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Names the VPC's namespace.
    pub vpc_short: ShortId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Names the subnet's bridge.
    pub subnet_short: ShortId,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its private address.
    pub private_address: Ipv4Addr,
    /// Its public address, if it has one.
    #[serde(default)]
    pub public_address: Option<Ipv4Addr>,
}

/// What the metadata service shows of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The region's name.
    pub region: String,
    /// The zone.
    pub zone: Zone,
    /// Where the image came from, `bucket/image.manifest.xml`.
    pub ami_manifest_path: String,
    /// Its number within the reservation.
    pub launch_index: u32,
    /// The private name, with its domain.
    pub private_dns_name: String,
    /// The public name, or nothing.
    #[serde(default)]
    pub public_dns_name: String,
    /// The key pair: its name and its public half in OpenSSH's form.
    #[serde(default)]
    pub key: Option<(String, String)>,
    /// The names of its security groups.
    pub security_groups: Vec<String>,
    /// The ids of its security groups, in the same order.
    pub security_group_ids: Vec<String>,
    /// Of the subnet.
    pub subnet_cidr: String,
    /// Of the VPC.
    pub vpc_cidr: String,
    /// User data in base64, at most 16 KiB of bytes.
    #[serde(default)]
    pub user_data: Option<String>,
    /// Whether a token is required (IMDSv2 only).
    #[serde(default)]
    pub tokens_required: bool,
    /// Tags, shown only where the launch asked for it.
    #[serde(default)]
    pub tags: Vec<(String, String)>,
    /// When it was launched, by the CLC's clock.
    pub launched_at: Timestamp,
}

/// What a node's instance is seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// On its way up; `stage` and `percent` say how far.
    Pending,
    /// The domain runs.
    Running,
    /// On its way down.
    ShuttingDown,
    /// Gone, and nothing of it is left on the node.
    Terminated,
}

/// What a node says of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Which instance.
    pub instance: InstanceId,
    /// The node that says it.
    pub node: NodeId,
    /// The placement that it speaks of.
    pub epoch: u64,
    /// The generation of the wish that it has acted on.
    pub generation: u64,
    /// What it sees.
    pub seen: Seen,
    /// What it is doing: `waiting for the image`, `waiting for network version 7`, ...
    #[serde(default)]
    pub stage: String,
    /// How far, where that is known.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Why it is down, if it went down unasked or could not be made.
    #[serde(default)]
    pub reason: Option<StateReason>,
    /// Why it is of no use though it has come to run: it stands still since the host's disk is full,
    /// or cannot be started again after a reboot of its host. None while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impaired: Option<StateReason>,
    /// How many of the asked-for reboots were done.
    #[serde(default)]
    pub reboots: u32,
    /// The bundle that is being made of it, or was made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleReport>,
    /// What happened so far.
    #[serde(default)]
    pub timeline: Vec<Moment>,
}

/// How far a bundle of an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleReport {
    /// Which task.
    pub task: BundleId,
    /// What is seen of it.
    pub seen: BundleSeen,
    /// How much of the disk has been bundled.
    #[serde(default)]
    pub percent: u8,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<StateReason>,
}

/// What a node sees of a bundle that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BundleSeen {
    /// The guest is being shut down.
    WaitingForShutdown,
    /// Parts are being made, and stored as they are made.
    Bundling,
    /// All parts are made; the last of them and the manifest are being stored.
    Storing,
    /// The manifest is stored.
    Complete,
    /// It ended without a bundle.
    Failed,
    /// It was given up as asked.
    Cancelled,
}

impl InstanceReport {
    /// Of an instance of which no more is known than this.
    pub fn new(
        instance: InstanceId,
        node: NodeId,
        epoch: u64,
        generation: u64,
        seen: Seen,
    ) -> Self {
        Self {
            instance,
            node,
            epoch,
            generation,
            seen,
            stage: String::new(),
            percent: None,
            reason: None,
            impaired: None,
            reboots: 0,
            bundle: None,
            timeline: Vec::new(),
        }
    }

    /// What it is doing and how far, for people: `fetching emi-…, 87 MB/s, 42 %`.
    pub fn progress(&self) -> String {
        match self.percent {
            Some(percent) => format!("{}, {percent} %", self.stage),
            None => self.stage.clone(),
        }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Which node.
    pub node: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its address for vxlan.
    pub underlay: Ipv4Addr,
    /// What it may give to instances in all.
    pub capacity: Shape,
    /// What instances have of it.
    pub used: Shape,
    /// `kvm` or `tcg`, and the versions of libvirt and QEMU.
    pub hypervisor: String,
    /// The newest network document that it has gone through. All of it is in place but what
    /// `network_failures` names.
    pub network_version: u64,
    /// What is not as that document, or a newer one, says. It keeps only its own guests from starting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_failures: Vec<NetworkFailure>,
    /// Why it cannot take instances now, if so.
    #[serde(default)]
    pub not_ready: Option<String>,
}

/// A part of the network that could not be made so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFailure {
    /// Which VPC; none is what all VPCs of the node stand on.
    #[serde(default)]
    pub vpc: Option<VpcId>,
    /// Why.
    pub why: String,
}

/// One thing that changed on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeChange {
    /// An instance.
    Instance(Box<InstanceReport>),
    /// The node itself.
    Node(NodeReport),
}

/// The answer to a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The generation that is now wanted there; newer than the wish's if the wish was late.
    pub generation: u64,
}

/// The answer to a network document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkTaken {
    /// The newest version that was received. The version applied is in [`NodeReport`].
    pub version: u64,
}

/// Asks for the console of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleRead {
    /// Which instance.
    pub instance: InstanceId,
    /// From which byte on; none is the last 64 KiB.
    #[serde(default)]
    pub from: Option<u64>,
    /// How long to wait for a byte.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What the console said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleText {
    /// The offset of the first byte.
    pub from: u64,
    /// The bytes, in base64.
    pub output: String,
    /// When the log last grew, by the node's clock; for people only.
    pub updated_at: Timestamp,
}

/// Types into the console of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleWrite {
    /// Which instance.
    pub instance: InstanceId,
    /// The bytes, in base64; 4 KiB at most.
    pub input: String,
}

/// Nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

rpc! {
    /// A Node Controller. Only its own cluster's CC may call it.
    trait Node serves Role::Nc {
        /// Says what an instance is to be.
        instance(InstanceWish) -> Taken, by [Role::Cc];
        /// Says what the network is to be.
        network(NetworkDocument) -> NetworkTaken, by [Role::Cc];
        /// What changed since.
        changes(Poll) -> Changes<NodeChange>, by [Role::Cc];
        /// Reads a console.
        console_read(ConsoleRead) -> ConsoleText, by [Role::Cc];
        /// Types into a console.
        console_write(ConsoleWrite) -> Done, by [Role::Cc];
        /// What its image cache has. Names no node.
        cache(CachesAsk) -> CacheReport, by [Role::Cc];
        /// Fetches an image into the cache, on the side; the report says how far it is.
        cache_warm(NodeWarm) -> CacheReport, by [Role::Cc];
        /// Removes what nothing uses of an image. `Conflict` if something does.
        cache_evict(NodeEvict) -> CacheReport, by [Role::Cc];
    }
}
