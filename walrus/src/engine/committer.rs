//! The one writer. It takes all requests that wait, decides each against what is true with those
//! before it, appends their facts to the journal with one sync, makes the index show them, and only
//! then answers. If the disk refuses, nobody is told that anything is kept.
//!
//! ```text
//! requests → decide (in the index's open transaction) → frames → append + sync → index commit → answers
//!                                                          └ error: roll back, new segment, refuse
//! ```

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    change::{Change, Decision, Done},
    compact::Compactor,
    events::{self, Cause},
    facts::{Fact, Object},
    failure::{Failure, Result},
    frame,
    index::{Displaced, IndexWriter, Kept},
    journal::{self, Journal, Location},
    pins::Pins,
    quota, recover,
};

/// Requests of one group: enough to fill a sync, few enough to answer the first soon.
const GROUP_MAX: usize = 512;
/// Bytes of one group.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Requests that may wait for the committer.
pub(super) const QUEUE_MAX: usize = 1024;

/// Changes that one request wants; each is decided for itself.
pub(super) struct Commit {
    pub(super) changes: Vec<Change>,
    pub(super) cause: Arc<Cause>,
    pub(super) answer: oneshot::Sender<Vec<Result<Done>>>,
}

/// How an engine stops: told once, seen by all.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    folder: PathBuf,
    told: watch::Sender<Option<String>>,
}

impl Stop {
    pub(super) fn new(folder: PathBuf) -> Self {
        let (told, _) = watch::channel(None);
        Self { folder, told }
    }

    /// Nothing more is written. An index that cannot be believed is made anew at the next start.
    pub(super) fn stop(&self, why: &Failure) {
        if why.is_of_index() {
            recover::condemn(&self.folder);
        }
        let text = daemon::chain(why);
        tracing::error!(error = text, "nothing more is written; a restart recovers");
        self.told.send_replace(Some(text));
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.told.borrow().is_some()
    }

    pub(super) fn why(&self) -> Option<String> {
        self.told.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }
}

/// What the committer owns.
pub(super) struct Committer {
    pub(super) folder: PathBuf,
    pub(super) journal: Journal,
    pub(super) index: IndexWriter,
    pub(super) pins: Pins,
    pub(super) compactor: Compactor,
    pub(super) segment_bytes: u64,
    pub(super) quotas: quota::Defaults,
    pub(super) events_max: u64,
    pub(super) batch: u64,
    /// Set once, when nothing more will be written.
    pub(super) stop: Stop,
    /// Group commits and changes so far.
    pub(super) groups: watch::Sender<(u64, u64)>,
    /// Events so far.
    pub(super) events: watch::Sender<Events>,
}

/// Events since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// That were queued.
    pub queued: u64,
    /// That were lost, because too many waited.
    pub lost: u64,
}

/// One request's outcome, to be told when its group is on disk.
type Told = (oneshot::Sender<Vec<Result<Done>>>, Vec<Result<Done>>);

#[derive(Default)]
struct Group {
    frames: Vec<u8>,
    displaced: Displaced,
    kept: Vec<super::blobs::NewBlob>,
    told: Vec<Told>,
    events: Events,
}

