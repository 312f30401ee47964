//! Events: what a change tells to whom, written by the same frame as the change itself. So an event
//! is queued exactly if its change is made, and it stays until it was delivered or given up.
//!
//! What is queued has a bound for each destination: beyond it events are lost, and counted, for a
//! destination that never answers must not fill the disk.

use std::{net::IpAddr, sync::Arc};

use s3::{Key, VersionId};
use serde::{Deserialize, Serialize};
use types::Timestamp;

use super::{
    facts::{Bucket, Event, Fact, Object},
    failure::Result,
    index::IndexWriter,
};

/// Events that may wait for one destination: some 50 MiB, and a day of one each second.
pub const QUEUED_MAX: u64 = 100_000;

/// Why a change is made, as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// In which way.
    #[serde(default, skip_serializing_if = "Verb::is_put")]
    pub verb: Verb,
    /// By whom: an account or a user's ARN, or the name of a part of the cloud.
    pub who: String,
    /// From where, if somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The request that it is part of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// When. Not kept: an event has its own.
    #[serde(skip)]
    pub at: Timestamp,
}

/// The ways in which objects come and go, as the names of events tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// By a request of its own.
    #[default]
    Put,
    /// By a browser's form.
    Post,
    /// As a copy.
    Copy,
    /// By a rule of the bucket.
    Lifecycle,
}

impl Verb {
    fn is_put(&self) -> bool {
        *self == Self::Put
    }
}

impl Cause {
    /// A part of the cloud, by its name.
    pub fn service(who: &str, at: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            verb: Verb::Put,
            who: who.to_owned(),
            address: None,
            request_id: String::new(),
            at,
        })
    }
}

/// What a change did, in the terms of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// An object was written.
    Created,
    /// An upload became an object.
    Completed,
    /// A version is gone.
    Removed,
    /// A delete marker hides the object.
    Marked,
    /// Tags were set or taken away.
    Tagged,
    /// The access list was set.
    Listed,
    /// What is told was set: a test event goes to each destination.
    Configured,
}

/// The name of an event, as rules have it.
fn name(happened: Happened, verb: Verb, tags_are_gone: bool) -> &'static str {
    match (happened, verb) {
        (Happened::Created, Verb::Post) => "s3:ObjectCreated:Post",
        (Happened::Created, Verb::Copy) => "s3:ObjectCreated:Copy",
        (Happened::Created, Verb::Put | Verb::Lifecycle) => "s3:ObjectCreated:Put",
        (Happened::Completed, _) => "s3:ObjectCreated:CompleteMultipartUpload",
        (Happened::Removed, Verb::Lifecycle) => "s3:LifecycleExpiration:Delete",
        (Happened::Marked, Verb::Lifecycle) => "s3:LifecycleExpiration:DeleteMarkerCreated",
        (Happened::Removed, _) => "s3:ObjectRemoved:Delete",
        (Happened::Marked, _) => "s3:ObjectRemoved:DeleteMarkerCreated",
        (Happened::Tagged, _) if tags_are_gone => "s3:ObjectTagging:Delete",
        (Happened::Tagged, _) => "s3:ObjectTagging:Put",
        (Happened::Listed, _) => "s3:ObjectAcl:Put",
        (Happened::Configured, _) => TEST,
    }
}

/// The event that a new configuration sends.
pub const TEST: &str = "s3:TestEvent";

/// The events of a change. Pure; their ids are given when they are queued.
fn events_of(happened: Happened, facts: &[Fact], bucket: &Bucket, cause: &Cause) -> Vec<Event> {
    let Some(rules) = &bucket.settings.notifications else {
        return Vec::new();
    };
    let (object, key, version): (Option<&Object>, _, _) = match facts.first() {
        Some(Fact::ObjectSet(object)) => (
            Some(object.as_ref()),
            Some(&object.key),
            Some(&object.version),
        ),
        Some(Fact::ObjectGone { key, version, .. }) => (None, Some(key), Some(version)),
        _ => (None, None, None),
    };
    let name = name(
        happened,
        cause.verb,
        object.is_some_and(|o| o.tags.is_empty()),
    );
    let told = rules.0.iter().filter(|rule| match key {
        None => happened == Happened::Configured,
        Some(key) => rule.tells(name, key.as_str()),
    });
    // A marker has no bytes, and of what is gone nobody asks how large it was.
    let object = object.filter(|object| !object.is_marker());
    let mut events: Vec<Event> = Vec::new();
    for rule in told {
        let to = rule.destination();
        if happened == Happened::Configured && events.iter().any(|event| event.to == to) {
            continue;
        }
        events.push(event(
            rule.id.clone(),
            to,
            name,
            bucket,
            cause,
            (object, key, version),
        ));
    }
    events
}

