//! H11: a storm of launches of what is in no cache. All that comes to a node, from the store and from
//! other nodes, shares what images may take of its link, and so does all that leaves it; a guest that
//! talks over the same link meanwhile has the rest of it. Counted by the kernel, on a real link.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a laboratory, made by hand

#[path = "bandwidth/link.rs"]
mod link;
#[path = "images/store.rs"]
#[allow(dead_code, reason = "the faults are for other tests")]
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use control::{
    CallError, Role,
    caches::{Blocks, Copied, CopyPeer, CopyReport},
    cloud::{Ticket, TicketAsk},
    node::ImageRef,
};
use futures_util::future::join_all;
use link::{GUESTS_PEER, Link, NODE, REST};
use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, Form, Settings, Tickets, lease::LeaseTimes, peers::PeerTimes},
};
use store::{Store, noise};
use testkit::tls::{Certificates, Served, serve_at};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use types::{ImageId, Secret};

const MIB: u64 = 1 << 20;
/// What images may take, each way.
const LIMIT_BYTES_PER_S: u64 = 8 * MIB;
/// What passes at once after a pause.
const BURST_BYTES: u64 = LIMIT_BYTES_PER_S / 10;
/// What is in the sockets of all transfers.
const SOCKETS_BYTES: u64 = 4 * MIB;
/// What other nodes send before it is counted here: the blocks that a fetch asks for ahead.
const AHEAD_BYTES: u64 = 16 * MIB;
/// What a guest sends and receives meanwhile: images would need eight seconds for it.
const GUEST_BYTES: u64 = 64 * MIB;
/// Headers, and what the other direction is told of having come.
const OVERHEAD: f64 = 1.03;
/// No busy machine makes a node give up a peer.
const PATIENT: PeerTimes = PeerTimes {
    block: Duration::from_secs(100),
    serve: Duration::from_secs(90),
};

/// What the Cloud Controller would tell: who has which image, and its blocks.
struct Cloud {
    stores: BTreeMap<ImageId, Arc<Store>>,
    blocks: Mutex<BTreeMap<ImageId, Blocks>>,
}

/// The same for one node, which is sent to those peers for those images.
struct Told(Arc<Cloud>, BTreeMap<ImageId, CopyPeer>);

impl Cloud {
    async fn of(images: &[Vec<u8>]) -> (Arc<Self>, Vec<ImageRef>) {
        let (mut stores, mut refs) = (BTreeMap::new(), Vec::new());
        for image in images {
            let store = Store::serve_at(REST, image).await;
            refs.push(store.image());
            stores.insert(store.image().id, store);
        }
        let blocks = Mutex::default();
        (Arc::new(Self { stores, blocks }), refs)
    }

    /// How often the bundle of that image was read, in parts.
    fn reads(&self, image: &ImageRef) -> (usize, usize) {
        let store = &self.stores[&image.id];
        (store.hits(), store.parts())
    }
}

#[async_trait]
impl Tickets for Told {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        let Self(cloud, peers) = self;
        let image = ask.image.id.clone();
        let mut ticket = cloud.stores[&image].ticket(ask).await?;
        if let Some(peer) = peers.get(&image) {
            (ticket.parts, ticket.key) = (Vec::new(), Secret::new(String::new()));
            ticket.blocks = cloud.blocks.lock().unwrap().get(&image).cloned();
            ticket.peers = vec![peer.clone()];
        }
        Ok(ticket)
    }

    async fn copied(&self, report: CopyReport) -> Result<(), CallError> {
        if let Copied::Whole {
            blocks: Some(blocks),
        } = report.copy
        {
            let mut known = self.0.blocks.lock().unwrap();
            known.insert(report.image.clone(), blocks);
        }
        Ok(())
    }
}

/// Somebody with the certificate of a node, at one end of the link.
#[derive(Clone)]
struct Fellow {
    tls: Arc<daemon::tls::Tls>,
    name: String,
    folder: PathBuf,
}

