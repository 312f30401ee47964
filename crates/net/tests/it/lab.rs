//! A laboratory of network namespaces: a fabric with a bridge, nodes on it, guests behind taps.
//!
//! A veth stands for a tap. The names of one laboratory begin with its own tag, and dropping it
//! removes all of it, a failed test's as well.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use net::{
    Applied, Applier, Desired, LinuxApplier, NodeNetwork, namespace,
    run::{self, Run},
};
use nix::sched::{CloneFlags, setns};
use tokio::io::AsyncWriteExt;
use types::network::{Interface, NetworkDocument, Subnet, Vpc};

use crate::{
    documents::{self, address},
    frames::Wire,
};

/// How long an answer may take before it counts as none. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);
const TOOLS: [&str; 6] = ["ip", "bridge", "nft", "dnsmasq", "nsenter", "busybox"];

/// Says loudly when the host cannot run these tests.
pub(crate) fn may_run(test: &str) -> bool {
    let missing = TOOLS.into_iter().find(|tool| !which(tool));
    let why = match missing {
        _ if !nix::unistd::geteuid().is_root() => "it needs root".to_owned(),
        Some(tool) => format!("{tool} is not installed"),
        None => return true,
    };
    eprintln!("SKIPPED {test}: {why}");
    false
}

fn which(tool: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(tool).is_file())
}

