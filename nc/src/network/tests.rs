use std::time::Duration;

use daemon::Context;
use net::{FakeApplier, run::Output};
use types::{
    instance::ShortId,
    network::{Interface, Subnet, Vpc},
};

use super::*;
use crate::fakes;

/// Long enough for a woken pass; the clock is paused, so it costs nothing.
const SOON: Duration = Duration::from_secs(120);

struct NoTools;

#[async_trait]
impl Run for NoTools {
    async fn run(&self, command: Command) -> std::io::Result<Output> {
        let gone = command.words.last().is_some_and(|tap| tap == "mt1");
        let stderr = if gone {
            "Cannot find device \"mt1\""
        } else {
            "Operation not permitted"
        };
        Ok(Output {
            success: false,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        })
    }
}

fn settings() -> NodeNetwork {
    NodeNetwork {
        node: fakes::node_id(),
        underlay: Ipv4Addr::new(10, 0, 0, 1),
        namespace_prefix: "t".to_owned(),
        public_bridge: None,
        forwarders: Vec::new(),
        connections_max: net::config::CONNECTIONS_MAX,
        run_dir: "/nonexistent".into(),
    }
}

fn vpc() -> Vpc {
    let wish = fakes::wish(1);
    let interface = wish.spec.interface;
    Vpc {
        id: interface.vpc,
        short: interface.vpc_short,
        owner: wish.spec.account,
        cidr: "172.31.0.0/16".parse().unwrap(),
        dns: Ipv4Addr::new(172, 31, 0, 2),
        domain: "internal".to_owned(),
        subnets: vec![Subnet {
            id: interface.subnet.clone(),
            short: interface.subnet_short,
            cidr: "172.31.0.0/20".parse().unwrap(),
            gateway: Ipv4Addr::new(172, 31, 0, 1),
            vni: 1,
            internet: false,
        }],
        groups: Vec::new(),
        interfaces: vec![Interface {
            id: interface.id,
            short: interface.short,
            instance: wish.instance,
            node: wish.node,
            subnet: interface.subnet,
            mac: interface.mac,
            private_address: Ipv4Addr::new(172, 31, 0, 10),
            public_address: None,
            groups: Vec::new(),
            hostname: "a".to_owned(),
        }],
    }
}

fn document(version: u64) -> NetworkDocument {
    NetworkDocument {
        version,
        vpcs: vec![vpc()],
        ..NetworkDocument::default()
    }
}

struct Node {
    network: Arc<Network>,
    applier: Arc<FakeApplier>,
    context: Context,
}

fn node(state: &Path) -> Node {
    let applier = Arc::new(FakeApplier::default());
    let network = Network::with(state, settings(), applier.clone(), Arc::new(NoTools)).unwrap();
    let context = Context::new("nc", "0", state);
    network.start(&context, Residents::default(), Signs::new().0);
    Node {
        network,
        applier,
        context,
    }
}

async fn reaches(network: &Network, version: u64) -> bool {
    let mut applied = network.applied();
    tokio::time::timeout(SOON, applied.wait_for(|now| now.serves(&vpc().id, version)))
        .await
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_document_is_applied_acknowledged_and_taken_up_by_the_next_life() {
    let state = tempfile::tempdir().unwrap();
    let Node {
        network,
        applier,
        context,
    } = node(state.path());
    assert_eq!(network.offer(document(7)).await.unwrap().version, 7);
    assert!(reaches(&network, 7).await);
    assert_eq!(applier.applied().version, 7);
    assert_eq!(network.places().borrow()[0].namespace, "t-1");
    context.cancel.cancel();

    let again = node(state.path());
    assert!(reaches(&again.network, 7).await, "without being told again");
    assert_eq!(again.network.held_version(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_older_document_is_answered_with_the_newer_version_and_ignored() {
    let state = tempfile::tempdir().unwrap();
    let Node {
        network, applier, ..
    } = node(state.path());
    network.offer(document(7)).await.unwrap();
    assert_eq!(network.offer(document(6)).await.unwrap().version, 7);
    assert_eq!(network.offer(document(7)).await.unwrap().version, 7);
    assert!(reaches(&network, 7).await);
    assert_eq!(applier.applied().version, 7);
}

#[tokio::test(start_paused = true)]
async fn a_vpc_that_cannot_be_applied_is_not_acknowledged_until_it_is_and_hinders_no_other() {
    let state = tempfile::tempdir().unwrap();
    let Node {
        network,
        applier,
        context,
    } = node(state.path());
    applier.fail_vpc(&vpc().id, true);
    network.offer(document(7)).await.unwrap();
    assert!(!reaches(&network, 7).await);
    let now = network.applied().borrow().clone();
    assert!(now.serves(&"vpc-00000002".parse().unwrap(), 7));
    assert!(now.hindrance(&vpc().id).unwrap().contains("told to fail"));
    assert!(
        network.places().borrow().is_empty(),
        "nor is the VPC served"
    );
    assert!(!context.ready.report().ready);

    applier.fail_vpc(&vpc().id, false);
    assert!(reaches(&network, 7).await);
    assert!(context.ready.report().ready);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_stops_the_start_and_is_named() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("network.json"), "{").unwrap();
    let applier = Arc::new(FakeApplier::default());
    let error = Network::with(state.path(), settings(), applier, Arc::new(NoTools))
        .err()
        .unwrap();
    assert!(error.to_string().contains("network.json"), "{error}");
}

#[tokio::test]
async fn a_tap_that_is_gone_is_success_and_one_that_stays_is_not() {
    let state = tempfile::tempdir().unwrap();
    let applier = Arc::new(FakeApplier::default());
    let network = Network::with(state.path(), settings(), applier, Arc::new(NoTools)).unwrap();
    let mut interface = fakes::wish(1).spec.interface;
    network.unplugged(&interface).await.unwrap();
    interface.short = ShortId(2);
    assert!(network.unplugged(&interface).await.is_err());
}

#[test]
fn the_hosts_resolvers_are_taken_but_for_those_on_its_loopback() {
    let text = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nnameserver fe80::1\nsearch a\n";
    assert_eq!(resolvers(text), [Ipv4Addr::new(10, 0, 0, 53)]);
}

#[test]
fn the_underlay_is_the_control_address_unless_that_is_every_address() {
    let settings = config::Network::default();
    let listen = |text: &str| underlay(&settings, text.parse().unwrap());
    assert_eq!(listen("10.0.0.5:8775").unwrap(), Ipv4Addr::new(10, 0, 0, 5));
    assert!(listen("0.0.0.0:8775").is_err());
}
