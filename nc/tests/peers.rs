//! Images from other nodes, over mutual TLS: the good ones, and those that lie, are slow, die, or are
//! not allowed to ask.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

#[path = "images/store.rs"]
#[allow(dead_code, reason = "the faults are for other tests")]
mod store;

use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use control::{
    CallError, Client, Code, Node as _, Role,
    blocks::Blockwise,
    caches::{Blocks, CachesAsk, Copied, CopyPeer, CopyReport, FilledBy},
    cloud::{Ticket, TicketAsk},
    rpc::Call,
};
use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, Form, Settings, Tickets, Told, blocks, lease::LeaseTimes, peers::PeerTimes},
};
use store::{Store, noise, partition};
use testkit::tls::{Certificates, Served, serve};
use types::Secret;

const ZONE: &str = "mallee-1a";
const QUICK: PeerTimes = PeerTimes {
    block: Duration::from_millis(1500),
    serve: Duration::from_millis(700),
};

/// What the Cloud Controller would know: here a test says who is told whom.
struct Board {
    store: Arc<Store>,
    blocks: Mutex<Option<Blocks>>,
    /// One list of peers for each time that somebody asks; the last one for all further times.
    peers: Mutex<Vec<Vec<CopyPeer>>>,
    waits: AtomicUsize,
    gone: AtomicUsize,
}

impl Board {
    async fn of(image: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            store: Store::serve(image).await,
            blocks: Mutex::default(),
            peers: Mutex::default(),
            waits: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
        })
    }

    fn tells(&self, lists: &[&[&Member]]) {
        let list = |members: &&[&Member]| members.iter().map(|member| member.peer()).collect();
        *self.peers.lock().unwrap() = lists.iter().map(list).collect();
    }

    fn next_peers(&self) -> Vec<CopyPeer> {
        let mut lists = self.peers.lock().unwrap();
        match lists.len() {
            0 => Vec::new(),
            1 => lists[0].clone(),
            _ => lists.remove(0),
        }
    }

    fn data_blocks(&self) -> usize {
        let blocks = self.blocks.lock().unwrap().clone().unwrap();
        blocks.runs.iter().map(|(_, count)| *count as usize).sum()
    }
}

#[async_trait]
impl Tickets for Board {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        let whole = self.store.ticket(ask.clone()).await?;
        let mut none = whole.clone();
        (none.parts, none.key) = (Vec::new(), Secret::new(String::new()));
        if self
            .waits
            .fetch_update(SeqCst, SeqCst, |waits| waits.checked_sub(1))
            .is_ok()
        {
            none.filled_by = Some(FilledBy {
                node: "node-00000007".parse().unwrap(),
                percent: 30,
                again_ms: 100,
            });
            return Ok(none);
        }
        let blocks = self.blocks.lock().unwrap().clone();
        let asks_for_peers = ask.entry.is_some() && !ask.peers_failed && blocks.is_some();
        match self.next_peers() {
            peers if asks_for_peers && !peers.is_empty() => {
                (none.blocks, none.peers) = (blocks, peers);
                Ok(none)
            }
            _ => Ok(whole),
        }
    }

    async fn copied(&self, report: CopyReport) -> Result<(), CallError> {
        match report.copy {
            Copied::Whole {
                blocks: Some(blocks),
            } => {
                self.blocks.lock().unwrap().get_or_insert(blocks);
            }
            Copied::Gone => {
                self.gone.fetch_add(1, SeqCst);
            }
            Copied::Whole { blocks: None } | Copied::Filling { .. } => {}
        }
        Ok(())
    }
}

/// A node, or something that has the certificate of one.
struct Member {
    name: String,
    served: Option<Served>,
    address: std::net::SocketAddr,
    cache: Option<Cache>,
    folder: tempfile::TempDir,
}

impl Member {
    fn peer(&self) -> CopyPeer {
        CopyPeer {
            node: self.name.parse().unwrap(),
            address: self.address,
        }
    }

    async fn hold(&self, board: &Board) -> PathBuf {
        self.hear(board, &|_| {}).await
    }