fn event(
    rule: String,
    to: &str,
    name: &str,
    bucket: &Bucket,
    cause: &Cause,
    (object, key, version): (Option<&Object>, Option<&Key>, Option<&VersionId>),
) -> Event {
    let has_versions = bucket.settings.versioning.is_some();
    Event {
        id: 0,
        to: to.to_owned(),
        rule,
        name: name.to_owned(),
        at: cause.at,
        bucket: bucket.name.clone(),
        owner: bucket.owner.clone(),
        key: key.cloned(),
        size: object.map(|object| object.size),
        etag: object.map(|object| object.etag.clone()),
        version: version.filter(|_| has_versions).cloned(),
        cause: cause.clone(),
    }
}

/// What a change tells, as facts that become true with it. Says, too, how many could not be queued.
pub(super) fn queue(
    happened: Happened,
    facts: &[Fact],
    bucket: &Bucket,
    cause: &Cause,
    (index, queued_max): (&mut IndexWriter, u64),
) -> Result<(Vec<Fact>, u64)> {
    let (mut queued, mut lost) = (Vec::new(), 0);
    for event in events_of(happened, facts, bucket, cause) {
        let before = queued.iter().filter(|fact| is_for(fact, &event.to)).count() as u64;
        if index.queued(&event.to)? + before >= queued_max {
            lost += 1;
            continue;
        }
        let id = index.event_id(event.at)?;
        queued.push(Fact::EventSet(Box::new(Event { id, ..event })));
    }
    Ok((queued, lost))
}

fn is_for(fact: &Fact, to: &str) -> bool {
    matches!(fact, Fact::EventSet(event) if event.to == to)
}

#[cfg(test)]
mod tests {
    use s3::{BucketName, documents::notification::Notifications};

    use super::*;

    fn bucket(events: &[(&str, &str)]) -> Bucket {
        let rules: String = events
            .iter()
            .map(|(event, prefix)| {
                format!(
                    "<QueueConfiguration><Queue>arn:aws:sqs:r::hook</Queue><Event>{event}</Event>\
                     <Filter><S3Key><FilterRule><Name>prefix</Name><Value>{prefix}</Value>\
                     </FilterRule></S3Key></Filter></QueueConfiguration>"
                )
            })
            .collect();
        let text = format!("<NotificationConfiguration>{rules}</NotificationConfiguration>");
        let notifications = Notifications::read(text.as_bytes()).unwrap();
        Bucket {
            name: BucketName::parse("photos").unwrap(),
            id: "1".into(),
            owner: "111111111111".parse().unwrap(),
            created: Timestamp(0),
            location: None,
            acl: Default::default(),
            settings: s3::settings::Settings {
                notifications: Some(notifications),
                ..Default::default()
            },
        }
    }

    fn gone(key: &str) -> Fact {
        Fact::ObjectGone {
            bucket: BucketName::parse("photos").unwrap(),
            key: Key::parse(key).unwrap(),
            version: VersionId::null(),
        }
    }

    #[test]
    fn a_change_tells_what_its_bucket_says() {
        let cause = |verb| Cause {
            verb,
            ..Cause::clone(&Cause::service("test", Timestamp(5)))
        };
        let bucket = bucket(&[
            ("s3:ObjectRemoved:*", "a/"),
            ("s3:LifecycleExpiration:*", ""),
        ]);
        let told = |verb, key| events_of(Happened::Removed, &[gone(key)], &bucket, &cause(verb));
        let names = |events: Vec<Event>| {
            events
                .into_iter()
                .map(|event| event.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(told(Verb::Put, "a/x")), ["s3:ObjectRemoved:Delete"]);
        assert_eq!(names(told(Verb::Put, "b/x")), [""; 0]);
        assert_eq!(
            names(told(Verb::Lifecycle, "b/x")),
            ["s3:LifecycleExpiration:Delete"]
        );
        let event = told(Verb::Put, "a/x").remove(0);
        assert_eq!(
            (event.size, event.version, event.at),
            (None, None, Timestamp(5))
        );
        // One test event for each destination, however many rules name it.
        let test = events_of(Happened::Configured, &[], &bucket, &cause(Verb::Put));
        assert_eq!(names(test), [TEST]);
    }
}
