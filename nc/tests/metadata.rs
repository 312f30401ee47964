//! A node's network and its metadata service, with the host's own tools, in real namespaces: a guest
//! asks, and the node knows who it is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a laboratory, made by hand

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use control::node::InstanceWish;
use daemon::Context;
use nc::{
    fakes, metadata,
    needs::Networks,
    network::Network,
    residents::Residents,
    signs::{Sign, Signs},
};
use net::NodeNetwork;
use nix::sched::{CloneFlags, setns};
use types::{
    InstanceId,
    instance::ShortId,
    network::{Interface, NetworkDocument, Protocol, Rule, RulePeer, SecurityGroup, Subnet, Vpc},
};

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const GUEST: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 10);
const PATIENCE: Duration = Duration::from_secs(5);
const TOOLS: [&str; 6] = ["ip", "bridge", "nft", "dnsmasq", "nsenter", "busybox"];

fn can_run() -> bool {
    let there = |tool: &&str| {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| folder.join(tool).is_file())
    };
    let why = if !nix::unistd::geteuid().is_root() {
        "it needs root".to_owned()
    } else if let Some(tool) = TOOLS.iter().find(|tool| !there(tool)) {
        format!("{tool} is not installed")
    } else {
        return true;
    };
    eprintln!("SKIPPED the metadata service in namespaces: {why}");
    false
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A namespace, and all whose names begin with its own; removed when dropped.
struct Space(String);

impl Space {
    fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self(name)
    }

    fn within<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(net::namespace::path(&self.0)).unwrap();
        let enter = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        thread::spawn(enter).join().unwrap()
    }

    /// One request on a connection of its own: the head of the answer, and its body.
    fn ask(&self, request: &str) -> io::Result<(String, String)> {
        let request = format!("{request}\r\nHost: metadata\r\nConnection: close\r\n\r\n");
        self.within(move || {
            let to = SocketAddrV4::new(METADATA, 80).into();
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.write_all(request.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            Ok((head.to_owned(), body.to_owned()))
        })
    }

    /// Takes a lease as a guest does.
    fn lease(&self) {
        let words = [
            "netns", "exec", &self.0, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f",
        ];
        let more = ["-t", "5", "-T", "1", "-s", "/bin/true"];
        let output = Command::new("ip").args(words).args(more).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ip(&format!("-n {} addr add {GUEST}/20 dev eth0", self.0));
        ip(&format!("-n {} route add default via 172.31.0.1", self.0));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let listing = std::fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten();
        for name in listing.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(&self.0) {
                let _ = Command::new("ip").args(["netns", "del", &name]).output();
            }
        }
    }
}

/// The folder of each VPC's dnsmasq; what a failed test left running is ended when dropped.
struct RunDir(PathBuf);

