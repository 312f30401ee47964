//! Events that wait to be delivered, by destination and in the order in which they happened.

use rusqlite::{OptionalExtension, params};
use types::Timestamp;

use super::{IndexWriter, Kept, View, kept, record, sealed};
use crate::engine::{facts::Event, failure::Result, journal::Location};

/// Ids begin with the time in milliseconds; so many fit into one of those.
const IDS_PER_MS: i64 = 1 << 20;

/// What waits for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The destination.
    pub to: String,
    /// How many events.
    pub events: u64,
}

impl View<'_> {
    /// An event that waits.
    pub fn find_event(self, to: &str, id: u64) -> Result<Option<Kept<Event>>> {
        let sql = "SELECT record, segment, offset, length FROM events \
                   WHERE destination = ?1 AND id = ?2";
        let mut query = self.0.prepare_cached(sql)?;
        let found = query.query_row(params![to, id], record).optional()?;
        found.map(kept).transpose()
    }

    /// The oldest events that wait for a destination.
    pub fn events_for(self, to: &str, limit: u32) -> Result<Vec<Event>> {
        let sql = "SELECT record, segment, offset, length FROM events \
                   WHERE destination = ?1 ORDER BY id LIMIT ?2";
        let mut query = self.0.prepare_cached(sql)?;
        let rows = query.query_map(params![to, limit], record)?;
        rows.map(|row| Ok(kept::<Event>(row?)?.thing)).collect()
    }

    /// What waits for each destination.
    pub fn waiting(self) -> Result<Vec<Waiting>> {
        let sql = "SELECT destination, count(*) FROM events GROUP BY destination";
        let mut query = self.0.prepare_cached(sql)?;
        let rows = query.query_map([], |row| {
            Ok(Waiting {
                to: row.get(0)?,
                events: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn count_events(self, to: &str) -> Result<u64> {
        let sql = "SELECT count(*) FROM events WHERE destination = ?1";
        let mut query = self.0.prepare_cached(sql)?;
        Ok(query.query_row(params![to], |row| row.get(0))?)
    }

    fn last_event(self) -> Result<u64> {
        let sql = "SELECT coalesce(max(id), 0) FROM events";
        Ok(self
            .0
            .prepare_cached(sql)?
            .query_row([], |row| row.get(0))?)
    }
}

impl IndexWriter {
    /// How many events wait for a destination, with everything that is not committed yet.
    pub(in crate::engine) fn queued(&mut self, to: &str) -> Result<u64> {
        if let Some(count) = self.events.get(to) {
            return Ok(*count);
        }
        let count = self.view().count_events(to)?;
        self.events.insert(to.to_owned(), count);
        Ok(count)
    }

    /// The id of the next event. Later events have higher ones, however the clock is set.
    pub(in crate::engine) fn event_id(&mut self, at: Timestamp) -> Result<u64> {
        let last = match self.last_event {
            Some(last) => last,
            None => self.view().last_event()?,
        };
        let by_time = at
            .as_millis()
            .saturating_mul(IDS_PER_MS)
            .max(0)
            .cast_unsigned();
        let id = by_time.max(last + 1);
        self.last_event = Some(id);
        Ok(id)
    }

    pub(super) fn set_event(&mut self, event: &Event, at: Location) -> Result<()> {
        self.remove_event(&event.to, event.id)?;
        self.add_live(at, 1);
        if let Some(count) = self.events.get_mut(&event.to) {
            *count += 1;
        }
        self.run(
            "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                event.to,
                event.id,
                sealed(event, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    pub(super) fn remove_event(&mut self, to: &str, id: u64) -> Result<()> {
        let Some(Kept { at, .. }) = self.view().find_event(to, id)? else {
            return Ok(());
        };
        self.add_live(at, -1);
        if let Some(count) = self.events.get_mut(to) {
            *count = count.saturating_sub(1);
        }
        let sql = "DELETE FROM events WHERE destination = ?1 AND id = ?2";
        self.run(sql, params![to, id])
    }
}
