//! Files of lines become objects: one for each bucket that was logged and each place that its lines
//! go to. A delivery that is done twice, because Walrus ended in the middle of it, writes the same
//! objects again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use daemon::BoxError;
use s3::{
    Acl, Key, VersionId,
    acl::Canned,
    documents::logging::{DateSource, KeyFormat},
    headers::Attributes,
};
use sha2::{Digest as _, Sha256};
use types::Timestamp;

use super::{
    Entry, Source,
    spool::{Sealed, Spool},
};
use crate::{
    api::Api,
    authorise::{LOG_SERVICE, may_deliver_log},
    digests::Digests,
    engine::{
        Body, Bucket, Change, Engine, Failure, Object, Result,
        blobs::NewBlob,
        change::{PutChange, SameBucket},
        events::Cause,
        facts::Piece,
    },
    seal::{DataKey, Outer},
};

/// Delivers all files of the spool. What cannot be delivered now stays for the next time.
pub(super) async fn all(api: &Arc<Api>, spool: Spool) -> Result<Spool, BoxError> {
    let now = Timestamp(api.clock.now_ms());
    let (spool, sealed) = blocking(move || {
        let mut spool = spool;
        let sealed = spool.seal(now);
        (spool, sealed)
    })
    .await?;
    let delivered = async {
        for file in sealed? {
            one(api, file).await?;
        }
        Ok::<(), BoxError>(())
    };
    if let Err(error) = delivered.await {
        let error = daemon::chain(&*error);
        tracing::error!(error, "access logs wait for their next delivery");
    }
    Ok(spool)
}

async fn one(api: &Arc<Api>, file: Sealed) -> Result<(), BoxError> {
    let (file, entries) = blocking(move || {
        let entries = file.read();
        (file, entries)
    })
    .await?;
    deliver(api, &file, entries?).await?;
    blocking(move || file.remove()).await??;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BoxError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Lines of one object: of which bucket, and of which day where that counts.
type Group<'a> = ((&'a str, String, Option<String>), Vec<&'a Entry>);

fn groups(entries: &[Entry]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        let source = &entry.source;
        let day = match source.logging.format {
            KeyFormat::Partitioned(DateSource::EventTime) => Some(entry.at.folder_date()),
            KeyFormat::Partitioned(DateSource::DeliveryTime) | KeyFormat::Simple => None,
        };
        let place = serde_json::to_string(&source.logging).unwrap_or_default();
        let group = groups.entry((source.bucket.as_str(), place, day));
        group.or_default().push(entry);
    }
    groups.into_iter().collect()
}

