//! How a host tool is run: words, never a shell; a text on its standard input; a time limit.

use std::{io, process::Stdio, time::Duration};

use async_trait::async_trait;
use tokio::{io::AsyncWriteExt, process};

/// Longer than any of our tools takes, shorter than a reconciler's patience.
const TIMEOUT: Duration = Duration::from_secs(30);

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

/// The host's own tools, in the calling thread's namespaces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tools;

#[async_trait]
impl Run for Tools {
    async fn run(&self, command: Command) -> io::Result<Output> {
        let (program, arguments) = command
            .words
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program named"))?;
        let child = process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        tokio::time::timeout(TIMEOUT, converse(child, command.stdin.into_bytes()))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{program} hangs")))?
    }
}

async fn converse(mut child: process::Child, text: Vec<u8>) -> io::Result<Output> {
    let stdin = child.stdin.take();
    // A tool that ends before it has read everything says why by its status, not by our EPIPE.
    let write = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&text).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
