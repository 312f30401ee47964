//! The ruleset of the node's namespace: who may send what from a tap, what a bridge lets through to
//! the node itself (nothing) and to peers (no gateway ARP, no DHCP), and the security groups.
//!
//! Two tables, and that of [`super::count`]. `bridge` sees frames and comes first. `ip` sees the same packets again on the bridged
//! path, with connections, because each of our bridges has `nf_call_iptables` on; there a packet's
//! input and output interface are both the bridge.

use std::collections::BTreeSet;

use types::{
    NodeId,
    network::{Interface, NetworkDocument, Subnet, Vpc},
};

use super::{
    Table, count,
    group::{self, Direction},
    transaction,
};
use crate::{
    check,
    config::NodeNetwork,
    names::{self, METADATA, RESOLVER, ROUTER_PORT, TAP, VXLAN},
};

/// Where vxlan is received.
pub const VXLAN_PORT: u16 = 4789;

/// The whole ruleset.
pub(crate) fn ruleset(document: &NetworkDocument, here: &[&Vpc], node: &NodeNetwork) -> String {
    let mut frames = Table::new("bridge");
    guard_taps(&mut frames, here, &node.node);
    guard_node(&mut frames);
    guard_peers(&mut frames, here);

    let mut packets = Table::new("ip");
    track(&mut packets, here);
    for vpc in here {
        groups(&mut packets, vpc, &node.node);
    }
    judge(&mut packets, here, &node.node);
    guard_vxlan(&mut packets, document);
    let guests: Vec<String> = here
        .iter()
        .flat_map(|vpc| guests(vpc, &node.node))
        .map(|(guest, subnet)| key(guest, subnet))
        .collect();
    let counted = count::text(&guests, node.connections_max);
    transaction(&[frames, packets], &counted)
}

/// How a guest is known where packets are judged: tenants may use the same addresses.
fn key(guest: &Interface, subnet: &Subnet) -> String {
    format!("\"{}\" . {}", subnet.bridge(), guest.private_address)
}

/// A VPC's guests on this node, with their subnets.
fn guests<'a>(vpc: &'a Vpc, node: &'a NodeId) -> impl Iterator<Item = (&'a Interface, &'a Subnet)> {
    vpc.interfaces
        .iter()
        .filter(move |interface| interface.node == *node)
        .filter_map(|interface| {
            let subnet = vpc
                .subnets
                .iter()
                .find(|subnet| subnet.id == interface.subnet)?;
            Some((interface, subnet))
        })
}

/// Anti-spoofing, before all else. A tap that the document does not name sends and gets nothing.
fn guard_taps(table: &mut Table, here: &[&Vpc], node: &NodeId) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (guest, _) in here.iter().flat_map(|vpc| guests(vpc, node)) {
        let (tap, short) = (guest.tap(), guest.short.0);
        table.chain(format_args!("from_{short:x}"), "", &from_tap(guest));
        table.chain(format_args!("to_{short:x}"), "", &to_tap(guest));
        from.push(format!("\"{tap}\" : goto from_{short:x}"));
        to.push(format!("\"{tap}\" : goto to_{short:x}"));
    }
    table.elements("map from_taps", "type ifname : verdict", &from);
    table.elements("map to_taps", "type ifname : verdict", &to);
    table.chain(
        "guard_from",
        "type filter hook prerouting priority -300; policy accept",
        &[
            "iifname vmap @from_taps".to_owned(),
            format!("iifname \"{TAP}*\" drop"),
        ],
    );
    table.chain(
        "guard_to",
        "type filter hook forward priority -300; policy accept",
        &[
            "oifname vmap @to_taps".to_owned(),
            format!("oifname \"{TAP}*\" drop"),
        ],
    );
}

