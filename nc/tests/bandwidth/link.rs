//! Two hosts with one link between them, as network namespaces; what passes on the link is counted by
//! the kernel.

use std::{
    fs::File,
    future::Future,
    net::Ipv4Addr,
    process::{Command, Output},
};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

/// What images are fetched and served over, at each end.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const REST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// What a guest of the node talks with, on the same link.
pub(crate) const GUESTS_PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);

/// The most that waits in a receiver's socket, so that what passes on the link is what was read of it
/// and little more.
const SOCKET_BYTES_MAX: u32 = 256 << 10;

const COUNTERS: &str = "
table ip images {
    counter incoming { }
    counter outgoing { }
    chain input { type filter hook input priority 0; ip saddr 10.99.0.2 counter name incoming; }
    chain output { type filter hook output priority 0; ip daddr 10.99.0.2 counter name outgoing; }
}";

/// A host: what is opened in its runtime is on its network. Gone when dropped.
pub(crate) struct Host {
    name: String,
    runtime: Runtime,
}

/// The link, with the hosts at its ends.
pub(crate) struct Link {
    /// The node that is looked at.
    pub(crate) node: Host,
    /// All others: the store, other nodes, whom guests talk to.
    pub(crate) rest: Host,
}

impl Link {
    pub(crate) fn new() -> Self {
        let name = |end| format!("mltbw{}-{end}", std::process::id());
        let (node, rest) = (Host::new(name("node")), Host::new(name("rest")));
        let ends = (&node.name, &rest.name);
        ip(&format!(
            "-n {} link add eth0 type veth peer name eth0 netns {}",
            ends.0, ends.1
        ));
        for (host, last) in [(&node, 1), (&rest, 2)] {
            for network in ["10.99.0", "10.99.1"] {
                host.ip(&format!("addr add {network}.{last}/24 dev eth0"));
            }
            host.ip("link set eth0 up");
            host.bound_sockets();
        }
        let counted = node.within(&["nft", COUNTERS]);
        let said = String::from_utf8_lossy(&counted.stderr).into_owned();
        assert!(counted.status.success(), "{said}");
        Self { node, rest }
    }

    /// Bytes of images that came to the node so far, and that left it, with all that is around them.
    pub(crate) fn passed(&self) -> (u64, u64) {
        let words = ["nft", "-j", "list", "counters", "table", "ip", "images"];
        let listed: serde_json::Value =
            serde_json::from_slice(&self.node.within(&words).stdout).unwrap();
        let all = listed["nftables"].as_array().unwrap();
        let bytes = |name: &str| {
            let mut counters = all.iter().map(|object| &object["counter"]);
            counters.find(|counter| counter["name"] == name).unwrap()["bytes"]
                .as_u64()
                .unwrap()
        };
        (bytes("incoming"), bytes("outgoing"))
    }
}

impl Host {
    fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        let path = net::namespace::path(&name);
        let enter = move || setns(File::open(&path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).on_thread_start(enter);
        Self {
            name,
            runtime: runtime.enable_all().build().unwrap(),
        }
    }

    /// Begins something on this host.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// What came of something on this host.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.end(self.spawn(work))
    }

    pub(crate) fn end<T>(&self, begun: tokio::task::JoinHandle<T>) -> T {
        self.runtime.block_on(begun).unwrap()
    }

    fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name));
    }

    fn within(&self, words: &[&str]) -> Output {
        let mut all = Command::new("nsenter");
        all.arg(format!("--net=/run/netns/{}", self.name));
        all.args(words).output().unwrap()
    }

    fn bound_sockets(&self) {
        let limit = format!("4096 131072 {SOCKET_BYTES_MAX}");
        let setting = "/proc/sys/net/ipv4/tcp_rmem";
        let set = self
            .runtime
            .spawn_blocking(move || std::fs::write(setting, limit));
        self.end(set).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {words}: {said}");
}
