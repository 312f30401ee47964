//! What `/metrics` shows of a cluster.

use control::{
    CallError,
    cluster::{Hold, Reach},
};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use crate::book::Book;

type Labels = Vec<(&'static str, String)>;

/// The numbers of one Cluster Controller.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    holds: Family<Labels, Counter>,
    nodes: Family<Labels, Gauge>,
    placements: Gauge,
    open_holds: Gauge,
}

impl Metrics {
    /// Registers the numbers.
    pub(crate) fn new(registry: &daemon::metrics::Metrics) -> Self {
        let metrics = Self {
            holds: Family::default(),
            nodes: Family::default(),
            placements: Gauge::default(),
            open_holds: Gauge::default(),
        };
        registry.register(|r| {
            r.register("holds", "Holds asked for, by result", metrics.holds.clone());
            r.register("nodes", "Nodes by how they are seen", metrics.nodes.clone());
            r.register(
                "placements",
                "Instances that have a place",
                metrics.placements.clone(),
            );
            r.register(
                "open_holds",
                "Holds within their lease",
                metrics.open_holds.clone(),
            );
        });
        metrics
    }

    /// Counts a hold that was asked for.
    pub(crate) fn held(&self, held: &Result<Hold, CallError>) {
        let result = match held {
            Ok(_) => "held".to_owned(),
            Err(error) => format!("{:?}", error.code).to_lowercase(),
        };
        self.holds.get_or_create(&vec![("result", result)]).inc();
    }

    /// Shows what the book holds now.
    pub(crate) fn count(&self, book: &Book) {
        for (reach, word) in [
            (Reach::Unknown, "unknown"),
            (Reach::Up, "up"),
            (Reach::Unreachable, "unreachable"),
            (Reach::Dead, "dead"),
        ] {
            let nodes = book
                .nodes()
                .iter()
                .filter(|node| node.reach == reach)
                .count();
            let gauge = self.nodes.get_or_create(&vec![("reach", word.to_owned())]);
            gauge.set(nodes.try_into().unwrap_or(i64::MAX));
        }
        let placed = book
            .saved()
            .placements
            .values()
            .filter(|row| !row.ended)
            .count();
        self.placements.set(placed.try_into().unwrap_or(i64::MAX));
        let open = book.saved().holds.len();
        self.open_holds.set(open.try_into().unwrap_or(i64::MAX));
    }
}