/// What a guest may send: its own addresses, no DHCP answers, nothing to everybody. RARP with its
/// own address is how QEMU announces a guest that has moved.
fn from_tap(guest: &Interface) -> Vec<String> {
    let (mac, address) = (guest.mac, guest.private_address);
    let mac_hex: String = mac.0.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        format!("ether saddr != {mac} drop"),
        format!("ether type arp arp saddr ether != {mac} drop"),
        format!("ether type arp arp saddr ip != {{ 0.0.0.0, {address} }} drop"),
        "ether type arp accept".to_owned(),
        // Reverse request (3), sender and target hardware address.
        format!(
            "ether type 0x8035 @nh,48,16 3 @nh,64,48 0x{mac_hex} @nh,144,48 0x{mac_hex} accept"
        ),
        "ether type != ip drop".to_owned(),
        "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept".to_owned(),
        format!("ip saddr != {address} drop"),
        "udp sport 67 drop".to_owned(),
        "ip daddr { 224.0.0.0/4, 255.255.255.255 } drop".to_owned(),
        "accept".to_owned(),
    ]
}

/// What a guest may get: only its own packets, so that none passes its groups under another
/// address.
fn to_tap(guest: &Interface) -> Vec<String> {
    vec![
        "ether type arp accept".to_owned(),
        format!("ether type ip ip daddr {} accept", guest.private_address),
        "ether type ip ip daddr 255.255.255.255 udp sport 67 udp dport 68 accept".to_owned(),
        "drop".to_owned(),
    ]
}

/// Nothing on a subnet's bridge is for the node: not its addresses, not its ARP.
fn guard_node(table: &mut Table) {
    let drops = [TAP, VXLAN, ROUTER_PORT].map(|port| format!("iifname \"{port}*\" drop"));
    table.chain(
        "guard_node",
        "type filter hook input priority -300; policy accept",
        &drops,
    );
}

/// Each node has its own gateway, metadata and DHCP: what concerns them stays on the node.
fn guard_peers(table: &mut Table, here: &[&Vpc]) {
    let mut local = Vec::new();
    for vpc in here {
        for subnet in &vpc.subnets {
            let port = subnet.short.name(VXLAN);
            local.push(format!("\"{port}\" . {}", subnet.gateway));
            local.push(format!("\"{port}\" . {}", vpc.dns));
        }
    }
    local.sort();
    local.dedup();
    table.elements("set local_arp", "type ifname . ipv4_addr", &local);
    let services = format!("{{ {METADATA}, {RESOLVER} }}");
    let arp = |way: &str| {
        ["saddr", "daddr"].map(|end| {
            [
                format!("ether type arp {way} . arp {end} ip @local_arp drop"),
                format!("{way} \"{VXLAN}*\" arp {end} ip {services} drop"),
            ]
        })
    };
    let dhcp = |way: &str| format!("{way} \"{VXLAN}*\" ether type ip udp dport {{ 67, 68 }} drop");
    let mut rules: Vec<String> = [arp("oifname"), arp("iifname")]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    rules.extend([dhcp("oifname"), dhcp("iifname")]);
    table.chain(
        "guard_peers",
        "type filter hook forward priority -290; policy accept",
        &rules,
    );
}

/// A conntrack zone per subnet: tenants may use the same addresses. vxlan itself is not tracked.
fn track(table: &mut Table, here: &[&Vpc]) {
    let zones: Vec<String> = here
        .iter()
        .flat_map(|vpc| &vpc.subnets)
        .map(|subnet| format!("\"{}\" : {}", subnet.bridge(), check::zone(subnet)))
        .collect();
    let mut rules = vec![format!("udp dport {VXLAN_PORT} notrack")];
    if !zones.is_empty() {
        rules.push(format!(
            "ct zone set iifname map {{ {} }}",
            zones.join(", ")
        ));
    }
    table.chain(
        "track",
        "type filter hook prerouting priority raw; policy accept",
        &rules,
    );
    table.chain(
        "track_out",
        "type filter hook output priority raw; policy accept",
        &rules[..1],
    );
}

/// The members of each group that a rule names, and the rules of each group that a guest has.
fn groups(table: &mut Table, vpc: &Vpc, node: &NodeId) {
    let worn: BTreeSet<_> = guests(vpc, node)
        .flat_map(|(guest, _)| &guest.groups)
        .collect();
    let worn: Vec<_> = vpc
        .groups
        .iter()
        .filter(|group| worn.contains(&group.id))
        .collect();
    let named: BTreeSet<_> = worn
        .iter()
        .flat_map(|group| group::named_groups(group))
        .collect();

    for group in vpc.groups.iter().filter(|group| named.contains(&group.id)) {
        let members: BTreeSet<_> = group.members.iter().collect();
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        let set = format!("set {}", group::set_name(vpc.short, group.short));
        table.elements(&set, "type ipv4_addr", &members);
    }
    for group in worn {
        for direction in [Direction::Ingress, Direction::Egress] {
            let name = group::chain_name(vpc.short, group.short, direction);
            table.chain(name, "", &group::lines(vpc, group, direction));
        }
    }
}