impl Drop for RunDir {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path().join("dnsmasq.pid"));
            if let Ok(pid) = text.unwrap_or_default().trim().parse() {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Guest `n` of the fakes, alone in VPC `n`: all VPCs have the same addresses.
fn tenant(n: u32) -> (Vpc, InstanceWish) {
    let mut wish = fakes::wish(n);
    let interface = &mut wish.spec.interface;
    interface.vpc = format!("vpc-{n:08x}").parse().unwrap();
    interface.subnet = format!("subnet-{n:08x}").parse().unwrap();
    interface.vpc_short = ShortId(n);
    interface.subnet_short = ShortId(n);
    interface.private_address = GUEST;
    (vpc_of(&wish), wish)
}

fn vpc_of(wish: &InstanceWish) -> Vpc {
    let interface = &wish.spec.interface;
    let group = open_group(interface.vpc_short);
    Vpc {
        id: interface.vpc.clone(),
        short: interface.vpc_short,
        owner: wish.spec.account.clone(),
        cidr: "172.31.0.0/16".parse().unwrap(),
        dns: Ipv4Addr::new(172, 31, 0, 2),
        domain: "internal".to_owned(),
        subnets: vec![Subnet {
            id: interface.subnet.clone(),
            short: interface.subnet_short,
            cidr: "172.31.0.0/20".parse().unwrap(),
            gateway: Ipv4Addr::new(172, 31, 0, 1),
            vni: interface.subnet_short.0,
            internet: false,
        }],
        interfaces: vec![Interface {
            id: interface.id.clone(),
            short: interface.short,
            instance: wish.instance.clone(),
            node: wish.node.clone(),
            subnet: interface.subnet.clone(),
            mac: interface.mac,
            private_address: interface.private_address,
            public_address: None,
            groups: vec![group.id.clone()],
            hostname: "ip-172-31-0-10".to_owned(),
        }],
        groups: vec![group],
    }
}

fn open_group(short: ShortId) -> SecurityGroup {
    let everywhere = RulePeer::Cidr("0.0.0.0/0".parse().unwrap());
    SecurityGroup {
        id: format!("sg-{:08x}", short.0).parse().unwrap(),
        short,
        ingress: Vec::new(),
        egress: vec![Rule {
            protocol: Protocol::All,
            peer: everywhere,
        }],
        members: Vec::new(),
    }
}

/// A guest behind its tap; a veth stands for it.
fn plug(node: &Space, vpc: &Vpc) -> Arc<Space> {
    let interface = &vpc.interfaces[0];
    let guest = Space::new(format!("{}g{}", node.0, vpc.short.0));
    let (tap, mac, bridge) = (interface.tap(), interface.mac, vpc.subnets[0].bridge());
    let peer = format!("peer name eth0 address {mac} mtu 1450 netns {}", guest.0);
    ip(&format!(
        "-n {} link add name {tap} type veth {peer}",
        node.0
    ));
    ip(&format!("-n {} link set {tap} master {bridge} up", node.0));
    ip(&format!("-n {} link set eth0 up", guest.0));
    Arc::new(guest)
}

/// One life of the node's daemon, as far as its network goes.
struct Life {
    context: Context,
    network: Arc<Network>,
    signs: tokio::sync::mpsc::Receiver<(InstanceId, Sign)>,
}

fn begin(state: &Path, settings: &NodeNetwork, residents: &Residents) -> Life {
    let context = Context::new("nc", "0", state);
    let network = Network::open(state, settings.clone()).unwrap();
    let (tell, signs) = Signs::new();
    network.start(&context, residents.clone(), tell.clone());
    metadata::start(&context, &network, residents.clone(), tell).unwrap();
    Life {
        context,
        network,
        signs,
    }
}

impl Life {
    async fn reaches(&self, version: u64) {
        let mut applied = self.network.applied();
        let wait = applied.wait_for(|now| now.version == version);
        tokio::time::timeout(4 * PATIENCE, wait)
            .await
            .unwrap()
            .unwrap();
    }
}

/// Asks from another thread, so that the node can answer; again until somebody listens.
async fn ask(guest: &Arc<Space>, request: &str) -> (String, String) {
    for _ in 0..100 {
        let (guest, request) = (guest.clone(), request.to_owned());
        let asked = tokio::task::spawn_blocking(move || guest.ask(&request))
            .await
            .unwrap();
        if let Ok(answer) = asked {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody answers");
}

async fn story(node: Arc<Space>, state: PathBuf) {
    let run_dir = RunDir(std::env::temp_dir().join(format!("{}-run", node.0)));
    let settings = NodeNetwork {
        node: fakes::node_id(),
        underlay: Ipv4Addr::LOCALHOST,
        namespace_prefix: node.0.clone(),
        public_bridge: None,
        forwarders: Vec::new(),
        connections_max: net::config::CONNECTIONS_MAX,
        run_dir: run_dir.0.clone(),
    };
    let residents = Residents::default();
    let (vpcs, wishes): (Vec<Vpc>, Vec<InstanceWish>) = [tenant(1), tenant(2)].into_iter().unzip();
    for wish in wishes {
        residents.put(Arc::new(wish));
    }
    let mut life = begin(&state, &settings, &residents);
    let document = NetworkDocument {
        version: 1,
        vpcs: vpcs.clone(),
        ..Default::default()
    };
    life.network.offer(document).await.unwrap();
    life.reaches(1).await;

    let guests: Vec<Arc<Space>> = vpcs.iter().map(|vpc| plug(&node, vpc)).collect();
    for guest in &guests {
        let guest = guest.clone();
        tokio::task::spawn_blocking(move || guest.lease())
            .await
            .unwrap();
    }
    let told = tokio::time::timeout(PATIENCE, life.signs.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told.1, Sign::Dhcp);

    // One address, two tenants: each is told of itself.
    let id = "GET /latest/meta-data/instance-id HTTP/1.1";
    assert_eq!(ask(&guests[0], id).await.1, "i-00000001");
    assert_eq!(ask(&guests[1], id).await.1, "i-00000002");
    let forged = format!("{id}\r\nX-Forwarded-For: 172.31.0.99");
    assert_eq!(
        ask(&guests[0], &forged).await.1,
        "i-00000001",
        "no header says who asks"
    );

    let put = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60";
    let (head, token) = ask(&guests[0], put).await;
    assert!(
        head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60"),
        "{head}"
    );
    let with = format!("{id}\r\nX-aws-ec2-metadata-token: {token}");
    assert_eq!(ask(&guests[0], &with).await.1, "i-00000001");
    assert!(
        ask(&guests[1], &with).await.0.starts_with("HTTP/1.1 401"),
        "another's token"
    );

    // The next life of the daemon serves what the last one did, the same tokens included.
    life.context.drain(PATIENCE).await.unwrap();
    let next = begin(&state, &settings, &residents);
    next.reaches(1).await;
    assert_eq!(ask(&guests[0], &with).await.1, "i-00000001");

    next.network
        .offer(NetworkDocument {
            version: 2,
            ..Default::default()
        })
        .await
        .unwrap();
    next.reaches(2).await;
    assert_eq!(net::namespace::list(&node.0), Vec::<String>::new());
    next.context.drain(PATIENCE).await.unwrap();
}

#[test]
fn a_guest_is_told_of_itself_and_of_nobody_else_across_a_restart() {
    if !can_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let node = Arc::new(Space::new(format!("mlm{}", std::process::id())));
    let (inside, path) = (node.clone(), state.path().to_owned());
    node.within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(story(inside, path));
    });
}
