//! A keeper: the one task that owns one instance. It takes wishes and events from a bounded queue,
//! asks [`crate::instance`] what to do, has that done on the side, and reports every change.
//!
//! It decides nothing. When it is stopped it stops watching; the guest runs on.

#[cfg(test)]
mod tests;
mod work;

use std::{path::PathBuf, sync::Arc, time::Duration};

use control::{
    CallError, Code,
    node::{InstanceReport, InstanceWish, Seen, Taken},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    bundle,
    instance::{Action, DomainSeen, Event, Instance, Outcome, Phase, Wait},
    needs::Progress,
    record::{self, Record},
    signs::Sign,
    site::Site,
    timeline::Timeline,
};
use work::Work;

/// Messages that wait for a keeper: wishes come one at a time, events are few.
const QUEUE_MAX: usize = 64;

/// What a keeper is told.
#[derive(Debug)]
pub enum Message {
    /// A wish; answered when it is on disk, or cannot be: then it is to be said again.
    Wish(Box<InstanceWish>, oneshot::Sender<Result<Taken, CallError>>),
    /// Something happened to the domain.
    Happened(Event),
    /// The guest gave a sign of life.
    Sign(Sign),
    /// The hypervisor does not know the domain, but its disks are in use: told to people.
    Unsure(String),
}

/// The outside of a keeper.
#[derive(Debug, Clone)]
pub struct Handle {
    queue: mpsc::Sender<Message>,
    report: watch::Receiver<InstanceReport>,
}

impl Handle {
    /// The last report.
    pub fn report(&self) -> InstanceReport {
        self.report.borrow().clone()
    }

    /// The last report, and every later one.
    pub fn reports(&self) -> watch::Receiver<InstanceReport> {
        self.report.clone()
    }

    /// Tells the keeper, waiting for room. `Err` gives the message back: it has forgotten the
    /// instance and is gone.
    pub async fn tell(&self, message: Message) -> Result<(), Message> {
        self.queue.send(message).await.map_err(|back| back.0)
    }

    /// Whether the keeper has ended.
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Tells the keeper what may as well be lost.
    pub fn mention(&self, message: Message) {
        let _ = self.queue.try_send(message);
    }
}

/// The inside of a keeper.
pub struct Keeper {
    site: Arc<Site>,
    dir: PathBuf,
    instance: Instance,
    heard_at_ms: i64,
    timeline: Timeline,
    work: Work,
    progress: watch::Receiver<Progress>,
    /// What is waited for and until when; the time is none once it has passed.
    wait: Option<(Wait, Option<Instant>)>,
    /// When the terminated instance is forgotten.
    forget_at: Option<Instant>,
    /// What keeps it from being sure of its domain.
    unsure: String,
    kept: Option<Record>,
    report: watch::Sender<InstanceReport>,
    queue: mpsc::Receiver<Message>,
}

impl Keeper {
    /// A keeper for an instance that the node hears of for the first time. Nothing happens before
    /// [`Keeper::run`], but that the wish is on disk.
    pub fn new(site: Arc<Site>, wish: InstanceWish) -> (Self, Handle) {
        let mut timeline = Timeline::begin();
        timeline.note("received", format!("generation {}", wish.generation));
        let heard_at_ms = site.clock.now_ms();
        let (instance, actions) = Instance::new(Arc::new(wish));
        Self::made(site, instance, actions, heard_at_ms, timeline)
    }

