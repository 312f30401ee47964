//! Copies of images on nodes: who reads the bundle, who waits, who takes it from whom; and what the
//! administrator may have done to the caches.

use control::{
    CallError, Cloud, Code, Role,
    caches::{Blocks, CachesAsk, Copied, CopyReport, WarmAsk},
    cloud::{Ticket, TicketAsk},
    node::ImageRef,
    rpc::Call,
};
use daemon::tls::Peer;
use image::keys::BundleKey;
use types::{NodeId, Zone};

use crate::{
    cloud::{bundle, call, service},
    rig::{Rig, node},
};

/// A bundle of which nothing runs any more.
async fn unused_bundle(rig: &Rig) -> (BundleKey, ImageRef) {
    let instance = rig.launch().await;
    rig.terminate(&instance).await;
    bundle(rig).await
}

struct Nodes {
    rig: Rig,
    service: std::sync::Arc<clc::control::Service>,
    image: ImageRef,
    all: Vec<NodeId>,
}

impl Nodes {
    /// Four nodes in the first zone, the last one in another; the administrator wants the image on
    /// all of them.
    async fn new() -> Self {
        let rig = Rig::new().await;
        let service = service(&rig);
        let (_, image) = unused_bundle(&rig).await;
        let all: Vec<NodeId> = (1..=4)
            .map(|n| format!("node-{n:017x}").parse().unwrap())
            .collect();
        let rows = all.clone();
        let add = move |tx: &store::Tx| {
            for (index, id) in rows.iter().enumerate() {
                let zone = if index == 3 { "mallee-1b" } else { "mallee-1a" };
                if index == 3 {
                    clc::rows::cloud::insert_zone(tx, &zone.parse().unwrap(), types::Timestamp(0))?;
                }
                clc::rows::nodes::insert(tx, &row(id, zone, index), types::Timestamp(0))?;
            }
            Ok::<_, store::Error>(())
        };
        rig.clc.db.write(add).await.unwrap();
        let warm = WarmAsk {
            image: image.id.clone(),
            nodes: all.clone(),
        };
        service.caches_warm(&call(), warm).await.unwrap();
        Self {
            rig,
            service,
            image,
            all,
        }
    }

    fn call(&self, number: usize) -> Call {
        let zone = if number == 3 {
            "mallee-1b"
        } else {
            "mallee-1a"
        };
        let peer = Peer::new(Role::Nc, self.all[number].as_str(), Some(zone));
        call().from_peer(peer.unwrap())
    }

    fn entry(&self) -> String {
        format!("{}_{}_r1.disk", self.image.id, self.image.manifest_sha256)
    }

    async fn ask(&self, number: usize, peers_failed: bool) -> Told {
        let ask = TicketAsk {
            image: self.image.clone(),
            entry: Some(self.entry()),
            peers_failed,
        };
        told(
            self.service
                .image_ticket(&self.call(number), ask)
                .await
                .unwrap(),
        )
    }

    async fn say(&self, number: usize, copy: Copied) -> Result<(), CallError> {
        let report = CopyReport {
            image: self.image.id.clone(),
            entry: self.entry(),
            copy,
        };
        self.service
            .image_copy(&self.call(number), report)
            .await
            .map(drop)
    }
}

fn row(id: &NodeId, zone: &str, index: usize) -> clc::rows::nodes::NodeRow {
    clc::rows::nodes::NodeRow {
        id: id.clone(),
        zone: zone.parse::<Zone>().unwrap(),
        address: format!("10.212.0.{}:8775", 21 + index).parse().unwrap(),
        hostname: format!("n{index}"),
        underlay: None,
        dead: false,
    }
}

#[derive(Debug, PartialEq)]
enum Told {
    Bundle,
    Wait(NodeId, u8),
    Peers(Vec<String>),
}

fn told(ticket: Ticket) -> Told {
    match (ticket.filled_by, ticket.parts.len()) {
        (Some(by), 0) => Told::Wait(by.node, by.percent),
        (None, 0) => {
            assert_eq!(ticket.blocks, Some(blocks("AAAA")));
            assert_eq!(ticket.key.reveal(), "", "no key without a bundle");
            let peers = ticket.peers.iter();
            Told::Peers(peers.map(|peer| peer.address.to_string()).collect())
        }
        (by, parts) => {
            assert_eq!((by, parts), (None, 2));
            Told::Bundle
        }
    }
}

fn blocks(sha256: &str) -> Blocks {
    Blocks {
        block_bytes: 4 << 20,
        file_bytes: 1 << 20,
        runs: vec![(0, 1)],
        sha256: sha256.to_owned(),
    }
}

fn whole(blocks: Option<Blocks>) -> Copied {
    Copied::Whole { blocks }
}

