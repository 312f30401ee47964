//! What the rules do to packets, in real namespaces, as root.

use std::{
    io,
    net::{SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use net::{
    Applier, Desired, LinuxApplier, namespace,
    run::{Command, Output, Run},
};
use types::network::{Interface, NetworkDocument, Protocol, Vpc};

use crate::{
    documents::{add_guest, address, cidr, document, from_group, group, rule, subnet, tcp, vpc},
    frames::{self, ARP, BROADCAST, IPV4, IPV6, RARP},
    lab::{Lab, Node, PATIENCE, Space, Tools, may_run, user},
};

/// Long enough for a packet that is let through, on a busy machine; waited for in full only where
/// none may come.
const SILENCE: Duration = Duration::from_millis(400);

/// A VPC whose first group lets everything in.
fn open_vpc(n: u32, network: &str) -> Vpc {
    let mut vpc = vpc(n, network);
    vpc.groups[0].ingress = vec![rule(Protocol::All, "0.0.0.0/0")];
    vpc
}

fn with_public(vpc: &mut Vpc, guest: usize, public: &str) {
    vpc.interfaces[guest].public_address = Some(address(public));
}

#[test]
fn two_tenants_with_one_cidr_do_not_meet() {
    if !may_run("two_tenants_with_one_cidr_do_not_meet") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let (mut a, mut b) = (open_vpc(1, "172.31.0.0/24"), open_vpc(2, "172.31.0.0/24"));
    let a1 = add_guest(&mut a, 0xa1, 1, "172.31.0.10");
    let a2 = add_guest(&mut a, 0xa2, 1, "172.31.0.11");
    let b1 = add_guest(&mut b, 0xb1, 1, "172.31.0.10");
    let b2 = add_guest(&mut b, 0xb2, 1, "172.31.0.11");
    node.must_apply(&document(1, vec![a.clone(), b.clone()]));
    let (a1, a2) = (node.guest(&a, &a1), node.guest(&a, &a2));
    let (b1, b2) = (node.guest(&b, &b1), node.guest(&b, &b2));
    a1.listen(80);
    b1.listen(81);

    let ten = address("172.31.0.10");
    assert_eq!(a2.call(ten, 80), Some(address("172.31.0.11")));
    assert_eq!(b2.call(ten, 80), None, "b sees a's guest");
    assert_eq!(b2.call(ten, 81), Some(address("172.31.0.11")));
    assert_eq!(a2.call(ten, 81), None, "a sees b's guest");
}

#[test]
fn groups_are_enforced_on_packets() {
    if !may_run("groups_are_enforced_on_packets") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut a = vpc(1, "172.31.0.0/24");
    let mut web = group(0x1a);
    web.ingress = vec![
        rule(tcp(80), "0.0.0.0/0"),
        from_group(tcp(5000), &a.groups[0]),
        rule(tcp(5001), "172.31.0.99/32"),
    ];
    let mut mute = group(0x1b);
    mute.egress = vec![rule(tcp(80), "0.0.0.0/0")];
    mute.ingress = vec![rule(
        Protocol::Icmp {
            kind: Some(8),
            code: None,
        },
        "0.0.0.0/0",
    )];
    a.groups.extend([web.clone(), mute.clone()]);
    add_guest(&mut a, 1, 1, "172.31.0.10");
    a.interfaces[0].groups = vec![web.id.clone()];
    a.groups[0]
        .members
        .retain(|member| *member != address("172.31.0.10"));
    add_guest(&mut a, 2, 1, "172.31.0.11");
    add_guest(&mut a, 3, 1, "172.31.0.12");
    a.interfaces[2].groups = vec![mute.id];
    a.groups[0]
        .members
        .retain(|member| *member != address("172.31.0.12"));
    node.must_apply(&document(1, vec![a.clone()]));
    let guests: Vec<Space> = a.interfaces.iter().map(|i| node.guest(&a, i)).collect();
    let [server, client, muted] = &guests[..] else {
        unreachable!()
    };
    for port in [80, 81, 5000, 5001] {
        server.listen(port);
        client.listen(port);
    }
    let (ten, eleven, twelve) = (
        address("172.31.0.10"),
        address("172.31.0.11"),
        address("172.31.0.12"),
    );

    assert_eq!(
        client.call(ten, 80),
        Some(eleven),
        "an open port, and its answers"
    );
    assert_eq!(client.call(ten, 81), None, "a closed port");
    assert!(!client.pings(ten), "no rule for ping");
    assert_eq!(
        client.call(ten, 5000),
        Some(eleven),
        "a group as the source"
    );
    assert_eq!(muted.call(ten, 5000), None, "not a member of that group");
    assert_eq!(client.call(ten, 5001), None, "another source");
    assert_eq!(
        server.call(eleven, 80),
        None,
        "the default group admits nobody"
    );
    assert_eq!(muted.call(ten, 80), Some(twelve), "egress to port 80");
    assert_eq!(muted.call(ten, 81), None, "egress to port 81");
    assert!(
        client.pings(twelve),
        "ping is admitted, and answered by a guest that may not ping"
    );
    assert!(!muted.pings(ten), "egress of ping");

    // A rule that is revoked closes the port for who comes now.
    a.groups[1].ingress.retain(|rule| rule.protocol != tcp(80));
    node.must_apply(&document(2, vec![a.clone()]));
    assert_eq!(client.call(ten, 80), None, "revoked");
    assert_eq!(client.call(ten, 5000), Some(eleven), "the rest stands");
}

#[test]
fn no_packet_passes_a_group_under_an_address_that_is_not_the_guests() {
    if !may_run("no_packet_passes_a_group_under_an_address_that_is_not_the_guests") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut a = vpc(1, "172.31.0.0/24");
    let one = add_guest(&mut a, 1, 1, "172.31.0.10");
    let two = add_guest(&mut a, 2, 1, "172.31.0.11");
    node.must_apply(&document(1, vec![a.clone()]));
    let (first, second) = (node.guest(&a, &one), node.guest(&a, &two));
    let (out, seen) = (first.wire("eth0"), second.wire("eth0"));

    let from = ([172, 31, 0, 10], 7);
    for to in [
        [172, 31, 0, 11],
        [8, 8, 8, 8],
        [172, 31, 0, 255],
        [255; 4],
        [224, 0, 0, 1],
    ] {
        for mac in [two.mac.0, BROADCAST] {
            let packet = frames::udp(from, (to, 7), b"slipped-by");
            out.send(&frames::frame(mac, one.mac.0, IPV4, &packet));
        }
    }
    assert!(!seen.sees(b"slipped-by", SILENCE));
}

/// A guest that sends what it should not, and another that listens to all that arrives.
struct Spoof {
    _lab: Lab,
    node: Node,
    vpc: Vpc,
    liar: (Interface, Space),
    victim: (Interface, Space),
}

fn spoof() -> Spoof {
    let lab = Lab::new();
    let node = lab.node(1);
    let mut vpc = open_vpc(1, "172.31.0.0/24");
    let one = add_guest(&mut vpc, 1, 1, "172.31.0.10");
    let two = add_guest(&mut vpc, 2, 1, "172.31.0.11");
    node.must_apply(&document(1, vec![vpc.clone()]));
    let (liar, victim) = (node.guest(&vpc, &one), node.guest(&vpc, &two));
    Spoof {
        _lab: lab,
        node,
        vpc,
        liar: (one, liar),
        victim: (two, victim),
    }
}

#[test]
fn a_guest_can_only_speak_as_itself() {
    if !may_run("a_guest_can_only_speak_as_itself") {
        return;
    }
    let Spoof {
        liar: (me, liar),
        victim: (you, victim),
        ..
    } = &spoof();
    let (out, seen) = (liar.wire("eth0"), victim.wire("eth0"));
    let (mine, yours) = (me.private_address.octets(), you.private_address.octets());
    let gateway = [172, 31, 0, 1];
    let other_mac = [0xd0, 0x0d, 9, 9, 9, 9];
    let to_you =
        |from: [u8; 6], kind, payload: &[u8]| frames::frame(you.mac.0, from, kind, payload);
    let hello = |from: [u8; 4]| frames::udp((from, 7), (yours, 7), b"i-am-honest");
    let claim = |mac: [u8; 6], ip: [u8; 4]| frames::arp(2, (mac, ip), (you.mac.0, yours));

    out.send(&to_you(me.mac.0, IPV4, &hello(mine)));
    assert!(
        seen.sees(b"i-am-honest", PATIENCE),
        "an honest packet passes"
    );
    let rarp = frames::arp(3, (me.mac.0, [0; 4]), (me.mac.0, [0; 4]));
    out.send(&frames::frame(BROADCAST, me.mac.0, RARP, &rarp));
    assert!(!seen.sees(&rarp, SILENCE), "a tap gets no RARP");

    let lies = [
        (
            "another Ethernet address",
            to_you(other_mac, IPV4, &hello(mine)),
        ),
        (
            "another IP address",
            to_you(me.mac.0, IPV4, &hello([172, 31, 0, 77])),
        ),
        (
            "an ARP answer for the gateway",
            to_you(me.mac.0, ARP, &claim(me.mac.0, gateway)),
        ),
        (
            "an ARP answer with another's address",
            to_you(me.mac.0, ARP, &claim(other_mac, mine)),
        ),
        ("IPv6", to_you(me.mac.0, IPV6, b"i-am-honest-in-ipv6")),
        (
            "a VLAN tag",
            to_you(
                me.mac.0,
                0x8100,
                &[&[0, 1, 8, 0][..], &hello(mine)].concat(),
            ),
        ),
        (
            "a DHCP answer",
            to_you(
                me.mac.0,
                IPV4,
                &frames::udp((mine, 67), (yours, 68), b"i-am-honest"),
            ),
        ),
    ];
    for (lie, frame) in lies {
        out.send(&frame);
        assert!(!seen.sees(&frame[14..], SILENCE), "{lie} passed");
    }
}

#[test]
fn a_guest_that_has_moved_may_announce_itself_by_rarp() {
    if !may_run("a_guest_that_has_moved_may_announce_itself_by_rarp") {
        return;
    }
    let Spoof {
        node,
        vpc,
        liar: (me, liar),
        ..
    } = &spoof();
    let out = liar.wire("eth0");
    // The gateway's port is where one sees what the bridge floods.
    let inside = Space(node.inside(vpc));
    let seen = inside.wire("s10");
    std::mem::forget(inside);

    let say = |mac: [u8; 6]| frames::arp(3, (mac, [0; 4]), (mac, [0; 4]));
    out.send(&frames::frame(
        BROADCAST,
        me.mac.0,
        RARP,
        &say([0xd0, 0x0d, 9, 9, 9, 9]),
    ));
    assert!(
        !seen.sees(&say([0xd0, 0x0d, 9, 9, 9, 9]), SILENCE),
        "for another"
    );
    out.send(&frames::frame(BROADCAST, me.mac.0, RARP, &say(me.mac.0)));
    assert!(seen.sees(&say(me.mac.0), PATIENCE), "for itself");
}

#[test]
fn a_tap_that_the_document_does_not_name_is_deaf_and_mute() {
    if !may_run("a_tap_that_the_document_does_not_name_is_deaf_and_mute") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut a = open_vpc(1, "172.31.0.0/24");
    let known = add_guest(&mut a, 1, 1, "172.31.0.10");
    node.must_apply(&document(1, vec![a.clone()]));
    let known = node.guest(&a, &known);
    let unknown = add_guest(&mut a, 2, 1, "172.31.0.11");
    let unknown = node.guest(&a, &unknown);
    known.listen(80);
    assert_eq!(unknown.call(address("172.31.0.10"), 80), None);
    node.must_apply(&document(2, vec![a]));
    assert_eq!(
        unknown.call(address("172.31.0.10"), 80),
        Some(address("172.31.0.11"))
    );
}

/// Two subnets over two nodes: guests 0 and 1 in the first, 2 and 3 in the second; even ones on
/// node 1, odd ones on node 2.
fn spread() -> Vpc {
    let mut vpc = open_vpc(1, "172.31.0.0/16");
    vpc.subnets = vec![
        subnet(0x10, cidr("172.31.0.0/24"), true),
        subnet(0x11, cidr("172.31.1.0/24"), true),
    ];
    for (n, private) in ["172.31.0.10", "172.31.0.11", "172.31.1.10", "172.31.1.11"]
        .iter()
        .enumerate()
    {
        add_guest(&mut vpc, n as u32 + 1, n as u32 % 2 + 1, private);
        vpc.interfaces[n].subnet = vpc.subnets[n / 2].id.clone();
    }
    vpc
}

#[test]
fn a_vpc_spans_nodes_within_and_between_its_subnets() {
    if !may_run("a_vpc_spans_nodes_within_and_between_its_subnets") {
        return;
    }
    let lab = Lab::new();
    let nodes = [lab.node(1), lab.node(2)];
    let mut vpc = spread();
    vpc.groups[0].ingress = vec![from_group(Protocol::All, &vpc.groups[0])];
    for node in &nodes {
        node.must_apply(&document(1, vec![vpc.clone()]));
    }
    let guest = |n: usize| nodes[n % 2].guest(&vpc, &vpc.interfaces[n]);
    let guests: Vec<Space> = (0..4).map(guest).collect();
    let private = |n: usize| vpc.interfaces[n].private_address;
    for guest in &guests {
        guest.listen(80);
    }
    for (from, guest) in guests.iter().enumerate() {
        for to in (0..4).filter(|to| *to != from) {
            assert_eq!(
                guest.call(private(to), 80),
                Some(private(from)),
                "{from} to {to}"
            );
        }
    }
    // Each guest's gateway is the one on its own node, after all this traffic between gateways.
    for guest in &guests {
        assert!(guest.pings(address("172.31.0.1")));
    }
    let large = [
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "1",
        "-s",
        "4000",
        "172.31.0.11",
    ];
    assert!(
        guests[2].run(&large).0,
        "fragments pass, between subnets and nodes"
    );
}

#[test]
fn arp_for_the_gateway_and_dhcp_stay_on_the_node() {
    if !may_run("arp_for_the_gateway_and_dhcp_stay_on_the_node") {
        return;
    }
    let lab = Lab::new();
    let nodes = [lab.node(1), lab.node(2)];
    let vpc = spread();
    for node in &nodes {
        node.must_apply(&document(1, vec![vpc.clone()]));
    }
    let guest = nodes[0].guest(&vpc, &vpc.interfaces[0]);
    let (out, fabric) = (guest.wire("eth0"), lab.fabric.wire("u1"));
    let me = &vpc.interfaces[0];
    let ask = |ip: [u8; 4]| {
        let payload = frames::arp(1, (me.mac.0, me.private_address.octets()), ([0; 6], ip));
        frames::frame(BROADCAST, me.mac.0, ARP, &payload)
    };
    for local in [
        [172, 31, 0, 1],
        [172, 31, 0, 2],
        [169, 254, 169, 254],
        [169, 254, 169, 253],
    ] {
        out.send(&ask(local));
        assert!(
            !fabric.sees(&ask(local), SILENCE),
            "{local:?} was asked across"
        );
    }
    let discover = frames::udp(([0; 4], 68), ([255; 4], 67), b"discover");
    out.send(&frames::frame(BROADCAST, me.mac.0, IPV4, &discover));
    assert!(!fabric.sees(b"discover", SILENCE), "DHCP went across");
    out.send(&ask([172, 31, 0, 11]));
    assert!(
        fabric.sees(&ask([172, 31, 0, 11]), PATIENCE),
        "a guest elsewhere is asked across"
    );
}

#[test]
fn only_peers_may_put_frames_into_a_subnet() {
    if !may_run("only_peers_may_put_frames_into_a_subnet") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut vpc = open_vpc(1, "172.31.0.0/24");
    let one = add_guest(&mut vpc, 1, 1, "172.31.0.10");
    node.must_apply(&document(1, vec![vpc.clone()]));
    let guest = node.guest(&vpc, &one);
    let seen = guest.wire("eth0");

    let inner = frames::udp(
        ([172, 31, 0, 9], 7),
        (one.private_address.octets(), 7),
        b"injected",
    );
    let inner = frames::frame(one.mac.0, [0xd0, 0x0d, 9, 9, 9, 9], IPV4, &inner);
    let vni = vpc.subnets[0].vni << 8;
    let packet = [&[8, 0, 0, 0][..], &vni.to_be_bytes(), &inner].concat();
    let inject = |fabric: &Space| {
        let to = SocketAddrV4::new(address("10.99.0.11"), 4789);
        fabric.udp(0).send_to(&packet, to).unwrap();
    };
    inject(&lab.fabric);
    assert!(
        !seen.sees(b"injected", SILENCE),
        "from an address that is no peer's"
    );
    let mut document = document(2, vec![vpc.clone()]);
    document.peers[1].underlay = address("10.99.0.1");
    node.must_apply(&document);
    inject(&lab.fabric);
    assert!(seen.sees(b"injected", PATIENCE), "from a peer");
}

#[test]
fn a_guest_gets_its_lease_with_gateway_names_and_mtu() {
    if !may_run("a_guest_gets_its_lease_with_gateway_names_and_mtu") {
        return;
    }
    let lab = Lab::new();
    let nodes = [lab.node(1), lab.node(2)];
    let vpc = spread();
    for node in &nodes {
        node.must_apply(&document(1, vec![vpc.clone()]));
    }
    // Its group admits nothing but itself; DHCP and DNS are not a matter of groups.
    let guest = nodes[0].bare_guest(&vpc, &vpc.interfaces[2]);
    let lease = lease(&guest);
    for wanted in [
        "ip=172.31.1.10",
        "router=172.31.1.1",
        "dns=172.31.0.2",
        "mtu=1450",
        "mask=24",
    ] {
        assert!(lease.contains(wanted), "{wanted} in {lease}");
    }
    guest.ip("addr add 172.31.1.10/24 dev eth0");
    guest.ip("route add default via 172.31.1.1");
    for server in ["172.31.0.2", "169.254.169.253"] {
        let name = "ip-172-31-0-11.mallee-1.internal";
        let answer = guest.run(&["busybox", "nslookup", name, server]).1;
        assert!(
            answer.contains("172.31.0.11"),
            "a guest of another node, asked of {server}: {answer}"
        );
    }
}

/// What udhcpc is told, or nothing.
fn lease(guest: &Space) -> String {
    let script = std::env::temp_dir().join(format!("{}-udhcpc", guest.0));
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && env\nexit 0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let path = script.to_str().unwrap();
    let words = [
        "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1",
    ];
    let wanted = ["-O", "mtu", "-s", path];
    let printed = guest.run(&[&words[..], &wanted].concat()).1;
    std::fs::remove_file(&script).unwrap();
    printed
}

#[test]
fn a_guest_that_the_document_does_not_place_here_gets_no_lease() {
    if !may_run("a_guest_that_the_document_does_not_place_here_gets_no_lease") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let vpc = spread();
    node.must_apply(&document(1, vec![vpc.clone()]));
    let guest = node.bare_guest(&vpc, &vpc.interfaces[1]);
    assert_eq!(lease(&guest), "");
}

#[test]
fn a_public_address_is_reached_and_is_what_others_see() {
    if !may_run("a_public_address_is_reached_and_is_what_others_see") {
        return;
    }
    let lab = Lab::new();
    let nodes = [lab.node(1), lab.node(2)];
    let mut vpc = spread();
    vpc.subnets[1].internet = false;
    for (n, public) in ["10.98.0.10", "10.98.0.11", "10.98.0.12"]
        .iter()
        .enumerate()
    {
        with_public(&mut vpc, n, public);
    }
    let fabric = lab.fabric.wire("fab");
    for node in &nodes {
        node.must_apply(&document(1, vec![vpc.clone()]));
    }
    let announced = [10, 98, 0, 10];
    assert!(fabric.sees(&[&announced[..], &[0; 6], &announced].concat(), PATIENCE));

    let guests: Vec<Space> = (0..4)
        .map(|n| nodes[n % 2].guest(&vpc, &vpc.interfaces[n]))
        .collect();
    guests[0].listen(22);
    guests[1].listen(22);
    guests[2].listen(22);
    lab.fabric.listen(443);
    let (first, second) = (address("10.98.0.10"), address("10.98.0.11"));

    assert_eq!(
        lab.fabric.call(first, 22),
        Some(user()),
        "in, with the caller's address"
    );
    assert_eq!(lab.fabric.call(second, 22), Some(user()));
    assert_eq!(
        guests[0].call(user(), 443),
        Some(first),
        "out, as its public address"
    );
    assert_eq!(
        guests[3].call(user(), 443),
        None,
        "no public address, no way out"
    );
    assert_eq!(
        guests[2].call(user(), 443),
        None,
        "no route to a gateway, no way out"
    );
    assert_eq!(lab.fabric.call(address("10.98.0.12"), 22), None, "nor in");
    assert_eq!(
        guests[0].call(second, 22),
        Some(first),
        "to a neighbour on another node"
    );

    // Taken away, it is dead at once, for those who are connected as well.
    let held = lab.fabric.udp(0);
    let served = guests[0].udp(53);
    let hello = |from: &UdpSocket| {
        from.send_to(b"hello", (first, 53)).unwrap();
        served.recv(&mut [0; 8]).is_ok()
    };
    assert!(hello(&held));
    vpc.interfaces[0].public_address = None;
    nodes[0].must_apply(&document(2, vec![vpc.clone()]));
    assert!(!hello(&held), "an old connection outlived the address");
    assert_eq!(guests[0].call(user(), 443), None);
    assert_eq!(
        lab.fabric.call(second, 22),
        Some(user()),
        "others are not disturbed"
    );
}

#[test]
fn guests_of_one_node_reach_one_another_by_public_addresses() {
    if !may_run("guests_of_one_node_reach_one_another_by_public_addresses") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let (mut a, mut b) = (open_vpc(1, "172.31.0.0/24"), open_vpc(2, "172.31.0.0/24"));
    add_guest(&mut a, 0xa1, 1, "172.31.0.10");
    add_guest(&mut a, 0xa2, 1, "172.31.0.11");
    add_guest(&mut b, 0xb1, 1, "172.31.0.10");
    with_public(&mut a, 0, "10.98.0.10");
    with_public(&mut a, 1, "10.98.0.11");
    with_public(&mut b, 0, "10.98.0.12");
    node.must_apply(&document(1, vec![a.clone(), b.clone()]));
    let a1 = node.guest(&a, &a.interfaces[0]);
    let a2 = node.guest(&a, &a.interfaces[1]);
    let b1 = node.guest(&b, &b.interfaces[0]);
    a2.listen(80);
    let first = Some(address("10.98.0.10"));
    assert_eq!(a1.call(address("10.98.0.11"), 80), first, "of one subnet");
    b1.listen(80);
    assert_eq!(a1.call(address("10.98.0.12"), 80), first, "of two tenants");
}

#[test]
fn each_tenant_has_a_metadata_address_of_its_own() {
    if !may_run("each_tenant_has_a_metadata_address_of_its_own") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let (mut a, mut b) = (vpc(1, "172.31.0.0/24"), vpc(2, "172.31.0.0/24"));
    // A guest whose group lets nothing out reaches its metadata all the same.
    a.groups[0].egress.clear();
    let one = add_guest(&mut a, 1, 1, "172.31.0.10");
    let two = add_guest(&mut b, 2, 1, "172.31.0.10");
    node.must_apply(&document(1, vec![a.clone(), b.clone()]));
    let (one, two) = (node.guest(&a, &one), node.guest(&b, &two));
    let metadata = address("169.254.169.254");
    let inside = Space(node.inside(&a));
    inside.listen(80);
    std::mem::forget(inside);

    assert_eq!(one.call(metadata, 80), Some(address("172.31.0.10")));
    assert_eq!(
        two.call(metadata, 80),
        None,
        "b's metadata is not served yet"
    );
    // Some images have a route to all of 169.254.0.0/16 on the link itself.
    one.ip("route add 169.254.0.0/16 dev eth0");
    assert_eq!(one.call(metadata, 80), Some(address("172.31.0.10")));
    assert_eq!(one.call(metadata, 22), None);
}

#[test]
fn guests_do_not_reach_nodes_and_the_cloud() {
    if !may_run("guests_do_not_reach_nodes_and_the_cloud") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut vpc = open_vpc(1, "172.31.0.0/24");
    add_guest(&mut vpc, 1, 1, "172.31.0.10");
    with_public(&mut vpc, 0, "10.98.0.10");
    node.must_apply(&document(1, vec![vpc.clone()]));
    let guest = node.guest(&vpc, &vpc.interfaces[0]);
    guest.listen(22);
    lab.fabric.listen(8777);
    lab.fabric.listen(8773);
    node.space.listen(8775);
    node.space.listen(8773);
    let (cloud, own_node) = (address("10.99.0.1"), address("10.99.0.11"));

    assert_eq!(
        guest.call(user(), 8777),
        Some(address("10.98.0.10")),
        "the public side"
    );
    assert_eq!(guest.call(cloud, 8777), None, "the control plane");
    assert_eq!(
        guest.call(cloud, 8773),
        Some(address("10.98.0.10")),
        "the public API"
    );
    assert_eq!(guest.call(own_node, 8775), None, "its node, routed");
    assert_eq!(
        guest.call(own_node, 8773),
        None,
        "the port of the API where there is none"
    );
    assert_eq!(guest.call(address("172.31.0.1"), 8775), None, "its gateway");
    guest.ip("route add 10.99.0.0/24 dev eth0");
    assert_eq!(guest.call(own_node, 8775), None, "its node, on the link");
    let bridge = node.space.ip("-j link show dev mb10");
    let mac = bridge
        .split("\"address\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    guest.ip(&format!(
        "neigh replace 10.99.0.11 lladdr {mac} dev eth0 nud permanent"
    ));
    assert_eq!(
        guest.call(own_node, 8775),
        None,
        "its node, by the bridge's Ethernet address"
    );

    guest.ip("route del 10.99.0.0/24 dev eth0");
    // The cloud itself may call a guest, and gets its answer.
    lab.fabric
        .ip("route replace 10.98.0.10/32 dev fab src 10.99.0.1");
    assert_eq!(lab.fabric.call(address("10.98.0.10"), 22), Some(cloud));
}

/// The process that serves a VPC's leases.
fn dnsmasq_pid(node: &Node, vpc: &Vpc) -> String {
    let path = node
        .settings
        .run_dir
        .join(node.inside(vpc))
        .join("dnsmasq.pid");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn applying_again_does_nothing_and_removing_leaves_nothing() {
    if !may_run("applying_again_does_nothing_and_removing_leaves_nothing") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    assert_eq!(node.remains(), Vec::<String>::new());
    let mut vpc = spread();
    with_public(&mut vpc, 0, "10.98.0.10");
    let other = spread_elsewhere();
    let first = document(1, vec![vpc.clone(), other]);
    assert!(node.must_apply(&first).changes > 0);
    let pid = dnsmasq_pid(&node, &vpc);
    assert_eq!(node.must_apply(&first).changes, 0, "again");

    // A new guest disturbs neither dnsmasq nor who is connected, and gets its lease.
    let guest = add_guest(&mut vpc, 9, 1, "172.31.0.99");
    node.must_apply(&document(2, vec![vpc.clone()]));
    assert_eq!(dnsmasq_pid(&node, &vpc), pid, "a new host is a SIGHUP");
    let guest = node.bare_guest(&vpc, &guest);
    assert!(lease(&guest).contains("ip=172.31.0.99"));
    drop(guest);

    // A dnsmasq that died is started again; a namespace that vanished is made again.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(node.must_apply(&document(2, vec![vpc.clone()])).changes, 1);
    assert_ne!(dnsmasq_pid(&node, &vpc), pid);

    node.must_apply(&document(3, Vec::new()));
    assert_eq!(
        namespace::list(&node.settings.namespace_prefix),
        Vec::<String>::new()
    );
    node.apply_desired(Desired::default());
    assert_eq!(node.remains(), Vec::<String>::new());
}

fn spread_elsewhere() -> Vpc {
    let mut vpc = open_vpc(5, "10.0.0.0/16");
    add_guest(&mut vpc, 0x51, 1, "10.0.0.10");
    vpc
}

/// The host's tools, until the n-th call; from then on nothing runs, as after kill -9.
struct Dying {
    left: AtomicUsize,
}

#[async_trait]
impl Run for Dying {
    async fn run(&self, command: Command) -> io::Result<Output> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(io::Error::other("killed"));
        }
        Tools.run(command).await
    }
}

