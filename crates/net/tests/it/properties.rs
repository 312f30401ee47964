//! What holds for every document.

use std::collections::BTreeSet;

use net::{Desired, names};
use proptest::prelude::*;
use types::{
    instance::ShortId,
    network::{NetworkDocument, Protocol, Vpc},
};

use crate::documents::{add_guest, document, rule, settings, vpc};

/// A short id of any size that the type allows.
fn short() -> impl Strategy<Value = ShortId> {
    prop_oneof![0u32..64, any::<u32>()].prop_map(ShortId)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::All),
        any::<(u16, u16)>().prop_map(|(from, to)| Protocol::Tcp { from, to }),
        any::<(u16, u16)>().prop_map(|(from, to)| Protocol::Udp { from, to }),
        any::<(Option<u8>, Option<u8>)>().prop_map(|(kind, code)| Protocol::Icmp { kind, code }),
        any::<u8>().prop_map(|number| Protocol::Number { number }),
    ]
}

prop_compose! {
    fn any_vpc()(
        n in 1u32..8,
        shorts in proptest::array::uniform3(short()),
        guests in proptest::collection::vec((short(), 1u32..4, 3u8..=255, any::<bool>(), ".{0,12}"), 0..6),
        rules in proptest::collection::vec((protocol(), any::<u32>(), 0u8..=32), 0..4),
    ) -> Vpc {
        let mut vpc = vpc(n, "172.31.0.0/24");
        (vpc.short, vpc.subnets[0].short, vpc.groups[0].short) = (shorts[0], shorts[1], shorts[2]);
        for (protocol, net, prefix) in rules {
            let from = format!("{}/{prefix}", std::net::Ipv4Addr::from(net));
            vpc.groups[0].ingress.push(rule(protocol, &from));
        }
        for (short, on, last, public, hostname) in guests {
            add_guest(&mut vpc, short.0, on, &format!("172.31.0.{last}"));
            let guest = vpc.interfaces.last_mut().unwrap();
            guest.hostname = hostname;
            guest.public_address = public.then(|| std::net::Ipv4Addr::new(10, 98, 0, last));
        }
        vpc
    }
}

fn any_document() -> impl Strategy<Value = NetworkDocument> {
    proptest::collection::vec(any_vpc(), 0..5).prop_map(|vpcs| document(1, vpcs))
}

/// The names that a node's namespace would have, in the order of their making.
fn names(desired: &Desired) -> Vec<&str> {
    let segments = desired.vpcs.iter().flat_map(|vpc| &vpc.segments);
    let uplinks = desired.vpcs.iter().filter_map(|vpc| vpc.uplink.as_ref());
    segments
        .flat_map(|s| [s.bridge.as_str(), s.vxlan.as_str(), s.router_port.as_str()])
        .chain(uplinks.map(|uplink| uplink.port.as_str()))
        .collect()
}

proptest! {
    #[test]
    fn no_two_vpcs_share_a_name_and_every_name_fits(document in any_document()) {
        let desired = net::compile(&document, &settings(1));
        let names = names(&desired);
        prop_assert!(names.iter().all(|name| name.len() <= 15));
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());

        let namespaces: BTreeSet<_> = desired.vpcs.iter().map(|vpc| &vpc.namespace).collect();
        prop_assert_eq!(namespaces.len(), desired.vpcs.len());
        prop_assert!(namespaces.iter().all(|name| names::is_namespace_of("m1", name)));
    }

    #[test]
    fn no_text_of_the_document_becomes_a_line_of_its_own(document in any_document()) {
        for vpc in net::compile(&document, &settings(1)).vpcs {
            for line in vpc.dhcp.hosts.lines() {
                prop_assert_eq!(line.split(',').count(), 4, "{}", line);
                prop_assert!(line.starts_with("d0:0d:"));
            }
            for line in vpc.dhcp.names.lines() {
                prop_assert_eq!(line.split(' ').count(), 3, "{}", line);
                prop_assert!(line.starts_with("172.31."));
            }
        }
    }

    #[test]
    fn a_guest_of_this_node_has_its_guard_or_is_named_as_a_problem(document in any_document()) {
        let desired = net::compile(&document, &settings(1));
        let rules = desired.rules.as_deref().unwrap_or_default();
        let (sound, _) = net::check::sound(&document);
        for guest in sound.vpcs.iter().flat_map(|vpc| &vpc.interfaces) {
            let here = guest.node == settings(1).node;
            prop_assert_eq!(rules.contains(&format!("\"{}\" : goto", guest.tap())), here);
        }
        let dropped = document.vpcs.iter().map(|v| v.interfaces.len()).sum::<usize>()
            != sound.vpcs.iter().map(|v| v.interfaces.len()).sum::<usize>();
        prop_assert!(!dropped || !desired.problems.is_empty());
    }

    #[test]
    fn what_has_been_compiled_twice_is_equal(document in any_document()) {
        prop_assert_eq!(net::compile(&document, &settings(1)), net::compile(&document, &settings(1)));
    }
}

/// Whether nft itself takes what we write; it needs a namespace, and so root.
#[test]
fn nft_takes_every_ruleset() {
    if !crate::lab::may_run("nft_takes_every_ruleset") {
        return;
    }
    let lab = crate::lab::Space::new("nft");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&any_document(), |document| {
        let desired = net::compile(&document, &settings(1));
        let vpcs = desired.vpcs.iter().map(|vpc| &vpc.rules);
        for text in desired.rules.iter().chain(vpcs) {
            lab.nft(text)
                .map_err(|why| TestCaseError::fail(format!("{why}\n{text}")))?;
        }
        Ok(())
    });
    outcome.unwrap();
}
