//! Lifecycle: what buckets' rules say is due is deleted, pass after pass. What is due is decided by
//! [`due`], a pure function of one key's versions; the commit decides again, so that a lock binds and
//! an object that was written meanwhile stays.

use std::{sync::Arc, time::Duration};

use daemon::{BoxError, Context};
use s3::{
    Key, VersionId,
    conditions::{DeleteConditions, ETags},
    documents::lifecycle::{Expiration, Rule, midnight_after},
    request::ListUploads,
};
use types::Timestamp;

use crate::{
    access_log::{
        RuleLog,
        rule::{Act, Subject},
    },
    engine::{
        Bucket, Change, Done, Engine, Failure, Object, Result,
        change::{DeleteChange, SameBucket},
        events::{Cause, Verb},
    },
};

/// By whom rules are followed, in the events of what they delete.
const SERVICE: &str = "s3.amazonaws.com";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Between two passes, where days are days.
const PASS_PAUSE: Duration = Duration::from_secs(3600);
/// Passes in a shortened day: so that tests of rules see each day go by.
const PASSES_A_DAY: u32 = 4;
/// Versions looked at in one look, and deletes of one request to the committer.
const BATCH: u32 = 500;

/// How long a day of a rule lasts. Anything but a real day is for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Milliseconds.
    pub ms: i64,
}

impl Day {
    /// When something that happened then is so many days old. Real days end at midnight.
    fn after(self, then: Timestamp, days: u32) -> Timestamp {
        if self.ms == DAY_MS {
            return midnight_after(then, days);
        }
        Timestamp(then.as_millis() + i64::from(days) * self.ms)
    }

    fn pause(self) -> Duration {
        if self.ms == DAY_MS {
            return PASS_PAUSE;
        }
        Duration::from_millis(self.ms.unsigned_abs()) / PASSES_A_DAY
    }
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The newest version is deleted, as its owner would.
    Expire,
    /// A version is deleted for good.
    Remove(VersionId),
}

/// What is due of one key's versions, newest first.
pub fn due(rules: &[Rule], versions: &[Object], day: Day, now: Timestamp) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_enabled) {
        deeds.extend(newest_due(rule, versions, day, now));
        deeds.extend(older_due(rule, versions, day, now));
    }
    deeds.dedup();
    deeds
}

fn fits(rule: &Rule, object: &Object) -> bool {
    rule.filter
        .holds(object.key.as_str(), &object.tags, object.size)
}

fn newest_due(rule: &Rule, versions: &[Object], day: Day, now: Timestamp) -> Option<Deed> {
    let newest = versions.first().filter(|newest| fits(rule, newest))?;
    let is_due = match rule.expiration? {
        Expiration::Days(days) => day.after(newest.modified, days) <= now,
        Expiration::Date(date) => date <= now,
        Expiration::LoneMarker(goes) => goes && newest.is_marker(),
    };
    if !is_due {
        return None;
    }
    match (newest.is_marker(), versions.len()) {
        (false, _) if matches!(rule.expiration, Some(Expiration::LoneMarker(_))) => None,
        (false, _) => Some(Deed::Expire),
        // A marker hides nothing any more.
        (true, 1) => Some(Deed::Remove(newest.version.clone())),
        (true, _) => None,
    }
}

/// A version is old since the one after it was written.
fn older_due(rule: &Rule, versions: &[Object], day: Day, now: Timestamp) -> Vec<Deed> {
    let Some(noncurrent) = rule.noncurrent else {
        return Vec::new();
    };
    let older = versions
        .windows(2)
        .skip(noncurrent.keep.unwrap_or(0) as usize);
    let due = older
        .filter(|pair| fits(rule, &pair[1]) && day.after(pair[0].modified, noncurrent.days) <= now);
    due.map(|pair| Deed::Remove(pair[1].version.clone()))
        .collect()
}

/// Follows the rules of all buckets for as long as the daemon runs.
pub async fn follow(
    engine: Engine,
    log: RuleLog,
    day: Day,
    context: Context,
) -> Result<(), BoxError> {
    while !context.cancel.is_cancelled() {
        let now = Timestamp(context.clock.now_ms());
        if let Err(error) = pass(&engine, &log, day, now).await {
            tracing::error!(
                error = daemon::chain(&error),
                "lifecycle waits for its next pass"
            );
        }
        tokio::select! {
            () = context.cancel.cancelled() => {}
            () = context.clock.sleep(day.pause()) => {}
        }
    }
    Ok(())
}

