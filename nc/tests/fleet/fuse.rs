//! A file system as clusters have them (`testkit::fuse`), mounted by a process of
//! its own: the example `shared_fs`, which Cargo builds beside the tests. It does not outlive us,
//! however we end.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use tempfile::TempDir;

/// A mounted file system; unmounted when it is dropped.
pub(crate) struct Mounted {
    server: Mutex<Server>,
    mountpoint: TempDir,
    _behind: TempDir,
}

struct Server {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Mounted {
    /// Mounts one below `parent`.
    pub(crate) fn below(parent: &Path, has_links: bool) -> io::Result<Self> {
        let (behind, mountpoint) = (TempDir::new_in(parent)?, TempDir::new_in(parent)?);
        let mut program: PathBuf = std::env::current_exe()?;
        program.pop();
        program.pop();
        program.push("examples/shared_fs");
        let mut command = Command::new(program);
        command.arg(behind.path()).arg(mountpoint.path());
        command.arg(if has_links { "links" } else { "no-links" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut server = Server { child, answers };
        server.hears("mounted")?;
        Ok(Self {
            server: Mutex::new(server),
            mountpoint,
            _behind: behind,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// From now on every call hangs.
    pub(crate) fn hang(&self) {
        self.say("hang");
    }

    /// All that hung goes on.
    pub(crate) fn go_on(&self) {
        self.say("go on");
    }

    fn say(&self, what: &str) {
        let mut server = self.server.lock().unwrap();
        let input = server.child.stdin.as_mut().unwrap();
        writeln!(input, "{what}").unwrap();
        server.hears("done").unwrap();
    }
}

impl Server {
    fn hears(&mut self, word: &str) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim() == word {
            true => Ok(()),
            false => Err(io::Error::other(format!("it said {line:?}"))),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut server = self.server.lock().unwrap();
        // The end of its input is the end of it, and it takes the mount with it.
        drop(server.child.stdin.take());
        let _ended = server.child.wait();
    }
}
