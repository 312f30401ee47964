//! Whether a host is fit for a daemon: looked at before it joins and after, and by `mallee doctor`.
//!
//! Each finding says what was looked at, what is the matter, why that matters and what to type. The
//! looking is thin; the judging takes what was read and is tested on it.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{sys::statvfs::statvfs, unistd::AccessFlags};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Below this a daemon's database and logs soon have no room.
const STATE_FREE_MIN: u64 = 2 << 30;
/// Below this a node's cache holds hardly an image.
const CACHE_FREE_MIN: u64 = 20 << 30;
/// Below this a pool holds hardly a volume.
const POOL_FREE_MIN: u64 = 10 << 30;
/// Clocks this far apart make a log of two hosts hard to read.
const CLOCK_OFF_WARNING_MS: u64 = 2_000;
/// Clients' signatures are refused when their time is so far from ours, and certificates soon.
const CLOCK_OFF_MAX_MS: u64 = 5 * 60 * 1000;
/// How long a peer may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A clock before this is not set: the project is younger.
const BUILT_AFTER_S: i64 = 1_780_000_000;
/// What a node's work is done with: the program, and the Debian package that has it.
const NODE_TOOLS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("nft", "nftables"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("grub-mkimage", "grub-common grub-pc-bin"),
    ("bwrap", "bubblewrap"),
    ("debugfs", "e2fsprogs"),
];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It will work, but less well than it could.
    Warning,
    /// It will not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `kvm`, `port 8775`, ...
    pub what: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen, and why it matters if it is not good.
    pub cause: String,
    /// What to do about it; empty if nothing.
    pub fix: String,
}

impl Finding {
    fn good(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Good,
            cause: seen.into(),
            fix: String::new(),
        }
    }

    fn warning(what: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Warning,
            cause: cause.into(),
            fix: fix.into(),
        }
    }

    fn bad(what: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Bad,
            cause: cause.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Good => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Bad => "BAD ",
        };
        write!(f, "{mark} {}: {}", self.what, self.cause)?;
        if self.fix.is_empty() {
            Ok(())
        } else {
            write!(f, "\n     fix: {}", self.fix)
        }
    }
}

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where durable state will be.
    pub state: PathBuf,
    /// Where the daemon will listen.
    pub listens: Vec<SocketAddr>,
    /// The CLC's control listener, once a token or a membership says where it is.
    pub clc: Option<SocketAddr>,
    /// Where a Storage Controller will have its pool.
    pub pool: Option<PathBuf>,
    /// What a node needs besides.
    pub node: Option<NodeWanted>,
}

/// What a node needs besides.
#[derive(Debug, Clone)]
pub struct NodeWanted {
    /// Where images are cached.
    pub cache: PathBuf,
    /// libvirt's socket, for a local URI.
    pub libvirt_socket: Option<PathBuf>,
    /// Whether the configuration insists on KVM.
    pub kvm_required: bool,
}

/// Looks at everything wanted. Changes nothing.
pub async fn host(wanted: &Wanted, now_ms: i64) -> Vec<Finding> {
    let mut found = vec![
        clock(now_ms),
        room("state", &wanted.state, STATE_FREE_MIN),
        writable("state", &wanted.state),
    ];
    for listen in &wanted.listens {
        found.push(port(*listen).await);
    }
    if let Some(clc) = wanted.clc {
        found.push(route(clc).await);
    }
    if let Some(pool) = &wanted.pool {
        found.push(room("pool", pool, POOL_FREE_MIN));
        found.push(writable("pool", pool));
    }
    if let Some(node) = &wanted.node {
        found.extend(node_findings(node).await);
    }
    found
}

/// The worst verdict of some findings.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or(Verdict::Good)
}

fn clock(now_ms: i64) -> Finding {
    if now_ms / 1000 > BUILT_AFTER_S {
        return Finding::good("clock", "set");
    }
    Finding::bad(
        "clock",
        "it is before this program was written: certificates would not be valid yet",
        "apt-get install chrony, and wait until `chronyc tracking` is satisfied",
    )
}

