//! The ruleset of a VPC's namespace: addresses are translated, and only at the guest's own node.
//!
//! No rule judges a connection between guests: with a gateway on every node, each sees one
//! direction only, so that traffic is not even tracked. North and south of the VPC both directions
//! pass here, and a packet passes only while the translation that its connection was made with
//! still stands: an address that has been taken away is dead at once, old connections included.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use types::network::{NetworkDocument, Vpc};

use super::{Table, transaction};
use crate::names::{GATEWAY, METADATA, RESOLVER, UPLINK};

/// The whole ruleset. `nat` is private → public.
pub(crate) fn ruleset(
    vpc: &Vpc,
    nat: &BTreeMap<Ipv4Addr, Ipv4Addr>,
    document: &NetworkDocument,
) -> String {
    let mut table = Table::new("ip");
    translations(&mut table, nat);
    protection(&mut table, document);
    track(&mut table, vpc);
    translate(&mut table);
    forward(&mut table);
    services(&mut table, vpc);
    transaction(&[table], "")
}

fn translations(table: &mut Table, nat: &BTreeMap<Ipv4Addr, Ipv4Addr>) {
    let each = |write: fn(&Ipv4Addr, &Ipv4Addr) -> String| -> Vec<String> {
        nat.iter()
            .map(|(private, public)| write(private, public))
            .collect()
    };
    let address_map = "type ipv4_addr : ipv4_addr";
    table.elements(
        "map inward",
        address_map,
        &each(|private, public| format!("{public} : {private}")),
    );
    table.elements(
        "map outward",
        address_map,
        &each(|private, public| format!("{private} : {public}")),
    );
    table.elements(
        "set pairs",
        "type ipv4_addr . ipv4_addr",
        &each(|private, public| format!("{private} . {public}")),
    );
    table.elements(
        "set private",
        "type ipv4_addr",
        &each(|private, _| private.to_string()),
    );
    table.elements(
        "set public",
        "type ipv4_addr",
        &each(|_, public| public.to_string()),
    );
}

/// Where no guest may go, and what it may call there all the same.
fn protection(table: &mut Table, document: &NetworkDocument) {
    // Overlapping intervals are an error in nft; a union is not.
    let protected = Ipv4Net::aggregate(&document.protected);
    let protected: Vec<String> = protected.iter().map(ToString::to_string).collect();
    table.elements(
        "set protected",
        "type ipv4_addr; flags interval;",
        &protected,
    );
    let open: BTreeSet<_> = document.open.iter().collect();
    let open: Vec<String> = open
        .iter()
        .map(|end| format!("{} . {}", end.ip(), end.port()))
        .collect();
    table.elements("set open", "type ipv4_addr . inet_service", &open);
}

/// Traffic within the VPC and with its services is not tracked; nothing from outside may claim to
/// come from within.
fn track(table: &mut Table, vpc: &Vpc) {
    let cidr = vpc.cidr.trunc();
    table.chain(
        "track",
        "type filter hook prerouting priority raw; policy accept",
        &[
            format!("iifname \"{UPLINK}\" ip saddr {cidr} drop"),
            format!("iifname \"{GATEWAY}*\" ip daddr {cidr} notrack"),
            format!("iifname \"{GATEWAY}*\" ip daddr {{ {METADATA}, {RESOLVER} }} notrack"),
        ],
    );
    table.chain(
        "track_out",
        "type filter hook output priority raw; policy accept",
        &[format!("oifname \"{GATEWAY}*\" notrack")],
    );
}

/// Public ↔ private. The third rule is for a guest that calls a public address of its own VPC on
/// its own node: without it the answer would go straight to it, from an address it did not call.
fn translate(table: &mut Table) {
    table.chain(
        "translate_in",
        "type nat hook prerouting priority dstnat; policy accept",
        &["dnat to ip daddr map @inward".to_owned()],
    );
    table.chain(
        "translate_out",
        "type nat hook postrouting priority srcnat; policy accept",
        &[
            format!("oifname \"{UPLINK}\" snat to ip saddr map @outward"),
            format!("oifname \"{GATEWAY}*\" ct status dnat snat to ip saddr map @outward"),
        ],
    );
}

fn forward(table: &mut Table) {
    table.chain(
        "from_outside",
        "",
        &[
            "ct direction original ip daddr . ct original ip daddr @pairs accept".to_owned(),
            "ct direction reply ip daddr . ct reply ip daddr @pairs accept".to_owned(),
            "drop".to_owned(),
        ],
    );
    table.chain(
        "to_outside",
        "",
        &[
            "ct direction reply ip saddr . ct original ip daddr @pairs accept".to_owned(),
            "ip daddr @protected meta l4proto != tcp drop".to_owned(),
            "ip daddr @protected ip daddr . tcp dport != @open drop".to_owned(),
            "ct state new ip saddr @private accept".to_owned(),
            "ct direction original ip saddr . ct reply ip daddr @pairs accept".to_owned(),
            "drop".to_owned(),
        ],
    );
    table.chain(
        "forward",
        "type filter hook forward priority filter; policy accept",
        &[
            "tcp flags syn tcp option maxseg size set rt mtu".to_owned(),
            format!("iifname \"{UPLINK}\" goto from_outside"),
            format!("oifname \"{UPLINK}\" goto to_outside"),
            "ct direction original ct status dnat ip saddr != @private drop".to_owned(),
        ],
    );
}

/// What the namespace itself answers: DHCP, DNS, metadata, ping. It asks outward (DNS) under a
/// public address of the VPC or not at all.
fn services(table: &mut Table, vpc: &Vpc) {
    let dns = vpc.dns;
    table.chain(
        "services",
        "type filter hook input priority filter; policy drop",
        &[
            "iifname \"lo\" accept".to_owned(),
            format!("iifname \"{UPLINK}\" ct state established,related accept"),
            format!("iifname \"{UPLINK}\" drop"),
            "udp sport 68 udp dport 67 accept".to_owned(),
            format!("ip daddr {METADATA} tcp dport 80 accept"),
            format!(
                "ip daddr {{ {RESOLVER}, {dns} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
            ),
            "icmp type echo-request accept".to_owned(),
        ],
    );
    table.chain(
        "services_out",
        "type filter hook output priority filter; policy accept",
        &[format!("oifname \"{UPLINK}\" ip saddr != @public drop")],
    );
}