fn apply_and_die(node: &Node, document: &NetworkDocument, after: usize) {
    let run = Arc::new(Dying {
        left: AtomicUsize::new(after),
    });
    let applier = LinuxApplier::new(node.settings.clone(), run);
    let desired = net::compile(document, &node.settings);
    node.space.within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(applier.apply(&desired));
    });
}

#[test]
fn an_application_that_was_killed_anywhere_is_finished_by_the_next() {
    if !may_run("an_application_that_was_killed_anywhere_is_finished_by_the_next") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let mut vpc = spread();
    with_public(&mut vpc, 0, "10.98.0.10");
    let full = document(1, vec![vpc.clone()]);
    let none = document(2, Vec::new());
    for after in (0..24).step_by(2) {
        apply_and_die(&node, &full, after);
        node.must_apply(&full);
        assert_eq!(node.must_apply(&full).changes, 0, "after {after} calls");
        apply_and_die(&node, &none, after);
        node.must_apply(&none);
        assert_eq!(
            namespace::list(&node.settings.namespace_prefix),
            Vec::<String>::new()
        );
    }
    node.must_apply(&full);
    let guest = node.guest(&vpc, &vpc.interfaces[0]);
    guest.listen(22);
    assert_eq!(lab.fabric.call(address("10.98.0.10"), 22), Some(user()));
}

