//! The API over its dispatch function: a real database, peers that behave, no HTTP and no
//! signatures.

mod bundle_tasks;
mod every_action;
mod image_attributes;
mod images;
mod instances;
mod key_pairs;
mod launches;
mod odd;
mod rules;
mod security_groups;
mod table;
mod tags;
mod volumes;
mod wire;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ::clc::{
    Caller, Clc, MIGRATIONS, Parts,
    accounts::Making,
    api::{self, Call},
    caller::Verified,
    config::Config,
    edge::Service,
    identity::Identity,
    peers::{Connect, Peers},
    rows,
    seal::Seal,
    tasks::{expire::Expire, release_holds::ReleaseHolds},
};
use ::types::{
    AccountId, Arn, ImageId, ImageKind, ImageState, Region, Timestamp, Zone,
    network::NetworkDocument,
};
use ::wire::{Parameters, RequestId};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use control::caches::{Caches, CachesAsk, ClusterWarm, EvictAsk};
use control::{
    CallError, Changes, Cluster, Code, Objects, Position, Role, Storage,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Placement, Roster},
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Taken},
    objects::{
        AskObjectsStatus, AskQuotas, DropObjects, LinkObjects, ObjectBytes, ObjectStat,
        ObjectStats, ObjectsStatus, Quotas, ReadObject, SetQuota, StatObjects,
    },
    rpc,
    storage::{StorageChange, VolumeWish},
};
use daemon::{clock::TestClock, reconcile::Reconcile};
use store::Db;
use tempfile::TempDir;

/// The first account, and one that has nothing to do with it.
pub(crate) const OURS: &str = "111122223333";
pub(crate) const THEIRS: &str = "444455556666";
/// 2026-11-23T03:01:59Z.
pub(crate) const NOW_MS: i64 = 1_795_402_919_000;

/// A cloud of one zone whose cluster has room for so many instances.
pub(crate) struct World {
    pub(crate) clc: Arc<Clc>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) cluster: Arc<FakeCluster>,
    pub(crate) objects: Arc<FakeObjects>,
    _folder: TempDir,
}

