//! What every daemon shares: configuration, tracing, metrics, TLS, readiness, shutdown, reconcilers, the clock.
