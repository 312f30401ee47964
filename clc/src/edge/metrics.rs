//! Rate, errors and duration of every action. Labels come from closed lists: an action that nobody
//! knows is `unknown`, S3's are its methods.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// Below a millisecond a describe is served from memory; above thirty seconds euca2ools gives up.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    service: &'static str,
    action: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    service: &'static str,
    action: String,
}

/// The edge's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    answers: Family<Answered, Counter>,
    seconds: Family<Of, Histogram, fn() -> Histogram>,
    connections: Gauge,
}

impl Metrics {
    /// Metrics, shown in the daemon's own registry.
    pub fn new(registry: &daemon::metrics::Metrics) -> Self {
        let metrics = Self {
            answers: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            connections: Gauge::default(),
        };
        registry.register(|registry| {
            let Self {
                answers,
                seconds,
                connections,
            } = metrics.clone();
            registry.register("action", "Answers by action and HTTP status", answers);
            registry.register("action_seconds", "Time to answer by action", seconds);
            registry.register(
                "connections",
                "Open connections to the public port",
                connections,
            );
        });
        metrics
    }

    /// Counts one answer.
    pub fn answered(&self, service: &'static str, action: &str, status: u16, seconds: f64) {
        let action = action.to_owned();
        let of = Of {
            service,
            action: action.clone(),
        };
        self.answers
            .get_or_create(&Answered {
                service,
                action,
                status,
            })
            .inc();
        self.seconds.get_or_create(&of).observe(seconds);
    }

    /// How many connections are open, for the listener to count.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }
}