/// What does not depend on the disk is decided once: lines that may not be delivered are given up.
async fn deliver(api: &Arc<Api>, file: &Sealed, entries: Vec<Entry>) -> Result<()> {
    for ((_, place, day), entries) in groups(&entries) {
        let count = entries.len() as u64;
        let source = entries[0].source.clone();
        let unique = unique(&[&file.name(), source.bucket.as_str(), &place]);
        let key = key(&source, &api.region, file.at, day.as_deref(), &unique);
        let lines = entries.iter().map(|entry| entry.line.as_str());
        let text = lines.fold(String::new(), |text, line| text + line + "\n");
        match put(api, &source, &key, text, file.at).await {
            Ok(()) => api.metrics.logged("delivered", count),
            Err(Failure::Refused(error)) if error.code != s3::Code::InsufficientStorage => {
                let (bucket, target) = (&source.bucket, &source.logging.target);
                tracing::warn!(%bucket, %target, %error, "an access log could not be delivered");
                api.metrics.logged("refused", count);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn unique(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    hex::encode_upper(&digest.finalize()[..8])
}

/// The key of an object ("Log object key format" of the user guide). Pure.
fn key(source: &Source, region: &str, at: Timestamp, day: Option<&str>, unique: &str) -> String {
    let prefix = &source.logging.prefix;
    let name = format!("{}-{unique}", at.name_date());
    match source.logging.format {
        KeyFormat::Simple => format!("{prefix}{name}"),
        KeyFormat::Partitioned(_) => {
            let (owner, bucket) = (&source.owner, &source.bucket);
            // By the time of its requests a file has a day, and no hour of its own.
            let (folder, name) = match day {
                Some(day) => (
                    day.to_owned(),
                    format!("{}-00-00-00-{unique}", day.replace('/', "-")),
                ),
                None => (at.folder_date(), name),
            };
            format!("{prefix}{owner}/{region}/{bucket}/{folder}/{name}")
        }
    }
}

async fn put(api: &Api, source: &Source, key: &str, text: String, now: Timestamp) -> Result<()> {
    let (logging, engine) = (&source.logging, &api.engine);
    let key = Key::parse(key)?;
    let target = engine.find_bucket(logging.target.clone()).await?;
    let people = api.identity.directory();
    let target = target
        .filter(|target| target.owner == source.owner)
        .ok_or_else(|| s3::Error::from(s3::Code::InvalidTargetBucketForLogging))?;
    let place = (logging.prefix.as_str(), &key);
    may_deliver_log(&source.bucket, &target, place, &people)?;

    let acl = list_of(source, &target, &people)?;
    let encryption = target.settings.encryption.as_ref();
    let outer = encryption.map(Outer::of_default);
    let seal = outer.map(|outer| api.master_key.make(outer)).transpose()?;
    let size = text.len() as u64;
    let _room = engine.admit(size)?;
    let mut digests = Digests::for_object(&Default::default(), None);
    digests.update(text.as_bytes());
    let verified = digests.verify(&Default::default(), &[])?;
    let data_key = seal
        .as_ref()
        .map(|(sealing, key)| (key.clone(), sealing.salt.clone()));
    let kept = engine
        .blocking(move |engine| keep(engine, text, data_key))
        .await?;

    let object = Object {
        bucket: target.name.clone(),
        key,
        version: VersionId::null(),
        order: 0,
        etag: hex::encode(verified.md5),
        size,
        modified: now,
        owner: target.owner.clone(),
        acl,
        attributes: Attributes {
            content_type: Some("text/plain".to_owned()),
            ..Attributes::default()
        },
        checksum: Some(verified.checksum),
        tags: Default::default(),
        lock: Default::default(),
        encryption: seal.map(|(sealing, _)| sealing),
        body: kept.body,
        upload_id: None,
    };
    let change = Change::PutObject(Box::new(PutChange {
        bucket: SameBucket {
            name: target.name,
            id: target.id,
        },
        object,
        inline: kept.inline,
        blobs: kept.blobs,
        conditions: Default::default(),
        unique: rand::random(),
    }));
    let cause = Cause::service(LOG_SERVICE, now);
    engine.commit_by(cause, change).await.map(|_| ())
}

/// The owner's, and what the log's owner grants besides.
fn list_of(source: &Source, target: &Bucket, people: &crate::directory::Directory) -> Result<Acl> {
    let mut acl = Canned::Private.resolve(&target.owner, &target.owner);
    if !target.settings.lists_are_off() {
        let wish = source.logging.wish()?;
        acl.0
            .extend(wish.resolve(&target.owner, &target.owner, people)?.0);
    }
    Ok(acl)
}

struct Kept {
    body: Body,
    inline: Bytes,
    blobs: Vec<NewBlob>,
}

/// Small ones travel in the journal, others lie in a file, sealed if the bucket says so.
fn keep(engine: &Engine, text: String, seal: Option<(DataKey, String)>) -> Result<Kept> {
    let size = text.len() as u64;
    if text.len() <= engine.inline_bytes_max() {
        let inline = match seal {
            None => Bytes::from(text),
            Some((key, salt)) => key.seal(&salt, text.as_bytes()).into(),
        };
        return Ok(Kept {
            body: Body::Inline,
            inline,
            blobs: Vec::new(),
        });
    }
    let mut sink = engine.new_blob()?;
    let salt = seal.as_ref().map(|_| DataKey::salt());
    match seal.zip(salt.as_ref()) {
        None => sink.write(text.as_bytes())?,
        Some(((key, _), salt)) => sink.write(&key.seal(salt, text.as_bytes()))?,
    }
    let blob = sink.finish()?;
    let piece = Piece {
        blob: blob.id().clone(),
        size,
        salt,
        checksum: None,
    };
    Ok(Kept {
        body: Body::Pieces(vec![piece]),
        inline: Bytes::new(),
        blobs: vec![blob],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3::{BucketName, documents::logging::Logging};

    fn source(format: KeyFormat) -> Source {
        Source {
            bucket: BucketName::parse("photos").unwrap(),
            owner: "111111111111".parse().unwrap(),
            logging: Logging {
                target: BucketName::parse("logs").unwrap(),
                prefix: "p/".into(),
                grants: Vec::new(),
                format,
            },
        }
    }

    #[test]
    fn keys_are_those_that_the_guide_names() {
        let at: Timestamp = "2026-11-23T03:01:59Z".parse().unwrap();
        let named = |format, day| key(&source(format), "mallee-1", at, day, "U");
        assert_eq!(named(KeyFormat::Simple, None), "p/2026-11-23-03-01-59-U");
        assert_eq!(
            named(KeyFormat::Partitioned(DateSource::DeliveryTime), None),
            "p/111111111111/mallee-1/photos/2026/11/23/2026-11-23-03-01-59-U"
        );
        assert_eq!(
            named(
                KeyFormat::Partitioned(DateSource::EventTime),
                Some("2026/11/22")
            ),
            "p/111111111111/mallee-1/photos/2026/11/22/2026-11-22-00-00-00-U"
        );
    }

    #[test]
    fn lines_of_one_place_go_together_and_by_day_where_the_day_counts() {
        let entry = |format, day: i64| Entry {
            source: Arc::new(source(format)),
            at: Timestamp(day * 86_400_000),
            line: String::new(),
        };
        let by_event = KeyFormat::Partitioned(DateSource::EventTime);
        let entries = [
            entry(KeyFormat::Simple, 0),
            entry(KeyFormat::Simple, 1),
            entry(by_event, 0),
            entry(by_event, 1),
            entry(by_event, 1),
        ];
        let sizes: Vec<usize> = groups(&entries)
            .iter()
            .map(|(_, lines)| lines.len())
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 5);
        assert_eq!(sizes.len(), 3, "{sizes:?}");
    }
}
