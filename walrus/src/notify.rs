//! Events are told: each destination that the administrator named gets what waits for it, oldest
//! first, until it has it.
//!
//! ```text
//! change + its events, one commit → index → POST to the destination's address → removed
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`document`] | an event as S3 writes it |
//! | [`destination`] | an address, and one try to tell it something |
//! | [`retry`] | what to do with an outcome, and how long to wait. Pure |
//!
//! Addresses stand in the configuration and nowhere else: a bucket's owner names a destination by its
//! name, and can make Walrus call nothing that its administrator did not write down. Clients never
//! wait for a destination: their part is done when the event is queued.

pub mod destination;
pub mod document;
pub mod retry;

use std::{sync::Arc, time::Duration};

use daemon::{BoxError, Context};
use types::{AccountId, Timestamp};

use crate::{
    api::Api,
    engine::{Change, Result, events::TEST, facts::Event},
};
use destination::Destination;
use retry::{Next, Outcome, Retry};

/// Events of one message.
const BATCH: u32 = 100;
/// Events that are given up in one commit.
const DROP: u32 = 1_000;
/// An event that could not be delivered for so long is given up: as long as a queue of AWS keeps a
/// message if nobody says otherwise.
const AGE_MAX_MS: i64 = 4 * 24 * 3_600_000;
/// After a failure of our own.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often what waits for nobody is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// All destinations. What owners of buckets may name.
#[derive(Debug, Clone, Default)]
pub struct Destinations(pub Arc<[Destination]>);

impl Destinations {
    /// A destination that an account may name.
    pub fn find(&self, name: &str, account: &AccountId) -> Option<&Destination> {
        let found = self.0.iter().find(|known| known.name == name);
        found.filter(|known| known.may_be_named_by(account))
    }
}

