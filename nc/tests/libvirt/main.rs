//! The Node Controller on the real libvirt and QEMU: a libvirtd of our own in its own namespaces,
//! and a guest of 93 bytes. Needs root; says so loudly where it cannot run.
#![allow(clippy::unwrap_used)] // helpers of tests fail as tests do

mod guest;
mod lab;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use control::node::{InstanceWish, Seen, Wanted};
use daemon::{BoxError, Context};
use nc::{
    adopt::AdoptInstances,
    config::Limits,
    console,
    domain::Domain,
    fakes::{self, FakeNetworks},
    hypervisor::{Events, Happened, Hypervisor, libvirt::Libvirt},
    instance::End,
    keepers::Keepers,
    needs::{BootDisks, Disks, Progress},
    residents::Residents,
    signs::Signs,
    site::{Parts, Site},
    tasks,
};
use tokio::{sync::watch, time::timeout};
use types::{InstanceId, StateReason};

use lab::Lab;

/// Everything here takes a second or two; a busy machine has two cores for all tests.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(events: &mut Events, wanted: impl Fn(&Happened) -> bool) -> Happened {
    let found = async {
        loop {
            let happened = events.recv().await.expect("libvirt still talks");
            if wanted(&happened) {
                return happened;
            }
        }
    };
    timeout(PATIENCE, found).await.expect("it never happened")
}

async fn connected(lab: &Lab) -> (Libvirt, Events) {
    let (libvirt, mut events) = Libvirt::connect(&lab.uri());
    next(&mut events, |happened| *happened == Happened::Connected).await;
    (libvirt, events)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let reached = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, reached).await.is_ok(), "never: {what}");
}

fn says(log: &Path, word: &str) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains(word))
}

fn domain(lab: &Lab) -> Domain {
    let wish = fakes::wish(1);
    let (boot, log) = (guest::disk(lab.dir()), console::log_in(lab.dir()));
    Domain {
        nic: None,
        ..Domain::of(&wish, boot, &lab.host(), log)
    }
}

async fn started(libvirt: &Libvirt, lab: &Lab) -> Domain {
    let domain = domain(lab);
    libvirt.start(&domain).await.expect("it starts");
    until("the guest said hello", || {
        says(&domain.console_log, "hello")
    })
    .await;
    domain
}

fn gone(instance: &InstanceId) -> impl Fn(&Happened) -> bool {
    move |happened| matches!(happened, Happened::Gone(name, _) if *name == instance.as_str())
}

