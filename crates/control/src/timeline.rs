//! What happened on the way of a launch, moment by moment, for `mallee explain`.

use serde::{Deserialize, Serialize};

/// A step of a launch. Each daemon records its own; times between daemons are never subtracted,
/// a daemon's `elapsed_ms` counts from when it first heard of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Who recorded it: `clc`, `cc`, `nc`.
    pub by: String,
    /// What happened: `admitted`, `placed`, `image`, `disk`, `network`, `started`, `dhcp`,
    /// `metadata`, `console`, `running`, `failed`, ...
    pub step: String,
    /// Milliseconds since that daemon first heard of the instance, by its monotonic clock.
    pub elapsed_ms: u64,
    /// More, in words: why this node, percent fetched, the network's version.
    #[serde(default)]
    pub detail: String,
}
