//! A jail for tools that read what a user made: the file systems and images of strangers.
//!
//! What runs in it is nobody, with no capability and no way to get one; in namespaces of its own
//! for mounts, processes, IPC, names and network, where there is not even a way to this
//! host; sees `/usr` and the files that it was given, and can write only where it was told. It has
//! the system calls for that and no others ([`calls`]). Its processor time, memory and file sizes are limited; its time is [`Tool`]'s limit, and when that
//! is over, or whoever waits for it has gone, every process of it is killed.
//!
//! The walls are the kernel's, put up by bubblewrap, which does that for every Flatpak; `prlimit`
//! and `setpriv` are of util-linux. They are put up as root, so that what is given may lie in
//! folders that are closed to others, and the last thing before the job is that root is let go of:
//! unlike a user namespace, that works on hosts that allow none. A mount of a guest's file system
//! is not possible inside, as it is not done outside.

mod calls;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::run::Tool;

/// Who jobs run as: `nobody`, who owns nothing but what [`hand_over`] gives.
const NOBODY: u32 = 65_534;
/// Nothing that is done with a disk's metadata takes longer; a disk made to be slow is given up.
const TIME: Duration = Duration::from_secs(30);
/// Enough for the tables of a large file system.
const MEMORY_BYTES: u64 = 1 << 30;
/// Files are sparse copies of disks at most; ext4 has none larger.
const FILE_BYTES: u64 = 16 << 40;
const FILES_OPEN: u64 = 256;
/// What it takes to become nobody with nothing; gone when that is done.
const KEPT: [&str; 3] = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"];
/// Where a job works, if it may write at all.
const WORK: &str = "/work";

/// The number under which bubblewrap finds the filter of system calls.
const FILTER: i32 = 9;

/// A jail, being built.
#[derive(Debug, Clone)]
pub struct Jail {
    args: Vec<OsString>,
    folder: &'static str,
    time: Duration,
    memory_bytes: u64,
}

impl Default for Jail {
    fn default() -> Self {
        Self::new()
    }
}

impl Jail {
    /// With `/usr` to run programs from, and nothing else.
    pub fn new() -> Self {
        let new = Self {
            args: Vec::new(),
            folder: "/",
            time: TIME,
            memory_bytes: MEMORY_BYTES,
        };
        new.words(&["--ro-bind", "/usr", "/usr"])
            .words(&[
                "--symlink",
                "usr/bin",
                "/bin",
                "--symlink",
                "usr/sbin",
                "/sbin",
            ])
            .words(&[
                "--symlink",
                "usr/lib",
                "/lib",
                "--symlink",
                "usr/lib64",
                "/lib64",
            ])
            .words(&["--proc", "/proc", "--dev", "/dev"])
    }

    fn words(mut self, words: &[&str]) -> Self {
        self.args.extend(words.iter().map(OsString::from));
        self
    }

    fn bind(mut self, how: &str, path: &Path, inside: &str) -> Self {
        let words = [OsString::from(how), path.into(), inside.into()];
        self.args.extend(words);
        self
    }

    /// Shows it a file or folder, to be read.
    pub fn reading(self, path: &Path, inside: &str) -> Self {
        self.bind("--ro-bind", path, inside)
    }

    /// Gives it a folder to work in, which it finds as its current one. The folder must have been
    /// [handed over](hand_over).
    pub fn working_in(mut self, folder: &Path) -> Self {
        self.folder = WORK;
        self.bind("--bind", folder, WORK)
    }

    /// Another time limit than 30 s, of the clock and of the processor.
    pub fn for_at_most(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Another limit of memory than 1 GiB, for each of its processes.
    pub fn in_memory_of(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The tool that runs a program in it; add the program's arguments.
    pub fn run(self, program: &str) -> Tool {
        let limits = [
            format!("--cpu={}", self.time.as_secs().max(1)),
            format!("--as={}", self.memory_bytes),
            format!("--fsize={FILE_BYTES}"),
            format!("--nofile={FILES_OPEN}"),
            "--core=0".to_owned(),
        ];
        Tool::new("prlimit")
            .args(limits)
            .args(["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net"])
            .args([
                "--unshare-uts",
                "--unshare-cgroup-try",
                "--hostname",
                "jail",
            ])
            .args(["--die-with-parent", "--new-session", "--cap-drop", "ALL"])
            .args(KEPT.iter().flat_map(|capability| ["--cap-add", capability]))
            .args(["--seccomp", &FILTER.to_string()])
            .args(["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin"])
            .args(["--setenv", "LC_ALL", "C", "--setenv", "HOME", "/"])
            .args(self.args)
            .args(["--", "setpriv", "--clear-groups"])
            .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
            .args([
                "--bounding-set=-all",
                "--inh-caps=-all",
                "--ambient-caps=-all",
            ])
            .args(["env", &format!("--chdir={}", self.folder), program])
            .open_as(FILTER, calls::filter())
            .timeout(self.time)
    }
}

/// A new folder that a job may write into, and nobody else but us.
pub fn hand_over(folder: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;

    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY))?;
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::run::Error;

    fn can_be_built() -> bool {
        let lacks = if !nix::unistd::geteuid().is_root() {
            "root"
        } else if !Path::new("/usr/bin/bwrap").exists() {
            "bubblewrap"
        } else {
            return true;
        };
        eprintln!("SKIPPED: a jail needs {lacks}");
        false
    }

    async fn shell(jail: Jail, script: &str) -> Result<String, Error> {
        jail.run("sh").args(["-c", script]).text().await
    }

