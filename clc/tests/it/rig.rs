//! A Cloud Controller as `init` makes it, with a cluster and a store that behave beside it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use clc::{
    Clc, MIGRATIONS, Parts, addresses,
    config::Config,
    identity::Identity,
    init::{self, Choices, Credentials, Places},
    peers::{Connect, Peers},
    rows::{
        images::{self, Image},
        instances::{self, Instance, Launch},
        network, nodes, services,
    },
    seal::Seal,
};
use control::caches::{Caches, CachesAsk, ClusterWarm, EvictAsk};
use control::{
    CallError, Changes, Cluster, Code, Feed, Objects, Role, Storage,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, NodeStatus, Reach, Roster},
    feed::Poll,
    node::{
        ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceReport, InstanceWish, NetworkTaken,
        NodeReport, Seen, Shape, Taken, Wanted,
    },
    objects::{
        AskObjectsStatus, AskQuotas, DropObjects, LinkObjects, ObjectBytes, ObjectStats,
        ObjectsStatus, Quotas, ReadObject, SetQuota, StatObjects,
    },
    rpc::Call,
    storage::{StorageChange, VolumeReport, VolumeSeen, VolumeWanted, VolumeWish},
};
use daemon::{Context, clock::TestClock};
use image::keys::CloudKey;
use store::{Db, Tx};
use types::{
    Gib, ImageKind, ImageState, InstanceId, InstanceState, Mib, NodeId, ReservationId, Timestamp,
    VolumeId, Zone, network::NetworkDocument,
};

/// When the tests' clocks start.
pub(crate) const START_MS: i64 = 1_795_000_000_000;

/// A cluster that takes every wish, remembers it over a restart, and does as it is told.
pub(crate) struct FakeCluster {
    pub(crate) wishes: Mutex<BTreeMap<InstanceId, InstanceWish>>,
    pub(crate) roster: Mutex<Roster>,
    pub(crate) network: Mutex<NetworkDocument>,
    feed: Mutex<Arc<Feed<String, ClusterChange>>>,
    life: AtomicU32,
    pub(crate) is_up: AtomicBool,
    /// Refuses every start, as a cluster does whose hold has run out.
    pub(crate) is_full: AtomicBool,
    /// Takes wishes and does nothing.
    pub(crate) is_slow: AtomicBool,
}

impl FakeCluster {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            wishes: Mutex::default(),
            roster: Mutex::default(),
            network: Mutex::default(),
            feed: Mutex::new(Arc::new(Feed::new("life-0".to_owned()))),
            life: AtomicU32::new(0),
            is_up: AtomicBool::new(true),
            is_full: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
        })
    }

    fn answers(&self) -> Result<(), CallError> {
        match self.is_up.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(CallError::new(Code::Unreachable, "connection refused")),
        }
    }

    fn feed(&self) -> Arc<Feed<String, ClusterChange>> {
        self.feed.lock().unwrap().clone()
    }

    /// Another life: nothing that was taken is remembered.
    pub(crate) fn restart_empty(&self) {
        let life = self.life.fetch_add(1, Ordering::SeqCst) + 1;
        self.wishes.lock().unwrap().clear();
        *self.roster.lock().unwrap() = Roster::default();
        *self.network.lock().unwrap() = NetworkDocument::default();
        *self.feed.lock().unwrap() = Arc::new(Feed::new(format!("life-{life}")));
    }

    pub(crate) fn say(&self, report: InstanceReport) {
        let key = report.instance.to_string();
        self.feed()
            .set(key, ClusterChange::Instance(Box::new(report)));
    }

    pub(crate) fn say_node(&self, status: NodeStatus) {
        self.feed().set(
            status.node.to_string(),
            ClusterChange::Node(Box::new(status)),
        );
    }

    pub(crate) fn wish(&self, instance: &InstanceId) -> Option<InstanceWish> {
        self.wishes.lock().unwrap().get(instance).cloned()
    }
}

