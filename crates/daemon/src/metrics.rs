//! The registry behind `/metrics`. Each part registers its own metrics at start; names are
//! `mallee_NAME_what_unit`, prefixed here.

use std::sync::{Arc, Mutex};

use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};

/// The content type of the OpenMetrics text form.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A daemon's metrics.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry for the daemon of this name, with its version in it.
    pub fn new(name: &str, version: &str) -> Self {
        let mut registry = Registry::with_prefix(format!("mallee_{name}"));
        let build = Info::new(vec![("version".to_owned(), version.to_owned())]);
        registry.register("build", "Which build this is", build);
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers metrics: `metrics.register(|r| r.register("name", "help", counter.clone()))`.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.0.lock().expect("registering does not panic"))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().expect("registering does not panic");
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_registered_is_shown_under_the_daemons_prefix() {
        let metrics = Metrics::new("clc", "1.2.3");
        let calls = Counter::<u64>::default();
        metrics.register(|registry| registry.register("calls", "Calls", calls.clone()));
        calls.inc();
        let text = metrics.encode();
        assert!(text.contains("mallee_clc_calls_total 1"), "{text}");
        assert!(text.contains("version=\"1.2.3\""), "{text}");
    }
}
