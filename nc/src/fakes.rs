//! Fakes of what a keeper needs, which behave: they take time, report progress, fail when told to,
//! and remember what there is, so that a test can look for what was left behind.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use control::{
    CallError,
    node::{
        ImageRef, InstanceSpec, InstanceWish, InterfaceSpec, Metadata, NetworkTaken, Shape, Wanted,
    },
};
use daemon::BoxError;
use tokio::sync::watch;
use types::{
    BundleId, Gib, InstanceId, MacAddr, Mib, StateReason, Timestamp, VpcId, instance::ShortId,
    network::NetworkDocument,
};

use crate::{
    bundle,
    needs::{BootDisks, Bundles, Disk, DiskFile, DiskFormat, Disks, Networks, Progress},
    network::InPlace,
};

/// A wish for a small running instance, number `n` of its kind, on [`node_id`].
pub fn wish(n: u32) -> InstanceWish {
    InstanceWish {
        instance: id("i", n).parse().expect("well formed"),
        generation: 1,
        node: node_id(),
        epoch: 1,
        wanted: Wanted::Running,
        reboots: 0,
        bundle: None,
        spec: spec(n),
    }
}

/// The node that fake wishes name.
pub fn node_id() -> types::NodeId {
    id("node", 1).parse().expect("well formed")
}

fn id(prefix: &str, n: u32) -> String {
    format!("{prefix}-{n:08x}")
}

fn spec(n: u32) -> InstanceSpec {
    InstanceSpec {
        account: "000000000001".parse().expect("twelve digits"),
        reservation: id("r", n).parse().expect("well formed"),
        vm_type: "t1.micro".to_owned(),
        shape: Shape {
            vcpus: 1,
            memory_mib: Mib(256),
            disk_gib: Gib(5),
        },
        image: ImageRef {
            id: id("emi", 1).parse().expect("well formed"),
            manifest_sha256: "0".repeat(64),
            size_bytes: 1 << 20,
        },
        kernel: None,
        ramdisk: None,
        interface: interface(n),
        network_version: 1,
        metadata: metadata(),
    }
}

fn interface(n: u32) -> InterfaceSpec {
    let [.., c, d] = n.to_be_bytes();
    InterfaceSpec {
        id: id("eni", n).parse().expect("well formed"),
        short: ShortId(n),
        vpc: id("vpc", 1).parse().expect("well formed"),
        vpc_short: ShortId(1),
        subnet: id("subnet", 1).parse().expect("well formed"),
        subnet_short: ShortId(1),
        mac: MacAddr([0xd0, 0x0d, 0, 0, c, d]),
        private_address: [172, 31, c, d].into(),
        public_address: None,
    }
}

fn metadata() -> Metadata {
    Metadata {
        region: "mallee-1".to_owned(),
        zone: "mallee-1a".parse().expect("a zone"),
        ami_manifest_path: "bucket/image.manifest.xml".to_owned(),
        launch_index: 0,
        private_dns_name: "ip-172-31-0-1.mallee-1.internal".to_owned(),
        public_dns_name: String::new(),
        key: None,
        security_groups: vec!["default".to_owned()],
        security_group_ids: vec![id("sg", 1)],
        subnet_cidr: "172.31.0.0/20".to_owned(),
        vpc_cidr: "172.31.0.0/16".to_owned(),
        user_data: None,
        tokens_required: false,
        tags: Vec::new(),
        launched_at: Timestamp(1_790_000_000_000),
    }
}

/// One overlay over one image.
pub fn boot_disks() -> BootDisks {
    let file = |path: &str, format| DiskFile {
        path: path.into(),
        format,
    };
    BootDisks {
        disks: vec![Disk {
            file: file("/instances/i-00000001/disk.qcow2", DiskFormat::Qcow2),
            backing: Some(file("/cache/emi-00000001.raw", DiskFormat::Raw)),
            serial: None,
        }],
        kernel: None,
        root_key: None,
    }
}

/// Disks that exist in memory only.
#[derive(Debug, Default)]
pub struct FakeDisks {
    /// How long a preparation takes.
    pub takes: Mutex<Duration>,
    /// What the next preparations end with instead of disks, and attempts to have them again.
    pub fails: Mutex<Option<StateReason>>,
    /// What making disks durable ends with from now on.
    pub keep_fails: Mutex<Option<StateReason>>,
    /// How much is free, in MiB, from now on; none is as much as one likes.
    pub free_mib: Mutex<Option<u64>>,
    /// How many wipes fail from now on.
    pub wipes_fail: Mutex<u32>,
    there: Mutex<BTreeSet<InstanceId>>,
    prepared: Mutex<u32>,
    regained: Mutex<u32>,
}

impl FakeDisks {
    /// The instances that have disks.
    pub fn there(&self) -> BTreeSet<InstanceId> {
        lock(&self.there).clone()
    }

    /// How many preparations were begun.
    pub fn prepared(&self) -> u32 {
        *lock(&self.prepared)
    }