pub(crate) fn report(wish: &InstanceWish, seen: Seen) -> InstanceReport {
    let (instance, node) = (wish.instance.clone(), wish.node.clone());
    InstanceReport {
        reboots: wish.reboots,
        ..InstanceReport::new(instance, node, wish.epoch, wish.generation, seen)
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn hold(&self, _: &Call, _: HoldAsk) -> Result<Hold, CallError> {
        Err(CallError::new(Code::NoRoom, "the rig places by itself"))
    }

    async fn release(&self, _: &Call, _: HoldRelease) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn instance(&self, _: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        self.answers()?;
        let starts = wish.wanted == Wanted::Running;
        if starts && self.is_full.load(Ordering::SeqCst) {
            return Err(CallError::new(Code::NoRoom, "the hold is over"));
        }
        let generation = wish.generation;
        self.wishes
            .lock()
            .unwrap()
            .insert(wish.instance.clone(), wish.clone());
        if !self.is_slow.load(Ordering::SeqCst) {
            self.say(report(
                &wish,
                if starts {
                    Seen::Running
                } else {
                    Seen::Terminated
                },
            ));
        }
        Ok(Taken { generation })
    }

    async fn roster(&self, _: &Call, roster: Roster) -> Result<Taken, CallError> {
        self.answers()?;
        let generation = roster.generation;
        *self.roster.lock().unwrap() = roster;
        Ok(Taken { generation })
    }

    async fn network(
        &self,
        _: &Call,
        document: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        self.answers()?;
        let version = document.version;
        *self.network.lock().unwrap() = document;
        Ok(NetworkTaken { version })
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<ClusterChange>, CallError> {
        self.answers()?;
        // Short, so that a test's cluster that went away is noticed at once.
        let poll = Poll {
            wait_ms: poll.wait_ms.min(50),
            ..poll
        };
        Ok(self.feed().poll(&poll).await)
    }

    async fn console_read(&self, _: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        Err(CallError::not_found(ask.instance))
    }

    async fn console_write(&self, _: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        Err(CallError::not_found(ask.instance))
    }

    async fn caches(&self, _: &Call, _: CachesAsk) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }

    async fn caches_warm(&self, _: &Call, _: ClusterWarm) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }

    async fn caches_evict(&self, _: &Call, _: EvictAsk) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }
}

/// A store that makes every volume but the one that is too large.
pub(crate) struct FakeStorage {
    feed: Feed<VolumeId, StorageChange>,
    pub(crate) is_up: AtomicBool,
    /// Takes wishes and does nothing.
    pub(crate) is_slow: AtomicBool,
}

impl FakeStorage {
    fn answers(&self) -> Result<(), CallError> {
        match self.is_up.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(CallError::new(Code::Unreachable, "no route to host")),
        }
    }

    pub(crate) fn say(&self, report: VolumeReport) {
        let key = report.volume.clone();
        self.feed.set(key, StorageChange::Volume(report));
    }
}

/// More than a [`FakeStorage`] has.
pub(crate) const TOO_LARGE: Gib = Gib(1000);

#[async_trait]
impl Storage for FakeStorage {
    async fn volume(&self, _: &Call, wish: VolumeWish) -> Result<Taken, CallError> {
        self.answers()?;
        if wish.size_gib >= TOO_LARGE {
            return Err(CallError::new(Code::NoRoom, "the pool has 10 GiB free"));
        }
        let seen = match wish.wanted {
            VolumeWanted::Present => VolumeSeen::Available,
            VolumeWanted::Absent => VolumeSeen::Deleted,
        };
        let report = VolumeReport {
            volume: wish.volume.clone(),
            generation: wish.generation,
            seen,
            allocated_bytes: 0,
            reason: None,
        };
        if !self.is_slow.load(Ordering::SeqCst) {
            self.say(report);
        }
        Ok(Taken {
            generation: wish.generation,
        })
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<StorageChange>, CallError> {
        self.answers()?;
        let poll = Poll {
            wait_ms: poll.wait_ms.min(50),
            ..poll
        };
        Ok(self.feed.poll(&poll).await)
    }
}

struct FakeObjects;

#[async_trait]
impl Objects for FakeObjects {
    async fn read_object(&self, _: &Call, ask: ReadObject) -> Result<ObjectBytes, CallError> {
        Err(CallError::not_found(ask.key))
    }