    #[tokio::test]
    async fn host_in_jail_one_is_nobody_with_no_capability_and_no_way_to_get_one() {
        if !can_be_built() {
            return;
        }
        let said = shell(Jail::new(), "id -u; cat /proc/self/status")
            .await
            .unwrap();
        assert!(said.starts_with("65534\n"), "{said}");
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                said.contains(&format!("{set}:\t0000000000000000")),
                "{said}"
            );
        }
        assert!(said.contains("NoNewPrivs:\t1"), "{said}");
        let mounted = shell(Jail::new(), "mount -t tmpfs none /dev/shm").await;
        assert!(mounted.is_err(), "{mounted:?}");
    }

    #[tokio::test]
    async fn host_in_jail_there_are_the_calls_for_files_and_no_others() {
        if !can_be_built() {
            return;
        }
        let said = shell(Jail::new(), "cat /proc/self/status").await.unwrap();
        assert!(said.contains("Seccomp:\t2"), "{said}");
        // What anybody may do outside, in words of this processor's kernel.
        let calls = [
            ("personality", libc::SYS_personality, "0xffffffff"),
            ("a socket", libc::SYS_socket, "1, 1, 0"),
            ("a namespace", libc::SYS_unshare, "0x10000000"),
            ("a key", libc::SYS_keyctl, "0, -3, 1"),
            ("a ring", libc::SYS_io_uring_setup, "1, 0"),
            ("a process as it cannot be seen", libc::SYS_clone3, "0, 0"),
            (
                "a process in a namespace",
                libc::SYS_clone,
                "0x10000011, 0, 0, 0, 0",
            ),
        ];
        for (what, call, arguments) in calls {
            // The child of a clone that works ends at once.
            let script = format!(
                "my $r = syscall({call}, {arguments}); exit 0 if $r == 0; \
                 print $! + 0 if $r < 0"
            );
            let perl = Jail::new().run("perl").args(["-e", &script]).text();
            let said = perl.await.unwrap();
            assert_eq!(said, libc::ENOSYS.to_string(), "{what}");
        }
        let outside = Tool::new("perl").args(["-e", "exit(syscall(135, 0xffffffff) < 0)"]);
        assert!(
            outside.output().await.is_ok(),
            "it is the jail that refuses"
        );
        // And what is allowed works: processes, pipes, files, times.
        let folder = tempfile::tempdir().unwrap();
        let work = hand_over(&folder.path().join("work")).unwrap();
        let script = "echo a | tr a b >f && cp --sparse=always f g && touch -d @0 g && mv g h \
                      && ln h i && ln -s h j && mkdir k && stat -c %Y j && sleep 0.01 && (cat h)";
        let said = shell(Jail::new().working_in(&work), script).await.unwrap();
        assert!(said.ends_with("b\n"), "{said}");
    }

    #[tokio::test]
    async fn host_in_jail_there_is_no_network() {
        if !can_be_built() {
            return;
        }
        // A listener of this host's, that anyone on it can reach.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let call = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
        let outside = Tool::new("bash").args(["-c", &call]).output().await;
        assert!(outside.is_ok(), "the listener answers outside");
        let inside = Jail::new().run("bash").args(["-c", &call]).output().await;
        assert!(inside.is_err(), "and not inside");
        let links = shell(Jail::new(), "cat /proc/net/dev").await.unwrap();
        assert_eq!(links.matches(':').count(), 1, "loopback alone: {links}");
    }

    #[tokio::test]
    async fn host_in_jail_only_the_given_folder_can_be_written() {
        if !can_be_built() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("given");
        std::fs::write(&given, "read me").unwrap();
        let work = hand_over(&folder.path().join("work")).unwrap();
        let jail = || Jail::new().reading(&given, "/given").working_in(&work);
        shell(jail(), "cat /given >copy").await.unwrap();
        assert_eq!(std::fs::read(work.join("copy")).unwrap(), b"read me");
        for attempt in [
            "echo x >/given",
            "echo x >/usr/bin/x",
            "mkdir /usr/local/x",
            "chmod 777 /given",
            "ln -s / out && echo x >out/etc/passwd",
            "unshare -Ur mount -t tmpfs none /work && cat /etc/shadow",
            "cat /etc/shadow",
            "ls /root",
            "ls /proc/1/root/etc",
        ] {
            let outcome = shell(jail(), attempt).await;
            assert!(outcome.is_err(), "{attempt}: {outcome:?}");
        }
        assert_eq!(std::fs::read(&given).unwrap(), b"read me");
    }

    #[tokio::test]
    async fn host_in_jail_nothing_outlives_its_time() {
        if !can_be_built() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let work = hand_over(&folder.path().join("work")).unwrap();
        let jail = Jail::new().working_in(&work);
        let begun = Instant::now();
        // It even leaves its session, as a daemon does.
        let script = "setsid sh -c 'while :; do echo alive >>alive; sleep 0.05; done' & sleep 600";
        let outcome = shell(jail.for_at_most(Duration::from_secs(1)), script).await;
        assert!(
            matches!(outcome, Err(Error::TimedOut { .. })),
            "{outcome:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
        let alive = || std::fs::metadata(work.join("alive")).unwrap().len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let last = alive();
        assert!(last > 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(alive(), last, "it still runs");
    }

    #[tokio::test]
    async fn host_in_jail_memory_and_processor_have_their_limits() {
        if !can_be_built() {
            return;
        }
        let small = Jail::new().in_memory_of(64 << 20);
        assert!(
            shell(small, "head -c 200000000 /dev/zero | tail -n 1")
                .await
                .is_err()
        );
        let begun = Instant::now();
        let busy = Jail::new().for_at_most(Duration::from_secs(2));
        assert!(shell(busy, "while :; do :; done").await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