impl Fellow {
    fn new(certificates: &Certificates, number: u32, below: &Path) -> Self {
        let name = format!("node-{number:08x}");
        Self {
            tls: Arc::new(certificates.of(Role::Nc, &name)),
            folder: below.join(&name),
            name,
        }
    }

    /// Its cache, which may take so much, and is told so.
    fn cache(
        &self,
        bandwidth: Bandwidth,
        cloud: &Arc<Cloud>,
        from: &[(&ImageRef, &CopyPeer)],
    ) -> Cache {
        let settings = Settings {
            folder: self.folder.clone(),
            node: self.name.parse().unwrap(),
            limit_bytes: Some(1 << 30),
            grub: "/usr/lib/grub/i386-pc".into(),
            tls: self.tls.client_config(),
            lease: LeaseTimes::default(),
            patience: Duration::from_secs(60),
            peers: PATIENT,
            bandwidth,
        };
        let peer = |(image, peer): &(&ImageRef, &CopyPeer)| (image.id.clone(), (*peer).clone());
        let peers = from.iter().map(peer).collect();
        Cache::new(settings, Arc::new(Told(cloud.clone(), peers)))
    }

    async fn serve(&self, at: std::net::Ipv4Addr, cache: &Cache) -> (Served, CopyPeer) {
        let routes = control::blocks::routes(Some("mallee-1a".to_owned()), cache.serving());
        let served = serve_at(at, &self.tls, routes).await;
        let peer = CopyPeer {
            node: self.name.parse().unwrap(),
            address: served.address,
        };
        (served, peer)
    }
}

/// Has images in a cache, all at once; returns how long that took.
async fn fetch(cache: Cache, images: Vec<ImageRef>) -> Duration {
    let begun = Instant::now();
    let holds = images.iter().zip(1_u32..).map(|(image, number)| {
        let (cache, holder) = (&cache, format!("i-{number:08x}").parse().unwrap());
        async move { cache.hold(image, Form::Disk, &holder, &|_| {}).await }
    });
    for held in join_all(holds).await {
        held.unwrap();
    }
    begun.elapsed()
}

