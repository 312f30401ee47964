//! Host tools: the only place that starts a process.
//!
//! A tool gets an argument list (never a shell), a small clean environment, a time limit and an
//! output limit, and is killed with all its children when it exceeds either or when nobody waits
//! for it any more. Who is told that it was killed may rely on its being gone, with all that it had
//! open. A failure carries the command and what it wrote to standard error.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Seek, Write},
    os::fd::{OwnedFd, RawFd},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::{AccessFlags, Pid, access},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::error::Elapsed,
};

/// Host tools answer in milliseconds; one that takes half a minute hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Enough for any listing that we parse.
const STDOUT_BYTES_MAX: usize = 4 << 20;
/// Enough to see what is wrong; more is read and dropped, so that the tool does not block.
const STDERR_BYTES_KEPT: usize = 16 << 10;
/// What was killed is gone in milliseconds, unless a system call holds it: one on a dead network file
/// system may for ever, and is not waited for.
const GONE_LIMIT: Duration = Duration::from_secs(10);
const GONE_LOOK: Duration = Duration::from_millis(5);
/// Where Debian keeps the tools.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A tool that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("{command}: cannot start")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Talking to it failed.
    #[error("{command}: lost")]
    Lost {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("{command}: {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It ran longer than its limit and was killed.
    #[error("{command}: no end after {limit:?}, killed: {stderr}")]
    TimedOut {
        /// The command line.
        command: String,
        /// The limit.
        limit: Duration,
        /// What it had written to standard error.
        stderr: String,
    },
    /// It wrote more than its limit and was killed.
    #[error("{command}: more than {limit} bytes of output, killed")]
    TooMuch {
        /// The command line.
        command: String,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// The exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            Self::Start { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::TooMuch { .. } => None,
        }
    }

    /// Whether the tool is not installed.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// One run of a host tool, being put together.
#[derive(Debug, Clone)]
pub struct Tool {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    open: Option<(RawFd, Vec<u8>)>,
    timeout: Duration,
    stdout_bytes_max: usize,
}

impl Tool {
    /// The tool of this name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stdin: None,
            open: None,
            timeout: TIMEOUT,
            stdout_bytes_max: STDOUT_BYTES_MAX,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; nothing else is inherited.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in this folder.
    pub fn folder(mut self, path: impl AsRef<Path>) -> Self {
        self.folder = Some(path.as_ref().to_owned());
        self
    }

    /// Gives it this on standard input. This, or a file, is also how a tool gets a secret.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Gives it a file of these bytes, open under that number.
    pub fn open_as(mut self, number: RawFd, bytes: impl Into<Vec<u8>>) -> Self {
        self.open = Some((number, bytes.into()));
        self
    }

    /// Another time limit than 30 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Another limit for standard output than 4 MiB.
    pub fn stdout_max(mut self, bytes: usize) -> Self {
        self.stdout_bytes_max = bytes;
        self
    }

    /// Runs it to its end and gives back its standard output. A non-zero exit is an error.
    pub async fn output(self) -> Result<Vec<u8>, Error> {
        let for_ever = std::future::pending::<Infallible>();
        match self.during(for_ever).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    /// Runs it for as long as `work` takes. Then it is killed, and gone before this returns: nothing is
    /// open or locked any more that it had. A tool that ends sooner ends the work; `Err` is how it ended.
    pub async fn during<T>(
        self,
        work: impl Future<Output = T>,
    ) -> Result<T, Result<Vec<u8>, Error>> {
        let mut child = self.started(Stdio::piped()).map_err(Err)?;
        let group = Group::of(&child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());

        let mut said = Vec::new();
        let talk = async {
            let feed = feed(stdin, self.stdin.as_deref());
            let read = read_up_to(stdout, self.stdout_bytes_max);
            let listen = keep_first(stderr, &mut said);
            let read_or_stop = async {
                read.await?
                    .ok_or_else(|| std::io::ErrorKind::FileTooLarge.into())
            };
            let ((), output, ()) = tokio::try_join!(feed, read_or_stop, listen)?;
            std::io::Result::Ok((output, child.wait().await?))
        };
        let ended = tokio::select! {
            // Why it ended says more than what that did to the work.
            biased;
            ended = tokio::time::timeout(self.timeout, talk) => ended,
            done = work => {
                group.end(&mut child).await;
                return Ok(done);
            }
        };
        match &ended {
            Ok(Ok(_)) => group.ended(),
            Ok(Err(_)) | Err(_) => group.end(&mut child).await,
        }
        Err(self.outcome(ended, &said))
    }

    fn outcome(
        &self,
        ended: Result<std::io::Result<(Vec<u8>, ExitStatus)>, Elapsed>,
        said: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let stderr = String::from_utf8_lossy(said).trim().to_owned();
        let command = self.command_line();
        match ended {
            Err(_) => Err(Error::TimedOut {
                command,
                limit: self.timeout,
                stderr,
            }),
            Ok(Err(source)) if source.kind() == std::io::ErrorKind::FileTooLarge => {
                Err(Error::TooMuch {
                    command,
                    limit: self.stdout_bytes_max,
                })
            }
            Ok(Err(source)) => Err(Error::Lost { command, source }),
            Ok(Ok((output, status))) if status.success() => Ok(output),
            Ok(Ok((_, status))) => Err(Error::Failed {
                command,
                status,
                stderr,
            }),
        }
    }

    /// [`Tool::output`] as text; bytes that are no UTF-8 are replaced.
    pub async fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.output().await?).into_owned())
    }

    /// Starts a tool that stays (dnsmasq, a target daemon) and lets go of it: it outlives us. Its
    /// output goes nowhere. The caller keeps the child, to reap it should it end.
    pub fn leave_running(self) -> Result<Child, Error> {
        let mut command = self.prepared();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map_err(|source| Error::Start {
            command: self.command_line(),
            source,
        })
    }

    fn started(&self, output: Stdio) -> Result<Child, Error> {
        let cannot = |source| Error::Start {
            command: self.command_line(),
            source,
        };
        let mut command = self.prepared();
        if let Some((number, bytes)) = &self.open {
            let file = in_memory(bytes).map_err(cannot)?;
            let mapping = FdMapping {
                parent_fd: file,
                child_fd: *number,
            };
            let mapped = command.fd_mappings(vec![mapping]);
            mapped.map_err(|error| cannot(std::io::Error::other(error)))?;
        }
        let input = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().map_err(cannot)
    }

    #[allow(clippy::disallowed_methods)] // the one place that starts processes
    fn prepared(&self) -> Command {
        let mut command = Command::new(file_of(&self.program));
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("HOME", "/");
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn command_line(&self) -> String {
        let mut words = vec![self.program.to_string_lossy()];
        words.extend(self.args.iter().map(|arg| arg.to_string_lossy()));
        words.join(" ")
    }
}

