//! The network document: all that a cluster's nodes need to know of the network, compiled by the
//! CLC, versioned, and applied whole by each node.
//!
//! It is a statement of what is to be, never a delta. A node that has applied version N has
//! forgotten whatever N does not name. Host objects take their names from the short ids here.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, InstanceId, MacAddr, NetworkInterfaceId, NodeId, SecurityGroupId, SubnetId, VpcId,
    instance::ShortId,
};

/// The MTU inside a subnet: 1500 less vxlan's 50.
pub const GUEST_MTU: u16 = 1450;

/// The network of one cluster at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDocument {
    /// Grows with every change; a node applies only what is newer than what it has.
    pub version: u64,
    /// The nodes that share subnets, this one included.
    pub peers: Vec<Peer>,
    /// Where public addresses live; none means that guests have private addresses only.
    pub public: Option<PublicNetwork>,
    /// Networks that no guest may reach: nodes, control plane, storage.
    pub protected: Vec<Ipv4Net>,
    /// What guests may call there all the same, over TCP: the cloud's public API. Empty if the CLC
    /// is too old to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<SocketAddrV4>,
    /// The VPCs that have an interface in this cluster.
    pub vpcs: Vec<Vpc>,
}

/// A node as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// Its address for vxlan.
    pub underlay: Ipv4Addr,
}

/// The network that public addresses are part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicNetwork {
    /// The network that the addresses lie in, for the on-link route.
    pub cidr: Ipv4Net,
    /// The router towards everything else, if there is one.
    pub gateway: Option<Ipv4Addr>,
}

/// One virtual private cloud: a routing domain of its own. CIDRs of different VPCs may overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Which VPC.
    pub id: VpcId,
    /// Names its namespace and devices.
    pub short: ShortId,
    /// Whose it is.
    pub owner: AccountId,
    /// Its private address space.
    pub cidr: Ipv4Net,
    /// Its resolver, VPC + 2.
    pub dns: Ipv4Addr,
    /// The domain of private names, `mallee-1.internal`.
    pub domain: String,
    /// Its subnets in this cluster.
    pub subnets: Vec<Subnet>,
    /// Its security groups that an interface here has, or that a rule here names.
    pub groups: Vec<SecurityGroup>,
    /// Its interfaces on all nodes of this cluster, those in other clusters that a group rule needs
    /// included as `members` of the groups.
    pub interfaces: Vec<Interface>,
}

/// A subnet: one layer-2 segment over the nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Which subnet.
    pub id: SubnetId,
    /// Names its bridges and its conntrack zone (the low 16 bits are unique in a cluster).
    pub short: ShortId,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// The first address: the router, on every node.
    pub gateway: Ipv4Addr,
    /// The vxlan network identifier, 24 bits.
    pub vni: u32,
    /// Whether its route table leads to an internet gateway.
    pub internet: bool,
}

/// A security group as rules are compiled from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Which group.
    pub id: SecurityGroupId,
    /// Names its set.
    pub short: ShortId,
    /// What may come in. What no rule admits is dropped.
    pub ingress: Vec<Rule>,
    /// What may go out.
    pub egress: Vec<Rule>,
    /// The private addresses of all its members, wherever they run: what a rule that names the
    /// group as its source admits.
    pub members: Vec<Ipv4Addr>,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// What traffic.
    pub protocol: Protocol,
    /// From whom, or to whom.
    pub peer: RulePeer,
}

/// What traffic a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
pub enum Protocol {
    /// Everything (`-1`).
    All,
    /// TCP to the ports from..=to.
    Tcp {
        /// First port.
        from: u16,
        /// Last port.
        to: u16,
    },
    /// UDP to the ports from..=to.
    Udp {
        /// First port.
        from: u16,
        /// Last port.
        to: u16,
    },
    /// ICMP; none means any.
    Icmp {
        /// Type.
        kind: Option<u8>,
        /// Code.
        code: Option<u8>,
    },
    /// Another protocol by its number.
    Number {
        /// The IP protocol number.
        number: u8,
    },
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RulePeer {
    /// Addresses.
    Cidr(Ipv4Net),
    /// The members of a group of the same VPC.
    Group(SecurityGroupId),
}

/// A network interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Which interface.
    pub id: NetworkInterfaceId,
    /// Names its tap.
    pub short: ShortId,
    /// Whose it is.
    pub instance: InstanceId,
    /// Where the instance is placed.
    pub node: NodeId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its private address.
    pub private_address: Ipv4Addr,
    /// Its public address, if it has one.
    pub public_address: Option<Ipv4Addr>,
    /// Its groups.
    pub groups: Vec<SecurityGroupId>,
    /// Its private name without the domain, `ip-172-31-0-10`.
    pub hostname: String,
}

impl Interface {
    /// The name of its tap on the node: `mt` and the short id. libvirt reserves `vnet`, `vif`.
    pub fn tap(&self) -> String {
        self.short.name("mt")
    }
}

impl Subnet {
    /// The name of its bridge on a node.
    pub fn bridge(&self) -> String {
        self.short.name("mb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_host_objects_fit_in_15_bytes() {
        assert!(ShortId(u32::MAX).name("mtx").len() <= 15);
    }

    #[test]
    fn a_rule_reads_as_json_says() {
        let rule = Rule {
            protocol: Protocol::Tcp { from: 22, to: 22 },
            peer: RulePeer::Cidr("0.0.0.0/0".parse().unwrap()),
        };
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(
            json,
            r#"{"protocol":{"protocol":"tcp","from":22,"to":22},"peer":{"cidr":"0.0.0.0/0"}}"#
        );
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
}
