//! What there is, as `ip -j` and `bridge -j` print it. Fields that we do not compare are not read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Deserialize;
use types::MacAddr;

/// The node's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Forwarding entries of bridges and vxlan devices.
    pub forwarding: Vec<Forwarding>,
}

/// A link of the node's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// Its name.
    pub ifname: String,
    /// `UP` among others.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The group, a number or `default`.
    #[serde(default)]
    pub group: String,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// What kind it is.
    #[serde(default)]
    pub linkinfo: LinkKind,
}

/// A link's kind and, of a kind's attributes, those that we set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LinkKind {
    /// `bridge`, `vxlan`, `veth`.
    #[serde(default)]
    pub info_kind: String,
    /// The attributes.
    #[serde(default)]
    pub info_data: KindAttributes,
    /// What it is as a port of a bridge.
    #[serde(default)]
    pub info_slave_data: PortAttributes,
}

/// Attributes of a bridge's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PortAttributes {
    /// `forwarding`, once it is in service.
    pub state: Option<String>,
}

/// Attributes of bridges and vxlan devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct KindAttributes {
    /// Of a vxlan device.
    pub id: Option<u32>,
    /// Of a vxlan device.
    pub local: Option<Ipv4Addr>,
    /// Of a bridge.
    pub nf_call_iptables: Option<u8>,
}

impl Link {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }

    /// Whether it is a bridge's port, and in service.
    pub fn is_forwarding(&self) -> bool {
        self.linkinfo.info_slave_data.state.as_deref() == Some("forwarding")
    }
}

/// A forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Forwarding {
    /// The Ethernet address.
    pub mac: MacAddr,
    /// The device or port.
    pub ifname: String,
    /// The bridge, where it is one's entry.
    pub master: Option<String>,
    /// The peer, where it is a vxlan device's entry.
    pub dst: Option<Ipv4Addr>,
    /// `self`, `sticky`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// `permanent`, `static`, or a learned one's.
    #[serde(default)]
    pub state: String,
}

/// A VPC's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VpcState {
    /// Devices by name.
    pub devices: BTreeMap<String, Device>,
    /// Routes that the kernel did not make by itself.
    pub routes: Vec<Route>,
    /// Permanent neighbours by device.
    pub neighbours: BTreeMap<String, BTreeMap<Ipv4Addr, MacAddr>>,
}

/// A device of a VPC's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Whether it is up.
    pub up: bool,
    /// Its Ethernet address; `lo` has none worth the name.
    pub mac: Option<MacAddr>,
    /// Its IPv4 addresses.
    pub addresses: BTreeSet<Ipv4Net>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// `unreachable`; none for a plain one.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A network, an address or `default`.
    pub dst: String,
    /// The next router.
    pub gateway: Option<Ipv4Addr>,
    /// The device.
    pub dev: Option<String>,
    /// Who made it.
    pub protocol: Option<String>,
}

#[derive(Deserialize)]
struct AddressLink {
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    address: Option<String>,
    #[serde(default)]
    addr_info: Vec<AddressInfo>,
}

#[derive(Deserialize)]
struct AddressInfo {
    family: String,
    local: Option<String>,
    prefixlen: u8,
}

#[derive(Deserialize)]
struct Neighbour {
    dst: String,
    dev: String,
    lladdr: Option<MacAddr>,
}

/// Reads `ip -j -d link` and `bridge -j fdb`.
pub fn node_state(links: &str, forwarding: &str) -> serde_json::Result<NodeState> {
    let links: Vec<Link> = parse(links)?;
    Ok(NodeState {
        links: links
            .into_iter()
            .map(|link| (link.ifname.clone(), link))
            .collect(),
        // Entries of peers by IPv6 and of other oddities are not ours.
        forwarding: parse::<serde_json::Value>(forwarding)?
            .into_iter()
            .filter_map(|entry| serde_json::from_value(entry).ok())
            .collect(),
    })
}

/// Reads `ip -j addr`, `ip -j route` and `ip -j neigh show nud permanent` of a VPC's namespace.
pub fn vpc_state(addresses: &str, routes: &str, neighbours: &str) -> serde_json::Result<VpcState> {
    let links: Vec<AddressLink> = parse(addresses)?;
    let routes: Vec<Route> = parse(routes)?;
    let mut state = VpcState {
        devices: links.into_iter().map(device).collect(),
        routes: routes
            .into_iter()
            .filter(|r| r.protocol.as_deref() != Some("kernel"))
            .collect(),
        neighbours: BTreeMap::new(),
    };
    for neighbour in parse::<Neighbour>(neighbours)? {
        if let (Ok(address), Some(mac)) = (neighbour.dst.parse(), neighbour.lladdr) {
            state
                .neighbours
                .entry(neighbour.dev)
                .or_default()
                .insert(address, mac);
        }
    }
    Ok(state)
}

fn device(link: AddressLink) -> (String, Device) {
    let addresses = link.addr_info.iter().filter(|info| info.family == "inet");
    let addresses = addresses
        .filter_map(|info| Ipv4Net::new(info.local.as_ref()?.parse().ok()?, info.prefixlen).ok());
    let device = Device {
        up: link.flags.iter().any(|flag| flag == "UP"),
        mac: link.address.and_then(|text| text.parse().ok()),
        addresses: addresses.collect(),
    };
    (link.ifname, device)
}

/// `ip -j` prints nothing at all, now and then, where it means an empty list.
fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> serde_json::Result<Vec<T>> {
    if text.trim().is_empty() {
        Ok(Vec::new())
    } else {
        serde_json::from_str(text)
    }
}