    async fn stat_objects(&self, _: &Call, _: StatObjects) -> Result<ObjectStats, CallError> {
        Ok(ObjectStats { objects: vec![] })
    }

    async fn link_objects(&self, _: &Call, _: LinkObjects) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn quotas(&self, _: &Call, _: AskQuotas) -> Result<Quotas, CallError> {
        Ok(Quotas::default())
    }

    async fn set_quota(&self, _: &Call, _: SetQuota) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn drop_objects(&self, _: &Call, _: DropObjects) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn status(&self, _: &Call, _: AskObjectsStatus) -> Result<ObjectsStatus, CallError> {
        Ok(ObjectsStatus {
            buckets: 0,
            objects: 0,
            bytes: 0,
            free_bytes: 0,
            identity_revision: 0,
        })
    }
}

struct Direct {
    cluster: Arc<FakeCluster>,
    storage: Arc<FakeStorage>,
}

impl Connect for Direct {
    fn cluster(&self, _: &Zone, _: SocketAddr) -> Arc<dyn Cluster> {
        self.cluster.clone()
    }

    fn storage(&self, _: &Zone, _: SocketAddr) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    fn objects(&self, _: SocketAddr) -> Arc<dyn Objects> {
        Arc::new(FakeObjects)
    }
}

/// All of it.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) credentials: Credentials,
    pub(crate) cluster: Arc<FakeCluster>,
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) clc: Arc<Clc>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) context: Context,
}

/// The rig's configuration.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    let mut config = Config {
        state_dir: dir.to_owned(),
        ..Config::default()
    };
    config.control.listen = "127.0.0.1:8777".parse().unwrap();
    config.network.public_cidr = Some("10.0.0.0/24".parse().unwrap());
    config.network.public_gateway = Some("10.0.0.1".parse().unwrap());
    config.network.public_addresses = vec!["10.0.0.10-10.0.0.19".parse().unwrap()];
    config
}

/// The first node.
pub(crate) fn node() -> NodeId {
    "node-0123456789abcdef0".parse().unwrap()
}

pub(crate) fn zone() -> Zone {
    "mallee-1a".parse().unwrap()
}