/// The file of a program, so that nobody has to look for it any more. A name that is still to be looked
/// up in a PATH other than ours is started by a fork, and a fork of a process with much memory slows it
/// down long after: the first write to each page is a fault, and all its threads hear of it.
fn file_of(program: &OsStr) -> PathBuf {
    if program.as_encoded_bytes().contains(&b'/') {
        return program.into();
    }
    let mut files = PATH
        .split(':')
        .map(|folder| Path::new(folder).join(program));
    let found = files.find(|file| access(file, AccessFlags::X_OK).is_ok());
    // One that is nowhere stays a name, and fails by it.
    found.unwrap_or_else(|| program.into())
}

/// A file that has no name, to be read from its beginning.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(nix::sys::memfd::memfd_create("input", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// The process group of a running tool; killed unless it [`ended`](Group::ended).
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map(Pid::from_raw),
        )
    }

    fn ended(mut self) {
        self.0 = None;
    }

    /// Kills it and waits until nobody is left of it: until then its files and mounts are in use.
    async fn end(mut self, child: &mut Child) {
        let Some(group) = self.0.take() else { return };
        let _already_gone = killpg(group, Signal::SIGKILL);
        let gone = async {
            let _reaped = child.wait().await;
            while is_left(group) {
                tokio::time::sleep(GONE_LOOK).await;
            }
        };
        if tokio::time::timeout(GONE_LIMIT, gone).await.is_err() {
            tracing::warn!(%group, "a tool was killed and is still there");
        }
    }
}

/// Whether a process of the group lives. One that only its parent has to hear of has let go of all it
/// had, and its parent may be a container's first process, which never listens.
fn is_left(group: Pid) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return killpg(group, None).is_ok();
    };
    let stats = processes.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        is_process.then(|| std::fs::read_to_string(entry.path().join("stat")).ok())?
    });
    stats.into_iter().any(|stat| lives_in(&stat, group))
}

