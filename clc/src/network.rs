//! Rows → the network document of a zone.
//!
//! Read in one transaction, so that the document says exactly what the rows said at its version.
//! Every VPC with an interface in the zone is in it, with all that its nodes need to compile rules;
//! what a document means is said in `types::network`.

mod protected;

use std::{collections::BTreeSet, net::Ipv4Addr};

use store::{Error, Tx};
use types::{
    SecurityGroupId, Zone,
    network::{
        Interface, NetworkDocument, Peer, Protocol, PublicNetwork, Rule, RulePeer, SecurityGroup,
        Subnet, Vpc,
    },
};

use crate::{
    config::{self, Config},
    rows::{
        network::{self, PlacedInterface, SubnetRow, VpcRow},
        nodes,
        security_groups::{self, Peer as RuleEnd, Permission},
    },
    wish,
};

/// The address of a VPC's resolver, counted from its first: as in EC2.
const RESOLVER: u32 = 2;
/// The address of a subnet's router, counted from its first: as in EC2.
const ROUTER: u32 = 1;

/// The document of a zone at its present version.
pub fn document(
    tx: &Tx,
    zone: &Zone,
    config: &Config,
    domain: &str,
) -> Result<NetworkDocument, Error> {
    let vpcs = network::vpcs_in(tx, zone)?;
    Ok(NetworkDocument {
        version: network::version(tx, zone)?,
        peers: peers(tx, zone)?,
        public: public(&config.network),
        protected: protected::protected(tx, config)?,
        open: protected::open(config),
        vpcs: vpcs
            .iter()
            .map(|vpc| of_vpc(tx, zone, vpc, domain))
            .collect::<Result<_, _>>()?,
    })
}

/// A dead node is no peer: nothing is to be sent to its address.
fn peers(tx: &Tx, zone: &Zone) -> Result<Vec<Peer>, Error> {
    let alive = nodes::of_zone(tx, zone)?
        .into_iter()
        .filter(|node| !node.dead);
    Ok(alive
        .filter_map(|node| {
            Some(Peer {
                underlay: node.underlay?,
                node: node.id,
            })
        })
        .collect())
}

fn public(config: &config::Network) -> Option<PublicNetwork> {
    let cidr = config.public_cidr?;
    Some(PublicNetwork {
        cidr,
        gateway: config.public_gateway,
    })
}

fn of_vpc(tx: &Tx, zone: &Zone, vpc: &VpcRow, domain: &str) -> Result<Vpc, Error> {
    let placed = network::placed_interfaces(tx, &vpc.id, zone)?;
    let interfaces = placed
        .into_iter()
        .map(|placed| interface(tx, placed))
        .collect::<Result<Vec<_>, _>>()?;
    let used: BTreeSet<_> = interfaces
        .iter()
        .map(|interface| interface.subnet.clone())
        .collect();
    let subnets = network::subnets_of(tx, &vpc.id)?;
    Ok(Vpc {
        id: vpc.id.clone(),
        short: vpc.short,
        owner: vpc.account.clone(),
        cidr: vpc.cidr,
        dns: nth(vpc.cidr.network(), RESOLVER),
        domain: domain.to_owned(),
        subnets: subnets
            .iter()
            .filter(|subnet| used.contains(&subnet.id))
            .map(of_subnet)
            .collect(),
        groups: groups(tx, &interfaces)?,
        interfaces,
    })
}

fn of_subnet(subnet: &SubnetRow) -> Subnet {
    Subnet {
        id: subnet.id.clone(),
        short: subnet.short,
        cidr: subnet.cidr,
        gateway: nth(subnet.cidr.network(), ROUTER),
        vni: subnet.vni,
        internet: subnet.internet,
    }
}

fn interface(tx: &Tx, placed: PlacedInterface) -> Result<Interface, Error> {
    let PlacedInterface { interface, node } = placed;
    Ok(Interface {
        groups: network::groups_of(tx, &interface.id)?,
        hostname: wish::hostname(&interface),
        id: interface.id,
        short: interface.short,
        instance: interface.instance,
        node,
        subnet: interface.subnet,
        mac: interface.mac,
        private_address: interface.private_address,
        public_address: interface.public_address,
    })
}