fn peers(last: &[u8]) -> Told {
    Told::Peers(last.iter().map(|n| format!("10.212.0.{n}:8775")).collect())
}

#[tokio::test]
async fn of_the_nodes_of_a_zone_one_reads_the_bundle_and_the_rest_take_it_from_there() {
    let nodes = Nodes::new().await;
    assert_eq!(nodes.ask(0, false).await, Told::Bundle);
    nodes.say(0, Copied::Filling { percent: 40 }).await.unwrap();
    assert_eq!(
        nodes.ask(1, false).await,
        Told::Wait(nodes.all[0].clone(), 40)
    );
    assert_eq!(
        nodes.ask(3, false).await,
        Told::Bundle,
        "another zone has nobody to wait for"
    );

    nodes.say(0, whole(Some(blocks("AAAA")))).await.unwrap();
    assert_eq!(nodes.ask(1, false).await, peers(&[21]));
    assert_eq!(nodes.ask(2, false).await, peers(&[22, 21]));
    nodes.say(1, whole(None)).await.unwrap();
    assert_eq!(nodes.ask(2, false).await, peers(&[21, 22]));
    assert_eq!(
        nodes.ask(2, true).await,
        Told::Bundle,
        "its peers could not give it"
    );

    // What is known outlives us; what was under way does not.
    nodes.say(0, Copied::Gone).await.unwrap();
    let mut nodes = nodes;
    nodes.rig.restart().await;
    nodes.service = service(&nodes.rig);
    let ask = WarmAsk {
        image: nodes.image.id.clone(),
        nodes: vec![],
    };
    nodes.service.caches_warm(&call(), ask).await.unwrap();
    assert_eq!(nodes.ask(2, false).await, peers(&[22]));
}

#[tokio::test]
async fn a_node_that_comes_to_other_bytes_is_no_source_and_a_stranger_tells_nothing() {
    let nodes = Nodes::new().await;
    nodes.ask(0, false).await;
    nodes.say(0, whole(Some(blocks("AAAA")))).await.unwrap();
    nodes.say(1, whole(Some(blocks("BBBB")))).await.unwrap();
    assert_eq!(nodes.ask(2, false).await, peers(&[21]));

    let stranger = Peer::new(Role::Nc, "node-0eeeeeeeeeeeeeeee", Some("mallee-1a")).unwrap();
    let stranger = call().from_peer(stranger);
    let report = |entry: String| CopyReport {
        image: nodes.image.id.clone(),
        entry,
        copy: whole(Some(blocks("CCCC"))),
    };
    let refused = nodes
        .service
        .image_copy(&stranger, report(nodes.entry()))
        .await;
    assert_eq!(refused.unwrap_err().code, Code::Forbidden);
    let odd = report("emi-0000000000000000a_x_r1.disk".to_owned());
    let refused = nodes.service.image_copy(&nodes.call(0), odd).await;
    assert_eq!(refused.unwrap_err().code, Code::Invalid);
}

#[tokio::test]
async fn the_administrators_wish_lets_a_node_fetch_and_names_what_there_is_not() {
    let rig = Rig::new().await;
    let service = service(&rig);
    let (_, image) = unused_bundle(&rig).await;
    let of_node =
        call().from_peer(Peer::new(Role::Nc, node().as_str(), Some("mallee-1a")).unwrap());
    let ask = TicketAsk {
        image: image.clone(),
        entry: None,
        peers_failed: false,
    };
    let before = service.image_ticket(&of_node, ask.clone()).await;
    assert_eq!(before.unwrap_err().code, Code::Forbidden);

    let warm = |id: &str, nodes| WarmAsk {
        image: id.parse().unwrap(),
        nodes,
    };
    let unknown = service
        .caches_warm(&call(), warm("emi-00000000", vec![]))
        .await;
    assert_eq!(unknown.unwrap_err().code, Code::NotFound);
    let nobody = vec!["node-0eeeeeeeeeeeeeeee".parse().unwrap()];
    let unknown = service
        .caches_warm(&call(), warm(image.id.as_str(), nobody))
        .await;
    assert_eq!(unknown.unwrap_err().code, Code::NotFound);

    let asked = service
        .caches_warm(&call(), warm(image.id.as_str(), vec![]))
        .await
        .unwrap();
    assert_eq!(asked.nodes.len(), 1);
    assert!(
        asked.nodes[0].error.contains("does not reach it"),
        "the fake cluster has no nodes"
    );
    assert_eq!(
        service
            .image_ticket(&of_node, ask)
            .await
            .unwrap()
            .parts
            .len(),
        2
    );
    let listed = service.caches(&call(), CachesAsk::default()).await.unwrap();
    assert_eq!(listed.nodes[0].node, node());
}