/// What an action answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.state_dir = folder.path().to_owned();
        if config.network.public_cidr.is_none() {
            config.network.public_cidr = Some("10.9.0.0/24".parse().unwrap());
            config.network.public_addresses = vec!["10.9.0.10-10.9.0.19".parse().unwrap()];
        }
        let db = Db::open(folder.path().join("clc.db"), MIGRATIONS).unwrap();
        let seal = Seal::new(&[7; 32]);
        let zone: Zone = "mallee-1a".parse().unwrap();
        fill(&db, &seal, &zone, config.network.default_vpc).await;

        let cluster = Arc::new(FakeCluster::with_room(8));
        let objects = Arc::new(FakeObjects::default());
        let peers = Peers::new(FakePeers {
            cluster: cluster.clone(),
            objects: objects.clone(),
        });
        peers.set(&services(&zone));
        let clock = TestClock::at(NOW_MS);
        let (image_key, certificate) = image_key();
        let clc = Clc::new(Parts {
            config,
            region: Region::first(),
            identity: Identity::load(&db, seal.clone(), "e1".to_owned())
                .await
                .unwrap(),
            db,
            clock: clock.clone(),
            peers,
            seal,
            image_key,
            image_certificate_pem: certificate,
            seed: Some(1),
        });
        Self {
            clc,
            clock,
            cluster,
            objects,
            _folder: folder,
        }
    }

    /// What the first account's root gets for `Action=...`, the body of a GET.
    pub(crate) async fn ok(&self, query: &str) -> String {
        self.ask(&root(OURS), query)
            .await
            .unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"))
    }

    pub(crate) async fn refused(&self, query: &str) -> Refusal {
        match self.ask(&root(OURS), query).await {
            Ok(answer) => panic!("{query} was not refused: {answer}"),
            Err(refusal) => refusal,
        }
    }

    /// Gives back what holds nobody wants, once.
    pub(crate) async fn give_back(&self) {
        let mut task = ReleaseHolds(self.clc.clone());
        task.pass().await.unwrap();
    }

    /// Forgets what is due, as the task does that began now.
    pub(crate) async fn expire(&self) {
        Expire::new(self.clc.clone()).pass().await.unwrap();
    }

    /// An instance ends, as its node would say.
    pub(crate) async fn end(&self, id: &str) {
        let (id, now) = (id.parse().unwrap(), self.clc.now());
        let write = move |tx: &store::Tx| {
            let terminated = types::InstanceState::Terminated;
            clc::rows::instances::set_state(tx, &id, terminated, None, now)?;
            clc::rows::network::remove_interface_of(tx, &id)
        };
        self.clc.db.write(write).await.unwrap();
    }

    /// The code that a request is refused with.
    pub(crate) async fn code(&self, query: &str) -> &'static str {
        self.refused(query).await.code
    }

    pub(crate) async fn ask(&self, caller: &Caller, query: &str) -> Result<String, Refusal> {
        self.ask_of(Service::Ec2, caller, query).await
    }

    pub(crate) async fn ask_of(
        &self,
        service: Service,
        caller: &Caller,
        query: &str,
    ) -> Result<String, Refusal> {
        let parameters = Parameters::parse(query).unwrap();
        let call = Call {
            service,
            action: parameters.get("Action").unwrap_or_default().to_owned(),
            version: parameters.get("Version").unwrap_or_default().to_owned(),
            parameters,
        };
        api::dispatch(&self.clc, caller.clone(), call)
            .await
            .map_err(|error| Refusal {
                code: error.code.as_str(),
                status: error.code.status(),
                message: error.message,
            })
    }

    /// Registers a small machine image without going through Walrus.
    pub(crate) async fn image(&self) -> ImageId {
        self.image_of(OURS, 1 << 30).await
    }

    pub(crate) async fn image_of(&self, account: &str, size_bytes: u64) -> ImageId {
        let id = self.clc.mint(|rng| ImageId::mint(ImageKind::Machine, rng));
        let row = rows::images::Image {
            id: id.clone(),
            account: account.parse().unwrap(),
            kind: ImageKind::Machine,
            state: ImageState::Available,
            name: format!("image {id}"),
            description: None,
            architecture: "x86_64".to_owned(),
            platform: None,
            location: "b/i.manifest.xml".to_owned(),
            kernel: None,
            ramdisk: None,
            root_device: None,
            size_bytes,
            manifest_sha256: "00".repeat(32),
            is_public: false,
            created_at: self.clc.now(),
            product_codes: Vec::new(),
            devices: Vec::new(),
            deprecated_at: None,
            copied_from: None,
            copy_failure: None,
        };
        let manifest = rows::images::Manifest {
            bucket: "b".to_owned(),
            prefix: String::new(),
            bytes: b"<manifest/>".to_vec(),
            part_sizes: vec![1],
        };
        self.clc
            .db
            .write(move |tx| rows::images::insert(tx, &row, &manifest))
            .await
            .unwrap();
        id
    }

    /// Launches so many instances; gives their ids.
    pub(crate) async fn launch(&self, count: u32, more: &str) -> Vec<String> {
        let image = self.image().await;
        let query =
            format!("Action=RunInstances&ImageId={image}&MinCount={count}&MaxCount={count}{more}");
        all(&self.ok(&query).await, "instanceId")
    }

    /// One pass of the task that copies and forgets images.
    pub(crate) async fn keep_images(&self) {
        let mut task = ::clc::tasks::keep_images::KeepImages::new(self.clc.clone());
        task.pass().await.unwrap();
    }

    /// As if its node had said that the instance runs.
    pub(crate) async fn run(&self, instance: &str) {
        let (id, now): (::types::InstanceId, _) = (instance.parse().unwrap(), self.clc.now());
        let state = ::types::InstanceState::Running;
        let write = move |tx: &store::Tx| rows::instances::set_state(tx, &id, state, None, now);
        self.clc.db.write(write).await.unwrap();
    }

    /// As if the instance had terminated and its hour had passed.
    pub(crate) async fn forget(&self, instance: &str) {
        let (id, now): (::types::InstanceId, _) = (instance.parse().unwrap(), self.clc.now());
        let write = move |tx: &store::Tx| {
            rows::network::remove_interface_of(tx, &id)?;
            let state = ::types::InstanceState::Terminated;
            rows::instances::set_state(tx, &id, state, None, now)?;
            rows::instances::forget_terminated(tx, now.plus_millis(1), now)?;
            rows::instances::remove_forgotten(tx)
        };
        assert_eq!(self.clc.db.write(write).await.unwrap(), 1);
    }

    /// How many rows a table has.
    pub(crate) async fn count(&self, table: &'static str) -> u64 {
        let counted = self.clc.db.read(move |tx| {
            tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .map_err(store::Error::from)
        });
        counted.await.unwrap()
    }
}

