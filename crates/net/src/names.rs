//! The names of host objects, all from the document's short ids. An interface name has 15 bytes at
//! most; a prefix of two letters and eight hex digits always fits.

use std::net::Ipv4Addr;

use types::{MacAddr, instance::ShortId};

/// The public side of a VPC's namespace. (`up` would be read as a keyword by `ip`.)
pub const UPLINK: &str = "uplink";
/// The link group that marks what we made in the node's namespace, so that what the document no
/// longer names can be told from what is not ours.
pub const LINK_GROUP: &str = "19565";
/// Taps, made by libvirt, are `mt` + short id; nothing else on our bridges begins so.
pub const TAP: &str = "mt";
/// Prefix of a subnet's bridge.
pub const BRIDGE: &str = "mb";
/// Prefix of a subnet's vxlan device.
pub const VXLAN: &str = "mx";
/// Prefix of the bridge's port that leads to the VPC's namespace.
pub const ROUTER_PORT: &str = "mv";
/// Prefix of the port on the public bridge.
pub const UPLINK_PORT: &str = "mu";
/// Prefix of the gateway's device inside the VPC's namespace.
pub const GATEWAY: &str = "s";

/// Where a guest finds its metadata.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where a guest finds a resolver, whatever its VPC; the VPC + 2 address is the same one.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// The name of a VPC's namespace on this node.
pub fn namespace(prefix: &str, vpc: ShortId) -> String {
    format!("{prefix}-{:x}", vpc.0)
}

/// Whether a namespace is one that this prefix names. The rest must be a short id exactly, so that
/// `m1` does not take `m1-2-ab` of the node `m1-2` for its own.
pub fn is_namespace_of(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|short| u32::from_str_radix(short, 16).ok())
        .is_some_and(|short| namespace(prefix, ShortId(short)) == name)
}

/// The Ethernet address of a subnet's gateway: the same on every node, so that a guest that moves
/// keeps what it has in its ARP cache. Locally administered; guests' addresses begin `d0:0d`.
pub fn gateway_mac(vni: u32) -> MacAddr {
    let [_, a, b, c] = vni.to_be_bytes();
    MacAddr([0x02, 0x6d, 0x61, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_owns_its_namespaces_and_no_others() {
        assert!(is_namespace_of("m1", &namespace("m1", ShortId(0xbeef))));
        for name in [
            "m1",
            "m1-",
            "m1-2-beef",
            "m12-beef",
            "m1-0beef",
            "m1-BEEF",
            "m1-+1",
            "x",
        ] {
            assert!(!is_namespace_of("m1", name), "{name}");
        }
    }
}
