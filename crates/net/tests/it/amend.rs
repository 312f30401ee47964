//! The short way leads where a look at everything would have led.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use net::{
    Applier, LinuxApplier, amend, compile,
    run::{Command, Output, Run},
};
use types::network::{NetworkDocument, Vpc};

use crate::{
    documents::{add_guest, address, cidr, document, rule, settings, tcp, two_tenants, vpc},
    lab::{Lab, Node, PATIENCE, Tools, may_run, user},
};

fn next(document: &NetworkDocument) -> NetworkDocument {
    NetworkDocument {
        version: document.version + 1,
        ..document.clone()
    }
}

/// How many VPCs the way from one document to the other touches; none if it takes a look.
fn way(from: &NetworkDocument, to: &NetworkDocument) -> Option<usize> {
    let (from, to) = (compile(from, &settings(1)), compile(to, &settings(1)));
    let amendments = amend::between(&from, &to)?;
    let idle = |a: &&amend::Amendment<'_>| {
        !a.rules && a.bridge.is_empty() && a.inside.lines.is_empty() && !a.inside.announce
    };
    Some(amendments.iter().filter(|a| !idle(a)).count())
}

#[test]
fn guests_come_and_go_without_a_look() {
    let old = two_tenants();
    let mut new = next(&old);
    assert_eq!(way(&old, &new), Some(0), "nothing has changed here");
    add_guest(&mut new.vpcs[0], 0xa9, 1, "172.31.0.99");
    new.vpcs[0].interfaces[3].public_address = Some(address("10.98.0.99"));
    assert_eq!(way(&old, &new), Some(1));
    assert_eq!(way(&new, &old), Some(1));
    add_guest(&mut new.vpcs[1], 0xb9, 2, "172.31.0.99");
    assert_eq!(way(&old, &new), Some(2), "a guest elsewhere is a neighbour");
}

#[test]
fn the_same_again_and_what_changes_links_take_a_look() {
    let old = two_tenants();
    assert_eq!(way(&old, &old), None);
    let changed = |change: &dyn Fn(&mut NetworkDocument)| {
        let mut new = next(&old);
        change(&mut new);
        way(&old, &new)
    };
    assert_eq!(changed(&|new| new.vpcs.truncate(1)), None);
    assert_eq!(changed(&|new| new.vpcs[0].subnets[0].vni += 1), None);
    assert_eq!(changed(&|new| new.vpcs[0].subnets.truncate(1)), None);
    assert_eq!(changed(&|new| new.public = None), None);
    assert_eq!(changed(&|new| new.vpcs.swap(0, 1)), None);
    assert_eq!(
        changed(&|new| new.vpcs[0].cidr = cidr("172.16.0.0/12")),
        None
    );
}

/// The host's tools, counted.
#[derive(Default)]
struct Counted(AtomicUsize);

#[async_trait]
impl Run for Counted {
    async fn run(&self, command: Command) -> std::io::Result<Output> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Tools.run(command).await
    }
}

/// An applier that lives on.
struct Living {
    applier: Arc<LinuxApplier>,
    calls: Arc<Counted>,
}

impl Living {
    fn on(node: &Node) -> Self {
        let calls = Arc::new(Counted::default());
        let applier = LinuxApplier::new(node.settings.clone(), calls.clone());
        Self {
            applier: Arc::new(applier),
            calls,
        }
    }

    /// Applies, and gives how many tools that took.
    fn apply(&self, node: &Node, document: &NetworkDocument) -> usize {
        let desired = compile(document, &node.settings);
        let before = self.calls.0.load(Ordering::Relaxed);
        let applier = self.applier.clone();
        let applied = node.space.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(applier.apply(&desired))
        });
        assert_eq!(applied.failures, []);
        self.calls.0.load(Ordering::Relaxed) - before
    }
}

fn spread() -> Vpc {
    let mut vpc = vpc(1, "172.31.0.0/24");
    vpc.groups[0].ingress = vec![rule(tcp(22), "0.0.0.0/0")];
    add_guest(&mut vpc, 0xa1, 1, "172.31.0.10");
    add_guest(&mut vpc, 0xa2, 2, "172.31.0.11");
    vpc
}

#[test]
fn after_the_short_way_a_look_finds_nothing_to_do() {
    if !may_run("after_the_short_way_a_look_finds_nothing_to_do") {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let living = Living::on(&node);
    let mut vpc = spread();
    let look = living.apply(&node, &document(1, vec![vpc.clone()]));

    let fabric = lab.fabric.wire("fab");
    let guest = add_guest(&mut vpc, 9, 1, "172.31.0.99");
    vpc.interfaces[2].public_address = Some(address("10.98.0.99"));
    add_guest(&mut vpc, 10, 2, "172.31.0.98");
    let two = document(2, vec![vpc.clone()]);
    let short = living.apply(&node, &two);
    assert!(
        short <= 3 && short < look,
        "{short} tools, {look} for a look"
    );
    let announced = [10, 98, 0, 99];
    assert!(fabric.sees(&[&announced[..], &[0; 6], &announced].concat(), PATIENCE));
    assert_eq!(node.must_apply(&two).changes, 0);

    let guest = node.guest(&vpc, &guest);
    guest.listen(22);
    assert_eq!(lab.fabric.call(address("10.98.0.99"), 22), Some(user()));

    vpc.interfaces[2].public_address = None;
    vpc.interfaces.truncate(3);
    let three = document(3, vec![vpc.clone()]);
    living.apply(&node, &three);
    assert_eq!(node.must_apply(&three).changes, 0);
}

#[test]
fn what_was_broken_meanwhile_is_repaired_by_the_same_version_or_where_it_is_in_the_way() {
    if !may_run(
        "what_was_broken_meanwhile_is_repaired_by_the_same_version_or_where_it_is_in_the_way",
    ) {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    let living = Living::on(&node);
    let mut vpc = spread();
    let one = document(1, vec![vpc.clone()]);
    living.apply(&node, &one);

    node.space.ip("link del mb10");
    add_guest(&mut vpc, 9, 1, "172.31.0.99");
    let two = document(2, vec![vpc.clone()]);
    living.apply(&node, &two);
    assert_eq!(node.must_apply(&two).changes, 0, "a bridge that vanished");

    let inside = node.inside(&vpc);
    node.space.ip(&format!("-n {inside} addr flush dev s10"));
    living.apply(&node, &two);
    assert_eq!(node.must_apply(&two).changes, 0, "an address that vanished");
}