impl Rig {
    /// Made, a cluster, a store and Walrus joined, one node on the roster; no task runs yet.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with another configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let credentials = init::init(&config, &Choices::default()).await.unwrap();
        let cluster = FakeCluster::new();
        let storage = Arc::new(FakeStorage {
            feed: Feed::new("only".to_owned()),
            is_up: AtomicBool::new(true),
            is_slow: AtomicBool::new(false),
        });
        let clock = TestClock::at(START_MS);
        let clc = open(&config, &cluster, &storage, clock.clone()).await;
        clc.db.write(join_everyone).await.unwrap();
        clc.peers.set(&clc.db.read(services::list).await.unwrap());
        let context = Context::new("clc", "0", dir.path()).with_clock(clock.clone());
        Self {
            dir,
            config,
            credentials,
            cluster,
            storage,
            clc,
            clock,
            context,
        }
    }

    /// The same with its tasks running.
    pub(crate) async fn running() -> Self {
        let rig = Self::new().await;
        clc::tasks::start(&rig.clc, &rig.context);
        rig
    }

    /// What a kill and a start do: only the files are left of the old life.
    pub(crate) async fn restart(&mut self) {
        self.context.drain(Duration::from_secs(5)).await.unwrap();
        self.clc = open(
            &self.config,
            &self.cluster,
            &self.storage,
            self.clock.clone(),
        )
        .await;
        self.context = Context::new("clc", "0", self.dir.path()).with_clock(self.clock.clone());
        clc::tasks::start(&self.clc, &self.context);
    }

    /// Records a launch as RunInstances does: instance and addresses in one transaction.
    pub(crate) async fn launch(&self) -> InstanceId {
        let id = self.clc.mint(InstanceId::mint);
        let reservation = self.clc.mint(ReservationId::mint);
        let (clc, launched) = (self.clc.clone(), id.clone());
        let account = self.credentials.account_id.clone();
        self.clc
            .db
            .write(move |tx| record_launch(tx, &clc, &account, &launched, &reservation))
            .await
            .unwrap();
        self.clc.wakes.network.wake();
        self.clc.wakes.instances.wake();
        id
    }

    pub(crate) async fn terminate(&self, id: &InstanceId) {
        let (id, now) = (id.clone(), self.clc.now());
        let reason = types::StateReason::user_initiated();
        self.clc
            .db
            .write(move |tx| instances::want_terminated(tx, &id, &reason, "User initiated", now))
            .await
            .unwrap();
        self.clc.wakes.instances.wake();
    }

    pub(crate) async fn instance(&self, id: &InstanceId) -> Option<Instance> {
        let id = id.clone();
        self.clc
            .db
            .read(move |tx| instances::load(tx, &id))
            .await
            .unwrap()
    }

    /// Waits until an instance is in a state, or says where it is after ten seconds.
    pub(crate) async fn until(&self, id: &InstanceId, state: InstanceState) -> Instance {
        let what = format!("{id} is {}", state.as_str());
        self.eventually(&what, async || {
            self.instance(id)
                .await
                .filter(|instance| instance.state == state)
        })
        .await
    }

    /// Waits until something is there, ten seconds at most.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        for _ in 0..1000 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}")
    }
}

async fn open(
    config: &Config,
    cluster: &Arc<FakeCluster>,
    storage: &Arc<FakeStorage>,
    clock: Arc<TestClock>,
) -> Arc<Clc> {
    let places = Places::of(config);
    let db = Db::open(places.database(), MIGRATIONS).unwrap();
    let seal = Seal::load_or_make(&places.seal_key()).unwrap();
    let peers = Peers::new(Direct {
        cluster: cluster.clone(),
        storage: storage.clone(),
    });
    peers.set(&db.read(services::list).await.unwrap());
    let key_pem = std::fs::read_to_string(places.image_key()).unwrap();
    Clc::new(Parts {
        region: "mallee-1".parse().unwrap(),
        identity: Identity::load(&db, seal.clone(), "rig".to_owned())
            .await
            .unwrap(),
        image_key: CloudKey::from_pem(&key_pem).unwrap(),
        image_certificate_pem: std::fs::read_to_string(places.image_certificate()).unwrap(),
        config: config.clone(),
        seed: Some(7),
        clock,
        peers,
        seal,
        db,
    })
}

fn join_everyone(tx: &Tx) -> Result<(), store::Error> {
    let now = Timestamp(START_MS);
    for (role, name, zone) in [
        (Role::Cc, "mallee-1a", Some(zone())),
        (Role::Sc, "mallee-1a", Some(zone())),
        (Role::Walrus, "walrus", None),
    ] {
        let (name, hostname) = (name.to_owned(), "host".to_owned());
        let address = "127.0.0.1:1".parse().unwrap();
        services::put(
            tx,
            &services::ServiceRow {
                role,
                name,
                zone,
                address,
                hostname,
            },
            now,
        )?;
    }
    let row = nodes::NodeRow {
        id: node(),
        zone: zone(),
        address: "127.0.0.1:2".parse().unwrap(),
        hostname: "n1".to_owned(),
        underlay: None,
        dead: false,
    };
    nodes::insert(tx, &row, now)?;
    Ok(())
}