/// The texts of all elements of that name.
pub(crate) fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap_or_default().to_owned())
        .collect()
}

/// The text of the only element of that name.
pub(crate) fn one(xml: &str, name: &str) -> String {
    let found = all(xml, name);
    assert_eq!(found.len(), 1, "<{name}> in {xml}");
    found[0].clone()
}

/// Percent-encodes a value of a query.
pub(crate) fn enc(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// The root of an account.
pub(crate) fn root(account: &str) -> Caller {
    let account: AccountId = account.parse().unwrap();
    caller(
        iam::Principal::root(account.clone()),
        &account,
        "admin",
        &[],
    )
}

/// A user of the first account with these policies.
pub(crate) fn user(policies: &[&str]) -> Caller {
    let account: AccountId = OURS.parse().unwrap();
    let arn = Arn::user(&account, "/", "ann");
    caller(
        iam::Principal::user(account.clone(), arn),
        &account,
        "ann",
        policies,
    )
}

fn caller(principal: iam::Principal, account: &AccountId, user: &str, policies: &[&str]) -> Caller {
    let arn = match &principal {
        iam::Principal::Known { arn, .. } => arn.clone(),
        iam::Principal::Anonymous | iam::Principal::Service(_) => unreachable!("a caller is known"),
    };
    let policies = policies
        .iter()
        .map(|text| iam::Policy::parse_identity(text).unwrap());
    let verified = Verified {
        principal,
        account: account.clone(),
        user: user.to_owned(),
        user_id: "AIDAEXAMPLE".to_owned(),
        arn,
        policies: policies.collect(),
        context: iam::Context::new(),
    };
    Caller::for_tests(verified, RequestId::mint(&mut rand::rng()))
}

async fn fill(db: &Db, seal: &Seal, zone: &Zone, vpc: ipnet::Ipv4Net) {
    let (seal, zone) = (seal.clone(), zone.clone());
    let now = Timestamp(NOW_MS);
    db.write(move |tx| {
        rows::cloud::insert_zone(tx, &zone, now)?;
        for (account, name) in [(OURS, "ours"), (THEIRS, "theirs")] {
            Making::of(account.parse().unwrap(), name).write_with_network(tx, &seal, vpc, now)?;
        }
        Ok::<_, store::Error>(())
    })
    .await
    .unwrap();
}

fn services(zone: &Zone) -> Vec<rows::services::ServiceRow> {
    let service = |role, name: &str, zone: Option<&Zone>| rows::services::ServiceRow {
        role,
        name: name.to_owned(),
        zone: zone.cloned(),
        address: "127.0.0.1:1".parse().unwrap(),
        hostname: "host".to_owned(),
    };
    vec![
        service(Role::Cc, zone.as_str(), Some(zone)),
        service(Role::Sc, zone.as_str(), Some(zone)),
        service(Role::Walrus, "walrus", None),
    ]
}

/// A key of the cloud; made once per test binary, for it takes long.
fn image_key() -> (image::keys::CloudKey, String) {
    const PEM: &str = include_str!("testdata/cloud-key.pem");
    const CERTIFICATE: &str = include_str!("testdata/cloud-cert.pem");
    (
        image::keys::CloudKey::from_pem(PEM).unwrap(),
        CERTIFICATE.to_owned(),
    )
}

struct FakePeers {
    cluster: Arc<FakeCluster>,
    objects: Arc<FakeObjects>,
}

impl Connect for FakePeers {
    fn cluster(&self, _: &Zone, _: SocketAddr) -> Arc<dyn Cluster> {
        self.cluster.clone()
    }

    fn storage(&self, _: &Zone, _: SocketAddr) -> Arc<dyn Storage> {
        Arc::new(FakeStorage)
    }

    fn objects(&self, _: SocketAddr) -> Arc<dyn Objects> {
        self.objects.clone()
    }
}

/// A cluster of one node that counts what it holds.
pub(crate) struct FakeCluster {
    room: AtomicU64,
    pub(crate) holds: Mutex<BTreeMap<String, usize>>,
    pub(crate) console: Mutex<Result<String, Code>>,
    /// It does what it is asked, and nobody hears of it.
    pub(crate) answers_are_lost: AtomicBool,
}

impl FakeCluster {
    fn with_room(room: u64) -> Self {
        Self {
            room: room.into(),
            holds: Mutex::default(),
            console: Mutex::new(Err(Code::NotFound)),
            answers_are_lost: AtomicBool::new(false),
        }
    }

    fn hears(&self) -> Result<(), CallError> {
        match self.answers_are_lost.load(Ordering::SeqCst) {
            true => Err(CallError::new(Code::Unreachable, "connection reset")),
            false => Ok(()),
        }
    }

    pub(crate) fn set_room(&self, room: u64) {
        self.room.store(room, Ordering::SeqCst);
    }

    /// How many instances are held for, in all.
    pub(crate) fn held(&self) -> usize {
        self.holds.lock().unwrap().values().sum()
    }
}

fn nothing_new<T: serde::Serialize + serde::de::DeserializeOwned>() -> Changes<T> {
    Changes {
        position: Position {
            epoch: "e1".to_owned(),
            revision: 0,
        },
        full: true,
        items: Vec::new(),
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn hold(&self, _: &rpc::Call, ask: HoldAsk) -> Result<Hold, CallError> {
        let room = self.room.load(Ordering::SeqCst) as usize;
        let mut holds = self.holds.lock().unwrap();
        let free = room.saturating_sub(holds.values().sum());
        let given = ask.instances.len().min(free);
        if given < ask.min_count as usize {
            return Err(CallError::new(
                Code::NoRoom,
                format!("room for {free} of {}", ask.min_count),
            ));
        }
        holds.insert(ask.reservation.to_string(), given);
        self.hears()?;
        let place = |instance| Placement {
            instance,
            node: "node-00000001".parse().unwrap(),
            epoch: 1,
            why: "the only one".to_owned(),
        };
        let placements = ask.instances.into_iter().take(given).map(place).collect();
        Ok(Hold {
            placements,
            rejected: Vec::new(),
        })
    }

    async fn release(&self, _: &rpc::Call, ask: HoldRelease) -> Result<Done, CallError> {
        self.hears()?;
        self.holds.lock().unwrap().remove(ask.reservation.as_str());
        Ok(Done {})
    }

    async fn instance(&self, _: &rpc::Call, ask: InstanceWish) -> Result<Taken, CallError> {
        Ok(Taken {
            generation: ask.generation,
        })
    }

    async fn roster(&self, _: &rpc::Call, ask: Roster) -> Result<Taken, CallError> {
        Ok(Taken {
            generation: ask.generation,
        })
    }

    async fn network(
        &self,
        _: &rpc::Call,
        ask: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        Ok(NetworkTaken {
            version: ask.version,
        })
    }

    async fn changes(&self, _: &rpc::Call, _: Poll) -> Result<Changes<ClusterChange>, CallError> {
        Ok(nothing_new())
    }

    async fn console_read(&self, _: &rpc::Call, _: ConsoleRead) -> Result<ConsoleText, CallError> {
        let console = self.console.lock().unwrap().clone();
        let text = console.map_err(|code| CallError::new(code, "no console"))?;
        Ok(ConsoleText {
            from: 0,
            output: STANDARD.encode(text),
            updated_at: Timestamp(NOW_MS),
        })
    }

    async fn console_write(&self, _: &rpc::Call, _: ConsoleWrite) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn caches(&self, _: &rpc::Call, _: CachesAsk) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }

    async fn caches_warm(&self, _: &rpc::Call, _: ClusterWarm) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }

    async fn caches_evict(&self, _: &rpc::Call, _: EvictAsk) -> Result<Caches, CallError> {
        Ok(Caches::default())
    }
}

