//! What is counted: requests by operation and code, their times, bytes, and group commits.

use control::objects::QuotaLine;
use prometheus_client::metrics::{
    counter::Counter,
    family::Family,
    gauge::Gauge,
    histogram::{Histogram, exponential_buckets},
};

use crate::engine::{Room, Totals, index::Waiting, scrub::Progress};

/// Accounts and buckets that are shown with their quota.
const QUOTAS_MAX: usize = 1_000;

type Labels = Vec<(&'static str, String)>;

/// The counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    received: Counter,
    sent: Counter,
    free: Gauge,
    capacity: Gauge,
    buckets: Gauge,
    objects: Gauge,
    stored: Gauge,
    scrubbed: Gauge,
    scrub_passes: Gauge,
    damaged: Gauge,
    groups: Gauge,
    changes: Gauge,
    identity: Gauge,
    silent: Gauge,
    connections: Gauge,
    log_lines: Family<Labels, Counter>,
    notifications: Family<Labels, Counter>,
    notifications_queued: Family<Labels, Gauge>,
    notifications_lost: Gauge,
    quota_used: Family<Labels, Gauge>,
    quota_limit: Family<Labels, Gauge>,
}

impl Metrics {
    /// Registers them.
    pub fn new(shown: &daemon::metrics::Metrics) -> Self {
        let seconds: Family<Labels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9)));
        let metrics = Self {
            requests: Family::default(),
            seconds,
            received: Counter::default(),
            sent: Counter::default(),
            free: Gauge::default(),
            capacity: Gauge::default(),
            buckets: Gauge::default(),
            objects: Gauge::default(),
            stored: Gauge::default(),
            scrubbed: Gauge::default(),
            scrub_passes: Gauge::default(),
            damaged: Gauge::default(),
            groups: Gauge::default(),
            changes: Gauge::default(),
            identity: Gauge::default(),
            silent: Gauge::default(),
            connections: Gauge::default(),
            log_lines: Family::default(),
            notifications: Family::default(),
            notifications_queued: Family::default(),
            notifications_lost: Gauge::default(),
            quota_used: Family::default(),
            quota_limit: Family::default(),
        };
        let all = metrics.clone();
        shown.register(|registry| {
            registry.register(
                "requests",
                "S3 requests by operation and code",
                all.requests,
            );
            registry.register(
                "request_seconds",
                "Time to the head of the answer",
                all.seconds,
            );
            registry.register("received_bytes", "Bytes of objects received", all.received);
            registry.register("sent_bytes", "Bytes of objects sent", all.sent);
            for (name, help, gauge) in [
                ("free_bytes", "Bytes free where objects lie", all.free),
                ("capacity_bytes", "Bytes of that file system", all.capacity),
                ("buckets", "Buckets", all.buckets),
                ("objects", "Objects", all.objects),
                ("stored_bytes", "Bytes of objects", all.stored),
                (
                    "scrub_bytes",
                    "Bytes read again in this pass of the scrub",
                    all.scrubbed,
                ),
                ("scrub_passes", "Passes of the scrub", all.scrub_passes),
                (
                    "damaged_places",
                    "Places that the scrub found damaged",
                    all.damaged,
                ),
            ] {
                registry.register(name, help, gauge);
            }
            registry.register(
                "group_commits",
                "Syncs of the journal since the start",
                all.groups,
            );
            registry.register("changes", "Changes in them", all.changes);
            registry.register(
                "identity_revision",
                "Revision of the CLC's feed",
                all.identity,
            );
            registry.register(
                "identity_silent_seconds",
                "How long the CLC was not heard",
                all.silent,
            );
            registry.register(
                "access_log_lines",
                "Lines of access logs by what became of them",
                all.log_lines,
            );
            registry.register(
                "notifications",
                "Events by destination and what became of them",
                all.notifications,
            );
            registry.register(
                "notifications_queued",
                "Events that wait, by destination",
                all.notifications_queued,
            );
            registry.register(
                "notifications_lost",
                "Events since the start that were not queued, because too many waited",
                all.notifications_lost,
            );
            registry.register(
                "quota_used",
                "Bytes or objects of those that have a quota",
                all.quota_used,
            );
            registry.register(
                "quota_limit",
                "Bytes or objects that they may have",
                all.quota_limit,
            );
            registry.register("connections", "Open connections for S3", all.connections);
        });
        metrics
    }

    /// A request was answered.
    pub fn answered(&self, action: &'static str, code: &'static str, spent_ms: u64) {
        let action = ("action", action.to_owned());
        let labels = vec![action.clone(), ("code", code.to_owned())];
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&vec![action])
            .observe(spent_ms as f64 / 1000.0);
    }

    /// Bytes of an object came in.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// Bytes of an object go out.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// How many connections are open, for the listener to count.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// How things are.
    pub fn state(&self, groups: (u64, u64), (identity_revision, silent_ms): (u64, u64)) {
        self.groups.set(number(groups.0));
        self.changes.set(number(groups.1));
        self.identity.set(number(identity_revision));
        self.silent.set(number(silent_ms / 1000));
    }

    /// What there is, and what there is room for.
    pub fn room(&self, room: &Room, totals: Totals) {
        self.free.set(number(room.free_bytes));
        self.capacity.set(number(room.capacity_bytes));
        self.buckets.set(number(totals.buckets));
        self.objects.set(number(totals.objects));
        self.stored.set(number(totals.bytes));
    }

    /// What became of events for a destination: `delivered`, `failed` (a try), or given up because
    /// they were `refused`, `expired`, or for a destination that is `unknown`.
    pub fn notified(&self, destination: &str, outcome: &'static str, events: u64) {
        let labels = vec![
            ("destination", destination.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.notifications.get_or_create(&labels).inc_by(events);
    }

    /// What waits for each destination, and how much was lost.
    pub fn waiting(&self, waiting: Vec<Waiting>, lost: u64) {
        self.notifications_queued.clear();
        for Waiting { to, events } in waiting {
            let labels = vec![("destination", to)];
            self.notifications_queued
                .get_or_create(&labels)
                .set(number(events));
        }
        self.notifications_lost.set(number(lost));
    }

    /// What became of lines of access logs: `kept` in the spool, `lost` before it, `delivered`,
    /// `refused` by the bucket that they go to.
    pub fn logged(&self, outcome: &'static str, lines: u64) {
        let labels = vec![("outcome", outcome.to_owned())];
        self.log_lines.get_or_create(&labels).inc_by(lines);
    }

    /// What those hold that have a quota: the fullest, where there are many.
    pub fn quotas(&self, mut lines: Vec<QuotaLine>) {
        let fullness = |line: &QuotaLine| {
            let of = |used: u64, limit: Option<u64>| {
                limit.map_or(0.0, |limit| used as f64 / limit.max(1) as f64)
            };
            of(line.used.bytes, line.bounds.bytes).max(of(line.used.objects, line.bounds.objects))
        };
        lines.sort_by(|a, b| fullness(b).total_cmp(&fullness(a)));
        lines.truncate(QUOTAS_MAX);
        self.quota_used.clear();
        self.quota_limit.clear();
        for line in lines {
            for (what, used, limit) in [
                ("bytes", line.used.bytes, line.bounds.bytes),
                ("objects", line.used.objects, line.bounds.objects),
            ] {
                let Some(limit) = limit else { continue };
                let labels = vec![("of", line.of.to_string()), ("what", what.to_owned())];
                self.quota_used.get_or_create(&labels).set(number(used));
                self.quota_limit.get_or_create(&labels).set(number(limit));
            }
        }
    }

    /// How far the scrub is.
    pub fn scrub(&self, progress: &Progress) {
        self.scrubbed.set(number(progress.bytes));
        self.scrub_passes.set(number(progress.passes));
        self.damaged.set(number(progress.damage().len() as u64));
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