/// Looks at every bucket that has rules, once.
pub async fn pass(engine: &Engine, log: &RuleLog, day: Day, now: Timestamp) -> Result<()> {
    let buckets = engine
        .view(|view| view.buckets_where(|bucket| bucket.settings.lifecycle.is_some()))
        .await?;
    for bucket in buckets {
        let rules = bucket.settings.lifecycle.clone().map(|rules| rules.0);
        let rules = rules.unwrap_or_default();
        let ruled = Ruled {
            engine,
            log,
            bucket: &bucket,
            rules: &rules,
            day,
            now,
        };
        ruled.delete_due().await?;
        ruled.abort_due().await?;
    }
    Ok(())
}

/// One bucket under its rules, at one moment.
struct Ruled<'a> {
    engine: &'a Engine,
    log: &'a RuleLog,
    bucket: &'a Bucket,
    rules: &'a [Rule],
    day: Day,
    now: Timestamp,
}

/// Something that is due, as a change, and to what it happens.
type Step = (Change, Subject);

impl Ruled<'_> {
    fn same(&self) -> SameBucket {
        SameBucket {
            name: self.bucket.name.clone(),
            id: self.bucket.id.clone(),
        }
    }

    async fn delete_due(&self) -> Result<()> {
        let mut after: Option<Key> = None;
        loop {
            let (name, from) = (self.bucket.name.clone(), after.clone());
            let keys = self
                .engine
                .view(move |view| view.versions_by_key(&name, from.as_ref(), BATCH))
                .await?;
            let Some(last) = keys.last() else {
                return Ok(());
            };
            after = Some(last[0].key.clone());

            let mut steps = Vec::new();
            for versions in &keys {
                let deeds = due(self.rules, versions, self.day, self.now);
                let wanted = deeds.into_iter();
                steps.extend(wanted.map(|deed| self.deletion(deed, versions)));
            }
            self.commit(steps).await?;
        }
    }

    fn deletion(&self, deed: Deed, versions: &[Object]) -> Step {
        let newest = &versions[0];
        let size_of = |version: &VersionId| {
            let found = versions.iter().find(|object| object.version == *version);
            found.map(|object| object.size)
        };
        // What was written since is another object.
        let (version, size, conditions) = match deed {
            Deed::Remove(version) => {
                let size = size_of(&version);
                (Some(version), size, DeleteConditions::default())
            }
            Deed::Expire => {
                let conditions = DeleteConditions {
                    if_match: Some(ETags::These(vec![newest.etag.clone()])),
                    modified: Some(newest.modified),
                    size: Some(newest.size),
                };
                (None, Some(newest.size), conditions)
            }
        };
        let subject = Subject {
            key: newest.key.clone(),
            version: version.clone(),
            size,
        };
        let change = Change::DeleteObject(Box::new(DeleteChange {
            bucket: self.same(),
            key: newest.key.clone(),
            version,
            conditions,
            bypass_governance: false,
            owner: self.bucket.owner.clone(),
            now: self.now,
            unique: rand::random(),
        }));
        (change, subject)
    }

    async fn abort_due(&self) -> Result<()> {
        if self.rules.iter().all(|rule| rule.abort_days.is_none()) {
            return Ok(());
        }
        let mut list = ListUploads {
            prefix: String::new(),
            delimiter: None,
            key_marker: String::new(),
            upload_id_marker: String::new(),
            max_uploads: BATCH,
            encode: false,
        };
        loop {
            let (name, asked) = (self.bucket.name.clone(), list.clone());
            let page = self
                .engine
                .view(move |view| view.list_uploads(&name, &asked))
                .await?;
            let mut steps = Vec::new();
            for upload in page.uploads {
                let is_due = self.rules.iter().any(|rule| {
                    let prefix = rule.filter.prefix.as_deref().unwrap_or_default();
                    let days = rule.abort_days.filter(|_| rule.is_enabled);
                    upload.key.starts_with(prefix)
                        && days
                            .is_some_and(|days| self.day.after(upload.initiated, days) <= self.now)
                });
                if is_due {
                    let key = Key::parse(&upload.key)?;
                    let subject = Subject {
                        key: key.clone(),
                        version: None,
                        size: None,
                    };
                    let change = Change::AbortUpload {
                        bucket: self.same(),
                        key,
                        upload_id: upload.upload_id,
                    };
                    steps.push((change, subject));
                }
            }
            self.commit(steps).await?;
            match page.next {
                Some(next) => (list.key_marker, list.upload_id_marker) = next,
                None => return Ok(()),
            }
        }
    }

    /// What the commit refuses (a lock, a newer object) is not due any more or not yet.
    async fn commit(&self, steps: Vec<Step>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let count = steps.len();
        let cause = Cause {
            verb: Verb::Lifecycle,
            ..Cause::clone(&Cause::service(SERVICE, self.now))
        };
        let (changes, subjects): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let results = self.engine.commit_all_by(Arc::new(cause), changes).await;
        for (result, subject) in results.into_iter().zip(subjects) {
            match result {
                Ok(done) => self.note(done, subject),
                Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        tracing::info!(count, "lifecycle rules were followed");
        Ok(())
    }

    fn note(&self, done: Done, mut subject: Subject) {
        let named = subject.version.is_some();
        let act = match done {
            Done::Deleted(deleted) if deleted.is_marker && !named => {
                (subject.version, subject.size) = (deleted.version, None);
                Act::Marked
            }
            Done::Deleted(_) => Act::Expired,
            _ => Act::Aborted,
        };
        self.log.note(&self.bucket.name, act, subject, self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Body;
    use s3::{Acl, BucketName, documents::lifecycle::Lifecycle, headers::Attributes};

    const DAY: Day = Day { ms: 1000 };

    fn object(order: u64, modified: i64, is_marker: bool) -> Object {
        Object {
            bucket: BucketName::parse("bucket").unwrap(),
            key: Key::parse("logs/a").unwrap(),
            version: VersionId::mint(order, 0),
            order,
            etag: "e".into(),
            size: 10,
            modified: Timestamp(modified),
            owner: "111111111111".parse().unwrap(),
            acl: Acl::default(),
            attributes: Attributes::default(),
            checksum: None,
            tags: Default::default(),
            lock: Default::default(),
            encryption: None,
            body: if is_marker {
                Body::Marker
            } else {
                Body::Inline
            },
            upload_id: None,
        }
    }

    fn rules(inside: &str) -> Vec<Rule> {
        let text = format!(
            "<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter><Prefix>logs/</Prefix>\
             </Filter>{inside}</Rule></LifecycleConfiguration>"
        );
        Lifecycle::read(text.as_bytes()).unwrap().0
    }

    fn remove(order: u64) -> Deed {
        Deed::Remove(VersionId::mint(order, 0))
    }

    #[test]
    fn the_newest_goes_after_its_days() {
        let rules = rules("<Expiration><Days>2</Days></Expiration>");
        let one = [object(0, 0, false)];
        assert!(due(&rules, &one, DAY, Timestamp(1999)).is_empty());
        assert_eq!(due(&rules, &one, DAY, Timestamp(2000)), [Deed::Expire]);
        // Behind a marker nothing is the newest; a marker alone goes.
        let hidden = [object(1, 0, true), object(0, 0, false)];
        assert!(due(&rules, &hidden, DAY, Timestamp(9000)).is_empty());
        assert_eq!(due(&rules, &hidden[..1], DAY, Timestamp(9000)), [remove(1)]);
    }

    #[test]
    fn older_ones_go_after_they_became_old_and_the_newest_of_them_may_stay() {
        let inside = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
            <NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
        let versions = [
            object(3, 5000, false),
            object(2, 3000, false),
            object(1, 1000, false),
            object(0, 0, false),
        ];
        let due_at = |now| due(&rules(inside), &versions, DAY, Timestamp(now));
        assert_eq!(due_at(3000), [remove(0)]);
        assert_eq!(due_at(4000), [remove(1), remove(0)]);
        assert_eq!(due_at(99_000), [remove(1), remove(0)]);
    }

    #[test]
    fn a_lone_marker_goes_at_once_where_a_rule_says_so() {
        let rules = rules(
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
        );
        let lone = [object(1, 0, true)];
        assert_eq!(due(&rules, &lone, DAY, Timestamp(0)), [remove(1)]);
        assert!(due(&rules, &[object(1, 0, false)], DAY, Timestamp(0)).is_empty());
        let other = [Object {
            key: Key::parse("other").unwrap(),
            ..object(1, 0, true)
        }];
        assert!(due(&rules, &other, DAY, Timestamp(0)).is_empty());
    }
}
