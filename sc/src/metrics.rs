//! What `/metrics` shows of a pool.

use control::storage::PoolReport;
use prometheus_client::metrics::gauge::Gauge;

/// The numbers of one Storage Controller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    total: Gauge,
    free: Gauge,
    provisioned: Gauge,
}

impl Metrics {
    /// Registers the numbers.
    pub(crate) fn new(registry: &daemon::metrics::Metrics) -> Self {
        let metrics = Self::default();
        registry.register(|r| {
            r.register(
                "pool_total_bytes",
                "Size of the pool",
                metrics.total.clone(),
            );
            r.register(
                "pool_free_bytes",
                "What is free of it",
                metrics.free.clone(),
            );
            let provisioned = metrics.provisioned.clone();
            r.register(
                "pool_provisioned_bytes",
                "What volumes are promised",
                provisioned,
            );
        });
        metrics
    }

    /// Shows what the pool has now.
    pub(crate) fn show(&self, pool: &PoolReport) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.total.set(number(pool.total_bytes));
        self.free.set(number(pool.free_bytes));
        self.provisioned.set(number(pool.provisioned_bytes));
    }
}