impl Committer {
    /// Runs until nobody can send any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Commit>) {
        while let Some(first) = queue.blocking_recv() {
            let mut commits = vec![first];
            while commits.len() < GROUP_MAX
                && let Ok(next) = queue.try_recv()
            {
                commits.push(next);
            }
            self.commit(commits);
            if !self.stop.is_stopped()
                && let Err(error) = self.tidy()
            {
                self.stop(&error);
            }
        }
    }

    fn stop(&self, why: &Failure) {
        self.stop.stop(why);
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let mut commits = commits.into_iter();
        while commits.len() > 0 {
            if let Some(why) = self.stop.why() {
                commits.for_each(|commit| refuse(commit, &why));
                return;
            }
            let mut group = Group::default();
            match self.write_group(&mut commits, &mut group) {
                Ok(()) => self.tell(group),
                Err(error) => self.fail(group, &error),
            }
        }
    }

    /// Decides, appends, syncs, shows.
    fn write_group(
        &mut self,
        commits: &mut impl Iterator<Item = Commit>,
        group: &mut Group,
    ) -> Result<()> {
        self.batch += 1;
        self.index.begin().inspect_err(|error| self.stop(error))?;
        for Commit {
            changes,
            cause,
            answer,
        } in commits
        {
            let changes = changes.into_iter();
            let changes = changes.map(|change| self.take(change, &cause, group));
            let (results, failed) = split_failure(changes.collect());
            group.told.push((answer, results));
            if let Some(error) = failed {
                self.roll_back(false);
                if error.is_of_index() {
                    self.stop(&error);
                }
                return Err(error);
            }
            if group.frames.len() >= GROUP_BYTES_MAX {
                break;
            }
        }

        if group.frames.is_empty() {
            self.roll_back(false);
            return Ok(());
        }
        if let Err(error) = self.journal.append(&group.frames) {
            self.roll_back(true);
            return Err(error);
        }
        let shown = self
            .index
            .commit((self.journal.number(), self.journal.end()));
        shown.inspect_err(|error| self.stop(error))
    }

    /// Forgets a group. After a failed append the journal must first come to a good end again.
    fn roll_back(&mut self, append_failed: bool) {
        let mended = if append_failed {
            self.journal.mend()
        } else {
            Ok(())
        };
        if let Err(error) = self.index.roll_back().and(mended) {
            self.stop(&error);
        }
    }

    /// Decides one change and puts its frame into the group.
    fn take(&mut self, change: Change, cause: &Cause, group: &mut Group) -> Result<Done> {
        let folder = &self.folder;
        let (number, unwritten) = (self.journal.number(), self.journal.end());
        let inline = |kept: &Kept<Object>| -> Result<Bytes> {
            if kept.at.segment == number && kept.at.offset >= unwritten {
                let start = usize::try_from(kept.at.offset - unwritten).expect("a group fits");
                let frame = Bytes::copy_from_slice(&group.frames[start..]);
                let frame =
                    frame::read(&frame).map_err(|error| Failure::Damaged(error.to_string()))?;
                return Ok(frame.body);
            }
            Ok(journal::read_frame(folder, kept.at)?.body)
        };
        let Decision {
            mut facts,
            body,
            blobs,
            done,
            bucket,
            happened,
        } = change.decide(self.index.view(), &inline)?;
        if !facts.is_empty() {
            quota::check(&facts, bucket.as_ref(), &mut self.index, &self.quotas)?;
            if let Some((happened, bucket)) = happened.zip(bucket.as_ref()) {
                let (queued, lost) = events::queue(
                    happened,
                    &facts,
                    bucket,
                    cause,
                    (&mut self.index, self.events_max),
                )?;
                group.events.queued += queued.len() as u64;
                group.events.lost += lost;
                facts.extend(queued);
            }
            let displaced = self.put(&facts, &body, group)?;
            group.displaced.extend(displaced);
            group.kept.extend(blobs);
        }
        Ok(done)
    }

    fn put(&mut self, facts: &[Fact], body: &[u8], group: &mut Group) -> Result<Displaced> {
        let offset = self.journal.end() + group.frames.len() as u64;
        let length = frame::write(&mut group.frames, self.batch, facts, body) as u64;
        self.index.apply(
            facts,
            Location {
                segment: self.journal.number(),
                offset,
                length,
            },
        )
    }

    fn tell(&mut self, group: Group) {
        let changes = group
            .told
            .iter()
            .map(|(_, results)| results.len() as u64)
            .sum::<u64>();
        self.groups
            .send_modify(|(groups, all)| (*groups, *all) = (*groups + 1, *all + changes));
        for blob in group.kept {
            blob.keep();
        }
        let Events { queued, lost } = group.events;
        if queued + lost > 0 {
            self.events.send_modify(|events| {
                events.queued += queued;
                events.lost += lost;
            });
        }
        for (answer, results) in group.told {
            // Whoever is gone does not want to know.
            let _ = answer.send(results);
        }
        self.pins.doom(group.displaced);
    }

    /// Nothing of the group is kept, or nobody knows: all of it is refused.
    fn fail(&mut self, group: Group, error: &Failure) {
        let text = daemon::chain(error);
        tracing::error!(error = text, "a group of writes failed");
        if self.stop.is_stopped() {
            // The facts may be on disk: their files stay, a restart finds out.
            group.kept.into_iter().for_each(|blob| drop(blob.keep()));
        }
        for (answer, results) in group.told {
            let told = results.into_iter().map(|result| match result {
                Err(Failure::Refused(refused)) => Err(Failure::Refused(refused)),
                Ok(_) | Err(_) if error.is_full() => Err(s3::Code::InsufficientStorage.into()),
                Ok(_) | Err(_) => Err(Failure::Stopped(text.clone())),
            });
            let _ = answer.send(told.collect());
        }
    }

    /// Between groups: a full segment is sealed, and old ones are thinned out bit by bit. On a full
    /// disk both wait.
    fn tidy(&mut self) -> Result<()> {
        if self.journal.end() >= self.segment_bytes {
            match self.journal.rotate() {
                Err(error) if !error.is_full() => return Err(error),
                _ => {}
            }
        }
        let Some(work) = self.compactor.step(&self.index, self.journal.number())? else {
            return Ok(());
        };
        if !self.move_frames(&work.live)? {
            self.compactor.begin_again();
            return Ok(());
        }
        if let Some(emptied) = work.emptied {
            self.index.begin()?;
            self.index.forget_segment(emptied)?;
            self.index
                .commit((self.journal.number(), self.journal.end()))?;
            self.compactor.remove(emptied)?;
        }
        Ok(())
    }

    /// Appends what is still true once more; says whether there was room for it.
    fn move_frames(&mut self, live: &[(Vec<Fact>, Bytes)]) -> Result<bool> {
        if live.is_empty() {
            return Ok(true);
        }
        self.batch += 1;
        let mut group = Group::default();
        self.index.begin()?;
        for (facts, body) in live {
            self.put(facts, body, &mut group)?;
        }
        match self.journal.append(&group.frames) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                self.roll_back(true);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.index
            .commit((self.journal.number(), self.journal.end()))?;
        Ok(true)
    }
}

/// A refusal concerns one request; any other failure concerns the whole group.
fn split_failure(results: Vec<Result<Done>>) -> (Vec<Result<Done>>, Option<Failure>) {
    let mut failed = None;
    let results = results.into_iter().map(|result| match result {
        Err(error) if !matches!(error, Failure::Refused(_)) => {
            let text = error.to_string();
            failed.get_or_insert(error);
            Err(Failure::Stopped(text))
        }
        other => other,
    });
    (results.collect(), failed)
}

fn refuse(commit: Commit, why: &str) {
    let results = commit
        .changes
        .iter()
        .map(|_| Err(Failure::Stopped(why.to_owned())));
    let _ = commit.answer.send(results.collect());
}