struct FakeStorage;

#[async_trait]
impl Storage for FakeStorage {
    async fn volume(&self, _: &rpc::Call, ask: VolumeWish) -> Result<Taken, CallError> {
        Ok(Taken {
            generation: ask.generation,
        })
    }

    async fn changes(&self, _: &rpc::Call, _: Poll) -> Result<Changes<StorageChange>, CallError> {
        Ok(nothing_new())
    }
}

/// Objects of the first account, which others may not read unless their bucket is shared.
#[derive(Default)]
pub(crate) struct FakeObjects {
    pub(crate) objects: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    shared: Mutex<Vec<String>>,
    /// What linking answers instead.
    pub(crate) refusal: Mutex<Option<CallError>>,
}

impl FakeObjects {
    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let key = (bucket.to_owned(), key.to_owned());
        self.objects.lock().unwrap().insert(key, bytes.to_vec());
    }

    pub(crate) fn remove(&self, bucket: &str, key: &str) {
        self.objects
            .lock()
            .unwrap()
            .remove(&(bucket.to_owned(), key.to_owned()));
    }

    /// Lets everyone read a bucket.
    pub(crate) fn share(&self, bucket: &str) {
        self.shared.lock().unwrap().push(bucket.to_owned());
    }

    /// How many objects a bucket has.
    pub(crate) fn count(&self, bucket: &str) -> usize {
        let objects = self.objects.lock().unwrap();
        objects.keys().filter(|(own, _)| own == bucket).count()
    }

    fn find(&self, account: &AccountId, bucket: &str, key: &str) -> Result<Vec<u8>, Code> {
        let is_shared = self.shared.lock().unwrap().iter().any(|own| own == bucket);
        let objects = self.objects.lock().unwrap();
        let found = objects.get(&(bucket.to_owned(), key.to_owned()));
        match found {
            None => Err(Code::NotFound),
            Some(_) if account.as_str() != OURS && !is_shared => Err(Code::Forbidden),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

#[async_trait]
impl Objects for FakeObjects {
    async fn read_object(&self, _: &rpc::Call, ask: ReadObject) -> Result<ObjectBytes, CallError> {
        let found = self.find(&ask.principal.account, &ask.bucket, &ask.key);
        let bytes = found.map_err(|code| CallError::new(code, "no object"))?;
        if bytes.len() as u64 > ask.bytes_max {
            return Err(CallError::new(Code::Invalid, "the object is too large"));
        }
        Ok(ObjectBytes {
            content: STANDARD.encode(bytes),
            etag: "e".to_owned(),
        })
    }

    async fn stat_objects(
        &self,
        _: &rpc::Call,
        ask: StatObjects,
    ) -> Result<ObjectStats, CallError> {
        let stat = |key: String| ObjectStat {
            size: match self.find(&ask.principal.account, &ask.bucket, &key) {
                Ok(bytes) => Ok(bytes.len() as u64),
                Err(Code::Forbidden) => Err("AccessDenied".to_owned()),
                Err(_) => Err("NoSuchKey".to_owned()),
            },
            key,
        };
        Ok(ObjectStats {
            objects: ask.keys.into_iter().map(stat).collect(),
        })
    }

    async fn link_objects(&self, _: &rpc::Call, ask: LinkObjects) -> Result<Done, CallError> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        for name in ask.names {
            let from = (
                ask.from_bucket.clone(),
                format!("{}{name}", ask.from_prefix),
            );
            let mut objects = self.objects.lock().unwrap();
            let bytes = objects
                .get(&from)
                .cloned()
                .ok_or_else(|| CallError::not_found(format!("{}/{}", from.0, from.1)))?;
            objects.insert((ask.to_bucket.clone(), name), bytes);
        }
        Ok(Done {})
    }

    async fn quotas(&self, _: &rpc::Call, _: AskQuotas) -> Result<Quotas, CallError> {
        Ok(Quotas::default())
    }

    async fn set_quota(&self, _: &rpc::Call, _: SetQuota) -> Result<Done, CallError> {
        Ok(Done {})
    }

    async fn drop_objects(&self, _: &rpc::Call, ask: DropObjects) -> Result<Done, CallError> {
        let mut objects = self.objects.lock().unwrap();
        objects.retain(|(bucket, _), _| *bucket != ask.bucket);
        Ok(Done {})
    }

    async fn status(&self, _: &rpc::Call, _: AskObjectsStatus) -> Result<ObjectsStatus, CallError> {
        Ok(ObjectsStatus {
            buckets: 0,
            objects: 0,
            bytes: 0,
            free_bytes: 0,
            identity_revision: 0,
        })
    }
}
