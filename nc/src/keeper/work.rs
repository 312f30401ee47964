//! The work of a keeper: each action on the side, its answer as a message. Every action but the
//! silent ones is answered, even if what performs it panics.

use std::{panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use control::node::InstanceWish;
use daemon::chain;
use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use types::BundleId;

use super::Message;
use crate::{
    console,
    domain::Domain,
    hypervisor::Error,
    in_use,
    instance::{Action, Event, Outcome, internal_error},
    needs::{BootDisks, Progress},
    record,
    signs::Sign,
    site::Site,
};
use types::VpcId;

/// Removing files takes milliseconds; a network filesystem that hangs is told as a failure.
const WIPE_LIMIT: Duration = Duration::from_secs(120);

/// A libvirtd that is being restarted is back in seconds; a launch waits for it this long.
const AWAY_LIMIT: Duration = Duration::from_secs(60);
const AWAY_LOOK: Duration = Duration::from_millis(300);

/// News that wait to be taken: one speaks at a time, and waits.
const NEWS_MAX: usize = 1;

/// What is under way for one instance. Dropping it stops it all, as far as it can be stopped.
pub(super) struct Work {
    site: Arc<Site>,
    dir: PathBuf,
    progress: watch::Sender<Progress>,
    later: Vec<Action>,
    preparing: Slot,
    network: Slot,
    bundling: Slot,
    others: JoinSet<Option<Message>>,
    /// What is said before an answer.
    news: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
}

/// Work of which there is one at a time, and which can be called off.
#[derive(Default)]
struct Slot(Option<JoinHandle<Message>>);

impl Slot {
    async fn done(&mut self) -> Option<Message> {
        let Some(handle) = &mut self.0 else {
            std::future::pending().await
        };
        let outcome = handle.await;
        self.0 = None;
        outcome.ok()
    }

    /// Returns when it has stopped.
    async fn call_off(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
            let _ = handle.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

impl Work {
    pub(super) fn new(site: Arc<Site>, dir: PathBuf, progress: watch::Sender<Progress>) -> Self {
        Self {
            site,
            dir,
            progress,
            later: Vec::new(),
            preparing: Slot::default(),
            network: Slot::default(),
            bundling: Slot::default(),
            others: JoinSet::new(),
            news: mpsc::channel(NEWS_MAX),
        }
    }

    /// Keeps actions until [`Work::begin`].
    pub(super) fn later(&mut self, actions: Vec<Action>) {
        self.later = actions;
    }

    /// Begins what was kept.
    pub(super) async fn begin(&mut self, wish: &Arc<InstanceWish>) {
        let actions = std::mem::take(&mut self.later);
        self.perform(wish, actions).await;
    }

    /// Begins each action. Returns at once, but for calling off what is to be stopped.
    pub(super) async fn perform(&mut self, wish: &Arc<InstanceWish>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare => self.disks(wish.clone(), false),
                Action::Regain => self.disks(wish.clone(), true),
                Action::StopPreparing => {
                    self.preparing.call_off().await;
                    self.network.call_off().await;
                }
                Action::Bundle(task) => self.bundle(wish.clone(), task),
                Action::StopBundle => self.bundling.call_off().await,
                Action::AwaitNetwork(version) => {
                    self.network.call_off().await;
                    self.await_network(wish.spec.interface.vpc.clone(), version);
                }
                Action::Plug => {
                    self.on_the_side(wish, Action::Plug);
                    let log = console::log_in(&self.dir);
                    self.others.spawn(async move {
                        console::first_output(&log)
                            .await
                            .then_some(Message::Sign(Sign::Console))
                    });
                }
                Action::Start(_)
                | Action::Resume
                | Action::AcpiReboot
                | Action::HardReset
                | Action::AcpiShutdown
                | Action::Destroy
                | Action::Wipe => self.on_the_side(wish, action),
            }
        }
    }

    /// The next answer. Cut off while it waits, it loses none.
    pub(super) async fn done(&mut self) -> Message {
        loop {
            let message = tokio::select! {
                message = self.preparing.done() => Some(message.unwrap_or_else(|| {
                    Message::Happened(Event::DisksFailed(internal_error("making the disks broke off")))
                })),
                message = self.network.done() => message,
                message = self.bundling.done() => Some(message.unwrap_or_else(|| {
                    let why = internal_error("making the bundle broke off");
                    Message::Happened(Event::BundleEnded(Outcome::Failed(why)))
                })),
                Some(outcome) = self.others.join_next() => outcome.ok().flatten(),
                Some(news) = self.news.1.recv() => Some(news),
                // Nothing is under way; something will be when the next message has come.
                else => std::future::pending().await,
            };
            if let Some(message) = message {
                return message;
            }
        }
    }

    fn disks(&mut self, wish: Arc<InstanceWish>, has_run: bool) {
        let (site, dir, progress) = (self.site.clone(), self.dir.clone(), self.progress.clone());
        // What is told of an attempt is not told of the next one.
        progress.send_replace(Progress::default());
        self.preparing.0 = Some(tokio::spawn(async move {
            let had = if has_run {
                site.disks.regain(&wish, &dir, &progress).await
            } else {
                site.disks.prepare(&wish, &dir, &progress).await
            };
            Message::Happened(match had {
                Ok(disks) => Event::DisksReady(disks),
                Err(reason) => Event::DisksFailed(reason),
            })
        }));
    }

    fn bundle(&mut self, wish: Arc<InstanceWish>, task: BundleId) {
        let (site, dir, progress) = (self.site.clone(), self.dir.clone(), self.progress.clone());
        progress.send_replace(Progress::default());
        self.bundling.0 = Some(tokio::spawn(async move {
            let made = site.bundles.bundle(&wish, &dir, &task, &progress).await;
            progress.send_replace(Progress::default());
            let outcome = made.map_or_else(Outcome::Failed, |()| Outcome::Complete);
            Message::Happened(Event::BundleEnded(outcome))
        }));
    }

    /// Waits for the guest's own VPC, and says what keeps it from being so.
    fn await_network(&mut self, vpc: VpcId, version: u64) {
        let (mut applied, tell) = (self.site.networks.applied(), self.news.0.clone());
        self.network.0 = Some(tokio::spawn(async move {
            let mut told = String::new();
            loop {
                let now = applied.borrow_and_update().clone();
                if now.serves(&vpc, version) {
                    return Message::Happened(Event::NetworkApplied(now.version));
                }
                let why = now.hindrance(&vpc).cloned().unwrap_or_default();
                if told != why {
                    told.clone_from(&why);
                    let _ = tell
                        .send(Message::Happened(Event::NetworkHindered(why)))
                        .await;
                }
                if applied.changed().await.is_err() {
                    // Nobody applies networks any more: the node is stopping.
                    std::future::pending().await
                }
            }
        }));
    }

    fn on_the_side(&mut self, wish: &Arc<InstanceWish>, action: Action) {
        let (site, dir, wish) = (self.site.clone(), self.dir.clone(), wish.clone());
        self.others.spawn(async move {
            let outcome = AssertUnwindSafe(act(&site, &dir, &wish, action.clone())).catch_unwind();
            outcome
                .await
                .unwrap_or_else(|_| broke_off(&action))
                .map(Message::Happened)
        });
    }
}

async fn act(
    site: &Site,
    dir: &std::path::Path,
    wish: &InstanceWish,
    action: Action,
) -> Option<Event> {
    let (hypervisor, instance) = (&site.hypervisor, &wish.instance);
    match action {
        Action::Start(disks) => Some(start(site, dir, wish, disks).await),
        Action::Plug => {
            plug(site, dir, wish).await;
            None
        }
        Action::Resume => Some(resume(site, dir, wish).await),
        Action::AcpiReboot => hypervisor
            .reboot(instance)
            .await
            .err()
            .map(|_| Event::RebootRefused),
        Action::HardReset => Some(match hypervisor.reset(instance).await {
            Ok(()) => Event::ResetDone,
            Err(error) => Event::ResetFailed(chain(&error)),
        }),
        Action::AcpiShutdown => hypervisor
            .shutdown(instance)
            .await
            .err()
            .map(|_| Event::ShutdownRefused),
        Action::Destroy => Some(match hypervisor.destroy(instance).await {
            Ok(()) => Event::Destroyed,
            Err(error) => Event::DestroyFailed(chain(&error)),
        }),
        Action::Wipe => Some(
            match tokio::time::timeout(WIPE_LIMIT, wipe(site, dir, wish)).await {
                Ok(Ok(())) => Event::Wiped,
                Ok(Err(why)) => Event::WipeFailed(why),
                Err(_) => Event::WipeFailed(format!("not done in {} s", WIPE_LIMIT.as_secs())),
            },
        ),
        Action::Prepare
        | Action::Regain
        | Action::StopPreparing
        | Action::AwaitNetwork(_)
        | Action::Bundle(_)
        | Action::StopBundle => None,
    }
}

/// What a panic amounts to: the action failed, or had no answer to give.
fn broke_off(action: &Action) -> Option<Event> {
    let why = "it broke off by a defect; see the log".to_owned();
    match action {
        Action::Start(_) => Some(Event::StartFailed(internal_error(&why))),
        Action::Resume => Some(Event::ResumePutOff(why)),
        Action::AcpiReboot => Some(Event::RebootRefused),
        Action::HardReset => Some(Event::ResetFailed(why)),
        Action::AcpiShutdown => Some(Event::ShutdownRefused),
        Action::Destroy => Some(Event::DestroyFailed(why)),
        Action::Wipe => Some(Event::WipeFailed(why)),
        Action::Prepare
        | Action::Regain
        | Action::StopPreparing
        | Action::AwaitNetwork(_)
        | Action::Bundle(_)
        | Action::StopBundle
        | Action::Plug => None,
    }
}

/// Starts the domain, and has its disks outlast a power cut meanwhile: long before a guest comes to
/// write to them.
async fn start(site: &Site, dir: &std::path::Path, wish: &InstanceWish, disks: BootDisks) -> Event {
    let domain = Domain::of(wish, disks, &site.host, console::log_in(dir));
    match tokio::join!(launch(site, &domain), site.disks.keep(wish, dir)) {
        (Ok(()), Ok(())) => Event::Started,
        (Err(error), _) => Event::StartFailed(internal_error(&chain(&error))),
        (Ok(()), Err(reason)) => Event::StartFailed(reason),
    }
}

async fn launch(site: &Site, domain: &Domain) -> Result<(), Error> {
    let patience = Instant::now() + AWAY_LIMIT;
    loop {
        match site.hypervisor.start(domain).await {
            // It may have come to pass; asking again is the way to know.
            Err(Error::Unreachable(_)) if Instant::now() < patience => {
                tokio::time::sleep(AWAY_LOOK).await;
            }
            outcome => return outcome,
        }
    }
}

/// Resumes a guest if its disk has room for what all guests may write until the next look: one that
/// stops at once again has only made the disk fuller.
async fn resume(site: &Site, dir: &std::path::Path, wish: &InstanceWish) -> Event {
    match site.disks.free_mib(dir).await {
        Ok(free) if free < site.limits.resume_free_mib => {
            let wanted = site.limits.resume_free_mib;
            let why = format!("{free} MiB are free; resumed when {wanted} MiB are");
            return Event::ResumePutOff(why);
        }
        // Not known is no reason to leave it standing.
        Ok(_) | Err(_) => {}
    }
    match site.hypervisor.resume(&wish.instance).await {
        Ok(()) => Event::ResumeDone,
        Err(error) => Event::ResumePutOff(chain(&error)),
    }
}

/// The guest runs whatever comes of this, so a failure is only told.
async fn plug(site: &Site, dir: &std::path::Path, wish: &InstanceWish) {
    site.disks.adopt(wish, dir).await;
    if let Err(error) = site.networks.plugged(&wish.spec.interface).await {
        tracing::warn!(instance = %wish.instance, error = chain(&*error), "its tap");
    }
}

async fn wipe(site: &Site, dir: &std::path::Path, wish: &InstanceWish) -> Result<(), String> {
    let files = dir.to_owned();
    // Before anything is taken away: the tap of a guest that lives is its user's as the disk is.
    blocking(move || match in_use::find(&files) {
        Some(path) => Err(format!(
            "{} is still in use by a QEMU process",
            path.display()
        )),
        None => Ok(()),
    })
    .await?;
    site.networks
        .unplugged(&wish.spec.interface)
        .await
        .map_err(|error| chain(&*error))?;
    site.disks
        .wipe(&wish.instance, dir)
        .await
        .map_err(|error| chain(&*error))?;
    let files = dir.to_owned();
    blocking(move || record::clear(&files).map_err(|error| chain(&error))).await
}

async fn blocking(
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}