/// What a node says of itself.
pub(crate) fn node_status(reach: Reach, committed: Shape) -> NodeStatus {
    NodeStatus {
        node: node(),
        reach,
        why: String::new(),
        report: Some(NodeReport {
            node: node(),
            hostname: "n1".to_owned(),
            underlay: Ipv4Addr::new(10, 212, 0, 11),
            capacity: Shape {
                vcpus: 8,
                memory_mib: Mib(8192),
                disk_gib: Gib(100),
            },
            used: committed,
            hypervisor: "fake".to_owned(),
            network_version: 1,
            network_failures: Vec::new(),
            not_ready: None,
        }),
        committed,
    }
}

fn image_row(account: &types::AccountId) -> Image {
    Image {
        id: "emi-0123456789abcdef0".parse().unwrap(),
        account: account.clone(),
        kind: ImageKind::Machine,
        state: ImageState::Available,
        name: "tiny".to_owned(),
        description: None,
        architecture: "x86_64".to_owned(),
        platform: None,
        location: "bucket/tiny.manifest.xml".to_owned(),
        kernel: None,
        ramdisk: None,
        root_device: None,
        size_bytes: 1 << 20,
        manifest_sha256: "ab".repeat(32),
        is_public: false,
        created_at: Timestamp(START_MS),
        product_codes: Vec::new(),
        devices: Vec::new(),
        deprecated_at: None,
        copied_from: None,
        copy_failure: None,
    }
}

fn record_launch(
    tx: &Tx,
    clc: &Clc,
    account: &types::AccountId,
    id: &InstanceId,
    reservation: &ReservationId,
) -> Result<(), store::Error> {
    let image = image_row(account);
    if images::find(tx, &image.id)?.is_none() {
        let manifest = images::Manifest {
            bucket: "bucket".to_owned(),
            prefix: String::new(),
            bytes: b"<manifest/>".to_vec(),
            part_sizes: vec![],
        };
        images::insert(tx, &image, &manifest)?;
    }
    let now = clc.now();
    instances::insert_reservation(tx, reservation, account, now)?;
    let instance = Instance {
        id: id.clone(),
        reservation: reservation.clone(),
        launch_index: 0,
        account: account.clone(),
        image: image.id,
        kernel: None,
        ramdisk: None,
        architecture: "x86_64".to_owned(),
        vm_type: "m1.small".to_owned(),
        vcpus: 1,
        memory: Mib(256),
        disk: Gib(5),
        zone: zone(),
        key_name: None,
        public_key: None,
        client_token: String::new(),
        api_termination_off: false,
        shutdown_behavior: "stop".to_owned(),
        tokens_required: false,
        hop_limit: 1,
        metadata_tags: false,
        launched_at: now,
        wanted: Wanted::Running,
        reboots: 0,
        generation: 1,
        node: Some(node()),
        epoch: 1,
        state: InstanceState::Pending,
        state_since: now,
        reason: None,
        transition: String::new(),
        taken_generation: 0,
        unreachable_since: None,
        impaired: None,
        impaired_since: None,
    };
    let launch = Launch {
        rejected: "[]".to_owned(),
        ..Launch::default()
    };
    instances::insert(tx, &instance, &launch)?;
    give_interface(tx, clc, account, id)?;
    network::bump(tx, &zone()).map(drop)
}

fn give_interface(
    tx: &Tx,
    clc: &Clc,
    account: &types::AccountId,
    id: &InstanceId,
) -> Result<(), store::Error> {
    let subnet = network::default_subnet(tx, account, &zone())?.expect("every account has one");
    let groups: Vec<_> = clc::rows::security_groups::list_of_vpc(tx, &subnet.vpc)?
        .into_iter()
        .map(|group| group.id)
        .collect();
    let pool: Vec<Ipv4Addr> = clc.config.network.pool().collect();
    let ask = addresses::Ask {
        instance: id,
        account,
        subnet: &subnet,
        groups: &groups,
        private_address: None,
        public_pool: &pool,
        now: clc.now(),
    };
    addresses::give(tx, &ask, &mut rand::rng())?.expect("the pool has room");
    Ok(())
}