/// The groups that an interface here has, and those that their rules name.
fn groups(tx: &Tx, interfaces: &[Interface]) -> Result<Vec<SecurityGroup>, Error> {
    let mut had: BTreeSet<SecurityGroupId> = interfaces
        .iter()
        .flat_map(|interface| interface.groups.iter().cloned())
        .collect();
    let mut named = BTreeSet::new();
    for group in &had {
        for rule in security_groups::rules(tx, group)? {
            if let RuleEnd::Group(peer) = rule.permission.peer {
                named.insert(peer);
            }
        }
    }
    had.append(&mut named);
    had.into_iter().map(|id| group(tx, id)).collect()
}

fn group(tx: &Tx, id: SecurityGroupId) -> Result<SecurityGroup, Error> {
    let rules = security_groups::rules(tx, &id)?;
    let side = |is_egress: bool| {
        let mine = rules
            .iter()
            .filter(move |rule| rule.permission.is_egress == is_egress);
        mine.filter_map(|rule| compiled(&rule.permission)).collect()
    };
    Ok(SecurityGroup {
        short: network::group_short(tx, &id)?,
        ingress: side(false),
        egress: side(true),
        members: network::members_of(tx, &id)?,
        id,
    })
}

/// A permission as nodes read it. One that cannot be read admits nothing, and is reported.
fn compiled(permission: &Permission) -> Option<Rule> {
    let Some(protocol) = protocol(permission) else {
        tracing::error!(
            ?permission,
            "a security group rule that cannot be read admits nothing"
        );
        return None;
    };
    let peer = match &permission.peer {
        RuleEnd::Cidr(cidr) => RulePeer::Cidr(*cidr),
        RuleEnd::Group(group) => RulePeer::Group(group.clone()),
    };
    Some(Rule { protocol, peer })
}

fn protocol(permission: &Permission) -> Option<Protocol> {
    let (from, to) = (permission.from_port, permission.to_port);
    let ports = || match (from, to) {
        (-1, -1) => Some((0, u16::MAX)),
        (from, to) => Some((u16::try_from(from).ok()?, u16::try_from(to).ok()?)),
    };
    let icmp = |number: i32| match number {
        -1 => Some(None),
        number => u8::try_from(number).ok().map(Some),
    };
    Some(match permission.protocol.as_str() {
        "-1" => Protocol::All,
        "tcp" => ports().map(|(from, to)| Protocol::Tcp { from, to })?,
        "udp" => ports().map(|(from, to)| Protocol::Udp { from, to })?,
        "icmp" => Protocol::Icmp {
            kind: icmp(from)?,
            code: icmp(to)?,
        },
        number => Protocol::Number {
            number: number.parse().ok()?,
        },
    })
}

fn nth(network: Ipv4Addr, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).saturating_add(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(protocol: &str, from_port: i32, to_port: i32) -> Permission {
        Permission {
            is_egress: false,
            protocol: protocol.to_owned(),
            from_port,
            to_port,
            peer: RuleEnd::Cidr("0.0.0.0/0".parse().unwrap()),
        }
    }

    #[test]
    fn every_protocol_reads_as_nodes_want_it() {
        for (given, expected) in [
            (permission("-1", -1, -1), Protocol::All),
            (
                permission("tcp", 22, 23),
                Protocol::Tcp { from: 22, to: 23 },
            ),
            (
                permission("udp", -1, -1),
                Protocol::Udp { from: 0, to: 65535 },
            ),
            (
                permission("icmp", -1, -1),
                Protocol::Icmp {
                    kind: None,
                    code: None,
                },
            ),
            (
                permission("icmp", 8, 0),
                Protocol::Icmp {
                    kind: Some(8),
                    code: Some(0),
                },
            ),
            (permission("47", -1, -1), Protocol::Number { number: 47 }),
        ] {
            assert_eq!(protocol(&given), Some(expected));
        }
    }

    #[test]
    fn what_cannot_be_read_admits_nothing() {
        for odd in [
            permission("tcp", 22, 70_000),
            permission("gre", 0, 0),
            permission("icmp", 300, 0),
        ] {
            assert_eq!(compiled(&odd), None);
        }
    }
}
