//! What every daemon shares, so that a daemon's `main.rs` is a page and all five behave alike.
//!
//! | module | owns |
//! |---|---|
//! | [`start`] | the shape of a `main`: arguments, configuration, trace, run, drain, exit code |
//! | [`config`] | defaults < file < environment < flags, unknown keys refused, `--check` |
//! | [`trace`] | where and how log lines are written |
//! | [`context`] | what a running daemon is given: clock, shutdown, tasks, readiness, metrics |
//! | [`admin`] | the plain HTTP listener with `/healthz`, `/readyz`, `/metrics`, `/tasks` |
//! | [`ready`] | named conditions, each with the reason why it does not hold |
//! | [`metrics`] | the registry behind `/metrics` |
//! | [`reconcile`] | the driver of "make it so" tasks: period, wake, backoff, last result |
//! | [`clock`] | wall time and monotonic time, from outside so that tests own them |
//! | [`public`] | listeners for clients: http and https on one port, limits, the certificate |
//! | [`tls`] | certificates between daemons: authority, identity, configs, renewal, join |
//! | [`examine`] | whether a host is fit, with cause and fix for what is not |
//! | [`files`] | files that appear whole or not at all |
//! | [`run`] | host tools; the only place that starts a process |
//! | [`jail`] | where tools run that read what strangers made |
//!
//! Nothing here knows what a cloud is: no ids, no states, no SQL.

pub mod admin;
pub mod clock;
pub mod config;
pub mod context;
pub mod examine;
pub mod files;
pub mod jail;
pub mod metrics;
pub mod public;
pub mod ready;
pub mod reconcile;
pub mod run;
pub mod start;
pub mod tls;
pub mod trace;

pub use context::Context;
pub use start::start;

/// Any error that a task may end with. Who receives it logs it, with its whole chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error and everything that caused it, on one line: `what failed: why: why that`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some libraries repeat their source in their own words; saying it once is enough.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