    /// A keeper for an instance of an earlier process.
    pub fn adopt(site: Arc<Site>, record: Record, domain_is_there: bool) -> (Self, Handle) {
        let rebooted = record.boot_id != site.boot_id;
        let seen = match (domain_is_there, rebooted) {
            (true, _) => DomainSeen::There,
            (false, true) => DomainSeen::HostRebooted,
            (false, false) => DomainSeen::Absent,
        };
        let age_ms = site.clock.now_ms().saturating_sub(record.heard_at_ms);
        let mut timeline = Timeline::resume(record.timeline, age_ms);
        let (instance, actions) = Instance::found(
            Arc::new(record.wish),
            record.life,
            record.reboots_done,
            record.reason,
            record.bundled,
            record.saved,
            seen,
        );
        if instance.phase != Phase::Terminated {
            timeline.note(
                "adopted",
                if rebooted {
                    "the host has rebooted"
                } else {
                    ""
                },
            );
        }
        Self::made(site, instance, actions, record.heard_at_ms, timeline)
    }

    fn made(
        site: Arc<Site>,
        instance: Instance,
        actions: Vec<Action>,
        heard_at_ms: i64,
        timeline: Timeline,
    ) -> (Self, Handle) {
        let dir = record::folder(&site.instances, &instance.wish.instance);
        let (tell_progress, progress) = watch::channel(Progress::default());
        let first = report_of(&site, &instance, &Progress::default(), "", &timeline);
        let (report, reported) = watch::channel(first);
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let mut work = Work::new(site.clone(), dir.clone(), tell_progress);
        work.later(actions);
        let keeper = Self {
            site,
            dir,
            instance,
            heard_at_ms,
            timeline,
            work,
            progress,
            wait: None,
            forget_at: None,
            unsure: String::new(),
            kept: None,
            report,
            queue: messages,
        };
        (
            keeper,
            Handle {
                queue,
                report: reported,
            },
        )
    }

    /// Puts the instance on disk and into the report, before anything is done for it. One that is
    /// `new` and cannot be kept is not begun: nobody would know of it after a crash.
    pub async fn settle_in(&mut self, new: bool) -> Result<Taken, CallError> {
        let kept = self.keep().await;
        if kept.is_ok() || !new {
            self.show();
        }
        self.taken(kept)
    }

    fn taken(&self, kept: Result<(), String>) -> Result<Taken, CallError> {
        kept.map_err(|why| {
            CallError::new(Code::NotReady, format!("the wish cannot be kept: {why}"))
        })?;
        Ok(Taken {
            generation: self.instance.wish.generation,
        })
    }

    /// Keeps the instance until it is forgotten (true) or the node stops (false).
    pub async fn run(mut self, stop: CancellationToken) -> bool {
        self.work.begin(&self.instance.wish).await;
        loop {
            self.set_wait();
            let until = self.forget_at.or(self.wait.and_then(|(_, until)| until));
            tokio::select! {
                () = stop.cancelled() => return false,
                message = self.queue.recv() => match message {
                    Some(message) => self.on_message(message).await,
                    None => return false,
                },
                answer = self.work.done() => self.on_message(answer).await,
                Ok(()) = self.progress.changed() => self.on_progress(),
                () = sleep_until(until), if until.is_some() => {
                    if self.forget_at.is_some() {
                        self.forget();
                        return true;
                    }
                    self.wait = self.wait.map(|(wait, _)| (wait, None));
                    let _ = self.step(Event::Overdue).await;
                }
            }
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Wish(wish, answer) => {
                let kept = self.step(Event::Wish(Arc::new(*wish))).await;
                let _ = answer.send(self.taken(kept));
            }
            Message::Happened(event) => {
                self.unsure.clear();
                // What cannot be kept is said in the log, and tried again with the next event.
                let _ = self.step(event).await;
            }
            Message::Sign(sign) => {
                if self.timeline.note_first(sign.step(), "") {
                    self.show();
                    self.kept = None;
                    let _ = self.keep().await;
                }
            }
            Message::Unsure(why) => {
                self.unsure = why;
                self.show();
            }
        }
    }

    fn on_progress(&mut self) {
        let Progress { stage, percent } = self.progress.borrow_and_update().clone();
        if let Some(percent) = percent {
            let step = match self.instance.bundling() {
                Some(_) => "bundle",
                None => "image",
            };
            self.timeline.update(step, format!("{stage}, {percent} %"));
        }
        self.show();
    }

