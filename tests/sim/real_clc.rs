//! The real Cloud Controller: its database, its tasks and its API, over links that misbehave. Only
//! the public port and Walrus are missing.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use clc::{
    Caller, Clc, MIGRATIONS, Parts,
    api::{self, Call},
    caller::Verified,
    config::Config,
    control::Service as Admin,
    edge::Service,
    identity::Identity,
    init::{self, Choices, Places},
    peers::{Connect, Peers},
    rows::{
        images::{self, Image, Manifest},
        instances::{self, Instance},
        nodes, services,
    },
    seal::Seal,
};
use control::caches::{Caches, CachesAsk, ClusterWarm, EvictAsk};
use control::{
    CallError, Changes, Cloud, Cluster, Code, Objects, Role, Storage,
    cloud::{Ask, DeadAsk, TokenAsk},
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Roster},
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Taken},
    objects::{
        AskObjectsStatus, AskQuotas, DropObjects, LinkObjects, ObjectBytes, ObjectStats,
        ObjectsStatus, Quotas, ReadObject, SetQuota, StatObjects,
    },
    rpc,
    storage::{StorageChange, VolumeWish},
};
use daemon::{Context, clock::TestClock, tls::Authority};
use image::keys::CloudKey;
use store::{Db, Error, Tx};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{
    AccountId, Arn, ImageId, ImageKind, ImageState, InstanceId, InstanceState, NodeId, Timestamp,
    Zone, network::NetworkDocument,
};
use wire::{Parameters, RequestId};

use crate::front::{Front, Row, Why};

/// When its clock starts: 2026-11-23.
const START_MS: i64 = 1_795_402_919_000;
/// Long enough for any storm of a campaign, short enough for its rest.
const PENDING_S: u64 = 4 * 60;
/// A kill leaves nothing of the old life after this.
const DRAIN: Duration = Duration::from_secs(30);

/// The Cloud Controller as a process that comes and goes.
pub(crate) struct RealClc {
    folder: TempDir,
    config: Config,
    account: AccountId,
    image: ImageId,
    zones: Vec<Zone>,
    clusters: Vec<Arc<dyn Cluster>>,
    seed: u64,
    began: Instant,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    lives: u64,
    running: Option<Life>,
    before: Option<Context>,
    /// Looks at the records, also while it is down.
    db: Option<Db>,
}

#[derive(Clone)]
struct Life {
    clc: Arc<Clc>,
    context: Context,
    over: CancellationToken,
}

fn down() -> CallError {
    CallError::new(Code::Unreachable, "the Cloud Controller is down")
}

impl RealClc {
    /// Made by `init`, with a zone for each cluster and its nodes on their rosters; started.
    pub(crate) async fn new(
        clusters: Vec<Arc<dyn Cluster>>,
        rosters: Vec<Roster>,
        seed: u64,
    ) -> Self {
        let folder = fast_folder();
        let mut config = Config {
            state_dir: folder.path().to_owned(),
            ..Config::default()
        };
        config.control.listen = "127.0.0.1:8777".parse().expect("an address");
        config.network.public_cidr = Some("10.0.0.0/16".parse().expect("a network"));
        config.network.public_addresses = vec!["10.0.1.0-10.0.9.250".parse().expect("a range")];
        config.limits.pending_s = PENDING_S;
        let made = init::init(&config, &Choices::default())
            .await
            .expect("a fresh folder");
        let mut clc = Self {
            account: made.account_id,
            image: "emi-0123456789abcdef0".parse().expect("an id"),
            zones: (0..clusters.len()).map(zone).collect(),
            folder,
            config,
            clusters,
            seed,
            began: Instant::now(),
            process: Mutex::default(),
        };
        clc.start().await;
        clc.fill(rosters).await;
        // The followers read who has joined when they start.
        clc.kill();
        clc.start().await;
        clc
    }

