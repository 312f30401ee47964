//! `mallee` as a process: against a cloud controller that behaves, and against a public API that
//! checks signatures and keeps objects.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod admin;
mod bench;
mod image;

use std::path::PathBuf;

/// What the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command with these variables and no others.
pub(crate) async fn mallee(words: &[&str], variables: &[(&str, String)]) -> Ran {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mallee"));
    command
        .args(words)
        .env_clear()
        .stdin(std::process::Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().unwrap(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// A folder of its own for each test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
