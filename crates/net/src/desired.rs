//! The desired state of a node's network, as data. What it does not name is to be gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use types::{MacAddr, VpcId};

use crate::check::Problem;

/// All that this node's network is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The version of the document that it was compiled from.
    pub version: u64,
    /// The ruleset of the node's own namespace; none removes ours from it.
    pub rules: Option<String>,
    /// The VPCs that have a guest on this node.
    pub vpcs: Vec<VpcNetwork>,
    /// What the document says that cannot be; it was left out.
    pub problems: Vec<Problem>,
}

/// One VPC on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcNetwork {
    /// Which VPC.
    pub vpc: VpcId,
    /// The name of its namespace.
    pub namespace: String,
    /// Its address space: what has no subnet in it is unreachable, and never sent outward.
    pub cidr: Ipv4Net,
    /// Addresses of its services (metadata, resolver), on `lo`.
    pub services: BTreeSet<Ipv4Addr>,
    /// Its subnets.
    pub segments: Vec<Segment>,
    /// Its way outward.
    pub uplink: Option<Uplink>,
    /// The ruleset of its namespace.
    pub rules: String,
    /// The files of its dnsmasq.
    pub dhcp: DhcpFiles,
}

/// One subnet on this node: a bridge, its vxlan, and the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The bridge, in the node's namespace.
    pub bridge: String,
    /// The vxlan device, a port of the bridge.
    pub vxlan: String,
    /// The vxlan network identifier.
    pub vni: u32,
    /// This node's vxlan address.
    pub local: Ipv4Addr,
    /// The nodes that frames for unknown addresses go to.
    pub flood: BTreeSet<Ipv4Addr>,
    /// The bridge's port towards the VPC's namespace.
    pub router_port: String,
    /// The other end of it, inside.
    pub gateway_device: String,
    /// The gateway's Ethernet address.
    pub gateway_mac: MacAddr,
    /// The gateway's address and the subnet's prefix.
    pub gateway: Ipv4Net,
    /// The subnet's guests on other nodes: the gateway cannot ask for them by ARP, since the answer
    /// would end at their own node's gateway, which has the same address.
    pub neighbours: BTreeMap<Ipv4Addr, MacAddr>,
}

/// The public side of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The port on the public bridge.
    pub port: String,
    /// The public bridge.
    pub bridge: String,
    /// The public addresses of guests on this node; the namespace answers ARP for them.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// What is reached without a router.
    pub on_link: Ipv4Net,
    /// The router to all else.
    pub router: Option<Ipv4Addr>,
}

/// The texts of dnsmasq's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DhcpFiles {
    /// `dnsmasq.conf`; a change restarts it.
    pub config: String,
    /// The DHCP hosts, a line per guest on this node; a change is a SIGHUP.
    pub hosts: String,
    /// The names, a line per guest of the VPC; a change is a SIGHUP.
    pub names: String,
}
