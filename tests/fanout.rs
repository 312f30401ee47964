//! N nodes without a shared folder that want one image at the same moment: real caches with mutual
//! TLS between them, and the Cloud Controller's own decisions of who waits for whom. What it costs
//! the store is counted, with nodes that die on the way at seeded moments.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "../nc/tests/images/store.rs"]
#[allow(dead_code, unreachable_pub, reason = "the faults are for other tests")]
mod store;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use clc::copies::{AGAIN_MS, Copies, From};
use control::{
    CallError, Role,
    caches::{Blocks, Copied, CopyPeer, CopyReport, FilledBy},
    cloud::{Ticket, TicketAsk},
};
use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, Form, Settings, Tickets, lease::LeaseTimes, peers::PeerTimes},
};
use store::{Store, noise};
use testkit::{
    seed,
    tls::{Certificates, Served, serve},
};
use types::{NodeId, Zone};

const ZONE: &str = "mallee-1a";
const IMAGE_BYTES: usize = 44 << 20;

/// The Cloud Controller as the nodes see it: its decisions, and rows in memory.
struct Cloud {
    store: Arc<Store>,
    copies: Copies,
    begun: Instant,
    zone: Zone,
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    rows: Mutex<(Option<Blocks>, Vec<NodeId>)>,
}

/// The same, for one node.
struct AsNode(Arc<Cloud>, NodeId);

impl Cloud {
    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

#[async_trait]
impl Tickets for AsNode {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        let Self(cloud, node) = self;
        let whole_ticket = cloud.store.ticket(ask.clone()).await?;
        let Some(entry) = &ask.entry else {
            return Ok(whole_ticket);
        };
        let (blocks, whole) = cloud.rows.lock().unwrap().clone();
        let known = blocks.is_some().then_some(&whole[..]);
        let of = (&cloud.zone, entry.as_str());
        let from = cloud
            .copies
            .ask(of, node, known, ask.peers_failed, cloud.now_ms());
        let parts = Vec::new();
        Ok(match from {
            From::Bundle => whole_ticket,
            From::Wait { node, percent } => Ticket {
                parts,
                filled_by: Some(FilledBy {
                    node,
                    percent,
                    again_ms: AGAIN_MS,
                }),
                ..whole_ticket
            },
            From::Peers(peers) => {
                let addresses = cloud.addresses.lock().unwrap();
                let peer = |node: NodeId| CopyPeer {
                    address: addresses[&node],
                    node,
                };
                Ticket {
                    parts,
                    blocks,
                    peers: peers.into_iter().map(peer).collect(),
                    ..whole_ticket
                }
            }
        })
    }

    async fn copied(&self, report: CopyReport) -> Result<(), CallError> {
        let Self(cloud, node) = self;
        if let Copied::Whole { blocks } = &report.copy {
            let mut rows = cloud.rows.lock().unwrap();
            rows.0 = rows.0.take().or_else(|| blocks.clone());
            rows.1.push(node.clone());
        }
        let of = (&cloud.zone, report.entry.as_str());
        cloud.copies.on(of, node, &report.copy, cloud.now_ms());
        Ok(())
    }
}

struct Node {
    cache: Cache,
    _served: Served,
    folder: tempfile::TempDir,
}

async fn node(certificates: &Certificates, cloud: &Arc<Cloud>, number: usize) -> Node {
    let (name, folder) = (format!("node-{number:08x}"), tempfile::tempdir().unwrap());
    let id: NodeId = name.parse().unwrap();
    let tls = certificates.of(Role::Nc, &name);
    let settings = Settings {
        folder: folder.path().to_owned(),
        node: id.clone(),
        limit_bytes: Some(1 << 30),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: tls.client_config(),
        lease: LeaseTimes::default(),
        patience: Duration::from_secs(20),
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    };
    let cache = Cache::new(settings, Arc::new(AsNode(cloud.clone(), id.clone())));
    let served = serve(
        &tls,
        control::blocks::routes(Some(ZONE.to_owned()), cache.serving()),
    )
    .await;
    cloud.addresses.lock().unwrap().insert(id, served.address);
    Node {
        cache,
        _served: served,
        folder,
    }
}

/// One spread of an image over so many nodes; `deaths` of them end on the way.
struct Spread {
    hits: usize,
    parts: usize,
    took: Duration,
}

async fn spread(nodes: usize, deaths: usize, rng: &mut seed::TestRng) -> Spread {
    let (certificates, image) = (Certificates::new(), noise(IMAGE_BYTES));
    let cloud = Arc::new(Cloud {
        store: Store::serve(&image).await,
        copies: Copies::default(),
        begun: Instant::now(),
        zone: ZONE.parse().unwrap(),
        addresses: Mutex::default(),
        rows: Mutex::default(),
    });
    let begun = Instant::now();
    let mut launches = Vec::new();
    for number in 1..=nodes {
        let node = node(&certificates, &cloud, number).await;
        let image = cloud.store.image();
        // At the same moment but for the network's whims; those who die do so within two seconds.
        let delay = Duration::from_millis(seed::below(rng, 50));
        let dies = number <= deaths;
        let life = Duration::from_millis(seed::below(rng, 2000));
        launches.push(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let holder = "i-00000001".parse().unwrap();
            let held = node.cache.hold(&image, Form::Disk, &holder, &|_| {});
            if dies {
                let _dead = tokio::time::timeout(life, held).await;
                return None;
            }
            Some((held.await.unwrap(), node))
        }));
    }
    let mut alive = Vec::new();
    for launch in launches {
        alive.extend(launch.await.unwrap());
    }
    let took = begun.elapsed();
    assert_eq!(alive.len(), nodes - deaths);
    for (path, node) in &alive {
        assert!(path.starts_with(node.folder.path()));
        assert!(
            std::fs::read(path).unwrap() == image,
            "each has the image, byte for byte"
        );
    }
    Spread {
        hits: cloud.store.hits(),
        parts: cloud.store.parts(),
        took,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n_nodes_that_begin_at_the_same_moment_cost_the_store_one_read() {
    let seed = seed::asked().unwrap_or_else(rand::random);
    let _told = seed::Told { seed, steps: 0 };
    let mut rng = seed::rng(seed);
    let mut alone = Duration::ZERO;
    for nodes in [1, 2, 4, 8] {
        let Spread { hits, parts, took } = spread(nodes, 0, &mut rng).await;
        if nodes == 1 {
            alone = took;
        }
        let ratio = took.as_secs_f64() / alone.as_secs_f64();
        println!("{nodes} nodes: {hits} parts read of {parts}, {took:?}, {ratio:.2} x one node");
        assert_eq!(hits, parts, "{nodes} nodes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_die_on_the_way_hold_up_nobody_and_cost_at_most_a_read_each() {
    let seed = seed::asked().unwrap_or_else(rand::random);
    let rounds = if std::env::var("MALLEE_LONG").is_ok() {
        40
    } else {
        2
    };
    let _told = seed::Told {
        seed,
        steps: rounds,
    };
    let mut rng = seed::rng(seed);
    for _ in 0..rounds {
        let deaths = 1 + seed::below(&mut rng, 3) as usize;
        let Spread { hits, parts, .. } = spread(6, deaths, &mut rng).await;
        println!("{deaths} of 6 died: {hits} parts read of {parts}");
        assert!(
            hits <= parts * (deaths + 1),
            "{hits} of {parts} after {deaths} deaths"
        );
    }
}
