//! `net`'s host tools, run the way that every daemon runs them.

use std::io;

use async_trait::async_trait;
use daemon::run::{self, Tool};
use net::{
    Run,
    run::{Command, Output},
};

/// A thousand taps with all their attributes are about 2 MiB.
const STDOUT_BYTES_MAX: usize = 32 << 20;

/// The host's own tools, with a time limit and a clean environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostTools;

#[async_trait]
impl Run for HostTools {
    async fn run(&self, command: Command) -> io::Result<Output> {
        let (program, words) = command
            .words
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program named"))?;
        let tool = Tool::new(program).args(words).stdin(command.stdin);
        match tool.stdout_max(STDOUT_BYTES_MAX).text().await {
            Ok(stdout) => Ok(Output {
                success: true,
                stdout,
                stderr: String::new(),
            }),
            Err(run::Error::Failed { stderr, .. }) => Ok(Output {
                success: false,
                stdout: String::new(),
                stderr,
            }),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