    /// Takes an event; says why the instance is not on disk then, if it is not.
    async fn step(&mut self, event: Event) -> Result<(), String> {
        let before = self.instance.clone();
        self.note(&event);
        let (next, actions) = before.clone().on(event);
        self.instance = next;
        self.note_phase(&before);
        self.note_pause(&before);
        let kept = if self.instance.seen() == Seen::Running {
            // A domain that runs is found again after a crash, so it need not wait for the disk.
            self.show();
            self.keep().await
        } else {
            let kept = self.keep().await;
            self.show();
            kept
        };
        self.work.perform(&self.instance.wish, actions).await;
        kept
    }

    // ---- what is kept and shown ----------------------------------------------------------------

    /// Puts on disk what cannot be found by looking, if that has changed.
    async fn keep(&mut self) -> Result<(), String> {
        let mut record = Record::of(
            &self.instance,
            &self.site.boot_id,
            self.heard_at_ms,
            Vec::new(),
        );
        if self.kept.as_ref() == Some(&record) {
            return Ok(());
        }
        let kept = record.clone();
        record.timeline = self.timeline.moments();
        let dir = self.dir.clone();
        // A few milliseconds; whatever follows relies on it.
        let published = tokio::task::spawn_blocking(move || record.publish(&dir)).await;
        let why = match published {
            Ok(Ok(())) => {
                self.kept = Some(kept);
                return Ok(());
            }
            Ok(Err(error)) => daemon::chain(&error),
            Err(error) => error.to_string(),
        };
        tracing::error!(instance = %self.instance.wish.instance, why, "record not kept");
        Err(why)
    }

    fn show(&self) {
        let wish = &self.instance.wish;
        if self.instance.phase == Phase::Terminated {
            self.site.residents.remove(&wish.instance);
        } else {
            self.site.residents.put(wish.clone());
        }
        let progress = self.progress.borrow().clone();
        let report = report_of(
            &self.site,
            &self.instance,
            &progress,
            &self.unsure,
            &self.timeline,
        );
        self.site.report(report.clone());
        self.report.send_replace(report);
        self.site.changed.wake();
    }

    fn note(&mut self, event: &Event) {
        tracing::debug!(instance = %self.instance.wish.instance, ?event, "event");
        match event {
            Event::DisksReady(disks) => {
                self.timeline.note("disk", disks.shown());
            }
            Event::NetworkApplied(version) => {
                self.timeline.note("network", format!("version {version}"));
            }
            Event::Started => self.timeline.note("started", self.site.host.accel.as_str()),
            // It is tried again, perhaps for days.
            Event::DisksFailed(reason) | Event::StartFailed(reason) if self.instance.has_run => {
                self.timeline.update("failing", reason.message.clone());
            }
            Event::DisksFailed(reason) | Event::StartFailed(reason) => {
                self.timeline.note("failed", reason.message.clone());
            }
            Event::BundleEnded(outcome) => self.note_bundle(outcome),
            Event::Gone(end) => self.timeline.note("ended", end.reason().message),
            Event::GuestReset => self.timeline.note("reset", ""),
            // A guest may stand still for days, and this comes every few seconds.
            Event::Overdue if self.instance.impaired().is_some() => {}
            Event::ResetFailed(why) | Event::DestroyFailed(why) | Event::WipeFailed(why) => {
                self.timeline.update("failing", why.clone());
            }
            Event::Overdue => self.timeline.note("overdue", self.instance.stage("disks")),
            Event::NetworkHindered(why) => self.timeline.update("failing", why.clone()),
            Event::Wish(_)
            | Event::Paused(_)
            | Event::Resumed
            | Event::ResumeDone
            | Event::ResumePutOff(_)
            | Event::RebootRefused
            | Event::ResetDone
            | Event::ShutdownRefused
            | Event::Destroyed
            | Event::Wiped => {}
        }
    }

