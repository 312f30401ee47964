//! The difference between what is and what is to be, as lines for `ip -batch` and `bridge -batch`.
//! Pure; and empty where there is nothing to do, so that a second application does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use types::{MacAddr, network::GUEST_MTU};

use crate::{
    actual::{Device, Forwarding, Link, NodeState, Route, VpcState},
    desired::{Desired, Segment, Uplink, VpcNetwork},
    names::{LINK_GROUP, UPLINK},
    rules::node::VXLAN_PORT,
};

/// The metric of what is to be tried last: a subnet may be all of its VPC, and its route is another.
const LAST: u32 = 9999;
/// The address that stands for all unknown ones in a vxlan device's table.
const UNKNOWN: MacAddr = MacAddr([0; 6]);

/// Links of ours in the node's namespace that are to go.
pub fn stale_links(desired: &Desired, actual: &NodeState) -> Vec<String> {
    let wanted: BTreeSet<&str> = all_links(desired).collect();
    let ours = actual
        .links
        .values()
        .filter(|link| link.group == LINK_GROUP);
    ours.filter(|link| !wanted.contains(link.ifname.as_str()))
        .map(|link| format!("link del dev {}", link.ifname))
        .collect()
}

fn link_names(vpc: &VpcNetwork) -> impl Iterator<Item = &str> {
    let segments = vpc.segments.iter();
    let links =
        segments.flat_map(|s| [s.bridge.as_str(), s.vxlan.as_str(), s.router_port.as_str()]);
    links.chain(vpc.uplink.iter().map(|uplink| uplink.port.as_str()))
}

/// All links of ours in the node's namespace.
pub fn all_links(desired: &Desired) -> impl Iterator<Item = &str> {
    desired.vpcs.iter().flat_map(link_names)
}

/// For `ip`, in the node's namespace: bridges, vxlan devices and the veths into the VPC.
pub fn links(vpc: &VpcNetwork, node: &NodeState, inside: &VpcState) -> Vec<String> {
    let mut lines = Vec::new();
    for segment in &vpc.segments {
        bridge(&mut lines, segment, node.links.get(&segment.bridge));
        vxlan(&mut lines, segment, node.links.get(&segment.vxlan));
        let port = Port {
            name: &segment.router_port,
            bridge: &segment.bridge,
            peer: format!(
                "{} address {} mtu {GUEST_MTU}",
                segment.gateway_device, segment.gateway_mac
            ),
            mtu: format!(" mtu {GUEST_MTU}"),
            whole: inside
                .devices
                .get(&segment.gateway_device)
                .and_then(|device| device.mac)
                == Some(segment.gateway_mac),
        };
        port.lines(
            &mut lines,
            &vpc.namespace,
            node.links.get(&segment.router_port),
        );
    }
    if let Some(uplink) = &vpc.uplink {
        let port = Port {
            name: &uplink.port,
            bridge: &uplink.bridge,
            peer: UPLINK.to_owned(),
            mtu: String::new(),
            whole: inside.devices.contains_key(UPLINK),
        };
        port.lines(&mut lines, &vpc.namespace, node.links.get(&uplink.port));
    }
    lines
}

fn bridge(lines: &mut Vec<String>, segment: &Segment, found: Option<&Link>) {
    let name = &segment.bridge;
    let found = keep_if(lines, found, |link| link.linkinfo.info_kind == "bridge");
    match found {
        None => {
            lines.push(format!(
                "link add name {name} group {LINK_GROUP} mtu {GUEST_MTU} \
                 type bridge nf_call_iptables 1 mcast_snooping 0 forward_delay 0"
            ));
            quiet(lines, name);
        }
        Some(link) if link.linkinfo.info_data.nf_call_iptables != Some(1) => {
            lines.push(format!(
                "link set dev {name} type bridge nf_call_iptables 1"
            ));
        }
        Some(_) => {}
    }
    raise(lines, name, found);
}

fn vxlan(lines: &mut Vec<String>, segment: &Segment, found: Option<&Link>) {
    let (name, vni, local) = (&segment.vxlan, segment.vni, segment.local);
    let found = keep_if(lines, found, |link| {
        let data = &link.linkinfo.info_data;
        link.linkinfo.info_kind == "vxlan" && data.id == Some(vni) && data.local == Some(local)
    });
    if found.is_none() {
        lines.push(format!(
            "link add name {name} group {LINK_GROUP} mtu {GUEST_MTU} \
             type vxlan id {vni} local {local} dstport {VXLAN_PORT} ttl 16"
        ));
        quiet(lines, name);
    }
    enslave(lines, name, &segment.bridge, found);
    raise(lines, name, found);
}

/// A veth whose one end is a port of a bridge and whose other end is in the VPC.
struct Port<'a> {
    name: &'a str,
    bridge: &'a str,
    peer: String,
    mtu: String,
    whole: bool,
}

