//! How a host tool is run: words, never a shell, and a text on its standard input. The node that
//! uses this crate brings the runner, with its time limits.

use std::io;

use async_trait::async_trait;

/// A tool to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// What it reads.
    pub stdin: String,
}

impl Command {
    /// A command from its words.
    pub fn new<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self {
            words: words.into_iter().map(Into::into).collect(),
            stdin: String::new(),
        }
    }

    /// The same with something to read.
    pub fn reading(self, stdin: impl Into<String>) -> Self {
        Self {
            stdin: stdin.into(),
            ..self
        }
    }
}

/// What a tool answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Whether it ended with status 0.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Something that can run host tools.
#[async_trait]
pub trait Run: Send + Sync {
    /// Runs a tool to its end. An error means that it did not run, or not to its end.
    async fn run(&self, command: Command) -> io::Result<Output>;
}