    /// How often somebody tried to have disks again.
    pub fn regained(&self) -> u32 {
        *lock(&self.regained)
    }
}

#[async_trait]
impl Disks for FakeDisks {
    async fn prepare(
        &self,
        wish: &InstanceWish,
        _dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        *lock(&self.prepared) += 1;
        lock(&self.there).insert(wish.instance.clone());
        let takes = *lock(&self.takes);
        for percent in [0, 50] {
            let stage = format!("fetching {}", wish.spec.image.id);
            progress.send_replace(Progress {
                stage,
                percent: Some(percent),
            });
            tokio::time::sleep(takes / 2).await;
        }
        match lock(&self.fails).clone() {
            Some(reason) => Err(reason),
            None => Ok(boot_disks()),
        }
    }

    async fn regain(
        &self,
        wish: &InstanceWish,
        _dir: &Path,
        _progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        *lock(&self.regained) += 1;
        let is_there = lock(&self.there).contains(&wish.instance);
        assert!(is_there, "{}: its disks were wiped", wish.instance);
        match lock(&self.fails).clone() {
            Some(reason) => Err(reason),
            None => Ok(boot_disks()),
        }
    }

    async fn keep(&self, _wish: &InstanceWish, _dir: &Path) -> Result<(), StateReason> {
        match lock(&self.keep_fails).clone() {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    async fn adopt(&self, wish: &InstanceWish, _dir: &Path) {
        lock(&self.there).insert(wish.instance.clone());
    }

    async fn free_mib(&self, _dir: &Path) -> std::io::Result<u64> {
        Ok(lock(&self.free_mib).unwrap_or(u64::MAX))
    }

    async fn wipe(&self, instance: &InstanceId, _dir: &Path) -> Result<(), BoxError> {
        let mut fails = lock(&self.wipes_fail);
        if *fails > 0 {
            *fails -= 1;
            return Err("the disk is busy".into());
        }
        lock(&self.there).remove(instance);
        Ok(())
    }
}

/// Bundles that take their time and go nowhere.
#[derive(Debug, Default)]
pub struct FakeBundles {
    /// How long one takes.
    pub takes: Mutex<Duration>,
    /// What the next ones end with.
    pub fails: Mutex<Option<StateReason>>,
    begun: Mutex<Vec<BundleId>>,
}

impl FakeBundles {
    /// The tasks that were begun, each as often as it was.
    pub fn begun(&self) -> Vec<BundleId> {
        lock(&self.begun).clone()
    }
}

#[async_trait]
impl Bundles for FakeBundles {
    async fn bundle(
        &self,
        _wish: &InstanceWish,
        _dir: &Path,
        task: &BundleId,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), StateReason> {
        lock(&self.begun).push(task.clone());
        let takes = *lock(&self.takes);
        for stage in [bundle::BUNDLING, bundle::STORING] {
            progress.send_replace(Progress {
                stage: stage.to_owned(),
                percent: Some(50),
            });
            tokio::time::sleep(takes / 2).await;
        }
        lock(&self.fails).clone().map_or(Ok(()), Err)
    }
}

/// A network that applies what it is offered, at once or when told.
#[derive(Debug)]
pub struct FakeNetworks {
    applied: watch::Sender<Arc<InPlace>>,
    plugged: Mutex<BTreeSet<ShortId>>,
}

impl FakeNetworks {
    /// A network that has applied that version.
    pub fn at(version: u64) -> Arc<Self> {
        Arc::new(Self {
            applied: watch::Sender::new(Arc::new(InPlace::at(version))),
            plugged: Mutex::default(),
        })
    }

    /// Applies that version now.
    pub fn apply(&self, version: u64) {
        self.applied.send_replace(Arc::new(InPlace::at(version)));
    }

    /// A VPC could not be made as the version that is applied says.
    pub fn fail_vpc(&self, vpc: &VpcId, why: &str) {
        let mut now = InPlace::clone(&self.applied.borrow());
        now.failed.insert(vpc.clone(), why.to_owned());
        self.applied.send_replace(Arc::new(now));
    }

    /// The interfaces whose domain runs.
    pub fn plugged_now(&self) -> BTreeSet<ShortId> {
        lock(&self.plugged).clone()
    }
}

#[async_trait]
impl Networks for FakeNetworks {
    async fn offer(&self, document: NetworkDocument) -> Result<NetworkTaken, CallError> {
        if document.version > self.applied.borrow().version {
            self.apply(document.version);
        }
        let version = self.applied.borrow().version;
        Ok(NetworkTaken { version })
    }

    fn applied(&self) -> watch::Receiver<Arc<InPlace>> {
        self.applied.subscribe()
    }

    async fn plugged(&self, interface: &InterfaceSpec) -> Result<(), BoxError> {
        lock(&self.plugged).insert(interface.short);
        Ok(())
    }

    async fn unplugged(&self, interface: &InterfaceSpec) -> Result<(), BoxError> {
        lock(&self.plugged).remove(&interface.short);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no one panics while holding this lock")
}