#[test]
fn a_vpc_that_fails_is_named_and_the_others_are_served() {
    if !may_run("a_vpc_that_fails_is_named_and_the_others_are_served") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let (mut a, mut b) = (open_vpc(1, "172.31.0.0/24"), open_vpc(2, "172.31.0.0/24"));
    add_guest(&mut a, 1, 1, "172.31.0.10");
    add_guest(&mut b, 2, 1, "172.31.0.10");
    // Something that is not ours has a's name already.
    node.space.ip("link add name mx10 type bridge");
    let mut desired = net::compile(&document(1, vec![a.clone(), b.clone()]), &node.settings);
    desired.vpcs[0].rules = "no ruleset at all".to_owned();
    let applied = node.apply_desired(desired);
    assert!(
        !applied.serves(&a.id) && applied.serves(&b.id),
        "{applied:?}"
    );
    assert!(applied.failures[0].why.contains("nft"), "{applied:?}");
    assert!(
        node.must_apply(&document(1, vec![a.clone(), b]))
            .serves(&a.id)
    );
}

/// How many connections a node has in its table.
fn tracked(node: &Node) -> usize {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    let (_, text) = node.space.run(&["cat", path]);
    text.trim().parse().unwrap()
}

#[test]
fn a_guest_that_calls_everybody_fills_its_own_share_and_not_the_nodes_table() {
    if !may_run("a_guest_that_calls_everybody_fills_its_own_share_and_not_the_nodes_table") {
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node(1);
    node.settings.connections_max = 50;
    let mut a = open_vpc(1, "172.31.0.0/24");
    let (one, two, three) = (
        add_guest(&mut a, 1, 1, "172.31.0.10"),
        add_guest(&mut a, 2, 1, "172.31.0.11"),
        add_guest(&mut a, 3, 1, "172.31.0.12"),
    );
    node.must_apply(&document(1, vec![a.clone()]));
    let greedy = node.guest(&a, &one);
    let [victim, other] = [&two, &three].map(|interface| node.guest(&a, interface));
    victim.listen(80);
    other.listen(80);
    greedy.listen(80);
    let (ten, eleven, twelve) = (
        address("172.31.0.10"),
        address("172.31.0.11"),
        address("172.31.0.12"),
    );
    let (mine, theirs) = (greedy.udp(9), victim.udp(9));
    let talk = || {
        let mut bytes = [0; 9];
        mine.send_to(b"ask", SocketAddrV4::new(eleven, 9))?;
        let (_, asker) = theirs.recv_from(&mut bytes)?;
        theirs.send_to(b"answer", asker)?;
        mine.recv(&mut bytes)
    };
    talk().unwrap();

    let out = greedy.wire("eth0");
    let flood = |ports: std::ops::Range<u16>| {
        for port in ports {
            let packet = frames::udp((ten.octets(), 7), (twelve.octets(), port), b"flood");
            out.send(&frames::frame(three.mac.0, one.mac.0, IPV4, &packet));
        }
        std::thread::sleep(SILENCE);
    };
    flood(1000..2000);
    assert!((50..80).contains(&tracked(&node)), "{}", tracked(&node));
    assert_eq!(greedy.call(eleven, 80), None, "no more for it");
    assert_eq!(
        other.call(eleven, 80),
        Some(twelve),
        "the others have theirs"
    );
    talk().expect("what it has goes on");

    // A change of the rules does not begin anew.
    a.groups[0].ingress.push(rule(tcp(81), "10.0.0.0/8"));
    node.must_apply(&document(2, vec![a.clone()]));
    flood(2000..3000);
    assert!(tracked(&node) < 80, "{}", tracked(&node));

    // What has ended counts no more.
    let short = "net.netfilter.nf_conntrack_udp_timeout=1";
    assert!(node.space.run(&["sysctl", "-qw", short]).0);
    flood(1000..1050);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(greedy.call(eleven, 80), Some(ten));
}
