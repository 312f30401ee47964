//! `sc.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use daemon::config::{Admin, Log, Settings, default_state_dir};
use serde::{Deserialize, Serialize};

/// The whole configuration of a Storage Controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database and the certificates are.
    pub state_dir: PathBuf,
    /// The listener for the Cloud Controller.
    pub control: Control,
    /// Where volumes lie.
    pub pool: Pool,
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

/// The section `[pool]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// The folder of the volumes' files; empty for `volumes` in the state folder. It may be on a
    /// shared file system.
    pub dir: PathBuf,
    /// How much of the pool may be promised to volumes, in percent: files are sparse.
    pub overcommit_percent: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(Self::NAME),
            control: Control::default(),
            pool: Pool::default(),
            admin: Admin::on_port(8783),
            log: Log::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8776)),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            overcommit_percent: 100,
        }
    }
}

impl Config {
    /// Where volumes lie.
    pub fn pool_dir(&self) -> PathBuf {
        if self.pool.dir.as_os_str().is_empty() {
            self.state_dir.join("volumes")
        } else {
            self.pool.dir.clone()
        }
    }
}

impl Settings for Config {
    const NAME: &'static str = "sc";

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
        match self.pool.overcommit_percent {
            1..=10_000 => Ok(()),
            other => Err(format!("pool.overcommit_percent: 1 to 10000, not {other}")),
        }
    }
}
