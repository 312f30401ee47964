//! The files of a VPC's dnsmasq: it gives leases to this node's guests and answers names.
//!
//! Only typed values and names that [`crate::check`] has passed reach these texts; a user's text
//! never does.

use std::{fmt::Write, path::PathBuf};

use types::network::{GUEST_MTU, Subnet, Vpc};

use crate::{
    config::NodeNetwork,
    desired::DhcpFiles,
    names::{self, GATEWAY},
};

/// Names asked at once of the forwarders, for one VPC: a tenant that floods fills only its own.
const FORWARDS_MAX: u32 = 150;
/// Names kept in memory.
const CACHE_ENTRIES: u32 = 1000;
/// Leases at most: more than any node has guests.
const LEASES_MAX: u32 = 4096;

/// Where one VPC's dnsmasq has its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The folder of the rest.
    pub dir: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// DHCP hosts.
    pub hosts: PathBuf,
    /// Names.
    pub names: PathBuf,
    /// Leases given.
    pub leases: PathBuf,
    /// The process id.
    pub pid: PathBuf,
}

/// The paths for a VPC's namespace.
pub fn paths(node: &NodeNetwork, namespace: &str) -> Paths {
    let dir = node.run_dir.join(namespace);
    Paths {
        config: dir.join("dnsmasq.conf"),
        hosts: dir.join("hosts"),
        names: dir.join("names"),
        leases: dir.join("leases"),
        pid: dir.join("dnsmasq.pid"),
        dir,
    }
}

/// The texts for a VPC.
pub fn files(vpc: &Vpc, node: &NodeNetwork) -> DhcpFiles {
    DhcpFiles {
        config: config(vpc, node),
        hosts: hosts(vpc, node),
        names: host_names(vpc),
    }
}

fn config(vpc: &Vpc, node: &NodeNetwork) -> String {
    let at = paths(node, &names::namespace(&node.namespace_prefix, vpc.short));
    let mut text = format!(
        "\
user=nobody
group=nogroup
pid-file={pid}
bind-dynamic
interface={GATEWAY}*
no-resolv
no-poll
no-hosts
no-ping
cache-size={CACHE_ENTRIES}
dns-forward-max={FORWARDS_MAX}
addn-hosts={names}
domain={domain}
local=/{domain}/
dhcp-authoritative
dhcp-lease-max={LEASES_MAX}
dhcp-leasefile={leases}
dhcp-hostsfile={hosts}
dhcp-ignore=tag:!known
dhcp-option=option:dns-server,{dns}
dhcp-option=option:mtu,{GUEST_MTU}
",
        pid = at.pid.display(),
        names = at.names.display(),
        leases = at.leases.display(),
        hosts = at.hosts.display(),
        domain = vpc.domain,
        dns = vpc.dns,
    );
    for server in &node.forwarders {
        line(&mut text, format_args!("server={server}"));
    }
    for subnet in &vpc.subnets {
        range(&mut text, subnet);
    }
    text
}

fn range(text: &mut String, subnet: &Subnet) {
    let tag = subnet.short.name(GATEWAY);
    let (network, mask) = (subnet.cidr.network(), subnet.cidr.netmask());
    line(
        text,
        format_args!("dhcp-range=set:{tag},{network},static,{mask},infinite"),
    );
    line(
        text,
        format_args!("dhcp-option=tag:{tag},option:router,{}", subnet.gateway),
    );
}

/// Leases are given by the guest's own node only: DHCP does not cross vxlan.
fn hosts(vpc: &Vpc, node: &NodeNetwork) -> String {
    let mut text = String::new();
    for guest in vpc.interfaces.iter().filter(|i| i.node == node.node) {
        let (mac, address, name) = (guest.mac, guest.private_address, &guest.hostname);
        line(&mut text, format_args!("{mac},{address},{name},infinite"));
    }
    text
}

fn host_names(vpc: &Vpc) -> String {
    let mut text = String::new();
    for guest in &vpc.interfaces {
        let (address, name, domain) = (guest.private_address, &guest.hostname, &vpc.domain);
        line(&mut text, format_args!("{address} {name}.{domain} {name}"));
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}
