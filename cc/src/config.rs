//! `cc.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use daemon::config::{Admin, Log, Settings, default_state_dir};
use serde::{Deserialize, Serialize};

use crate::{book::Limits, schedule::Policy};

/// The shortest limit of silence that a long poll can tell from a quiet node.
const UNREACHABLE_MS_MIN: u64 = 6_000;

/// The whole configuration of a Cluster Controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database and the certificates are.
    pub state_dir: PathBuf,
    /// The listener for the Cloud Controller.
    pub control: Control,
    /// How instances are placed.
    pub schedule: Schedule,
    /// What counts as silence.
    pub nodes: Nodes,
    /// The listener for operators.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
}

/// The section `[control]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Where the Cloud Controller reaches us, over mutual TLS.
    pub listen: SocketAddr,
}

/// The section `[schedule]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// `greedy` fills a node before the next; `round-robin` spreads.
    pub policy: Policy,
}

/// The section `[nodes]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nodes {
    /// After so long without an answer a node counts as unreachable. Its instances keep their
    /// records.
    pub unreachable_ms: u64,
    /// A node that answers, and has been without an instance that ran there for so long, has lost
    /// it.
    pub missing_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(Self::NAME),
            control: Control::default(),
            schedule: Schedule::default(),
            nodes: Nodes::default(),
            admin: Admin::on_port(8782),
            log: Log::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8774)),
        }
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            unreachable_ms: 15_000,
            missing_ms: 60_000,
        }
    }
}

impl Config {
    /// The limits that the book decides by.
    pub fn limits(&self) -> Limits {
        Limits {
            policy: self.schedule.policy,
            lease_ms: control::cluster::HOLD_LEASE_MS,
            unreachable_ms: self.nodes.unreachable_ms,
            missing_ms: self.nodes.missing_ms,
        }
    }
}

impl Settings for Config {
    const NAME: &'static str = "cc";

    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn admin(&self) -> &Admin {
        &self.admin
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self) -> Result<(), String> {
        if self.nodes.unreachable_ms < UNREACHABLE_MS_MIN {
            return Err(format!(
                "nodes.unreachable_ms: at least {UNREACHABLE_MS_MIN}"
            ));
        }
        Ok(())
    }
}
