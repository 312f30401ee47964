//! Security groups: a rule of the document → a line of nft.

use types::{
    SecurityGroupId,
    instance::ShortId,
    network::{Protocol, Rule, RulePeer, SecurityGroup, Vpc},
};

/// Which end of a packet the rule's peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the guest: the peer is the source.
    Ingress,
    /// Out of the guest: the peer is the destination.
    Egress,
}

impl Direction {
    fn peer_field(self) -> &'static str {
        match self {
            Self::Ingress => "saddr",
            Self::Egress => "daddr",
        }
    }

    fn chain_prefix(self) -> &'static str {
        match self {
            Self::Ingress => "gi",
            Self::Egress => "ge",
        }
    }
}

/// The chain of a group's rules in one direction.
pub fn chain_name(vpc: ShortId, group: ShortId, direction: Direction) -> String {
    format!("{}_{:x}_{:x}", direction.chain_prefix(), vpc.0, group.0)
}

/// The set of a group's members.
pub fn set_name(vpc: ShortId, group: ShortId) -> String {
    format!("g_{:x}_{:x}", vpc.0, group.0)
}

/// The rules of a group in one direction, each once, in the document's order of meaning: none.
pub fn lines(vpc: &Vpc, group: &SecurityGroup, direction: Direction) -> Vec<String> {
    let rules = match direction {
        Direction::Ingress => &group.ingress,
        Direction::Egress => &group.egress,
    };
    let mut lines: Vec<String> = rules
        .iter()
        .filter_map(|rule| line(vpc, rule, direction))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The groups that rules of this group name.
pub fn named_groups(group: &SecurityGroup) -> impl Iterator<Item = &SecurityGroupId> {
    group
        .ingress
        .iter()
        .chain(&group.egress)
        .filter_map(|rule| match &rule.peer {
            RulePeer::Group(id) => Some(id),
            RulePeer::Cidr(_) => None,
        })
}

/// None where a rule admits nothing: ports that run backwards, a group that is not there.
fn line(vpc: &Vpc, rule: &Rule, direction: Direction) -> Option<String> {
    let peer = peer(vpc, &rule.peer, direction)?;
    let traffic = traffic(rule.protocol)?;
    let words = [peer.as_str(), traffic.as_str(), "accept"];
    Some(
        words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn peer(vpc: &Vpc, peer: &RulePeer, direction: Direction) -> Option<String> {
    let field = direction.peer_field();
    match peer {
        RulePeer::Cidr(cidr) if cidr.prefix_len() == 0 => Some(String::new()),
        RulePeer::Cidr(cidr) => Some(format!("ip {field} {}", cidr.trunc())),
        RulePeer::Group(id) => {
            let group = vpc.groups.iter().find(|group| group.id == *id)?;
            Some(format!("ip {field} @{}", set_name(vpc.short, group.short)))
        }
    }
}

fn traffic(protocol: Protocol) -> Option<String> {
    match protocol {
        Protocol::All => Some(String::new()),
        Protocol::Tcp { from, to } => ports("tcp", from, to),
        Protocol::Udp { from, to } => ports("udp", from, to),
        Protocol::Icmp { kind, code } => Some(icmp(kind, code)),
        Protocol::Number { number } => Some(format!("ip protocol {number}")),
    }
}

fn ports(protocol: &str, from: u16, to: u16) -> Option<String> {
    if from > to {
        None
    } else if (from, to) == (0, u16::MAX) {
        Some(format!("meta l4proto {protocol}"))
    } else if from == to {
        Some(format!("{protocol} dport {from}"))
    } else {
        Some(format!("{protocol} dport {from}-{to}"))
    }
}

fn icmp(kind: Option<u8>, code: Option<u8>) -> String {
    match (kind, code) {
        (None, _) => "meta l4proto icmp".to_owned(),
        (Some(kind), None) => format!("icmp type {kind}"),
        (Some(kind), Some(code)) => format!("icmp type {kind} icmp code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_reads_as_nft_writes_it() {
        let cases = [
            (Protocol::All, Some("")),
            (Protocol::Tcp { from: 22, to: 22 }, Some("tcp dport 22")),
            (Protocol::Udp { from: 1, to: 9 }, Some("udp dport 1-9")),
            (
                Protocol::Tcp { from: 0, to: 65535 },
                Some("meta l4proto tcp"),
            ),
            (Protocol::Tcp { from: 9, to: 1 }, None),
            (
                Protocol::Icmp {
                    kind: None,
                    code: None,
                },
                Some("meta l4proto icmp"),
            ),
            (
                Protocol::Icmp {
                    kind: Some(8),
                    code: None,
                },
                Some("icmp type 8"),
            ),
            (
                Protocol::Icmp {
                    kind: Some(3),
                    code: Some(4),
                },
                Some("icmp type 3 icmp code 4"),
            ),
            (Protocol::Number { number: 50 }, Some("ip protocol 50")),
        ];
        for (protocol, expected) in cases {
            assert_eq!(traffic(protocol).as_deref(), expected, "{protocol:?}");
        }
    }
}