/// Reads `PID (NAME) STATE PARENT GROUP …`, with the number of threads at the twentieth place: a
/// process may be over while threads of it are not.
fn lives_in(stat: &str, group: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let fields: Vec<&str> = rest.split(' ').collect();
    let [state, _, its_group, ..] = fields[..] else {
        return false;
    };
    let threads = fields.get(17).and_then(|threads| threads.parse().ok());
    let is_over = matches!(state, "Z" | "X") && threads.is_none_or(|threads: u32| threads <= 1);
    its_group == group.to_string() && !is_over
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _already_gone = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn feed(
    stdin: Option<impl tokio::io::AsyncWrite + Unpin>,
    bytes: Option<&[u8]>,
) -> std::io::Result<()> {
    if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
        // A tool may end without reading all: its exit code is the better message.
        let _broken_pipe = stdin.write_all(bytes).await;
    }
    Ok(())
}

async fn read_up_to(
    from: Option<impl AsyncRead + Unpin>,
    limit: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    if let Some(from) = from {
        from.take(limit as u64 + 1).read_to_end(&mut output).await?;
    }
    Ok((output.len() <= limit).then_some(output))
}

async fn keep_first(
    from: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = [0; 4096];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let room = STDERR_BYTES_KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        Tool::new("sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_tool_gets_its_input_and_gives_its_output() {
        assert_eq!(
            Tool::new("cat").stdin("hello").text().await.unwrap(),
            "hello"
        );
    }

    #[test]
    fn a_program_is_found_where_the_tools_are_and_a_path_is_left_as_it_is() {
        let found = file_of(OsStr::new("sh"));
        assert!(found.is_absolute() && found.ends_with("sh"), "{found:?}");
        for program in ["/opt/our/sh", "./sh", "no-such-program"] {
            assert_eq!(file_of(OsStr::new(program)), Path::new(program));
        }
    }

    #[tokio::test]
    async fn a_failure_names_the_command_and_what_it_said() {
        let error = shell("echo no space >&2; exit 3")
            .output()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(3));
        let text = error.to_string();
        assert!(
            text.starts_with("sh -c") && text.contains("no space"),
            "{text}"
        );
        assert!(
            Tool::new("no-such-tool")
                .output()
                .await
                .unwrap_err()
                .is_missing()
        );
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let error = shell("sleep 600 & echo $! > child; wait")
            .folder(folder.path())
            .timeout(Duration::from_millis(300))
            .output()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        if let Ok(left) = std::fs::read_to_string(&stat) {
            assert!(left.contains(") Z"), "the child lives on: {left}");
        }
    }

    #[tokio::test]
    async fn a_tool_that_runs_beside_some_work_is_gone_when_that_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = "sleep 600 & echo $$ > new; mv new pid; wait";
        let tool = shell(script).folder(folder.path());
        let work = async {
            while !pid.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::fs::read_to_string(&pid).unwrap()
        };
        let pid = tool.during(work).await.unwrap();
        let group = Pid::from_raw(pid.trim().parse().unwrap());
        assert!(!is_left(group));
        let stat = std::fs::read_to_string(format!("/proc/{group}/stat"));
        assert!(stat.is_err(), "nobody has reaped it: {stat:?}");
    }

    #[tokio::test]
    async fn a_tool_that_ends_by_itself_ends_the_work_and_says_how() {
        let work = std::future::pending::<()>();
        let ended = shell("echo no space >&2; exit 3").during(work).await;
        assert_eq!(ended.unwrap_err().unwrap_err().code(), Some(3));
        let work = std::future::pending::<()>();
        let ended = shell("echo done").during(work).await;
        assert_eq!(ended.unwrap_err().unwrap(), b"done\n");
    }

    #[test]
    fn a_process_lives_in_its_group_until_its_last_thread_is_over() {
        let stat = |state, group, threads| {
            format!("7 (a ) b) {state} 1 {group} 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 9 0\n")
        };
        let lives = |stat: String| lives_in(&stat, Pid::from_raw(6));
        assert!(lives(stat("S", 6, 1)));
        assert!(lives(stat("Z", 6, 2)));
        assert!(!lives(stat("Z", 6, 1)));
        assert!(!lives(stat("S", 60, 1)));
        assert!(!lives(String::new()));
    }

    #[tokio::test]
    async fn output_without_end_is_cut_off() {
        let error = shell("yes").stdout_max(1000).output().await.unwrap_err();
        assert!(matches!(error, Error::TooMuch { .. }), "{error}");
    }

    #[tokio::test]
    async fn nothing_of_our_environment_leaks_into_a_tool() {
        let names = Tool::new("env").env("WANTED", "1").text().await.unwrap();
        let mut names: Vec<&str> = names
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "PATH", "WANTED"]);
    }
}