impl Port<'_> {
    fn lines(self, lines: &mut Vec<String>, namespace: &str, found: Option<&Link>) {
        let Self {
            name,
            bridge,
            peer,
            mtu,
            whole,
        } = self;
        let found = keep_if(lines, found, |link| {
            link.linkinfo.info_kind == "veth" && whole
        });
        if found.is_none() {
            lines.push(format!(
                "link add name {name} group {LINK_GROUP}{mtu} \
                 type veth peer name {peer} netns {namespace}"
            ));
            quiet(lines, name);
        }
        enslave(lines, name, bridge, found);
        raise(lines, name, found);
    }
}

/// A link that is not what it should be is removed, and is then not there.
fn keep_if<'a>(
    lines: &mut Vec<String>,
    found: Option<&'a Link>,
    right: impl Fn(&Link) -> bool,
) -> Option<&'a Link> {
    let link = found?;
    if right(link) {
        return Some(link);
    }
    lines.push(format!("link del dev {}", link.ifname));
    None
}

/// No IPv6 address of its own, so that the node's stack never speaks on a tenant's segment.
fn quiet(lines: &mut Vec<String>, name: &str) {
    lines.push(format!("link set dev {name} addrgenmode none"));
}

fn enslave(lines: &mut Vec<String>, name: &str, bridge: &str, found: Option<&Link>) {
    if found.and_then(|link| link.master.as_deref()) != Some(bridge) {
        lines.push(format!("link set dev {name} master {bridge}"));
    }
}

fn raise(lines: &mut Vec<String>, name: &str, found: Option<&Link>) {
    if !found.is_some_and(Link::is_up) {
        lines.push(format!("link set dev {name} up"));
    }
}

/// For `bridge`, in the node's namespace: where the gateway is (here, whoever else claims its
/// address: peers' gateways have the same) and which peers get what is for unknown addresses.
pub fn forwarding(vpc: &VpcNetwork, node: &NodeState) -> Vec<String> {
    let mut lines = Vec::new();
    for segment in &vpc.segments {
        let (port, mac) = (&segment.router_port, segment.gateway_mac);
        if !node
            .forwarding
            .iter()
            .any(|entry| is_gateway(entry, segment))
        {
            lines.push(format!("fdb replace {mac} dev {port} master static sticky"));
        }
        let flood: BTreeSet<Ipv4Addr> = node
            .forwarding
            .iter()
            .filter_map(|entry| flood_peer(entry, segment))
            .collect();
        let device = &segment.vxlan;
        for peer in segment.flood.difference(&flood) {
            lines.push(format!("fdb append {UNKNOWN} dev {device} dst {peer}"));
        }
        for peer in flood.difference(&segment.flood) {
            lines.push(format!("fdb del {UNKNOWN} dev {device} dst {peer}"));
        }
    }
    lines
}

fn is_gateway(entry: &Forwarding, segment: &Segment) -> bool {
    entry.ifname == segment.router_port
        && entry.mac == segment.gateway_mac
        && entry.master.as_ref() == Some(&segment.bridge)
        && entry.flags.iter().any(|flag| flag == "sticky")
}

fn flood_peer(entry: &Forwarding, segment: &Segment) -> Option<Ipv4Addr> {
    (entry.ifname == segment.vxlan && entry.mac == UNKNOWN).then_some(entry.dst)?
}

/// The forwarding entries that a complete application leaves.
pub fn forwarding_left_by(vpc: &VpcNetwork) -> Vec<Forwarding> {
    let entry = |mac, ifname: &str| Forwarding {
        mac,
        ifname: ifname.to_owned(),
        master: None,
        dst: None,
        flags: Vec::new(),
        state: String::new(),
    };
    let mut entries = Vec::new();
    for segment in &vpc.segments {
        entries.push(Forwarding {
            master: Some(segment.bridge.clone()),
            flags: vec!["sticky".to_owned()],
            ..entry(segment.gateway_mac, &segment.router_port)
        });
        entries.extend(segment.flood.iter().map(|peer| Forwarding {
            dst: Some(*peer),
            ..entry(UNKNOWN, &segment.vxlan)
        }));
    }
    entries
}

/// What a complete application leaves inside a VPC's namespace; Ethernet addresses that it does not
/// choose are not named.
pub fn left_by(vpc: &VpcNetwork) -> VpcState {
    let device = |mac, addresses: BTreeSet<Ipv4Net>| Device {
        up: true,
        mac,
        addresses,
    };
    let mut left = VpcState {
        routes: wanted_routes(vpc)
            .into_iter()
            .map(|(route, _)| route)
            .collect(),
        ..VpcState::default()
    };
    let devices = &mut left.devices;
    devices.insert("lo".to_owned(), device(None, hosts(&vpc.services)));
    if let Some(uplink) = &vpc.uplink {
        devices.insert(UPLINK.to_owned(), device(None, hosts(&uplink.addresses)));
    }
    for segment in &vpc.segments {
        let (name, gateway) = (&segment.gateway_device, BTreeSet::from([segment.gateway]));
        devices.insert(name.clone(), device(Some(segment.gateway_mac), gateway));
        left.neighbours
            .insert(name.clone(), segment.neighbours.clone());
    }
    left
}