/// This host's clock beside the CLC's, which is so far ahead.
pub fn clock_beside(clc_ahead_ms: i64) -> Finding {
    let what = "clock beside the cloud controller's";
    let seconds = clc_ahead_ms.unsigned_abs() as f64 / 1000.0;
    let side = if clc_ahead_ms > 0 { "behind" } else { "ahead" };
    let seen = format!("{seconds:.1} s {side}");
    let fix =
        "apt-get install chrony on both hosts, and wait until `chronyc tracking` is satisfied";
    let off_ms = clc_ahead_ms.unsigned_abs();
    if off_ms <= CLOCK_OFF_WARNING_MS {
        Finding::good(what, seen)
    } else if off_ms <= CLOCK_OFF_MAX_MS {
        Finding::warning(what, format!("{seen}: records of the two do not fit"), fix)
    } else {
        let seen = format!("{seen}: signatures and certificates will be refused");
        Finding::bad(what, seen, fix)
    }
}

/// Whether whoever runs this may make the folder and files in it.
fn writable(what: &str, folder: &Path) -> Finding {
    let there = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let what = format!("folder for {what}");
    let fix = format!(
        "install -d -o USER -g USER {}, where USER is whom the daemon runs as (`User=` in its unit), or \
         name another folder in the configuration",
        folder.display()
    );
    if !there.is_dir() {
        return Finding::bad(what, format!("{} is no folder", there.display()), fix);
    }
    match nix::unistd::eaccess(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Finding::good(what, format!("{} can be written", there.display())),
        Err(error) => Finding::bad(
            what,
            format!("{} cannot be written: {error}", there.display()),
            fix,
        ),
    }
}

fn room(what: &str, folder: &Path, free_min: u64) -> Finding {
    let there = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    match statvfs(there) {
        Ok(disk) => judge_room(
            what,
            folder,
            disk.blocks_available() * disk.fragment_size(),
            free_min,
        ),
        Err(error) => Finding::bad(
            format!("disk for {what}"),
            format!("{}: {error}", there.display()),
            "mount a disk there, or name another folder in the configuration",
        ),
    }
}

fn judge_room(what: &str, folder: &Path, free: u64, free_min: u64) -> Finding {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let seen = format!("{:.1} GiB free at {}", gib(free), folder.display());
    if free >= free_min {
        return Finding::good(format!("disk for {what}"), seen);
    }
    Finding::warning(
        format!("disk for {what}"),
        format!("{seen}, less than {:.0} GiB", gib(free_min)),
        "make room there, or name a larger disk's folder in the configuration",
    )
}

async fn port(listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::good(format!("port {listen}"), "free"),
        Err(error) => Finding::bad(
            format!("port {listen}"),
            format!("cannot be listened on: {error}"),
            format!(
                "`ss -ltnp 'sport = :{}'` shows who has it; end that or change `listen`",
                listen.port()
            ),
        ),
    }
}

async fn route(clc: SocketAddr) -> Finding {
    let what = format!("route to the cloud controller {clc}");
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(clc)).await {
        Ok(Ok(_)) => Finding::good(what, "open"),
        Ok(Err(error)) => Finding::bad(
            what,
            format!("{error}"),
            format!(
                "start mallee-clc there, and let port {} through its firewall",
                clc.port()
            ),
        ),
        Err(_) => Finding::bad(
            what,
            "no answer within 2 s",
            format!(
                "`ip route get {}` shows the way that is taken; a firewall may drop port {}",
                clc.ip(),
                clc.port()
            ),
        ),
    }
}

async fn node_findings(node: &NodeWanted) -> Vec<Finding> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut found = vec![
        room("image cache", &node.cache, CACHE_FREE_MIN),
        judge_kvm(Path::new("/dev/kvm").exists(), &cpu, node.kvm_required),
        judge_cgroups(&fs::read_to_string("/proc/mounts").unwrap_or_default()),
        judge_bridge_filter(
            fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables")
                .ok()
                .as_deref(),
        ),
    ];
    found.extend(NODE_TOOLS.map(|(program, package)| tool(program, package)));
    if let Some(socket) = &node.libvirt_socket {
        found.push(libvirt(socket).await);
    }
    found
}

