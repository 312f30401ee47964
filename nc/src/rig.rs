//! A whole node on fakes for tests: keepers, adoption and events as in the daemon. The host outlives
//! the daemon, so that a test can stop one and start the next.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use control::{
    CallError,
    caches::CopyReport,
    cloud::{Ticket, TicketAsk},
    node::{InstanceReport, InstanceWish, Seen, Wanted},
};
use daemon::{Context, clock::TestClock};
use tokio::sync::watch;
use types::InstanceId;

use crate::{
    adopt::AdoptInstances,
    bandwidth::Bandwidth,
    cache::{self, Cache, Tickets, lease::LeaseTimes, peers::PeerTimes},
    config::Limits,
    domain::{Accel, CacheMode, Host},
    fakes::{self, FakeBundles, FakeDisks, FakeNetworks},
    hypervisor::fake::FakeHypervisor,
    keepers::Keepers,
    residents::Residents,
    signs::Signs,
    site::{Parts, Site},
    tasks,
};

/// A host: what outlives the daemon.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) hypervisor: FakeHypervisor,
    pub(crate) disks: Arc<FakeDisks>,
    pub(crate) bundles: Arc<FakeBundles>,
    pub(crate) networks: Arc<FakeNetworks>,
    pub(crate) boot_id: String,
}

/// A daemon on it.
pub(crate) struct Process {
    pub(crate) context: Context,
    pub(crate) keepers: Keepers,
    pub(crate) residents: Residents,
    pub(crate) signs: Signs,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            hypervisor: FakeHypervisor::default(),
            disks: Arc::default(),
            bundles: Arc::default(),
            networks: FakeNetworks::at(1),
            boot_id: "boot-1".to_owned(),
        }
    }

    pub(crate) async fn start(&self) -> Process {
        let context = Context::new("nc", "0", self.dir.path()).with_clock(TestClock::at(1_000_000));
        let residents = Residents::default();
        let host = Host {
            node: fakes::node_id(),
            accel: Accel::Tcg,
            emulator: "/usr/bin/qemu".into(),
            cache: CacheMode::None,
            vnc: false,
        };
        let parts = Parts {
            hypervisor: Arc::new(self.hypervisor.clone()),
            disks: self.disks.clone(),
            bundles: self.bundles.clone(),
            networks: self.networks.clone(),
            residents: residents.clone(),
            clock: context.clock.clone(),
        };
        let dir = self.dir.path().to_owned();
        let site = Site::new(dir, host, self.boot_id.clone(), Limits::default(), parts);
        let keepers = Keepers::new(site, context.clone());
        let (signs, told) = Signs::new();
        let state = watch::Sender::new(Err("not asked yet".to_owned()));
        let events = self.hypervisor.connect();
        let stop = context.cancel.clone();
        context.spawn(
            "watch_domains",
            tasks::watch_domains(keepers.clone(), events, told, state, stop),
        );
        context.reconcile(AdoptInstances::new(keepers.clone()), keepers.look.clone());
        while !keepers.has_adopted() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Process {
            context,
            keepers,
            residents,
            signs,
        }
    }

    pub(crate) fn files_of(&self, instance: &InstanceId) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.dir.path().join(instance.as_str()));
        let names = entries.into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    pub(crate) fn assert_nothing_left(&self, instance: &InstanceId) {
        assert!(!self.hypervisor.domains().contains_key(instance.as_str()));
        assert!(!self.disks.there().contains(instance));
        let left = self.files_of(instance);
        assert!(left.iter().all(|name| name == "instance.json"), "{left:?}");
    }
}

impl Process {
    pub(crate) async fn wish(&self, wish: &InstanceWish) -> u64 {
        self.keepers.wish(wish.clone()).await.unwrap().generation
    }

    pub(crate) async fn until(&self, instance: &InstanceId, seen: Seen) -> InstanceReport {
        let mut reports = self
            .keepers
            .get(instance)
            .expect("it has a keeper")
            .reports();
        let limit = Duration::from_secs(7200);
        let reached = reports.wait_for(|report| report.seen == seen);
        match tokio::time::timeout(limit, reached).await {
            Ok(reached) => reached.unwrap().clone(),
            Err(_) => panic!(
                "never {seen:?}: {:?}",
                self.keepers.get(instance).unwrap().report()
            ),
        }
    }

    pub(crate) async fn run(&self, wish: &InstanceWish) -> InstanceReport {
        self.wish(wish).await;
        self.until(&wish.instance, Seen::Running).await
    }

    pub(crate) async fn terminate(&self, wish: &InstanceWish) -> InstanceReport {
        self.wish(&terminated(wish)).await;
        self.until(&wish.instance, Seen::Terminated).await
    }

    /// Stops the daemon in the middle of whatever it does.
    pub(crate) async fn stop(self) {
        self.context.drain(Duration::from_secs(60)).await.unwrap();
    }
}

/// The same wish, said again later.
pub(crate) fn newer(wish: &InstanceWish) -> InstanceWish {
    InstanceWish {
        generation: wish.generation + 1,
        ..wish.clone()
    }
}

/// The wish that it be gone.
pub(crate) fn terminated(wish: &InstanceWish) -> InstanceWish {
    InstanceWish {
        wanted: Wanted::Terminated,
        ..newer(wish)
    }
}

/// The steps of a report's timeline.
pub(crate) fn steps(report: &InstanceReport) -> Vec<&str> {
    report
        .timeline
        .iter()
        .map(|moment| moment.step.as_str())
        .collect()
}

pub(crate) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// An image cache beside the host's instances, for which nobody gives tickets.
pub(crate) fn cache(keepers: &Keepers) -> Cache {
    cache_in(
        &keepers.site().instances.join("cache"),
        cache::files::PATIENCE,
    )
}

/// The same in a folder, with so much patience for it.
pub(crate) fn cache_in(folder: &std::path::Path, patience: Duration) -> Cache {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the versions are the library's own")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let settings = cache::Settings {
        folder: folder.to_owned(),
        node: fakes::node_id(),
        limit_bytes: None,
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: Arc::new(tls),
        lease: LeaseTimes::default(),
        patience,
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    };
    Cache::new(settings, Arc::new(NoTickets))
}

struct NoTickets;

#[async_trait]
impl Tickets for NoTickets {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        Err(CallError::not_found(ask.image.id))
    }

    async fn copied(&self, _: CopyReport) -> Result<(), CallError> {
        Ok(())
    }
}