/// Tells one destination what waits for it, for as long as the daemon runs.
pub async fn follow(
    api: Arc<Api>,
    destination: Destination,
    context: Context,
) -> Result<(), BoxError> {
    let mut news = api.engine.events();
    let mut retry = Retry::new(BATCH);
    while !context.cancel.is_cancelled() {
        news.mark_unchanged();
        let now = Timestamp(context.clock.now_ms());
        let pause = match turn(&api, &destination, &mut retry, now).await {
            Ok(Turn::Next) => continue,
            Ok(Turn::Pause(pause)) => pause,
            Ok(Turn::Idle) => {
                tokio::select! {
                    changed = news.changed() => if changed.is_err() {
                        // The engine is closed: there will be no more.
                        return Ok(());
                    },
                    () = context.cancel.cancelled() => {}
                }
                continue;
            }
            Err(failure) => {
                let (destination, error) = (&destination.name, daemon::chain(&failure));
                tracing::error!(destination, error, "events wait");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = context.clock.sleep(pause) => {}
            () = context.cancel.cancelled() => {}
        }
    }
    Ok(())
}

/// What comes after a look at what waits.
enum Turn {
    /// Nothing waits.
    Idle,
    /// The next look, at once.
    Next,
    /// The next look, after a while.
    Pause(Duration),
}

/// The first of those that wait, as many as go into one message: a test event goes alone.
fn message(mut waiting: Vec<Event>) -> Vec<Event> {
    let is_test = |event: &Event| event.name == TEST;
    let alone = waiting.first().is_some_and(is_test);
    let end = waiting.iter().position(is_test).filter(|at| *at > 0);
    waiting.truncate(if alone {
        1
    } else {
        end.unwrap_or(waiting.len())
    });
    waiting
}

/// Looks what waits, and tries to tell the first of it.
async fn turn(
    api: &Api,
    destination: &Destination,
    retry: &mut Retry,
    now: Timestamp,
) -> Result<Turn> {
    let (name, limit) = (destination.name.as_str(), retry.batch());
    let to = name.to_owned();
    let waiting = api
        .engine
        .view(move |view| view.events_for(&to, limit))
        .await?;
    if waiting.is_empty() {
        return Ok(Turn::Idle);
    }
    let events = message(waiting);
    let expired = events
        .iter()
        .take_while(|event| now.millis_since(event.at) > AGE_MAX_MS);
    let expired: Vec<u64> = expired.map(|event| event.id).collect();
    if !expired.is_empty() {
        tracing::warn!(
            destination = name,
            events = expired.len(),
            "events are too old and given up"
        );
        give_up(api, name, expired, "expired").await?;
        return Ok(Turn::Next);
    }
    let outcome = destination.tell(text(&events, api)).await;
    if let Outcome::Later(why) | Outcome::Refused(why) = &outcome {
        tracing::warn!(destination = name, why, "events could not be delivered");
        api.metrics.notified(name, "failed", 1);
    }
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    match retry.on(&outcome, ids.len(), rand::random()) {
        Next::Done => give_up(api, name, ids, "delivered").await?,
        Next::GiveUp => give_up(api, name, ids, "refused").await?,
        Next::Again(pause) => return Ok(Turn::Pause(pause)),
    }
    Ok(Turn::Next)
}

fn text(events: &[Event], api: &Api) -> String {
    match events {
        [test] if test.name == TEST => document::test(test),
        events => document::records(events, &api.region, &api.identity.directory()),
    }
}

/// They wait no longer.
async fn give_up(api: &Api, to: &str, ids: Vec<u64>, outcome: &'static str) -> Result<()> {
    let count = ids.len() as u64;
    let to_forget = to.to_owned();
    api.engine
        .commit(Change::RemoveEvents { to: to_forget, ids })
        .await?;
    api.metrics.notified(to, outcome, count);
    Ok(())
}

/// What waits for a destination that the configuration does not know any more is given up.
pub async fn sweep(api: Arc<Api>, context: Context) -> Result<(), BoxError> {
    while !context.cancel.is_cancelled() {
        if let Err(failure) = sweep_once(&api).await {
            let error = daemon::chain(&failure);
            tracing::error!(error, "events for nobody wait for the next sweep");
        }
        tokio::select! {
            () = context.clock.sleep(SWEEP) => {}
            () = context.cancel.cancelled() => {}
        }
    }
    Ok(())
}

async fn sweep_once(api: &Api) -> Result<()> {
    for waiting in api.engine.view(|view| view.waiting()).await? {
        if api
            .destinations
            .0
            .iter()
            .all(|known| known.name != waiting.to)
        {
            forget(api, &waiting.to).await?;
        }
    }
    Ok(())
}

async fn forget(api: &Api, to: &str) -> Result<()> {
    tracing::warn!(
        destination = to,
        "events for a destination that is not configured are given up"
    );
    loop {
        let name = to.to_owned();
        let events = api
            .engine
            .view(move |view| view.events_for(&name, DROP))
            .await?;
        if events.is_empty() {
            return Ok(());
        }
        let ids = events.iter().map(|event| event.id).collect();
        give_up(api, to, ids, "unknown").await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::events::Cause;

    fn event(name: &str) -> Event {
        Event {
            id: 1,
            to: "hook".into(),
            rule: "r".into(),
            name: name.into(),
            at: Timestamp(0),
            bucket: s3::BucketName::parse("photos").unwrap(),
            owner: "111111111111".parse().unwrap(),
            key: None,
            size: None,
            etag: None,
            version: None,
            cause: Cause::clone(&Cause::service("t", Timestamp(0))),
        }
    }

    #[test]
    fn a_test_event_goes_alone_and_in_its_turn() {
        let sizes = |names: &[&str]| message(names.iter().map(|name| event(name)).collect()).len();
        assert_eq!(sizes(&["a", "b"]), 2);
        assert_eq!(sizes(&["a", "b", TEST, "c"]), 2);
        assert_eq!(sizes(&[TEST, "c"]), 1);
        assert_eq!(sizes(&[TEST, TEST]), 1);
    }
}