fn must(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace that is removed when dropped.
pub(crate) struct Space(pub(crate) String);

impl Space {
    /// A namespace whose name no other test has.
    pub(crate) fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("mlt{}x{n}-{what}", std::process::id()))
    }

    pub(crate) fn named(name: String) -> Self {
        must(&["ip", "netns", "add", &name]);
        must(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, words: &str) -> String {
        let all: Vec<&str> = ["ip", "-n", &self.0]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        must(&all)
    }

    /// Runs a program inside; gives whether it ended well, and what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.0))
            .args(words)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// Loads a ruleset inside.
    pub(crate) fn nft(&self, text: &str) -> Result<(), String> {
        let mut child = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{}", self.0), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(stderr)
    }

    /// Does something on a thread that is inside.
    pub(crate) fn within<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(namespace::path(&self.0)).unwrap();
        let thread = thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    /// Answers every TCP connection to the port with the caller's address, until the test ends.
    pub(crate) fn listen(&self, port: u16) {
        let listener = self.within(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string());
                let _ = (&stream).write_all(peer.unwrap_or_default().as_bytes());
            }
        });
    }

    /// Calls a TCP port; gives the address under which the other side saw us.
    pub(crate) fn call(&self, to: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
        self.within(move || {
            let to = SocketAddr::V4(SocketAddrV4::new(to, port));
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.parse().ok()
        })
    }

    pub(crate) fn pings(&self, to: Ipv4Addr) -> bool {
        self.run(&["busybox", "ping", "-c", "1", "-W", "1", &to.to_string()])
            .0
    }

    /// A bridge takes up to a second to put a new port into service.
    fn wait_until_forwarding(&self, port: &str) {
        for _ in 0..100 {
            if self
                .ip(&format!("-d link show dev {port}"))
                .contains("state forwarding")
            {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("port {port} is not in service");
    }

    pub(crate) fn wire(&self, device: &'static str) -> Wire {
        self.within(move || Wire::open(device).unwrap())
    }

    /// A UDP socket of this namespace.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let socket = self.within(move || UdpSocket::bind(("0.0.0.0", port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// The fabric: the underlay 10.99.0.0/24 and the public network 10.98.0.0/24 on one bridge. Its
/// namespace is also the machine from which users call (10.98.0.1), and the cloud's own (10.99.0.1).
pub(crate) struct Lab {
    pub(crate) fabric: Space,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let fabric = Space::new("fabric");
        fabric.ip("link add name fab type bridge forward_delay 0");
        fabric.ip("addr add 10.99.0.1/24 dev fab");
        fabric.ip("addr add 10.98.0.1/24 dev fab");
        fabric.ip("link set fab up");
        Self { fabric }
    }

    /// Adds node `n`: eth0 on the underlay, and a bridge `pub` with a port of its own on the fabric.
    pub(crate) fn node(&self, n: u32) -> Node {
        let space = Space::new(&format!("n{n}"));
        space.ip("link add name pub type bridge forward_delay 0");
        for (device, port) in [("eth0", format!("u{n}")), ("pub0", format!("p{n}"))] {
            let fabric = &self.fabric.0;
            space.ip(&format!(
                "link add name {device} type veth peer name {port} netns {fabric}"
            ));
            self.fabric.ip(&format!("link set {port} master fab"));
            self.fabric.ip(&format!("link set {port} up"));
        }
        space.ip("link set pub0 master pub");
        space.ip(&format!("addr add 10.99.0.{}/24 dev eth0", 10 + n));
        for device in ["eth0", "pub0", "pub"] {
            space.ip(&format!("link set {device} up"));
        }
        space.wait_until_forwarding("pub0");
        self.fabric.wait_until_forwarding(&format!("p{n}"));
        self.fabric.wait_until_forwarding(&format!("u{n}"));
        let dir = std::env::temp_dir().join(format!("{}-run", space.0));
        let settings = NodeNetwork {
            namespace_prefix: space.0.clone(),
            run_dir: dir.clone(),
            ..documents::settings(n)
        };
        Node {
            space,
            settings,
            dir,
        }
    }
}

/// A node: applies documents, has guests.
pub(crate) struct Node {
    pub(crate) space: Space,
    pub(crate) settings: NodeNetwork,
    dir: PathBuf,
}

impl Node {
    /// Applies what the document says for this node.
    pub(crate) fn apply(&self, document: &NetworkDocument) -> Applied {
        self.apply_desired(net::compile(document, &self.settings))
    }

    pub(crate) fn apply_desired(&self, desired: Desired) -> Applied {
        let applier = LinuxApplier::new(self.settings.clone(), Arc::new(Tools));
        self.space.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(applier.apply(&desired))
        })
    }

    /// Applies, and insists that all of it worked.
    pub(crate) fn must_apply(&self, document: &NetworkDocument) -> Applied {
        let applied = self.apply(document);
        assert_eq!(applied.failures, []);
        applied
    }

    /// A guest behind its tap, with the address that the document gives it.
    pub(crate) fn guest(&self, vpc: &Vpc, interface: &Interface) -> Space {
        let guest = self.bare_guest(vpc, interface);
        let subnet = subnet_of(vpc, interface);
        let (own, prefix) = (interface.private_address, subnet.cidr.prefix_len());
        guest.ip(&format!("addr add {own}/{prefix} dev eth0"));
        guest.ip(&format!("route add default via {}", subnet.gateway));
        guest
    }

    /// A guest behind its tap, without an address.
    pub(crate) fn bare_guest(&self, vpc: &Vpc, interface: &Interface) -> Space {
        let guest = Space::new(&format!("g{:x}", interface.short.0));
        let (tap, mac) = (interface.tap(), interface.mac);
        self.space.ip(&format!(
            "link add name {tap} type veth peer name eth0 address {mac} mtu 1450 netns {}",
            guest.0
        ));
        self.space.ip(&format!(
            "link set {tap} master {} up",
            subnet_of(vpc, interface).bridge()
        ));
        guest.ip("link set eth0 up");
        guest
    }

    /// The namespace of a VPC on this node.
    pub(crate) fn inside(&self, vpc: &Vpc) -> String {
        net::names::namespace(&self.settings.namespace_prefix, vpc.short)
    }

    /// What is left of ours on this node.
    pub(crate) fn remains(&self) -> Vec<String> {
        let links = self.space.ip("-br link show group 19565");
        let tables = self.space.run(&["nft", "list", "tables"]).1;
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let files = files.map(|entry| entry.path().display().to_string());
        let texts = links.lines().chain(tables.lines()).map(str::to_owned);
        texts
            .chain(namespace::list(&self.settings.namespace_prefix))
            .chain(files)
            .collect()
    }
}

impl Drop for Node {
    /// Everything goes the way that it would on a node that leaves; and by force where that fails.
    fn drop(&mut self) {
        if !thread::panicking() {
            self.apply_desired(Desired::default());
        }
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let pid = std::fs::read_to_string(entry.path().join("dnsmasq.pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for name in namespace::list(&self.settings.namespace_prefix) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn subnet_of<'a>(vpc: &'a Vpc, interface: &Interface) -> &'a Subnet {
    vpc.subnets
        .iter()
        .find(|subnet| subnet.id == interface.subnet)
        .unwrap()
}

/// The machine from which users call.
pub(crate) fn user() -> Ipv4Addr {
    address("10.98.0.1")
}

/// The host's own tools.
pub(crate) struct Tools;

#[async_trait]
impl Run for Tools {
    async fn run(&self, command: run::Command) -> io::Result<run::Output> {
        let mut child = tokio::process::Command::new(&command.words[0])
            .args(&command.words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().unwrap();
        let text = command.stdin.into_bytes();
        let write = async move {
            let _ = stdin.write_all(&text).await;
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output?;
        Ok(run::Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