/// Whether guests can run on the processor itself: the device and the flag, for on some hosts
/// `/dev/kvm` is there and hangs a guest.
pub fn host_has_kvm() -> bool {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Path::new("/dev/kvm").exists() && has_cpu_flag(&cpuinfo)
}

/// Intel's or AMD's flag of virtualisation.
fn has_cpu_flag(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// KVM takes the device and a processor that says it can.
fn judge_kvm(device: bool, cpuinfo: &str, required: bool) -> Finding {
    let flag = has_cpu_flag(cpuinfo);
    if device && flag {
        return Finding::good("kvm", "/dev/kvm and the processor's flag are there");
    }
    let cause = if flag {
        "the processor can, but there is no /dev/kvm"
    } else {
        "the processor shows neither vmx nor svm"
    };
    let fix = if flag {
        "modprobe kvm_intel or kvm_amd"
    } else {
        "switch virtualisation on in the firmware, or nested virtualisation where this is a guest"
    };
    if required {
        return Finding::bad(
            "kvm",
            format!("{cause}, and the configuration insists"),
            fix,
        );
    }
    Finding::warning(
        "kvm",
        format!("{cause}: guests will be emulated, about ten times slower"),
        fix,
    )
}

fn judge_cgroups(mounts: &str) -> Finding {
    let kinds: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    if kinds.contains(&"cgroup2") || kinds.contains(&"cgroup") {
        return Finding::good("cgroups", "mounted");
    }
    Finding::warning(
        "cgroups",
        "none is mounted: libvirt cannot limit what a guest takes",
        "mount -t cgroup2 none /sys/fs/cgroup, or start the host with systemd",
    )
}

/// Group rules need bridged frames in the IP rules; which frames, each bridge says for itself.
fn judge_bridge_filter(value: Option<&str>) -> Finding {
    match value.map(str::trim) {
        Some("0") => Finding::good("bridge filter", "there, and off by default"),
        Some(_) => Finding::warning(
            "bridge filter",
            "net.bridge.bridge-nf-call-iptables is 1: it sends frames of bridges that are not ours through the host's firewall",
            "sysctl -w net.bridge.bridge-nf-call-iptables=0, and write that to /etc/sysctl.d/",
        ),
        None => Finding::bad(
            "bridge filter",
            "the kernel has no br_netfilter: security groups could not be enforced",
            "modprobe br_netfilter, and write that to /etc/modules-load.d/mallee.conf",
        ),
    }
}

fn tool(program: &str, package: &str) -> Finding {
    let folders = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists());
    match found {
        Some(path) => Finding::good(program, path.display().to_string()),
        None => Finding::bad(
            program,
            "is not installed",
            format!("apt-get install {package}"),
        ),
    }
}