    async fn fill(&mut self, rosters: Vec<Roster>) {
        let life = self.life().expect("just started");
        let authority = Authority::load(Places::of(&self.config).ca()).expect("init made it");
        let admin = Admin::new(life.clc.clone(), Arc::new(authority));
        for zone in &self.zones {
            // A token for a new zone's cluster makes the zone, with a subnet for every account.
            let ask = TokenAsk {
                role: Role::Cc,
                zone: Some(zone.clone()),
                valid_ms: 1,
            };
            admin
                .token(&rpc::Call::new("sim"), ask)
                .await
                .expect("a zone");
        }
        let (zones, image) = (self.zones.clone(), image(&self.image, &self.account));
        let write = move |tx: &Tx| -> Result<(), Error> {
            for (zone, roster) in zones.iter().zip(&rosters) {
                join(tx, zone, roster)?;
            }
            images::insert(tx, &image.0, &image.1)
        };
        life.clc.db.write(write).await.expect("fresh rows");
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> Option<Life> {
        self.process().running.clone()
    }

    async fn open(&self, life: u64, over: &CancellationToken) -> (Arc<Clc>, Context) {
        let places = Places::of(&self.config);
        let db = Db::open(places.database(), MIGRATIONS).expect("its own file");
        let seal = Seal::load_or_make(&places.seal_key()).expect("its own file");
        let peers = Peers::new(Far {
            zones: self.zones.clone(),
            clusters: self.clusters.clone(),
            over: over.clone(),
        });
        peers.set(&db.read(services::list).await.expect("rows"));
        let run = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
        let clock = TestClock::at(START_MS + run);
        let identity = Identity::load(&db, seal.clone(), format!("life-{life}")).await;
        let key_pem = std::fs::read_to_string(places.image_key()).expect("init made it");
        let certificate = std::fs::read_to_string(places.image_certificate());
        let clc = Clc::new(Parts {
            region: "mallee-1".parse().expect("a region"),
            identity: identity.expect("rows"),
            image_key: CloudKey::from_pem(&key_pem).expect("init made it"),
            image_certificate_pem: certificate.expect("init made it"),
            config: self.config.clone(),
            seed: Some(self.seed.wrapping_add(life)),
            clock: clock.clone(),
            peers,
            seal,
            db,
        });
        let context = Context::new("clc", "0", self.folder.path()).with_clock(clock);
        clc::tasks::start(&clc, &context);
        (clc, context)
    }

    /// One call of EC2, cut off by a kill.
    async fn ask(&self, query: &str) -> Result<String, CallError> {
        let life = self.life().ok_or_else(down)?;
        let parameters = Parameters::parse(query).expect("a test's query");
        let call = Call {
            service: Service::Ec2,
            action: parameters.get("Action").unwrap_or_default().to_owned(),
            version: String::new(),
            parameters,
        };
        let dispatched = api::dispatch(&life.clc, self.caller(), call);
        tokio::select! {
            biased;
            () = life.over.cancelled() => Err(down()),
            answer = dispatched => answer.map_err(|error| {
                let code = match error.code.as_str() {
                    "InsufficientInstanceCapacity" => Code::NoRoom,
                    _ => Code::Internal,
                };
                CallError::new(code, format!("{}: {}", error.code.as_str(), error.message))
            }),
        }
    }

    fn caller(&self) -> Caller {
        let verified = Verified {
            principal: iam::Principal::root(self.account.clone()),
            account: self.account.clone(),
            user: "admin".to_owned(),
            user_id: "AIDASIMULATION".to_owned(),
            arn: Arn::user(&self.account, "/", "admin"),
            policies: Arc::new([]),
            context: iam::Context::new(),
        };
        Caller::for_tests(verified, RequestId::mint(&mut rand::rng()))
    }

    fn admin(&self, life: &Life) -> Arc<Admin> {
        let authority = Authority::load(Places::of(&self.config).ca()).expect("init made it");
        Admin::new(life.clc.clone(), Arc::new(authority))
    }
}

#[async_trait]
impl Front for RealClc {
    async fn start(&self) {
        let (before, life) = {
            let mut process = self.process();
            if process.running.is_some() {
                return;
            }
            process.lives += 1;
            (process.before.take(), process.lives)
        };
        if let Some(before) = before {
            // Its calls ended with its life; what its disk was asked for is done or not by now.
            let _stopped = before.drain(DRAIN).await;
        }
        let over = CancellationToken::new();
        let (clc, context) = self.open(life, &over).await;
        let mut process = self.process();
        process.db = Some(clc.db.clone());
        process.running = Some(Life { clc, context, over });
    }

    fn kill(&self) {
        let mut process = self.process();
        if let Some(life) = process.running.take() {
            life.over.cancel();
            life.context.cancel.cancel();
            process.before = Some(life.context);
        }
    }

    fn is_up(&self) -> bool {
        self.process().running.is_some()
    }

    async fn run(&self, token: &str, count: u32, min: u32) -> Result<Vec<InstanceId>, CallError> {
        let image = &self.image;
        let query = format!(
            "Action=RunInstances&ImageId={image}&MinCount={min}&MaxCount={count}\
             &InstanceType=m1.small&ClientToken={token}"
        );
        let answer = self.ask(&query).await?;
        Ok(ids(&answer))
    }

