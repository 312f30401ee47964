//! Document and node → desired state. Pure: no clock, no host, and the same answer each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use types::{
    NodeId,
    network::{Interface, NetworkDocument, PublicNetwork, Subnet, Vpc},
};

use crate::{
    check,
    config::NodeNetwork,
    desired::{Desired, Segment, Uplink, VpcNetwork},
    dhcp, names, rules,
};

/// Compiles what this node's network is to be. Total: what cannot be is left out and listed.
pub fn compile(document: &NetworkDocument, node: &NodeNetwork) -> Desired {
    let (document, problems) = check::sound(document);
    let here: Vec<&Vpc> = document
        .vpcs
        .iter()
        .filter(|vpc| is_here(vpc, &node.node))
        .collect();
    Desired {
        version: document.version,
        rules: Some(rules::node::ruleset(&document, &here, node)),
        vpcs: here
            .iter()
            .map(|vpc| vpc_network(&document, vpc, node))
            .collect(),
        problems,
    }
}

fn is_here(vpc: &Vpc, node: &NodeId) -> bool {
    vpc.interfaces
        .iter()
        .any(|interface| interface.node == *node)
}

fn vpc_network(document: &NetworkDocument, vpc: &Vpc, node: &NodeNetwork) -> VpcNetwork {
    let uplink = uplink(document.public.as_ref(), vpc, node);
    let nat = if uplink.is_some() {
        translations(vpc, &node.node)
    } else {
        BTreeMap::new()
    };
    VpcNetwork {
        vpc: vpc.id.clone(),
        namespace: names::namespace(&node.namespace_prefix, vpc.short),
        cidr: vpc.cidr,
        services: BTreeSet::from([names::METADATA, names::RESOLVER, vpc.dns]),
        segments: vpc
            .subnets
            .iter()
            .map(|s| segment(document, vpc, s, node))
            .collect(),
        rules: rules::vpc::ruleset(vpc, &nat, document),
        uplink,
        dhcp: dhcp::files(vpc, node),
    }
}

fn segment(document: &NetworkDocument, vpc: &Vpc, subnet: &Subnet, node: &NodeNetwork) -> Segment {
    let guests = || vpc.interfaces.iter().filter(|i| i.subnet == subnet.id);
    let elsewhere: BTreeSet<&NodeId> = guests()
        .map(|i| &i.node)
        .filter(|n| **n != node.node)
        .collect();
    let peers = document
        .peers
        .iter()
        .filter(|peer| elsewhere.contains(&peer.node));
    Segment {
        bridge: subnet.bridge(),
        vxlan: subnet.short.name(names::VXLAN),
        vni: subnet.vni,
        local: node.underlay,
        flood: peers.map(|peer| peer.underlay).collect(),
        router_port: subnet.short.name(names::ROUTER_PORT),
        gateway_device: subnet.short.name(names::GATEWAY),
        gateway_mac: names::gateway_mac(subnet.vni),
        gateway: Ipv4Net::new_assert(subnet.gateway, subnet.cidr.prefix_len()),
        neighbours: guests()
            .filter(|i| i.node != node.node)
            .map(|i| (i.private_address, i.mac))
            .collect(),
    }
}

/// A way outward needs a public network, a bridge to it, and a route table that leads there.
fn uplink(public: Option<&PublicNetwork>, vpc: &Vpc, node: &NodeNetwork) -> Option<Uplink> {
    let public = public?;
    let bridge = node.public_bridge.clone()?;
    vpc.subnets
        .iter()
        .any(|subnet| subnet.internet)
        .then(|| Uplink {
            port: vpc.short.name(names::UPLINK_PORT),
            bridge,
            addresses: translations(vpc, &node.node).into_values().collect(),
            on_link: public.cidr,
            router: public.gateway,
        })
}

/// Private → public, of this node's guests whose subnet's route table leads to a gateway.
fn translations(vpc: &Vpc, node: &NodeId) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
    let internet = |interface: &Interface| {
        vpc.subnets
            .iter()
            .any(|subnet| subnet.internet && subnet.id == interface.subnet)
    };
    vpc.interfaces
        .iter()
        .filter(|interface| interface.node == *node && internet(interface))
        .filter_map(|interface| Some((interface.private_address, interface.public_address?)))
        .collect()
}