async fn libvirt(socket: &Path) -> Finding {
    match UnixStream::connect(socket).await {
        Ok(_) => Finding::good("libvirt", format!("answers at {}", socket.display())),
        Err(error) => Finding::bad(
            "libvirt",
            format!("{}: {error}", socket.display()),
            "apt-get install libvirt-daemon-system, then systemctl enable --now libvirtd",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_flag_is_a_word_of_its_own() {
        assert!(has_cpu_flag("flags\t\t: fpu vmx sse"));
        assert!(has_cpu_flag("flags : svm"));
        assert!(!has_cpu_flag("flags : svm_lock\nmodel : vmx"));
    }

    #[test]
    fn kvm_needs_the_device_and_the_flag() {
        let with = "processor : 0\nflags\t\t: fpu vmx sse\n";
        let without = "flags\t\t: fpu vmxish sse\n";
        assert_eq!(judge_kvm(true, with, true).verdict, Verdict::Good);
        assert_eq!(judge_kvm(true, without, false).verdict, Verdict::Warning);
        assert_eq!(judge_kvm(true, without, true).verdict, Verdict::Bad);
        assert!(judge_kvm(false, with, false).fix.contains("modprobe"));
    }

    #[test]
    fn what_is_missing_comes_with_what_to_type() {
        assert_eq!(judge_bridge_filter(Some("0\n")).verdict, Verdict::Good);
        assert_eq!(judge_bridge_filter(Some("1\n")).verdict, Verdict::Warning);
        assert_eq!(judge_bridge_filter(None).verdict, Verdict::Bad);
        assert_eq!(
            judge_cgroups("none /sys/fs/cgroup cgroup2 rw 0 0").verdict,
            Verdict::Good
        );
        assert_eq!(
            judge_cgroups("tmpfs / tmpfs rw 0 0").verdict,
            Verdict::Warning
        );
        assert_eq!(
            tool("no-such-program", "nothing").fix,
            "apt-get install nothing"
        );
        assert_eq!(clock(0).verdict, Verdict::Bad);
        for finding in [
            judge_bridge_filter(None),
            clock(0),
            tool("no-such-program", "nothing"),
        ] {
            assert!(!finding.fix.is_empty() && finding.to_string().contains("fix: "));
        }
    }

    #[test]
    fn little_room_is_a_warning_that_names_the_folder() {
        let finding = judge_room(
            "state",
            Path::new("/var/lib/mallee"),
            1 << 30,
            STATE_FREE_MIN,
        );
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.cause.contains("/var/lib/mallee") && finding.cause.contains("1.0 GiB"));
        assert_eq!(
            room("state", Path::new("/no/such/folder/yet"), 0).verdict,
            Verdict::Good
        );
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_from_the_clouds() {
        for (ahead_ms, verdict, said) in [
            (0, Verdict::Good, "0.0 s"),
            (-1_999, Verdict::Good, "2.0 s ahead"),
            (2_500, Verdict::Warning, "2.5 s behind"),
            (-600_000, Verdict::Bad, "600.0 s ahead"),
            (i64::MIN, Verdict::Bad, "ahead"),
        ] {
            let finding = clock_beside(ahead_ms);
            assert_eq!(finding.verdict, verdict, "{ahead_ms}");
            assert!(finding.cause.contains(said), "{finding}");
            assert_eq!(finding.fix.is_empty(), verdict == Verdict::Good);
        }
    }

    #[tokio::test]
    async fn a_pool_that_cannot_be_is_found_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pool) = (dir.path().join("file"), dir.path().join("srv/pool"));
        fs::write(&file, "").unwrap();
        for (pool, is_bad) in [(&pool, false), (&file, true), (&file.join("pool"), true)] {
            let wanted = Wanted {
                state: dir.path().to_owned(),
                pool: Some(pool.clone()),
                ..Wanted::default()
            };
            let found = host(&wanted, i64::MAX).await;
            let found = found.iter().find(|one| one.what == "folder for pool");
            let found = found.expect("it was looked at");
            assert_eq!(found.verdict == Verdict::Bad, is_bad, "{found}");
            assert_eq!(found.fix.contains(&pool.display().to_string()), is_bad);
        }
        assert!(!pool.exists(), "it was looked at, not made");
    }

    #[tokio::test]
    async fn a_port_in_use_and_a_peer_that_is_not_there_are_found() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port(address).await.verdict, Verdict::Bad);
        assert_eq!(route(address).await.verdict, Verdict::Good);
        drop(taken);
        assert_eq!(port(address).await.verdict, Verdict::Good);
        assert_eq!(route(address).await.verdict, Verdict::Bad);
        let nowhere = libvirt(Path::new("/no/such/socket")).await;
        assert_eq!(nowhere.verdict, Verdict::Bad);
    }

    #[tokio::test]
    async fn all_findings_of_a_host_come_in_one_list() {
        let node = NodeWanted {
            cache: "/".into(),
            libvirt_socket: None,
            kvm_required: false,
        };
        let wanted = Wanted {
            state: "/".into(),
            node: Some(node),
            ..Wanted::default()
        };
        let found = host(&wanted, i64::MAX).await;
        assert!(found.len() >= 10);
        assert!(worst(&found) >= Verdict::Good);
    }
}
