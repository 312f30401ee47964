//! Why something could not be applied; and host tools, whose refusals are most of it.

use std::{io, path::PathBuf};

use crate::run::{Command, Output, Run};

/// How much of a tool's complaint is kept.
const COMPLAINT_CHARS_MAX: usize = 500;

/// Why something could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool did not run.
    #[error("cannot run {tool}")]
    Run {
        /// Which.
        tool: String,
        /// Why.
        source: io::Error,
    },
    /// A tool refused.
    #[error("{tool}: {complaint}")]
    Refused {
        /// Which.
        tool: String,
        /// What it printed.
        complaint: String,
    },
    /// A tool printed what we cannot read.
    #[error("cannot understand {tool}")]
    Answer {
        /// Which.
        tool: String,
        /// Where it stopped making sense.
        source: serde_json::Error,
    },
    /// A namespace could not be entered, or its parameters not set.
    #[error("namespace {name}")]
    Namespace {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The node's own kernel parameters could not be set.
    #[error("cannot set bridge parameters; is the kernel module br_netfilter loaded?")]
    Parameters(#[source] io::Error),
    /// A file could not be written or removed.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A process could not be told.
    #[error("cannot signal process {pid}")]
    Signal {
        /// Which.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The error and its causes in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Runs a tool and gives what it printed; a status other than 0 is an error.
pub(crate) async fn tool(run: &dyn Run, command: Command) -> Result<String, Error> {
    let (name, stdin) = (command.words.join(" "), command.stdin.clone());
    match run.run(command).await {
        Ok(Output {
            success: true,
            stdout,
            ..
        }) => Ok(stdout),
        Ok(Output { stderr, .. }) => Err(Error::Refused {
            tool: name,
            complaint: complaint(&stderr, &stdin),
        }),
        Err(source) => Err(Error::Run { tool: name, source }),
    }
}

/// What a tool said, and the line of its batch that it names (`Command failed -:3`).
fn complaint(stderr: &str, stdin: &str) -> String {
    let number = stderr
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:"));
    let line = number.and_then(|n| stdin.lines().nth(n.parse::<usize>().ok()?.checked_sub(1)?));
    let said = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = line.map_or_else(|| said.clone(), |line| format!("{said} ({line})"));
    text.chars().take(COMPLAINT_CHARS_MAX).collect()
}

pub(crate) fn answer(tool: &str, source: serde_json::Error) -> Error {
    Error::Answer {
        tool: tool.to_owned(),
        source,
    }
}
