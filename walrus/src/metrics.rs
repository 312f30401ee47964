//! What is counted: requests by operation and code, their times, bytes, and group commits.

use prometheus_client::metrics::{
    counter::Counter,
    family::Family,
    gauge::Gauge,
    histogram::{Histogram, exponential_buckets},
};

type Labels = Vec<(&'static str, String)>;

/// The counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    received: Counter,
    sent: Counter,
    free: Gauge,
    groups: Gauge,
    changes: Gauge,
    identity: Gauge,
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
            groups: Gauge::default(),
            changes: Gauge::default(),
            identity: Gauge::default(),
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
            registry.register("free_bytes", "Bytes free where objects lie", all.free);
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

    /// How things are.
    pub fn state(&self, free_bytes: u64, groups: (u64, u64), identity_revision: u64) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.free.set(number(free_bytes));
        self.groups.set(number(groups.0));
        self.changes.set(number(groups.1));
        self.identity.set(number(identity_revision));
    }
}
