//! The smallest whole daemon: what each `main.rs` looks like. The tests run it as a process.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use daemon::{
    BoxError, Context,
    config::{self, Admin, Log, Settings},
    reconcile::{Reconcile, Summary, Wake},
    start::Args,
};
use serde::{Deserialize, Serialize};

/// Counts, and does nothing else.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  daemon --config ./example.toml --check"
)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    state_dir: PathBuf,
    admin: Admin,
    log: Log,
    /// How the first pass ends: "well" or "badly".
    passes_end: String,
    /// How long it takes to open what it has.
    opens_for_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: config::default_state_dir("example"),
            admin: Admin::on_port(0),
            log: Log::default(),
            passes_end: "well".to_owned(),
            opens_for_ms: 0,
        }
    }
}

impl Settings for Config {
    const NAME: &'static str = "example";
    fn state_dir(&self) -> &Path {
        &self.state_dir
    }
    fn admin(&self) -> &Admin {
        &self.admin
    }
    fn log(&self) -> &Log {
        &self.log
    }
}

struct Count(Config);

impl Reconcile for Count {
    const NAME: &'static str = "count";
    const PERIOD: Duration = Duration::from_secs(1);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        assert_ne!(self.0.passes_end, "badly", "as configured");
        Ok(Summary::nothing())
    }
}

async fn run(config: Config, context: Context) -> Result<(), BoxError> {
    tokio::time::sleep(Duration::from_millis(config.opens_for_ms)).await;
    context.ready.condition("example").met();
    context.reconcile(Count(config), Wake::new());
    Ok(())
}

fn main() -> ExitCode {
    daemon::start(&Cli::parse().args, env!("CARGO_PKG_VERSION"), run)
}
