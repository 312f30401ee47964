//! Instance states as EC2 names and numbers them, and why an instance came to be in one.
//!
//! ```text
//! pending ──▶ running ──▶ shutting-down ──▶ terminated
//!    │           ├──▶ stopping ──▶ stopped ──▶ pending
//!    └───────────┴──────────▶ terminated        (a launch that failed, a node that lost it)
//! ```

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;

/// The state of an instance as every EC2 client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Placed, and being made ready.
    Pending,
    /// The guest's processors run.
    Running,
    /// On its way to terminated.
    ShuttingDown,
    /// Gone; shown for about an hour so that waiters see it.
    Terminated,
    /// On its way to stopped.
    Stopping,
    /// Not running; its root volume is kept.
    Stopped,
}

impl InstanceState {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::ShuttingDown,
        Self::Terminated,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The low byte of EC2's instance state code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// The state of that word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Why an instance changed state, in EC2's `stateReason` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// `Client.UserInitiatedShutdown`, `Server.InternalError`, ...
    pub code: String,
    /// A sentence for the user.
    pub message: String,
}

impl StateReason {
    /// A reason with EC2's code and a sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// The user asked for the termination.
    pub fn user_initiated() -> Self {
        Self::new(
            "Client.UserInitiatedShutdown",
            "Client.UserInitiatedShutdown: User initiated shutdown",
        )
    }
}

/// A short number that names host objects of one thing: at most 2^28, so eight hex digits at most
/// fit beside a prefix into the 15 bytes of an interface name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShortId(pub u32);

impl ShortId {
    /// The name of a host object: a prefix and the number in hex.
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}{:x}", self.0)
    }
}

/// The libvirt domain name of an instance is its id.
pub fn domain_name(instance: &InstanceId) -> String {
    instance.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for state in InstanceState::ALL {
            assert_eq!(InstanceState::from_word(state.as_str()), Some(state));
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{}\"", state.as_str())
            );
        }
        assert_eq!(InstanceState::from_word("gone"), None);
    }
}