/// Has an image in a cache, and what its blocks are told.
async fn first(cache: Cache, image: ImageRef, cloud: Arc<Cloud>) {
    fetch(cache, vec![image.clone()]).await;
    while !cloud.blocks.lock().unwrap().contains_key(&image.id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whom guests talk to: takes all that comes, and sends as much.
async fn answer_guest(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    both_ways(stream).await;
}

async fn both_ways(stream: TcpStream) {
    let (from, mut to) = stream.into_split();
    let send = async {
        let piece = vec![7; MIB as usize];
        for _ in 0..GUEST_BYTES / MIB {
            to.write_all(&piece).await.unwrap();
        }
    };
    let receive = async {
        let mut sink = tokio::io::sink();
        let taken = tokio::io::copy(&mut from.take(GUEST_BYTES), &mut sink).await;
        assert_eq!(taken.unwrap(), GUEST_BYTES);
    };
    tokio::join!(send, receive);
}

/// What was seen on the link at a moment.
#[derive(Debug)]
struct Seen {
    after: Duration,
    incoming: u64,
    outgoing: u64,
    /// Whether the guest has had all of its traffic.
    guest_is_done: bool,
}

impl Seen {
    /// No more has passed than might, with what is there at once.
    fn holds(&self) {
        let may = |ahead: u64| {
            let paid = self.after.as_secs_f64() * LIMIT_BYTES_PER_S as f64;
            (paid + (BURST_BYTES + SOCKETS_BYTES + ahead) as f64) * OVERHEAD
        };
        assert!(self.incoming as f64 <= may(AHEAD_BYTES), "{self:?}");
        assert!(self.outgoing as f64 <= may(0), "{self:?}");
    }
}

#[test]
fn host_h11_what_comes_and_what_goes_share_the_limit_and_a_guest_has_the_rest() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: a link between two hosts needs root");
    }
    let (link, folder, certificates) = (
        Link::new(),
        tempfile::tempdir().unwrap(),
        Certificates::new(),
    );
    // Of the store, of another node, and what two others want of this one.
    let sizes = [16, 17, 12, 21];
    let images = sizes.map(|mib| noise(mib << 20));
    let (cloud, refs) = link.rest.run(async move { Cloud::of(&images).await });
    let [of_store, too, of_peer, wanted] = refs.as_slice() else {
        unreachable!()
    };
    let fellow = |number| Fellow::new(&certificates, number, folder.path());
    let (node, peer) = (fellow(1), fellow(2));

    // Without a limit the one peer gets what it is to have, and the node what it is to serve.
    let has = peer.cache(Bandwidth::default(), &cloud, &[]);
    let filled = first(has.clone(), of_peer.clone(), cloud.clone());
    link.rest.run(filled);
    let (_served, peer) = link.rest.run(async move { peer.serve(REST, &has).await });
    let unlimited = node.cache(Bandwidth::default(), &cloud, &[]);
    link.node
        .run(first(unlimited, wanted.clone(), cloud.clone()));
    let before = link.passed();

    let limited = Bandwidth::of(Some(LIMIT_BYTES_PER_S));
    let cache = node.cache(limited, &cloud, &[(of_peer, &peer)]);
    let serving = cache.clone();
    let (_serves, source) = link
        .node
        .run(async move { node.serve(NODE, &serving).await });
    let listener = link
        .rest
        .run(async { TcpListener::bind((GUESTS_PEER, 0)).await.unwrap() });
    let guests_peer = listener.local_addr().unwrap();

    let begun = Instant::now();
    // Each image for two instances.
    let storm = [of_store, too, of_peer, of_store, too, of_peer].map(Clone::clone);
    let comes = link.node.spawn(fetch(cache, storm.to_vec()));
    let go = [3, 4].map(|number| {
        let cache = fellow(number).cache(Bandwidth::default(), &cloud, &[(wanted, &source)]);
        link.rest.spawn(fetch(cache, vec![wanted.clone()]))
    });
    let answering = link.rest.spawn(answer_guest(listener));
    let guest = link
        .node
        .spawn(async move { both_ways(TcpStream::connect(guests_peer).await.unwrap()).await });
    let mut seen = Vec::new();
    while !(comes.is_finished() && go.iter().all(|goes| goes.is_finished())) {
        let guest_is_done = guest.is_finished();
        let (incoming, outgoing) = link.passed();
        seen.push(Seen {
            after: begun.elapsed(),
            incoming: incoming - before.0,
            outgoing: outgoing - before.1,
            guest_is_done,
        });
        std::thread::sleep(Duration::from_millis(50));
    }
    let came = link.node.end(comes);
    let went = go.map(|goes| link.rest.end(goes));
    link.node.end(guest);
    link.rest.end(answering);

    seen.iter().for_each(Seen::holds);
    // All together, less a burst: had each its own limit, it would have been half of that.
    let least = |bytes: u64| (bytes - BURST_BYTES) as f64 / LIMIT_BYTES_PER_S as f64;
    let bundled = |image: &ImageRef| cloud.stores[&image.id].bundled_bytes();
    let incoming = bundled(of_store) + bundled(too) + of_peer.size_bytes;
    assert!(
        came.as_secs_f64() >= least(incoming),
        "{incoming}: {came:?}"
    );
    let outgoing = 2 * wanted.size_bytes;
    let last = went.into_iter().max().unwrap();
    assert!(
        last.as_secs_f64() >= least(outgoing),
        "{outgoing}: {last:?}"
    );
    // It was the link that carried all of it, and nothing was fetched twice.
    let end = seen.last().unwrap();
    println!("{incoming} bytes came in {came:?}, {outgoing} went in {went:?}; {end:?}");
    for image in [of_store, too, of_peer, wanted] {
        let (reads, parts) = cloud.reads(image);
        assert_eq!(reads, parts, "{image:?}");
    }
    let total = link.passed();
    assert!(total.0 - before.0 >= incoming && total.1 - before.1 >= outgoing);
    let done = seen.iter().find(|seen| seen.guest_is_done);
    let done = done.expect("a guest waits for no image");
    println!("a guest had {GUEST_BYTES} bytes each way by then: {done:?}");
}