    async fn terminate(&self, instance: &InstanceId) -> Result<(), CallError> {
        let query = format!("Action=TerminateInstances&InstanceId.1={instance}");
        self.ask(&query).await.map(drop)
    }

    async fn reboot(&self, instance: &InstanceId) {
        // Refused where it does not run, or while it is down.
        let _refused = self
            .ask(&format!("Action=RebootInstances&InstanceId.1={instance}"))
            .await;
    }

    async fn declare_dead(&self, _: usize, node: &NodeId) {
        self.start().await;
        let life = self.life().expect("just started");
        let ask = DeadAsk {
            node: node.clone(),
            dead: true,
        };
        let declared = self
            .admin(&life)
            .declare_dead(&rpc::Call::new("sim"), ask)
            .await;
        declared.expect("the node is on the roster");
    }

    async fn rows(&self) -> BTreeMap<InstanceId, Row> {
        let db = self.process().db.clone().expect("it was started once");
        let zones = self.zones.clone();
        let run = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
        let now = Timestamp(START_MS + run);
        let rows = db.read(move |tx| -> Result<_, Error> {
            let all = instances::list_all(tx)?.into_iter();
            all.map(|instance| Ok((instance.id.clone(), row(tx, &zones, &instance, now)?)))
                .collect()
        });
        rows.await.expect("rows that read")
    }

    async fn verify(&self) -> Vec<String> {
        let Some(life) = self.life() else {
            return Vec::new();
        };
        let verdict = self
            .admin(&life)
            .verify(&rpc::Call::new("sim"), Ask {})
            .await;
        let checks = verdict.expect("rows that read").checks;
        let broken = checks.into_iter().flat_map(|check| {
            let name = check.name;
            check
                .broken
                .into_iter()
                .map(move |what| format!("{name} {what}"))
        });
        broken.collect()
    }
}

fn row(tx: &Tx, zones: &[Zone], instance: &Instance, now: Timestamp) -> Result<Row, Error> {
    let interface = clc::rows::network::interface_of(tx, &instance.id)?;
    let zone = zones.iter().position(|zone| *zone == instance.zone);
    let age = now.millis_since(instance.state_since);
    Ok(Row {
        zone: zone.expect("the zones are ours"),
        node: instance.node.clone().expect("every launch is placed"),
        epoch: instance.epoch,
        generation: instance.generation,
        address: interface.map(|interface| interface.private_address),
        state: instance.state,
        age: Duration::from_millis(u64::try_from(age).unwrap_or(0)),
        why: why(instance),
    })
}

fn why(instance: &Instance) -> Option<Why> {
    let ends = matches!(
        instance.state,
        InstanceState::ShuttingDown | InstanceState::Terminated
    );
    let reason = instance.reason.as_ref().filter(|_| ends)?;
    let refused_ms = instance.state_since.millis_since(instance.launched_at);
    let after = Duration::from_millis(u64::try_from(refused_ms).unwrap_or(0));
    Some(match reason.code.as_str() {
        "Client.UserInitiatedShutdown" => Why::Asked,
        "Server.InsufficientInstanceCapacity" => Why::Refused(reason.message.clone(), after),
        _ => Why::Reported(reason.message.clone()),
    })
}

fn zone(number: usize) -> Zone {
    let letter = char::from(b'a' + u8::try_from(number).expect("a few zones"));
    format!("mallee-1{letter}").parse().expect("a zone")
}

fn join(tx: &Tx, zone: &Zone, roster: &Roster) -> Result<(), Error> {
    let service = services::ServiceRow {
        role: Role::Cc,
        name: zone.to_string(),
        zone: Some(zone.clone()),
        address: "127.0.0.1:8774".parse().expect("an address"),
        hostname: "host".to_owned(),
    };
    services::put(tx, &service, Timestamp(START_MS))?;
    for line in &roster.nodes {
        let node = nodes::NodeRow {
            id: line.node.clone(),
            zone: zone.clone(),
            address: line.address,
            hostname: line.node.to_string(),
            underlay: None,
            dead: false,
        };
        nodes::insert(tx, &node, Timestamp(START_MS))?;
    }
    Ok(())
}

fn image(id: &ImageId, account: &AccountId) -> (Image, Manifest) {
    let image = Image {
        id: id.clone(),
        account: account.clone(),
        kind: ImageKind::Machine,
        state: ImageState::Available,
        name: "tiny".to_owned(),
        description: None,
        architecture: "x86_64".to_owned(),
        platform: None,
        location: "b/i.manifest.xml".to_owned(),
        kernel: None,
        ramdisk: None,
        root_device: None,
        size_bytes: 1 << 30,
        manifest_sha256: "00".repeat(32),
        is_public: false,
        created_at: Timestamp(START_MS),
        product_codes: Vec::new(),
        devices: Vec::new(),
        deprecated_at: None,
        copied_from: None,
        copy_failure: None,
    };
    let manifest = Manifest {
        bucket: "b".to_owned(),
        prefix: String::new(),
        bytes: b"<manifest/>".to_vec(),
        part_sizes: vec![1],
    };
    (image, manifest)
}

/// The instances in an answer.
fn ids(xml: &str) -> Vec<InstanceId> {
    let found = xml.split("<instanceId>").skip(1);
    found
        .filter_map(|rest| rest.split('<').next()?.parse().ok())
        .collect()
}

/// In memory where there is such a place: a simulation waits for no disk.
fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a test may write to its temporary folder")
}