    async fn hear(&self, board: &Board, tell: &(dyn Fn(&Told) + Send + Sync)) -> PathBuf {
        let (cache, image) = (self.cache.as_ref().unwrap(), board.store.image());
        let holder = "i-00000001".parse().unwrap();
        cache.hold(&image, Form::Disk, &holder, tell).await.unwrap()
    }
}

fn cache(
    tls: &daemon::tls::Tls,
    name: &str,
    folder: &Path,
    board: &Arc<Board>,
    (bandwidth, peers): (Bandwidth, PeerTimes),
) -> Cache {
    let settings = Settings {
        folder: folder.to_owned(),
        node: name.parse().unwrap(),
        limit_bytes: Some(1 << 30),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: tls.client_config(),
        lease: LeaseTimes::default(),
        patience: Duration::from_secs(10),
        peers,
        bandwidth,
    };
    Cache::new(settings, board.clone())
}

/// A node of its own with an empty cache.
async fn node(certificates: &Certificates, number: u32, board: &Arc<Board>) -> Member {
    node_with(certificates, number, board, Bandwidth::default(), QUICK).await
}

/// The same with a limit of what it may take of the network, and other times.
async fn node_with(
    certificates: &Certificates,
    number: u32,
    board: &Arc<Board>,
    bandwidth: Bandwidth,
    times: PeerTimes,
) -> Member {
    let (name, folder) = (format!("node-{number:08x}"), tempfile::tempdir().unwrap());
    let tls = certificates.of(Role::Nc, &name);
    let cache = cache(&tls, &name, folder.path(), board, (bandwidth, times));
    let routes = control::blocks::routes(Some(ZONE.to_owned()), cache.serving());
    let served = serve(&tls, routes).await;
    Member {
        name,
        address: served.address,
        served: Some(served),
        cache: Some(cache),
        folder,
    }
}

/// What serves blocks in its own manner.
async fn peer(certificates: &Certificates, number: u32, manner: Arc<dyn Blockwise>) -> Member {
    let name = format!("node-{number:08x}");
    let tls = certificates.of(Role::Nc, &name);
    let served = serve(&tls, control::blocks::routes(Some(ZONE.to_owned()), manner)).await;
    Member {
        name,
        address: served.address,
        served: Some(served),
        cache: None,
        folder: tempfile::tempdir().unwrap(),
    }
}

/// Serves what a node has, in its manner, and counts.
struct Manner {
    serving: Arc<nc::cache::peers::Serving>,
    count: AtomicUsize,
    how: Box<dyn Fn(usize) -> How + Send + Sync>,
}

#[async_trait]
impl Blockwise for Manner {
    async fn block(&self, entry: &str, number: u64) -> Result<Bytes, CallError> {
        let block = self.serving.block(entry, number).await;
        let count = self.count.fetch_add(1, SeqCst);
        match (self.how)(count) {
            How::Well => block,
            How::Slowly(time) => {
                tokio::time::sleep(time).await;
                block
            }
            How::Lying => {
                let mut bytes = block?.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                Ok(bytes.into())
            }
            How::Shouting => Ok(vec![1; blocks::PACKED_BYTES_MAX + 1].into()),
            How::Failing => Err(CallError::new(Code::Internal, "its disk is broken")),
        }
    }
}

enum How {
    Well,
    Slowly(Duration),
    Lying,
    Shouting,
    Failing,
}

fn manner(of: &Member, how: impl Fn(usize) -> How + Send + Sync + 'static) -> Arc<Manner> {
    Arc::new(Manner {
        serving: of.cache.as_ref().unwrap().serving(),
        count: AtomicUsize::new(0),
        how: Box::new(how),
    })
}

