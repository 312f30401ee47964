//! A libvirtd of our own, in network, mount and UTS namespaces of its own, and gone at the end with
//! all its guests.
#![allow(clippy::disallowed_methods)] // a test bench starts its own processes

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nc::domain::{Accel, CacheMode, Host};
use nix::{
    sys::signal::{Signal, kill as signal},
    unistd::{Pid, geteuid},
};
use types::InstanceId;

/// libvirt's compiled-in paths, and the folders of ours that are put in their place.
const BINDS: [(&str, &str); 5] = [
    ("run", "/run/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("log", "/var/log/libvirt"),
    ("etc", "/etc/libvirt"),
    ("cache", "/var/cache/libvirt"),
];
const QEMU_CONF: &str = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\nuser = \"root\"\n\
    group = \"root\"\ndynamic_ownership = 0\nremember_owner = 0\ncgroup_controllers = []\n\
    namespaces = []\n";
const UP_LIMIT: Duration = Duration::from_secs(20);

/// The bench.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    /// Sleeps, and keeps the namespaces by living.
    holder: Child,
    libvirtd: Child,
}

impl Lab {
    /// A fresh libvirtd; none, and a loud word, where there cannot be one.
    pub(crate) fn start() -> Option<Self> {
        let lacks = if !geteuid().is_root() {
            Some("root")
        } else {
            ["/usr/sbin/libvirtd", "/usr/bin/qemu-system-x86_64"]
                .into_iter()
                .find(|program| !Path::new(program).exists())
        };
        if let Some(lacks) = lacks {
            eprintln!("SKIPPED: this test of the real libvirt needs {lacks}");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("nc-libvirt")
            .tempdir()
            .unwrap();
        for (ours, theirs) in BINDS {
            fs::create_dir_all(dir.path().join(ours)).unwrap();
            fs::create_dir_all(theirs).unwrap();
        }
        fs::write(dir.path().join("etc/qemu.conf"), QEMU_CONF).unwrap();
        let conf = format!(
            "host_uuid = \"{}\"\nauth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n\
             log_outputs = \"2:file:{}/libvirtd.log\"\n",
            host_uuid(),
            dir.path().display()
        );
        fs::write(dir.path().join("etc/libvirtd.conf"), conf).unwrap();
        copy(&seed(), &dir.path().join("cache/qemu/capabilities"));
        let holder = hold_namespaces(dir.path());
        let libvirtd = run_libvirtd(holder.id(), dir.path());
        let lab = Self {
            dir,
            holder,
            libvirtd,
        };
        lab.wait_up();
        Some(lab)
    }

    /// Where everything of the bench is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How to reach the libvirtd.
    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// Domains as this machine can run them.
    pub(crate) fn host(&self) -> Host {
        Host {
            node: nc::fakes::node_id(),
            accel: Accel::Tcg,
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            // The folder may be on a filesystem without O_DIRECT.
            cache: CacheMode::Writeback,
            vnc: false,
        }
    }

    /// The pid of the QEMU process of a running instance.
    pub(crate) fn qemu_pid(&self, instance: &InstanceId) -> Option<i32> {
        let file = self.dir().join(format!("run/qemu/{instance}.pid"));
        let pid: i32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// Mounts a file system of so many KiB in the bench, or gives the one that is there that size.
    pub(crate) fn tmpfs(&self, at: &Path, kib: u64) {
        fs::create_dir_all(at).unwrap();
        let is_there = fs::read_to_string(format!("/proc/{}/mounts", self.holder.id()))
            .unwrap()
            .contains(&at.display().to_string());
        let options = format!("{}size={kib}k", if is_there { "remount," } else { "" });
        let mounted = Command::new("nsenter")
            .args(["-m", "-t", &self.holder.id().to_string()])
            .args(["mount", "-t", "tmpfs", "-o", &options, "none"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
    }

    /// A path of the bench, as this process reaches it.
    pub(crate) fn seen_from_here(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    /// Does something by hand.
    pub(crate) fn virsh(&self, words: &[&str]) {
        let done = Command::new("virsh")
            .arg("-c")
            .arg(self.uri())
            .args(words)
            .output();
        let done = done.unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// What `ip link` shows in the bench's network.
    pub(crate) fn links(&self) -> String {
        let pid = self.holder.id().to_string();
        let shown = Command::new("nsenter")
            .args(["-n", "-t", &pid, "ip", "link"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    /// kill -9, and a new one in the same place. Guests stay.
    pub(crate) fn restart_libvirtd(&mut self) {
        self.libvirtd.kill().unwrap();
        self.libvirtd.wait().unwrap();
        self.libvirtd = run_libvirtd(self.holder.id(), self.dir.path());
        self.wait_up();
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("run/libvirt-sock")
    }

    fn wait_up(&self) {
        let until = Instant::now() + UP_LIMIT;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            let log = self.dir().join("libvirtd.log");
            assert!(
                Instant::now() < until,
                "no libvirtd: {:?}",
                fs::read_to_string(log)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir().join("run/qemu"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let instance = name.strip_suffix(".pid").and_then(|name| name.parse().ok());
            if let Some(pid) = instance.and_then(|instance| self.qemu_pid(&instance)) {
                kill(pid);
            }
        }
        copy(&self.dir().join("cache/qemu/capabilities"), &seed());
        for process in [&mut self.libvirtd, &mut self.holder] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Ends a process that we started.
pub(crate) fn kill(pid: i32) {
    signal(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Makes the namespaces, and in them the bridge that fake wishes name.
fn hold_namespaces(dir: &Path) -> Child {
    let binds: String = BINDS
        .iter()
        .map(|(ours, theirs)| format!("mount --bind \"$1/{ours}\" {theirs}\n"))
        .collect();
    let script = format!(
        "set -e\nmount --make-rprivate /\n{binds}\
         mkdir -p /run/lock\nmount -t tmpfs none /run/lock\nhostname nc-lab\n\
         ip link set lo up\nip link add mb1 type bridge\nip link set mb1 up\n\
         echo ready\nexec sleep infinity"
    );
    let mut holder = Command::new("unshare")
        .args(["-n", "-m", "-u", "bash", "-c", &script, "holder"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    holder
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    holder
}

fn run_libvirtd(holder: u32, dir: &Path) -> Child {
    Command::new("nsenter")
        .args(["-n", "-m", "-u", "-t", &holder.to_string()])
        .args(["libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p"])
        .arg(dir.join("run/libvirtd.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What libvirt found out about QEMU: five seconds the first time, kept for the next test.
fn seed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("libvirt-capabilities")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let _ = fs::copy(entry.path(), to.join(entry.file_name()));
    }
}

fn host_uuid() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    id.trim().to_owned()
}
