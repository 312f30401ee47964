//! The same, as it really travels: the CLC's calls and a node's, over mutual TLS.

use std::sync::Arc;

use cc::{Cc, Dial, book::Limits, ledger::SqliteLedger, relay::Timing, schedule::Policy};
use control::{
    Client, Cluster, Code, Node, Role,
    cluster::{ClusterChange, HoldAsk, Roster, RosterNode},
    feed::Poll,
    node::Seen,
    rpc::Call,
};
use daemon::Context;
use testkit::{
    node::{FakeNode, Manner},
    samples,
    tls::{Certificates, serve},
};

struct OverTls(Arc<rustls::ClientConfig>);

impl Dial for OverTls {
    fn node(&self, line: &RosterNode) -> Arc<dyn Node> {
        Arc::new(Client::new(
            &self.0,
            line.address,
            Role::Nc,
            Some(line.node.as_str()),
        ))
    }
}

#[tokio::test]
async fn a_launch_goes_from_the_clc_over_the_cc_to_a_node_and_back() {
    let certificates = Certificates::new();
    let (clc, own) = (
        certificates.of(Role::Clc, "main"),
        certificates.of(Role::Cc, "mallee-1a"),
    );
    let node = FakeNode::new(samples::node(1), Manner::quick(samples::smalls(2)), 1);
    let nc = certificates.of(Role::Nc, node.id().as_str());
    let node_served = serve(&nc, control::node::routes(Arc::new(node.clone()))).await;

    let folder = tempfile::tempdir().unwrap();
    let context = Context::new("cc", "0", folder.path());
    let limits = Limits {
        policy: Policy::Greedy,
        lease_ms: 60_000,
        unreachable_ms: 15_000,
        missing_ms: 60_000,
    };
    let ledger = Arc::new(SqliteLedger::open(folder.path().join("cc.db")).unwrap());
    let dial = Arc::new(OverTls(own.client_config()));
    let cc = Cc::start(&context, limits, Timing::default(), ledger, dial)
        .await
        .unwrap();
    let served = serve(&own, control::cluster::routes(Arc::new(cc))).await;

    let client = Client::new(&clc.client_config(), served.address, Role::Cc, None);
    let far: &dyn Cluster = &client;
    let call = Call::new("req-1");
    let line = RosterNode {
        node: node.id().clone(),
        address: node_served.address,
        dead: false,
    };
    far.roster(
        &call,
        Roster {
            generation: 1,
            nodes: vec![line],
        },
    )
    .await
    .unwrap();
    let first = far
        .changes(
            &call,
            Poll {
                after: None,
                wait_ms: 5_000,
            },
        )
        .await
        .unwrap();
    let ask = HoldAsk {
        reservation: samples::reservation(1),
        instances: vec![samples::instance(1)],
        min_count: 1,
        shape: samples::smalls(1),
    };
    let place = far
        .hold(&call, ask.clone())
        .await
        .unwrap()
        .placements
        .remove(0);
    let wish = samples::wish(
        place.instance,
        ask.reservation.clone(),
        place.node,
        place.epoch,
    );
    assert_eq!(far.instance(&call, wish).await.unwrap().generation, 1);

    let mut after = first.position;
    loop {
        let poll = Poll {
            after: Some(after),
            wait_ms: 5_000,
        };
        let news = far.changes(&call, poll).await.unwrap();
        let runs = |change: &ClusterChange| {
            matches!(change,
            ClusterChange::Instance(report) if report.seen == Seen::Running)
        };
        if news.items.iter().any(runs) {
            break;
        }
        assert!(!news.items.is_empty(), "nothing new in five seconds");
        after = news.position;
    }

    // A node may not call what only the CLC may.
    let intruder = Client::new(&nc.client_config(), served.address, Role::Cc, None);
    assert_eq!(
        intruder.hold(&call, ask).await.unwrap_err().code,
        Code::Forbidden
    );
    context.cancel.cancel();
}