async fn told_blocks(board: &Board) {
    for _ in 0..500 {
        if board.blocks.lock().unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the first node told no blocks");
}

/// The first node has the image from its bundle, and has told its blocks.
async fn first(certificates: &Certificates, board: &Arc<Board>) -> (Member, PathBuf) {
    let first = node(certificates, 1, board).await;
    let path = first.hold(board).await;
    told_blocks(board).await;
    (first, path)
}

/// A partition with holes in it: 26 MiB, of which blocks 2 and 3 are empty.
fn with_holes() -> Vec<u8> {
    let mut image = partition(26 << 20);
    image[(8 << 20)..(15 << 20)].fill(0);
    image[(16 << 20)..(16 << 20) + 40_000].fill(0);
    image
}

#[tokio::test]
async fn an_image_from_a_peer_is_the_same_entry_and_costs_the_store_nothing() {
    let (certificates, board) = (Certificates::new(), Board::of(&with_holes()).await);
    let (one, from_bundle) = first(&certificates, &board).await;
    let two = node(&certificates, 2, &board).await;
    board.tells(&[&[&one]]);
    let heard = Mutex::new(BTreeSet::new());
    let from_peer = two
        .hear(&board, &|told| {
            heard.lock().unwrap().insert(told.doing.clone());
        })
        .await;

    assert_eq!(board.store.hits(), board.store.parts());
    assert_eq!(from_peer.file_name(), from_bundle.file_name());
    assert!(std::fs::read(&from_peer).unwrap() == std::fs::read(&from_bundle).unwrap());
    let (ours, theirs) = (
        from_peer.metadata().unwrap(),
        from_bundle.metadata().unwrap(),
    );
    assert_eq!(ours.permissions().mode(), theirs.permissions().mode());
    // In sectors; where blocks come out of order the file system may need a block more to list them.
    assert!(
        ours.blocks() <= theirs.blocks() + 128,
        "what is a hole there is one here: {} and {}",
        ours.blocks(),
        theirs.blocks()
    );
    assert!(
        heard
            .lock()
            .unwrap()
            .contains("fetching from node-00000001")
    );
}

#[tokio::test]
async fn a_peer_that_lies_shouts_fails_or_is_slow_is_left_for_the_next() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(20 << 20)).await);
    let (one, whole) = first(&certificates, &board).await;
    let bad = [
        manner(&one, |_| How::Lying) as Arc<dyn Blockwise>,
        manner(&one, |_| How::Shouting),
        manner(&one, |_| How::Failing),
        manner(&one, |_| How::Slowly(QUICK.block * 2)),
    ];
    let mut peers = Vec::new();
    for (number, manner) in bad.into_iter().enumerate() {
        peers.push(peer(&certificates, number as u32 + 20, manner).await);
    }
    let two = node(&certificates, 2, &board).await;
    let mut list: Vec<&Member> = peers.iter().collect();
    list.push(&one);
    board.tells(&[&list]);
    let copy = two.hold(&board).await;
    assert!(std::fs::read(copy).unwrap() == std::fs::read(whole).unwrap());
    assert_eq!(
        board.store.hits(),
        board.store.parts(),
        "the good one was found"
    );
}

#[tokio::test]
async fn what_was_checked_stays_when_a_peer_dies_and_nothing_is_fetched_twice() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(40 << 20)).await);
    let (one, _) = first(&certificates, &board).await;
    let dying = manner(
        &one,
        |count| if count < 3 { How::Well } else { How::Failing },
    );
    let good = manner(&one, |_| How::Well);
    let (dies, lives) = (
        peer(&certificates, 20, dying.clone()).await,
        peer(&certificates, 21, good.clone()).await,
    );
    // First only the one that dies; then the other node is said to read the bundle; then it has it.
    board.tells(&[&[&dies], &[&lives]]);
    let two = node(&certificates, 2, &board).await;
    let waits = tokio::spawn({
        let board = board.clone();
        async move {
            while board.peers.lock().unwrap().len() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            board.waits.store(2, SeqCst);
        }
    });
    two.hold(&board).await;
    waits.await.unwrap();
    assert_eq!(board.store.hits(), board.store.parts());
    assert_eq!(good.count.load(SeqCst), board.data_blocks() - 3);
}

#[tokio::test]
async fn without_a_peer_that_has_it_the_bundle_is_read() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(12 << 20)).await);
    let (mut one, whole) = first(&certificates, &board).await;
    board.tells(&[&[&one]]);
    one.served = None;
    let two = node(&certificates, 2, &board).await;
    let copy = two.hold(&board).await;
    assert!(std::fs::read(copy).unwrap() == std::fs::read(whole).unwrap());
    assert_eq!(board.store.hits(), 2 * board.store.parts());

    // One that has it no longer, and blocks that make no sense.
    let three = node(&certificates, 3, &board).await;
    let empty = node(&certificates, 4, &board).await;
    board.tells(&[&[&empty]]);
    three.hold(&board).await;
    board.blocks.lock().unwrap().as_mut().unwrap().runs = vec![(0, 1 << 40)];
    let five = node(&certificates, 5, &board).await;
    board.tells(&[&[&three]]);
    five.hold(&board).await;
    assert_eq!(board.store.hits(), 4 * board.store.parts());
}

