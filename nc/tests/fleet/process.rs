//! A node's cache as a process: the example `cache_node`, which Cargo builds beside the tests.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use control::cloud::TicketAsk;
use nc::cache::Tickets;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{LIMIT, store::Store};

/// Where nodes are started, and for which image.
pub(crate) struct Place {
    cache: PathBuf,
    order: serde_json::Value,
    _work: tempfile::TempDir,
}

/// A running node; killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Place {
    pub(crate) async fn new(cache: &Path, store: &Store) -> Self {
        let work = crate::scratch();
        let ask = TicketAsk {
            image: store.image(),
            entry: None,
            peers_failed: false,
        };
        let ticket = serde_json::to_vec(&store.ticket(ask).await.unwrap()).unwrap();
        let file = work.path().join("ticket.json");
        std::fs::write(&file, ticket).unwrap();
        let order = serde_json::json!({
            "folder": cache, "ticket": file, "image": store.image(), "limit_bytes": 1_u64 << 30,
            "beat_ms": 50, "silence_ms": 600,
        });
        Self {
            cache: cache.to_owned(),
            order,
            _work: work,
        }
    }

    pub(crate) fn limited_to(mut self, bytes: u64) -> Self {
        self.order["limit_bytes"] = bytes.into();
        self
    }

    pub(crate) fn start(&self, number: u32) -> Node {
        self.start_by(number, &[])
    }

    /// Started by another program, whose last arguments are ours.
    pub(crate) fn start_by(&self, number: u32, starter: &[&str]) -> Node {
        let mut program: PathBuf = std::env::current_exe().unwrap();
        program.pop();
        program.pop();
        program.push("examples/cache_node");
        let mut order = self.order.clone();
        order["node"] = format!("node-{number:08x}").into();
        order["holder"] = format!("i-{number:08x}").into();
        let mut words = starter.iter().map(PathBuf::from).chain([program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(order.to_string());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .expect("cargo builds the example with the tests");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Node { child, lines }
    }

    /// What is written so far of what is being filled.
    pub(crate) fn written_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(files) = std::fs::read_dir(self.cache.join("filling")) else {
            return 0;
        };
        let parts = files.flatten().filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            !name.starts_with('.') && !name.ends_with(".lease")
        });
        let bytes = parts.map(|part| part.metadata().map_or(0, |found| found.blocks() * 512));
        bytes.max().unwrap_or_default()
    }
}

impl Node {
    /// Where the image is, or why it is not: once that is said.
    pub(crate) async fn end_of_hold(&mut self) -> Result<PathBuf, String> {
        loop {
            let line = self.line().await;
            match line.split_once(' ') {
                Some(("held", path)) => return Ok(path.into()),
                Some(("failed", why)) => return Err(why.to_owned()),
                _ => {}
            }
        }
    }

    pub(crate) async fn ask(&mut self, what: &str) -> String {
        let input = self.child.stdin.as_mut().unwrap();
        input
            .write_all(format!("{what}\n").as_bytes())
            .await
            .unwrap();
        self.line().await
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
        let line = line.expect("it says something within the limit").unwrap();
        line.expect("it lives")
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = self.child.id().unwrap();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }
}
