//! Documents for tests: a small builder, and one document that has some of everything.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use net::NodeNetwork;
use types::{
    MacAddr, NodeId,
    instance::ShortId,
    network::{
        Interface, NetworkDocument, Peer, Protocol, PublicNetwork, Rule, RulePeer, SecurityGroup,
        Subnet, Vpc,
    },
};

pub(crate) fn node(n: u32) -> NodeId {
    format!("node-{n:08x}").parse().unwrap()
}

pub(crate) fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn cidr(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// A VPC with one internet subnet over all of it and a group that lets everything out. `n` makes
/// its ids and short ids.
pub(crate) fn vpc(n: u32, network: &str) -> Vpc {
    let network = cidr(network);
    let host = |k: u32| Ipv4Addr::from(u32::from(network.network()) + k);
    Vpc {
        id: format!("vpc-{n:08x}").parse().unwrap(),
        short: ShortId(n),
        owner: "123456789012".parse().unwrap(),
        cidr: network,
        dns: host(2),
        domain: "mallee-1.internal".to_owned(),
        subnets: vec![subnet(n * 16, network, true)],
        groups: vec![group(n * 16)],
        interfaces: Vec::new(),
    }
}

pub(crate) fn subnet(n: u32, network: Ipv4Net, internet: bool) -> Subnet {
    Subnet {
        id: format!("subnet-{n:08x}").parse().unwrap(),
        short: ShortId(n),
        cidr: network,
        gateway: Ipv4Addr::from(u32::from(network.network()) + 1),
        vni: 0x1000 + n,
        internet,
    }
}

pub(crate) fn group(n: u32) -> SecurityGroup {
    SecurityGroup {
        id: format!("sg-{n:08x}").parse().unwrap(),
        short: ShortId(n),
        ingress: Vec::new(),
        egress: vec![rule(Protocol::All, "0.0.0.0/0")],
        members: Vec::new(),
    }
}

pub(crate) fn rule(protocol: Protocol, from: &str) -> Rule {
    Rule {
        protocol,
        peer: RulePeer::Cidr(cidr(from)),
    }
}

pub(crate) fn from_group(protocol: Protocol, group: &SecurityGroup) -> Rule {
    Rule {
        protocol,
        peer: RulePeer::Group(group.id.clone()),
    }
}

pub(crate) fn tcp(port: u16) -> Protocol {
    Protocol::Tcp {
        from: port,
        to: port,
    }
}

/// Adds a guest to the VPC's first subnet with the VPC's first group. `n` makes its ids.
pub(crate) fn add_guest(vpc: &mut Vpc, n: u32, on: u32, private: &str) -> Interface {
    let [a, b, c, d] = address(private).octets();
    let interface = Interface {
        id: format!("eni-{n:08x}").parse().unwrap(),
        short: ShortId(n),
        instance: format!("i-{n:08x}").parse().unwrap(),
        node: node(on),
        subnet: vpc.subnets[0].id.clone(),
        mac: MacAddr([0xd0, 0x0d, 0, 0, (n >> 8) as u8, n as u8]),
        private_address: address(private),
        public_address: None,
        groups: vec![vpc.groups[0].id.clone()],
        hostname: format!("ip-{a}-{b}-{c}-{d}"),
    };
    vpc.groups[0].members.push(interface.private_address);
    vpc.interfaces.push(interface.clone());
    interface
}

pub(crate) fn document(version: u64, vpcs: Vec<Vpc>) -> NetworkDocument {
    NetworkDocument {
        version,
        peers: vec![
            Peer {
                node: node(1),
                underlay: address("10.99.0.11"),
            },
            Peer {
                node: node(2),
                underlay: address("10.99.0.12"),
            },
        ],
        public: Some(PublicNetwork {
            cidr: cidr("10.98.0.0/24"),
            gateway: Some(address("10.98.0.1")),
        }),
        protected: vec![
            cidr("10.99.0.0/24"),
            cidr("10.97.0.0/24"),
            cidr("10.97.0.0/16"),
        ],
        open: vec!["10.99.0.1:8773".parse().unwrap()],
        vpcs,
    }
}

/// Two tenants with one CIDR; the first has two subnets, one of them private, and groups that name
/// one another.
pub(crate) fn two_tenants() -> NetworkDocument {
    let mut a = vpc(1, "172.31.0.0/16");
    a.subnets = vec![
        subnet(0x10, cidr("172.31.0.0/20"), true),
        subnet(0x11, cidr("172.31.16.0/20"), false),
    ];
    let mut web = group(0x1a);
    web.ingress = vec![
        rule(tcp(80), "0.0.0.0/0"),
        rule(
            Protocol::Tcp {
                from: 8000,
                to: 8100,
            },
            "10.1.2.3/8",
        ),
        rule(
            Protocol::Icmp {
                kind: Some(8),
                code: None,
            },
            "0.0.0.0/0",
        ),
        from_group(Protocol::All, &a.groups[0]),
    ];
    a.groups.push(web.clone());
    a.groups[0].ingress = vec![rule(tcp(22), "0.0.0.0/0"), from_group(Protocol::All, &web)];

    add_guest(&mut a, 0xa1, 1, "172.31.0.10");
    a.interfaces[0].public_address = Some(address("10.98.0.10"));
    add_guest(&mut a, 0xa2, 2, "172.31.0.11");
    a.interfaces[1].public_address = Some(address("10.98.0.11"));
    add_guest(&mut a, 0xa3, 1, "172.31.16.10");
    a.interfaces[2].subnet = a.subnets[1].id.clone();
    a.interfaces[2].groups = vec![web.id];
    a.interfaces[2].public_address = Some(address("10.98.0.12"));

    let mut b = vpc(2, "172.31.0.0/16");
    add_guest(&mut b, 0xb1, 1, "172.31.0.10");
    let mut elsewhere = vpc(3, "192.168.0.0/24");
    add_guest(&mut elsewhere, 0xc1, 2, "192.168.0.10");
    document(7, vec![a, b, elsewhere])
}

/// Node `n` as the documents here know it.
pub(crate) fn settings(n: u32) -> NodeNetwork {
    NodeNetwork {
        node: node(n),
        underlay: Ipv4Addr::new(10, 99, 0, 10 + n as u8),
        namespace_prefix: format!("m{n}"),
        public_bridge: Some("pub".to_owned()),
        forwarders: vec![address("10.97.0.53")],
        connections_max: net::config::CONNECTIONS_MAX,
        run_dir: "/run/mallee/net/m".into(),
    }
}