/// How long a node takes to get the image from another one.
async fn from_another(sender: Bandwidth, receiver: Bandwidth) -> (f64, usize) {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(12 << 20)).await);
    let patient = PeerTimes::default();
    let one = node_with(&certificates, 1, &board, sender, patient).await;
    let whole = one.hold(&board).await;
    told_blocks(&board).await;
    let two = node_with(&certificates, 2, &board, receiver, patient).await;
    board.tells(&[&[&one]]);
    let begun = Instant::now();
    let copy = two.hold(&board).await;
    let took = begun.elapsed().as_secs_f64();
    assert!(std::fs::read(copy).unwrap() == std::fs::read(whole).unwrap());
    (took, board.store.hits() - board.store.parts())
}

#[tokio::test]
async fn a_node_sends_to_others_and_takes_from_them_no_faster_than_images_may() {
    let limit = || Bandwidth::of(Some(8 << 20));
    // Less a burst.
    let least = 12.0 / 8.0 - 0.2;
    // What it reads of the bundle itself is not limited here, nor counted.
    let sender = Bandwidth {
        outgoing: limit().outgoing,
        ..Bandwidth::default()
    };
    let (sends, read) = from_another(sender, Bandwidth::default()).await;
    assert!(sends >= least && read == 0, "{sends} s, {read} parts read");
    let (takes, read) = from_another(Bandwidth::default(), limit()).await;
    assert!(takes >= least && read == 0, "{takes} s, {read} parts read");
}

#[tokio::test]
async fn a_peer_that_has_sent_what_it_may_says_so_at_once_and_the_next_is_asked() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(24 << 20)).await);
    let slow = Bandwidth {
        outgoing: Bandwidth::of(Some(4 << 20)).outgoing,
        ..Bandwidth::default()
    };
    let one = node_with(&certificates, 1, &board, slow, QUICK).await;
    let whole = one.hold(&board).await;
    told_blocks(&board).await;
    let two = node(&certificates, 2, &board).await;
    let three = node(&certificates, 3, &board).await;
    two.hold(&board).await;
    let hits = board.store.hits();
    board.tells(&[&[&one, &two]]);
    let begun = Instant::now();
    let copy = three.hold(&board).await;
    assert!(std::fs::read(copy).unwrap() == std::fs::read(whole).unwrap());
    assert_eq!(board.store.hits(), hits, "and the bundle is not read");
    // At its pace alone it would have been six seconds.
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_node_that_lost_its_cache_takes_the_image_from_another_and_reads_no_bundle() {
    let (certificates, board) = (Certificates::new(), Board::of(&with_holes()).await);
    let (one, whole) = first(&certificates, &board).await;
    let two = node(&certificates, 2, &board).await;
    board.tells(&[&[&one]]);
    let before = two.hold(&board).await;
    for part in ["entries", "uses", "filling"] {
        std::fs::remove_dir_all(two.folder.path().join(part)).unwrap();
    }
    let again = two.hold(&board).await;
    assert_eq!(again, before);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&whole).unwrap());
    assert_eq!(board.store.hits(), board.store.parts());

    // The one that everybody would take it from has lost it: whoever is told of it nevertheless, and
    // it itself, read the bundle, and all come to the same.
    std::fs::remove_dir_all(one.folder.path().join("entries")).unwrap();
    let three = node(&certificates, 3, &board).await;
    three.hold(&board).await;
    assert_eq!(board.store.hits(), 2 * board.store.parts());
    board.tells(&[&[&three]]);
    let refetched = one.hold(&board).await;
    assert!(std::fs::read(refetched).unwrap() == std::fs::read(again).unwrap());
    assert_eq!(board.store.hits(), 2 * board.store.parts());
}