fn hosts(addresses: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Net> {
    addresses
        .iter()
        .map(|address| Ipv4Net::from(*address))
        .collect()
}

/// What to do inside a VPC's namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// For `ip -n NAMESPACE`.
    pub lines: Vec<String>,
    /// Whether a public address is new here, so that its neighbours must be told.
    pub announce: bool,
}

/// For `ip`, inside: addresses, neighbours, routes.
pub fn inside(vpc: &VpcNetwork, state: &VpcState) -> Inside {
    let mut lines = Vec::new();
    let none = Device::default();
    let device = |name: &str| state.devices.get(name).unwrap_or(&none);

    addresses(&mut lines, "lo", &hosts(&vpc.services), device("lo"));
    for segment in &vpc.segments {
        let name = &segment.gateway_device;
        addresses(
            &mut lines,
            name,
            &BTreeSet::from([segment.gateway]),
            device(name),
        );
        neighbours(&mut lines, segment, state.neighbours.get(name));
    }
    let announce = vpc.uplink.as_ref().is_some_and(|uplink| {
        let wanted = hosts(&uplink.addresses);
        addresses(&mut lines, UPLINK, &wanted, device(UPLINK));
        wanted
            .difference(&device(UPLINK).addresses)
            .next()
            .is_some()
    });
    // The kernel forgets a device's routes with its last address, so they are said again after one.
    let lost_address = lines
        .iter()
        .any(|line| line.ends_with(" dev uplink") && line.starts_with("addr del"));
    routes(&mut lines, vpc, &state.routes, lost_address);
    Inside { lines, announce }
}

fn addresses(lines: &mut Vec<String>, name: &str, wanted: &BTreeSet<Ipv4Net>, found: &Device) {
    for address in wanted.difference(&found.addresses) {
        lines.push(format!("addr add {address} dev {name}"));
    }
    let ours = |address: &&Ipv4Net| !address.addr().is_loopback();
    for address in found.addresses.difference(wanted).filter(ours) {
        lines.push(format!("addr del {address} dev {name}"));
    }
    if !found.up {
        lines.push(format!("link set dev {name} up"));
    }
}

fn neighbours(
    lines: &mut Vec<String>,
    segment: &Segment,
    found: Option<&BTreeMap<Ipv4Addr, MacAddr>>,
) {
    let (none, name) = (BTreeMap::new(), &segment.gateway_device);
    let found = found.unwrap_or(&none);
    for (address, mac) in &segment.neighbours {
        if found.get(address) != Some(mac) {
            lines.push(format!(
                "neigh replace {address} lladdr {mac} dev {name} nud permanent"
            ));
        }
    }
    for address in found
        .keys()
        .filter(|address| !segment.neighbours.contains_key(address))
    {
        lines.push(format!("neigh del {address} dev {name}"));
    }
}

fn routes(lines: &mut Vec<String>, vpc: &VpcNetwork, found: &[Route], again: bool) {
    let wanted = wanted_routes(vpc);
    for route in found
        .iter()
        .filter(|route| !wanted.iter().any(|(w, _)| w == *route))
    {
        let kind = route.kind.as_deref().unwrap_or("unicast");
        lines.push(format!("route del {kind} {}", route.dst));
    }
    for (route, line) in &wanted {
        if again || !found.contains(route) {
            lines.push(format!("route replace {line}"));
        }
    }
}

/// Each wanted route as `ip -j` prints it and as `ip` reads it.
fn wanted_routes(vpc: &VpcNetwork) -> Vec<(Route, String)> {
    let within = vpc.cidr.trunc();
    let nowhere = Route {
        kind: Some("unreachable".to_owned()),
        dst: printed(within),
        gateway: None,
        dev: None,
        protocol: None,
    };
    let mut wanted = vec![(nowhere, format!("unreachable {within} metric {LAST}"))];
    if let Some(uplink) = &vpc.uplink {
        wanted.extend(outward_routes(uplink));
    }
    wanted
}

fn outward_routes(uplink: &Uplink) -> Vec<(Route, String)> {
    let route = |dst: String, gateway: Option<Ipv4Addr>| Route {
        kind: None,
        dst,
        gateway,
        dev: Some(UPLINK.to_owned()),
        protocol: None,
    };
    let near = uplink.on_link.trunc();
    let mut routes = vec![(
        route(printed(near), None),
        format!("{near} dev {UPLINK} scope link"),
    )];
    if let Some(router) = uplink.router {
        let line = format!("default via {router} dev {UPLINK} onlink");
        routes.push((route("default".to_owned(), Some(router)), line));
    }
    routes
}

/// `ip` prints a network of one address without its prefix.
fn printed(network: Ipv4Net) -> String {
    if network.prefix_len() == 32 {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}