/// The verdict on packets of this node's guests: out of the one, then into the other. Two base
/// chains, since a packet between two guests of one node needs both to agree.
fn judge(table: &mut Table, here: &[&Vpc], node: &NodeId) {
    let (mut out, mut into) = (Vec::new(), Vec::new());
    for vpc in here {
        for (guest, subnet) in guests(vpc, node) {
            let key = key(guest, subnet);
            let short = guest.short.0;
            table.chain(format_args!("out_{short:x}"), "", &out_of(vpc, guest));
            table.chain(
                format_args!("into_{short:x}"),
                "",
                &into_guest(vpc, guest, subnet),
            );
            out.push(format!("{key} : jump out_{short:x}"));
            into.push(format!("{key} : jump into_{short:x}"));
        }
    }
    let bridges: Vec<String> = here
        .iter()
        .flat_map(|vpc| &vpc.subnets)
        .map(|subnet| format!("\"{}\"", subnet.bridge()))
        .collect();
    table.elements("set bridges", "type ifname", &bridges);
    table.elements("map out_of", "type ifname . ipv4_addr : verdict", &out);
    table.elements("map into", "type ifname . ipv4_addr : verdict", &into);
    let established = "iifname @bridges ct state established,related accept".to_owned();
    table.chain(
        "judge_out",
        "type filter hook forward priority filter; policy accept",
        &[
            established.clone(),
            "iifname . ip saddr vmap @out_of".to_owned(),
        ],
    );
    table.chain(
        "judge_into",
        "type filter hook forward priority filter + 1; policy accept",
        &[established, "oifname . ip daddr vmap @into".to_owned()],
    );
}

/// DHCP, DNS and metadata are the cloud's own, and no group closes them.
fn out_of(vpc: &Vpc, guest: &Interface) -> Vec<String> {
    let mut rules = vec![
        "udp sport 68 udp dport 67 accept".to_owned(),
        format!("ip daddr {METADATA} tcp dport 80 accept"),
        format!(
            "ip daddr {{ {RESOLVER}, {} }} meta l4proto {{ tcp, udp }} th dport 53 accept",
            vpc.dns
        ),
    ];
    rules.extend(group_jumps(vpc, guest, Direction::Egress));
    rules.push("drop".to_owned());
    rules
}

fn into_guest(vpc: &Vpc, guest: &Interface, subnet: &Subnet) -> Vec<String> {
    let mut rules = vec![format!(
        "ip saddr {} udp sport 67 udp dport 68 accept",
        subnet.gateway
    )];
    rules.extend(group_jumps(vpc, guest, Direction::Ingress));
    rules.push("drop".to_owned());
    rules
}

fn group_jumps(vpc: &Vpc, guest: &Interface, direction: Direction) -> Vec<String> {
    let worn = vpc
        .groups
        .iter()
        .filter(|group| guest.groups.contains(&group.id));
    worn.map(|group| {
        format!(
            "jump {}",
            group::chain_name(vpc.short, group.short, direction)
        )
    })
    .collect()
}

/// Only peers may put frames into a subnet.
fn guard_vxlan(table: &mut Table, document: &NetworkDocument) {
    let peers: BTreeSet<_> = document.peers.iter().map(|peer| peer.underlay).collect();
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    table.elements("set peers", "type ipv4_addr", &peers);
    let stranger = format!("udp dport {VXLAN_PORT} ip saddr != @peers drop");
    table.chain(
        "guard_vxlan",
        "type filter hook input priority filter; policy accept",
        &[stranger],
    );
}

const _: () = assert!(
    names::TAP.len() + 8 <= 15,
    "a tap's name fits into 15 bytes"
);