#[tokio::test]
async fn a_node_serves_what_it_has_checked_while_it_still_fetches() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(24 << 20)).await);
    let (one, whole) = first(&certificates, &board).await;
    let slow = manner(&one, |_| How::Slowly(Duration::from_millis(250)));
    let source = peer(&certificates, 20, slow.clone()).await;
    let (two, three) = (
        node(&certificates, 2, &board).await,
        node(&certificates, 3, &board).await,
    );
    board.tells(&[&[&source], &[&two]]);
    let (mine, next) = tokio::join!(two.hold(&board), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        three.hold(&board).await
    });
    for copy in [mine, next] {
        assert!(std::fs::read(copy).unwrap() == std::fs::read(&whole).unwrap());
    }
    assert_eq!(
        slow.count.load(SeqCst),
        board.data_blocks(),
        "each block left it once"
    );
    assert_eq!(board.store.hits(), board.store.parts());
}

#[tokio::test]
async fn while_another_node_reads_the_bundle_one_waits_and_says_so() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(1 << 20)).await);
    board.waits.store(3, SeqCst);
    let one = node(&certificates, 1, &board).await;
    let heard = Mutex::new(Vec::new());
    one.hear(&board, &|told| heard.lock().unwrap().push(told.clone()))
        .await;
    let waited = Told {
        doing: "waiting for node-00000007, which fetches it".to_owned(),
        percent: Some(30),
        ..Told::default()
    };
    assert!(heard.lock().unwrap().contains(&waited));
}

#[tokio::test]
async fn a_launch_that_is_given_up_is_told_so_that_nobody_waits_for_it() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(12 << 20)).await);
    board.store.slow(Duration::from_secs(60));
    let one = node(&certificates, 1, &board).await;
    let impatient = tokio::time::timeout(Duration::from_millis(300), one.hold(&board)).await;
    assert!(impatient.is_err());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(board.gone.load(SeqCst), 1);
}

#[tokio::test]
async fn only_a_node_of_the_zone_may_read_blocks_and_nothing_else() {
    let (certificates, board) = (Certificates::new(), Board::of(&noise(1 << 20)).await);
    let (one, path) = first(&certificates, &board).await;
    let entry = path.file_name().unwrap().to_str().unwrap();
    let read = async |tls: &daemon::tls::Tls, name: &str, number| {
        let client = Client::new(&tls.client_config(), one.address, Role::Nc, Some(&one.name));
        let call = Call::new("test");
        client
            .block(&call, name, number, blocks::PACKED_BYTES_MAX)
            .await
            .map_err(|error| error.code)
    };
    let fellow = certificates.of(Role::Nc, "node-00000002");
    assert!(read(&fellow, entry, 0).await.is_ok());
    assert_eq!(read(&fellow, entry, 99).await, Err(Code::NotFound));
    let other = entry.replace("_r", "_r9");
    assert_eq!(read(&fellow, &other, 0).await, Err(Code::NotFound));
    assert_eq!(
        read(&fellow, "..%2f..%2fetc%2fpasswd", 0).await,
        Err(Code::Invalid)
    );

    for (role, zone) in [
        (Role::Nc, Some("mallee-1b")),
        (Role::Cc, Some(ZONE)),
        (Role::Sc, Some(ZONE)),
        (Role::Clc, None),
        (Role::Walrus, None),
        (Role::Admin, None),
    ] {
        let stranger = certificates.of_zone(role, "node-00000003", zone);
        assert_eq!(
            read(&stranger, entry, 0).await,
            Err(Code::Forbidden),
            "{role} {zone:?}"
        );
    }

    // The other calls of a node are not a node's to make.
    for (path, callers) in control::node::CALLS {
        let control::rpc::Callers::Roles(roles) = callers else {
            panic!("{path} is for anyone");
        };
        assert!(!roles.contains(&Role::Nc), "{path}");
    }
    let client = Client::new(
        &fellow.client_config(),
        one.address,
        Role::Nc,
        Some(&one.name),
    );
    assert!(
        client
            .cache(&Call::new("test"), CachesAsk::default())
            .await
            .is_err()
    );
}