fn was_reset(instance: &InstanceId) -> impl Fn(&Happened) -> bool {
    move |happened| *happened == Happened::Reset(instance.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_starts_speaks_is_typed_to_and_powers_itself_off() {
    let Some(lab) = Lab::start() else { return };
    let (libvirt, mut events) = connected(&lab).await;
    let domain = started(&libvirt, &lab).await;
    let (instance, log) = (domain.instance.clone(), domain.console_log.clone());

    let listed = libvirt.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].ours(&fakes::node_id()), Some(instance.clone()));
    assert_eq!(listed[0].mark.as_ref().unwrap().epoch, 1);
    assert_eq!(listed[0].ours(&"node-00000009".parse().unwrap()), None);
    libvirt
        .start(&domain)
        .await
        .expect("starting what runs is success");
    assert!(libvirt.version().await.unwrap().starts_with("libvirt "));

    libvirt.type_in(&instance, b"xyz").await.unwrap();
    until("the guest answered", || says(&log, "xyz")).await;

    libvirt.type_in(&instance, b"q").await.unwrap();
    let end = next(&mut events, gone(&instance)).await;
    assert_eq!(end, Happened::Gone(instance.to_string(), End::PoweredOff));
    assert!(
        libvirt.list().await.unwrap().is_empty(),
        "nothing is left defined"
    );
    libvirt
        .destroy(&instance)
        .await
        .expect("ending what is gone is success");
    let nobody = libvirt.shutdown(&instance).await.unwrap_err();
    assert_eq!(nobody, nc::hypervisor::Error::NoDomain(instance));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_length_is_handed_to_the_firmware_as_it_is() {
    let Some(lab) = Lab::start() else { return };
    let (libvirt, _events) = connected(&lab).await;
    let mut domain = domain(&lab);
    // The longest that EC2 takes: RSA of 16,384 bits.
    let key = format!("ssh-rsa {} a, <b> & c\n", "A".repeat(2_750));
    domain.boot.root_key = Some(key.clone());
    libvirt.start(&domain).await.expect("it starts");
    until("the guest said hello", || {
        says(&domain.console_log, "hello")
    })
    .await;
    let value = format!(
        "type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root={}",
        STANDARD.encode(key)
    );
    let pid = lab.qemu_pid(&domain.instance).unwrap();
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let mut words = words.split(|byte| *byte == 0);
    assert!(words.any(|word| word == value.as_bytes()), "QEMU has it");
    libvirt.destroy(&domain.instance).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_outlives_its_watchers_and_its_violent_end_is_told() {
    let Some(mut lab) = Lab::start() else { return };
    let (libvirt, _) = connected(&lab).await;
    let domain = started(&libvirt, &lab).await;
    let instance = domain.instance;
    let pid = lab.qemu_pid(&instance).expect("QEMU runs");
    drop(libvirt);

    let (libvirt, mut events) = connected(&lab).await;
    assert_eq!(libvirt.list().await.unwrap().len(), 1);
    lab.restart_libvirtd();
    next(&mut events, |happened| {
        matches!(happened, Happened::Lost(_))
    })
    .await;
    next(&mut events, |happened| *happened == Happened::Connected).await;
    assert_eq!(libvirt.list().await.unwrap()[0].name, instance.as_str());
    assert_eq!(lab.qemu_pid(&instance), Some(pid), "the same QEMU process");
    // A guest that dies while libvirtd is still taking it up again is told by nobody, and found by
    // the node's next look; this one is to be told.
    libvirt.type_in(&instance, b"yes").await.unwrap();
    until("the guest answers the new libvirtd", || {
        says(&domain.console_log, "yes")
    })
    .await;

    lab::kill(pid);
    let end = next(&mut events, gone(&instance)).await;
    assert!(matches!(end, Happened::Gone(_, End::Crashed(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_rebooted_by_button_or_by_force_and_shut_down_within_one_qemu() {
    let Some(lab) = Lab::start() else { return };
    let (libvirt, mut events) = connected(&lab).await;
    let domain = started(&libvirt, &lab).await;
    let instance = domain.instance;
    let pid = lab.qemu_pid(&instance);

    // It heeds the power button from now on.
    libvirt.type_in(&instance, b"a").await.unwrap();
    until("the guest heeds the button", || {
        says(&domain.console_log, "a")
    })
    .await;
    libvirt.reboot(&instance).await.unwrap();
    next(&mut events, was_reset(&instance)).await;

    let hellos = || {
        std::fs::read_to_string(&domain.console_log)
            .unwrap()
            .matches("hello")
            .count()
    };
    until("it booted again", || hellos() == 2).await;

    // Freshly booted it does not heed it; a reset does not ask.
    libvirt.reset(&instance).await.unwrap();
    next(&mut events, was_reset(&instance)).await;
    assert_eq!(lab.qemu_pid(&instance), pid);

    let hellos = || {
        std::fs::read_to_string(&domain.console_log)
            .unwrap()
            .matches("hello")
            .count()
    };
    until("it booted three times", || hellos() >= 3).await;
    libvirt.type_in(&instance, b"A a").await.unwrap();
    until("the guest heeds the button again", || {
        says(&domain.console_log, "A a")
    })
    .await;
    libvirt.shutdown(&instance).await.unwrap();
    let end = next(&mut events, gone(&instance)).await;
    assert_eq!(end, Happened::Gone(instance.to_string(), End::PoweredOff));
}

/// Disks of the tiny guest.
struct TinyDisks;

#[async_trait]
impl Disks for TinyDisks {
    async fn prepare(
        &self,
        _: &InstanceWish,
        dir: &Path,
        _: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        Ok(guest::disk(dir))
    }

    async fn regain(
        &self,
        _: &InstanceWish,
        dir: &Path,
        _: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        Ok(guest::disk(dir))
    }

    async fn keep(&self, _: &InstanceWish, _: &Path) -> Result<(), StateReason> {
        Ok(())
    }

    async fn adopt(&self, _: &InstanceWish, _: &Path) {}

    async fn wipe(&self, _: &InstanceId, dir: &Path) -> Result<(), BoxError> {
        Ok(std::fs::remove_file(dir.join(guest::FILE))?)
    }
}

/// A disk of the guest that writes, on a file system of its own.
struct SmallDisks {
    here: PathBuf,
    as_seen: PathBuf,
}

#[async_trait]
impl Disks for SmallDisks {
    async fn prepare(
        &self,
        _: &InstanceWish,
        _: &Path,
        _: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        Ok(guest::writing_disk(&self.here, &self.as_seen))
    }

    async fn regain(
        &self,
        _: &InstanceWish,
        _: &Path,
        _: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        unreachable!("its guest is never started twice")
    }

    async fn keep(&self, _: &InstanceWish, _: &Path) -> Result<(), StateReason> {
        Ok(())
    }

    async fn adopt(&self, _: &InstanceWish, _: &Path) {}

    async fn free_mib(&self, _: &Path) -> std::io::Result<u64> {
        Ok(nc::resources::free_bytes(&self.here)? >> 20)
    }

    async fn wipe(&self, _: &InstanceId, _: &Path) -> Result<(), BoxError> {
        Ok(std::fs::remove_file(self.here.join(guest::FILE))?)
    }
}

async fn node(lab: &Lab) -> (Context, Keepers) {
    node_with(lab, Arc::new(TinyDisks)).await
}

async fn node_with(lab: &Lab, disks: Arc<dyn Disks>) -> (Context, Keepers) {
    let context = Context::new("nc", "0", lab.dir());
    let instances = lab.dir().join("instances");
    std::fs::create_dir_all(&instances).unwrap();
    let (libvirt, events) = Libvirt::connect(&lab.uri());
    let parts = Parts {
        hypervisor: Arc::new(libvirt),
        disks,
        bundles: Arc::<nc::fakes::FakeBundles>::default(),
        networks: FakeNetworks::at(1),
        residents: Residents::default(),
        clock: context.clock.clone(),
    };
    let limits = Limits {
        shutdown_grace_s: 1,
        retry_s: 1,
        resume_s: 1,
        resume_free_mib: 4,
        ..Limits::default()
    };
    let site = Site::new(instances, lab.host(), "boot-1".to_owned(), limits, parts);
    let keepers = Keepers::new(site, context.clone());
    let (_, signs) = Signs::new();
    let state = watch::Sender::new(Err(String::new()));
    let stop = context.cancel.clone();
    let watching = tasks::watch_domains(keepers.clone(), events, signs, state, stop);
    context.spawn("watch_domains", watching);
    context.reconcile(AdoptInstances::new(keepers.clone()), keepers.look.clone());
    until("it has looked around", || keepers.has_adopted()).await;
    (context, keepers)
}

async fn seen(
    keepers: &Keepers,
    instance: &InstanceId,
    seen: Seen,
) -> control::node::InstanceReport {
    let mut reports = keepers.get(instance).expect("it has a keeper").reports();
    let reached = reports.wait_for(|report| report.seen == seen);
    timeout(PATIENCE, reached)
        .await
        .expect("it gets there")
        .unwrap()
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_runs_adopts_and_removes_an_instance_and_leaves_nothing() {
    let Some(lab) = Lab::start() else { return };
    let (context, keepers) = node(&lab).await;
    let wish = fakes::wish(1);
    let instance = wish.instance.clone();
    keepers.wish(wish.clone()).await.unwrap();
    let report = seen(&keepers, &instance, Seen::Running).await;
    for moment in &report.timeline {
        println!(
            "{:>6} ms  {} {}",
            moment.elapsed_ms, moment.step, moment.detail
        );
    }
    let pid = lab.qemu_pid(&instance).expect("QEMU runs");
    assert!(lab.links().contains("mt1"), "its tap is on the host");
    let folder = lab.dir().join("instances").join(instance.as_str());
    until("a disk in use is known as such", || {
        nc::in_use::find(&folder).is_some()
    })
    .await;

    // The daemon goes and comes; the guest does not notice.
    context.drain(PATIENCE).await.unwrap();
    let (context, keepers) = node(&lab).await;
    seen(&keepers, &instance, Seen::Running).await;
    assert_eq!(lab.qemu_pid(&instance), Some(pid), "the same QEMU process");

    let end = InstanceWish {
        wanted: Wanted::Terminated,
        generation: 2,
        ..wish
    };
    keepers.wish(end).await.unwrap();
    let report = seen(&keepers, &instance, Seen::Terminated).await;
    assert_eq!(report.reason, None);
    assert_eq!(lab.qemu_pid(&instance), None);
    assert!(!lab.links().contains("mt1"), "{}", lab.links());
    let left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["instance.json"]);
    context.drain(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_a_full_disk_stands_still_is_shown_and_goes_on_when_there_is_room() {
    let Some(lab) = Lab::start() else { return };
    let small = lab.dir().join("small");
    lab.tmpfs(&small, 128);
    let disks = SmallDisks {
        here: lab.seen_from_here(&small),
        as_seen: small.clone(),
    };
    let (context, keepers) = node_with(&lab, Arc::new(disks)).await;
    let wish = fakes::wish(1);
    let instance = wish.instance.clone();
    keepers.wish(wish.clone()).await.unwrap();
    seen(&keepers, &instance, Seen::Running).await;

    let log = console::log_in(&lab.dir().join("instances").join(instance.as_str()));
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let report = || keepers.get(&instance).expect("it has a keeper").report();
    until("the node says why it stands still", || {
        report().stage.contains("MiB are free")
    })
    .await;
    assert_eq!(report().seen, Seen::Running);
    assert!(report().impaired.is_some());
    let written = said().matches('w').count();
    assert!(written > 0, "{}", said());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(said().matches('w').count(), written, "it stands still");

    // Resumed too early it stops again, with the same write still to be done.
    let (libvirt, _events) = connected(&lab).await;
    libvirt.resume(&instance).await.unwrap();
    until("it stands still again", || {
        report().stage.contains("MiB are free")
    })
    .await;
    // A daemon that comes anew finds it so.
    context.drain(PATIENCE).await.unwrap();
    let disks = SmallDisks {
        here: lab.seen_from_here(&small),
        as_seen: small.clone(),
    };
    let (context, keepers) = node_with(&lab, Arc::new(disks)).await;
    let report = || keepers.get(&instance).expect("it has a keeper").report();
    until("it is found standing still", || report().impaired.is_some()).await;

    lab.tmpfs(&small, 64 << 10);
    until("it goes on", || report().impaired.is_none()).await;
    until("it writes on", || said().matches('w').count() > written).await;
    assert!(
        !said().contains('e'),
        "the guest noticed nothing: {}",
        said()
    );

    // What is paused by hand is shown, and left to that hand.
    lab.virsh(&["suspend", instance.as_str()]);
    until("it is shown", || report().stage.contains("by hand")).await;
    lab.virsh(&["resume", instance.as_str()]);
    until("it is well", || report().impaired.is_none()).await;

    let end = InstanceWish {
        wanted: Wanted::Terminated,
        generation: 2,
        ..wish
    };
    keepers.wish(end).await.unwrap();
    seen(&keepers, &instance, Seen::Terminated).await;
    context.drain(PATIENCE).await.unwrap();
}