    /// Says when a guest came to stand still or to be held, and when it went on.
    fn note_pause(&mut self, before: &Instance) {
        const RUNNING: (Seen, Seen) = (Seen::Running, Seen::Running);
        let instance = &self.instance.wish.instance;
        match (before.impaired(), self.instance.impaired()) {
            (None, Some(why)) => {
                tracing::warn!(%instance, why = why.message, "does not run");
                let step = match self.instance.seen() {
                    Seen::Pending => "held",
                    Seen::Running | Seen::ShuttingDown | Seen::Terminated => "paused",
                };
                self.timeline.update(step, self.instance.stage(""));
            }
            (Some(_), None) if (before.seen(), self.instance.seen()) == RUNNING => {
                tracing::info!(%instance, "goes on");
                self.timeline.update("resumed", "");
            }
            (None | Some(_), None | Some(_)) => {}
        }
    }

    fn note_bundle(&mut self, outcome: &Outcome) {
        let detail = match outcome {
            Outcome::Complete => "complete".to_owned(),
            Outcome::Cancelled => "given up as asked".to_owned(),
            Outcome::Failed(why) => why.message.clone(),
        };
        tracing::info!(instance = %self.instance.wish.instance, detail, "a bundle of it ended");
        self.timeline.note("bundled", detail);
    }

    fn note_phase(&mut self, before: &Instance) {
        let (old, new) = (before.seen(), self.instance.seen());
        if old == new {
            return;
        }
        let step = match new {
            Seen::Pending if self.instance.has_run => "returning",
            Seen::Pending => "received",
            Seen::Running => "running",
            Seen::ShuttingDown => "shutting-down",
            Seen::Terminated => "terminated",
        };
        let reason = self
            .instance
            .reason
            .as_ref()
            .map(|reason| reason.message.clone());
        let why = reason.unwrap_or_default();
        tracing::info!(instance = %self.instance.wish.instance, why, "{step}");
        self.timeline.note(step, why);
    }

    // ---- time ----------------------------------------------------------------------------------

    /// Begins a new wait when the state waits for something new.
    fn set_wait(&mut self) {
        if self.instance.phase == Phase::Terminated {
            let remember = Duration::from_secs(self.site.limits.remember_s);
            self.forget_at
                .get_or_insert_with(|| Instant::now() + remember);
        } else {
            self.forget_at = None;
        }
        let wait = self.instance.wait();
        if self.wait.map(|(wait, _)| wait) != wait {
            self.wait = wait.map(|wait| (wait, Some(Instant::now() + self.site.limit(wait))));
        }
    }

    fn forget(&self) {
        let instance = &self.instance.wish.instance;
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%instance, %error, "the record of a terminated instance stays");
        }
        self.site.forget(instance);
        tracing::debug!(%instance, "forgotten");
    }
}

fn report_of(
    site: &Site,
    instance: &Instance,
    progress: &Progress,
    unsure: &str,
    timeline: &Timeline,
) -> InstanceReport {
    let stage = if unsure.is_empty() {
        instance.stage(&progress.stage)
    } else {
        unsure.to_owned()
    };
    let fetching = matches!(instance.phase, Phase::Preparing { disks: None, .. });
    let is_stored = progress.stage == bundle::STORING;
    InstanceReport {
        instance: instance.wish.instance.clone(),
        node: site.node.clone(),
        epoch: instance.wish.epoch,
        generation: instance.wish.generation,
        seen: instance.seen(),
        stage,
        percent: progress
            .percent
            .filter(|_| fetching || instance.bundling().is_some()),
        bundle: instance.bundle_report(is_stored, progress.percent.unwrap_or(0)),
        reason: instance.reason.clone(),
        impaired: instance.impaired(),
        reboots: instance.reboots_done,
        timeline: timeline.moments(),
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