/// The clusters as one life of the Cloud Controller reaches them.
struct Far {
    zones: Vec<Zone>,
    clusters: Vec<Arc<dyn Cluster>>,
    over: CancellationToken,
}

impl Connect for Far {
    fn cluster(&self, zone: &Zone, _: SocketAddr) -> Arc<dyn Cluster> {
        let at = self.zones.iter().position(|known| known == zone);
        let cluster = at.map(|at| self.clusters[at].clone());
        let cluster = cluster.expect("the zones are ours");
        Arc::new(UntilKilled {
            cluster,
            over: self.over.clone(),
        })
    }

    fn storage(&self, _: &Zone, _: SocketAddr) -> Arc<dyn Storage> {
        Arc::new(Absent)
    }

    fn objects(&self, _: SocketAddr) -> Arc<dyn Objects> {
        Arc::new(Absent)
    }
}

/// A cluster whose answers a killed Cloud Controller does not hear any more.
struct UntilKilled {
    cluster: Arc<dyn Cluster>,
    over: CancellationToken,
}

macro_rules! until_killed {
    ($($method:ident($ask:ty) -> $answer:ty;)*) => {
        #[async_trait]
        impl Cluster for UntilKilled {
            $(
                async fn $method(&self, call: &rpc::Call, ask: $ask) -> Result<$answer, CallError> {
                    tokio::select! {
                        biased;
                        () = self.over.cancelled() => Err(down()),
                        answer = self.cluster.$method(call, ask) => answer,
                    }
                }
            )*
        }
    };
}

until_killed! {
    hold(HoldAsk) -> Hold;
    release(HoldRelease) -> Done;
    instance(InstanceWish) -> Taken;
    roster(Roster) -> Taken;
    network(NetworkDocument) -> NetworkTaken;
    changes(Poll) -> Changes<ClusterChange>;
    console_read(ConsoleRead) -> ConsoleText;
    console_write(ConsoleWrite) -> Done;
    caches(CachesAsk) -> Caches;
    caches_warm(ClusterWarm) -> Caches;
    caches_evict(EvictAsk) -> Caches;
}

/// What is not part of this simulation.
struct Absent;

fn absent<T>() -> Result<T, CallError> {
    Err(CallError::new(
        Code::Unreachable,
        "not part of this simulation",
    ))
}

#[async_trait]
impl Storage for Absent {
    async fn volume(&self, _: &rpc::Call, _: VolumeWish) -> Result<Taken, CallError> {
        absent()
    }

    async fn changes(&self, _: &rpc::Call, _: Poll) -> Result<Changes<StorageChange>, CallError> {
        absent()
    }
}

#[async_trait]
impl Objects for Absent {
    async fn read_object(&self, _: &rpc::Call, _: ReadObject) -> Result<ObjectBytes, CallError> {
        absent()
    }

    async fn stat_objects(&self, _: &rpc::Call, _: StatObjects) -> Result<ObjectStats, CallError> {
        absent()
    }

    async fn link_objects(&self, _: &rpc::Call, _: LinkObjects) -> Result<Done, CallError> {
        absent()
    }

    async fn quotas(&self, _: &rpc::Call, _: AskQuotas) -> Result<Quotas, CallError> {
        absent()
    }

    async fn set_quota(&self, _: &rpc::Call, _: SetQuota) -> Result<Done, CallError> {
        absent()
    }

    async fn drop_objects(&self, _: &rpc::Call, _: DropObjects) -> Result<Done, CallError> {
        absent()
    }

    async fn status(&self, _: &rpc::Call, _: AskObjectsStatus) -> Result<ObjectsStatus, CallError> {
        absent()
    }
}
