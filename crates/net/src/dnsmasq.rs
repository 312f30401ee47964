//! The dnsmasq of a VPC: written, started, adopted, reloaded, stopped.
//!
//! It outlives us. A running one is recognised by its pid file, its command line and its
//! namespace, all three; a pid alone may be anyone's by now. Which texts it has read is kept in a
//! file of two digests, written after the fact, so that a crash in between costs a reload.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    desired::DhcpFiles,
    dhcp::Paths,
    error::{Error, tool},
    namespace,
    run::{Command, Run},
};

/// How long one may take to end after SIGTERM, in steps of `STOP_STEP`.
const STOP_STEPS: u32 = 40;
const STOP_STEP: Duration = Duration::from_millis(50);
/// dnsmasq reads its files without privileges.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// What a running dnsmasq has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Read {
    config: u64,
    hosts: u64,
}

impl Read {
    fn of(files: &DhcpFiles) -> Self {
        Self {
            config: digest(&files.config),
            hosts: digest(&(&files.hosts, &files.names)),
        }
    }

    fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some(Self {
            config: numbers.next()?.ok()?,
            hosts: numbers.next()?.ok()?,
        })
    }

    fn save(self, path: &Path) -> io::Result<()> {
        write_whole(path, &format!("{} {}\n", self.config, self.hosts))
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Makes the VPC's dnsmasq run with these files. Gives the number of things done.
pub async fn ensure(
    run: &dyn Run,
    namespace: &str,
    at: &Paths,
    files: &DhcpFiles,
) -> Result<usize, Error> {
    let marker = at.dir.join("read");
    let (left, wanted) = (left_running(at), Read::of(files));
    let serving = left.filter(|pid| is_inside(*pid, namespace));
    let read = Read::load(&marker);
    if serving.is_some() && read == Some(wanted) {
        return Ok(0);
    }
    write(at, files).map_err(|source| Error::File {
        path: at.dir.clone(),
        source,
    })?;
    match serving {
        Some(pid) if read.map(|read| read.config) == Some(wanted.config) => {
            signal(pid, Signal::SIGHUP)?;
        }
        _ => {
            if let Some(pid) = left {
                end(pid).await?;
            }
            start(run, namespace, at).await?;
        }
    }
    wanted.save(&marker).map_err(|source| Error::File {
        path: marker,
        source,
    })?;
    Ok(1)
}

/// Ends the dnsmasq with these files, if one runs, and removes them. Gives whether there were any.
pub async fn stop(at: &Paths) -> Result<bool, Error> {
    if let Some(pid) = left_running(at) {
        end(pid).await?;
    }
    match fs::remove_dir_all(&at.dir) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::File {
            path: at.dir.clone(),
            source,
        }),
    }
}

/// The running dnsmasq with this configuration. It may serve a namespace that has since been made
/// anew, and then serves nobody.
fn left_running(at: &Paths) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(&at.pid).ok()?.trim().parse().ok()?;
    let wanted = config_argument(at);
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = command_line
        .split(|byte| *byte == 0)
        .any(|word| word == wanted.as_bytes());
    (pid > 1 && ours).then(|| Pid::from_raw(pid))
}

fn is_inside(pid: Pid, namespace: &str) -> bool {
    let its = fs::metadata(format!("/proc/{pid}/ns/net")).map(|found| found.ino());
    let wanted = fs::metadata(namespace::path(namespace)).map(|found| found.ino());
    matches!((its, wanted), (Ok(its), Ok(wanted)) if its == wanted)
}

fn config_argument(at: &Paths) -> String {
    format!("--conf-file={}", at.config.display())
}

async fn start(run: &dyn Run, namespace: &str, at: &Paths) -> Result<(), Error> {
    let enter = format!("--net={}", namespace::path(namespace).display());
    let words = [
        "nsenter".to_owned(),
        enter,
        "dnsmasq".to_owned(),
        config_argument(at),
    ];
    tool(run, Command::new(words)).await.map(drop)
}

async fn end(pid: Pid) -> Result<(), Error> {
    signal(pid, Signal::SIGTERM)?;
    for _ in 0..STOP_STEPS {
        if !is_running(pid) {
            return Ok(());
        }
        tokio::time::sleep(STOP_STEP).await;
    }
    signal(pid, Signal::SIGKILL)
}

/// A zombie has ended: it waits only for whoever is to reap it.
fn is_running(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.starts_with('Z'))
    })
}

fn signal(pid: Pid, which: Signal) -> Result<(), Error> {
    match kill(pid, which) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::Signal {
            pid: pid.as_raw(),
            source: errno.into(),
        }),
    }
}

fn write(at: &Paths, files: &DhcpFiles) -> io::Result<()> {
    make_folder(&at.dir)?;
    write_whole(&at.config, &files.config)?;
    write_whole(&at.hosts, &files.hosts)?;
    write_whole(&at.names, &files.names)
}

/// Makes a folder and what is missing above it, open to all whatever our umask. One that is there
/// and closed is an error here, and not a guest without a lease after the next SIGHUP.
fn make_folder(path: &Path) -> io::Result<()> {
    if let Ok(found) = fs::metadata(path) {
        let enterable = found.permissions().mode() & 1 == 1;
        let closed = || io::Error::other(format!("{} is not open to all users", path.display()));
        enterable.then_some(()).ok_or_else(closed)?;
        return path.parent().map_or(Ok(()), make_folder);
    }
    path.parent().map_or(Ok(()), make_folder)?;
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE))
}

/// dnsmasq may read at any moment: a file is there as it was, or as it is to be.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(FILE_MODE))?;
    fs::rename(&new, path)
}
