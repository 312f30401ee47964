//! What the compiler makes of a document, as text that a person has read.
//! `INSTA_UPDATE=always cargo nextest run -p mallee-net golden` writes it anew.

use crate::documents::{self, node, settings, two_tenants};

#[test]
fn the_ruleset_of_a_node() {
    let desired = net::compile(&two_tenants(), &settings(1));
    insta::assert_snapshot!(unsealed(&desired.rules.unwrap()));
}

#[test]
fn the_ruleset_of_a_vpc() {
    let desired = net::compile(&two_tenants(), &settings(1));
    insta::assert_snapshot!(unsealed(&desired.vpcs[0].rules));
}

#[test]
fn the_files_of_a_vpcs_dnsmasq() {
    let dhcp = &net::compile(&two_tenants(), &settings(1)).vpcs[0].dhcp;
    insta::assert_snapshot!(format!(
        "{}---\n{}---\n{}",
        dhcp.config, dhcp.hosts, dhcp.names
    ));
}

#[test]
fn the_links_and_addresses_of_a_vpc() {
    let mut desired = net::compile(&two_tenants(), &settings(1));
    let vpc = &mut desired.vpcs[0];
    vpc.rules.clear();
    vpc.dhcp = net::desired::DhcpFiles::default();
    insta::assert_snapshot!(format!("{vpc:#?}"));
}

#[test]
fn the_commands_that_make_a_vpc_from_nothing() {
    let desired = net::compile(&two_tenants(), &settings(1));
    let (node, inside) = (Default::default(), Default::default());
    let vpc = &desired.vpcs[0];
    let text = format!(
        "{}\n---\n{}\n---\n{}\n",
        net::plan::links(vpc, &node, &inside).join("\n"),
        net::plan::forwarding(vpc, &node).join("\n"),
        net::plan::inside(vpc, &inside).lines.join("\n"),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_node_without_guests_keeps_its_guard_and_nothing_else() {
    let desired = net::compile(&documents::document(1, Vec::new()), &settings(1));
    assert!(desired.vpcs.is_empty());
    insta::assert_snapshot!(unsealed(&desired.rules.unwrap()));
}

#[test]
fn what_cannot_be_is_left_out_and_named() {
    let mut document = two_tenants();
    let vpc = &mut document.vpcs[0];
    vpc.domain = "a\nserver=1.2.3.4".to_owned();
    vpc.interfaces[0].hostname = "x,y".to_owned();
    vpc.interfaces[1].private_address = vpc.interfaces[0].private_address;
    vpc.interfaces[2].subnet = "subnet-deadbeef".parse().unwrap();
    document.vpcs[1].interfaces[0].public_address = document.vpcs[0].interfaces[0].public_address;

    let desired = net::compile(&document, &settings(1));
    insta::assert_snapshot!(format!("{:#?}", desired.problems));
    assert_eq!(desired.vpcs[0].dhcp.hosts.lines().count(), 1);
    assert!(!desired.vpcs[0].dhcp.config.contains("1.2.3.4"));
}

#[test]
fn only_nodes_with_a_guest_in_a_subnet_are_flooded() {
    let desired = net::compile(&two_tenants(), &settings(1));
    let flood = |vpc: usize, segment: usize| desired.vpcs[vpc].segments[segment].flood.len();
    assert_eq!((flood(0, 0), flood(0, 1), flood(1, 0)), (1, 0, 0));
    let other = net::compile(&two_tenants(), &settings(2));
    assert_eq!(
        other.vpcs.len(),
        2,
        "VPC 1 and VPC 3 have guests on {}",
        node(2)
    );
    assert_eq!(other.vpcs[0].segments[1].flood.len(), 1);
}

/// A seal is a digest of the rest, and would make each change two.
fn unsealed(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.contains("chain seal_") {
                "  chain seal_… {"
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}
