//! The servers: Walrus as an administrator starts it, nginx with its DAV module, Garage with its
//! fsync options on, Ceph's radosgw over an OSD in memory. Each is ended when it is dropped.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use sigv4::sign;

use crate::{
    daemon_process::{ALICE, Walrus, now_ms},
    load::{self, Case, Connection, Figures, Request},
};

const BUCKET: &str = "bench";
const GARAGE_ID: &str = "GK0123456789abcdef01234567";
const GARAGE_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// What `radosgw.sh` makes.
const RADOSGW_KEY: (&str, &str, &str) = ("WALRUSKEY", "walrus-secret", "us-east-1");
/// Bodies that radosgw is spared: what it overwrites stays for hours, and its disk is memory.
const RADOSGW_BODY_MAX: usize = 1 << 20;

/// A server under load.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Access key, secret, region; nginx wants none.
    key: Option<(&'static str, &'static str, &'static str)>,
    server: Server,
}

enum Server {
    Walrus(Box<Walrus>),
    Process(Child),
    /// Daemons that a script started; the first takes the requests.
    Daemons(Vec<u32>),
}

impl Drop for Server {
    fn drop(&mut self) {
        let end = |pid: u32, signal| {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal);
        };
        match self {
            Self::Walrus(_) => {}
            Self::Process(child) => {
                end(child.id(), nix::sys::signal::Signal::SIGTERM);
                let _ = child.wait();
            }
            // Nothing of theirs is kept, and each would wait for the others.
            Self::Daemons(pids) => {
                for pid in pids {
                    end(*pid, nix::sys::signal::Signal::SIGKILL);
                }
            }
        }
    }
}

/// A request's head; signed by version 4 over a body that is not.
pub(crate) fn signed(
    method: &str,
    target: &str,
    host: SocketAddr,
    id: &str,
    secret: &str,
    region: &str,
    length: usize,
) -> Vec<u8> {
    let (mut head, ()) = http::Request::builder()
        .method(method)
        .uri(target)
        .header("host", host.to_string())
        .header("content-length", length)
        .body(())
        .unwrap()
        .into_parts();
    let key = sign::Key {
        access_key: id,
        secret,
        session_token: None,
    };
    let scope = sign::Target {
        region,
        service: "s3",
    };
    sign::v4_header(&mut head, key, scope, "UNSIGNED-PAYLOAD", now_ms()).unwrap();
    plain(
        method,
        target,
        head.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap())),
    )
}

fn plain<'a>(
    method: &str,
    target: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn wait_for(address: SocketAddr) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Peer {
    pub(crate) fn walrus(runtime: &tokio::runtime::Runtime, folder: &Path) -> Self {
        let peer = Self::walrus_with(runtime, folder, |_| {});
        peer.call_once("PUT", &format!("/{BUCKET}"), Vec::new());
        peer
    }

    /// `prepare` gets the state folder before the daemon does.
    pub(crate) fn walrus_with(
        runtime: &tokio::runtime::Runtime,
        folder: &Path,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let mut walrus = runtime.block_on(Walrus::prepare_in(folder, &[]));
        prepare(&walrus.state());
        runtime.block_on(walrus.run());
        Self {
            name: "walrus",
            address: walrus.s3,
            key: Some((ALICE.id, ALICE.secret, "mallee-1")),
            server: Server::Walrus(Box::new(walrus)),
        }
    }

    /// nginx as the loopback's limit: sendfile out, DAV in, no signature, no hash, no sync.
    pub(crate) fn nginx(folder: &Path) -> Option<Self> {
        let address = free_address();
        let root = folder.join("nginx");
        std::fs::create_dir_all(root.join("data").join(BUCKET)).unwrap();
        let config = format!(
            "daemon off; user root; worker_processes auto; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000000;\n\
             client_max_body_size 0; client_body_temp_path {root}/temp; client_body_buffer_size 16k;\n\
             proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
             server {{ listen {address}; root {root}/data; location / {{ dav_methods PUT; }} }} }}\n",
            root = root.display()
        );
        let path = root.join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("SKIPPED: nginx, for it is not installed (apt-get install nginx-light)");
            return None;
        };
        wait_for(address);
        Some(Self {
            name: "nginx",
            address,
            key: None,
            server: Server::Process(child),
        })
    }

    /// Garage, one node, LMDB, with the syncs that it leaves out by default.
    pub(crate) fn garage(folder: &Path, program: &Path) -> Option<Self> {
        if !program.exists() {
            println!(
                "SKIPPED: Garage, for {} is not there (cargo install --locked --root /opt/garage garage)",
                program.display()
            );
            return None;
        }
        let (address, rpc) = (free_address(), free_address());
        let root = folder.join("garage");
        std::fs::create_dir_all(&root).unwrap();
        let config = format!(
            "metadata_dir = \"{root}/meta\"\ndata_dir = \"{root}/data\"\ndb_engine = \"lmdb\"\n\
             metadata_fsync = true\ndata_fsync = true\nreplication_factor = 1\n\
             rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{GARAGE_SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"{address}\"\nroot_domain = \".s3.garage\"\n",
            root = root.display()
        );
        let path = root.join("garage.toml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .arg("server")
            .env("RUST_LOG", "garage=error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server::Process(child);
        wait_for(rpc);
        prepare_garage(program, &path);
        wait_for(address);
        Some(Self {
            name: "garage",
            address,
            key: Some((GARAGE_ID, GARAGE_SECRET, "garage")),
            server,
        })
    }

    /// Ceph's gateway with a monitor and an OSD that keeps all in memory and so waits for no disk.
    pub(crate) fn radosgw(folder: &Path) -> Option<Self> {
        let (address, monitor) = (free_address(), free_address());
        let root = folder.join("radosgw");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/radosgw.sh");
        let started = Command::new("sh")
            .arg(script)
            .arg(&root)
            .args([monitor.port().to_string(), address.port().to_string()])
            .stderr(Stdio::null())
            .status();
        let pids = std::fs::read_to_string(root.join("pids")).unwrap_or_default();
        let pids = pids.lines().rev().map(|pid| pid.parse().unwrap());
        let server = Server::Daemons(pids.collect());
        if !started.is_ok_and(|status| status.success()) {
            println!(
                "SKIPPED: radosgw, for it does not start (apt-get install radosgw ceph-mon ceph-osd ceph-common; as root)"
            );
            return None;
        }
        let peer = Self {
            name: "radosgw",
            address,
            key: Some(RADOSGW_KEY),
            server,
        };
        peer.call_once("PUT", &format!("/{BUCKET}"), Vec::new());
        Some(peer)
    }

    /// Whether this load is for this server.
    pub(crate) fn takes(&self, case: &Case) -> bool {
        self.name != "radosgw" || case.size <= RADOSGW_BODY_MAX
    }

    fn pids(&self) -> Vec<u32> {
        let first = match &self.server {
            Server::Walrus(walrus) => walrus.pid(),
            Server::Process(child) => child.id(),
            Server::Daemons(pids) => return pids.clone(),
        };
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(first).chain(children).collect()
    }

    fn request(&self, method: &str, target: &str, body: &Arc<Vec<u8>>) -> Request {
        let (host, length) = (self.address.to_string(), body.len().to_string());
        let head = match self.key {
            Some((id, secret, region)) => {
                signed(method, target, self.address, id, secret, region, body.len())
            }
            None => plain(
                method,
                target,
                [("host", &*host), ("content-length", &*length)].into_iter(),
            ),
        };
        Request {
            head,
            body: body.clone(),
        }
    }

    fn call_once(&self, method: &str, target: &str, body: Vec<u8>) {
        Connection::open(self.address).call(&self.request(method, target, &Arc::new(body)));
    }

    fn requests(&self, case: &Case) -> Vec<Vec<Request>> {
        let size = if case.method == "PUT" { case.size } else { 0 };
        let body: Arc<Vec<u8>> = Arc::new((0..size).map(|at| (at * 31 + at / 251) as u8).collect());
        let of = |connection: usize| {
            let target = |at| format!("/{BUCKET}/{}-{connection}-{at}", case.size);
            (0..case.keys)
                .map(|at| self.request(case.method, &target(at), &body))
                .collect()
        };
        (0..case.connections).map(of).collect()
    }

    /// One load.
    pub(crate) fn take(&self, case: &Case, time: Duration) -> Figures {
        if case.method == "GET" {
            let put = Case {
                method: "PUT",
                ..*case
            };
            for requests in self.requests(&put) {
                let mut connection = Connection::open(self.address);
                requests.iter().for_each(|request| connection.call(request));
            }
        }
        let requests = self.requests(case);
        let before = self.cpu_us();
        let (per_s, mut took) = load::run(self.address, requests, time);
        let cpu_us = (self.cpu_us() - before) / took.len() as f64;
        took.sort();
        let at = |percent: usize| {
            took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64() * 1e3
        };
        Figures {
            per_s,
            mb_s: per_s * case.size as f64 / 1e6,
            p50_ms: at(50),
            p99_ms: at(99),
            cpu_us,
            memory_mib: self.status_mib("VmRSS:"),
        }
    }

    fn cpu_us(&self) -> f64 {
        let ticks = self.pids().into_iter().map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            // utime and stime, counted from behind the name.
            fields
                .skip(11)
                .take(2)
                .map(|ticks| ticks.parse::<f64>().unwrap())
                .sum::<f64>()
        });
        // USER_HZ is 100 on every Linux.
        ticks.sum::<f64>() * 10_000.0
    }

    fn status_mib(&self, name: &str) -> f64 {
        let of = |pid: u32| -> f64 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line
                .and_then(|line| line.split_whitespace().nth(1))
                .and_then(|kib| kib.parse().ok());
            kib.unwrap_or(0.0)
        };
        self.pids().into_iter().map(of).sum::<f64>() / 1024.0
    }

    /// The most memory that the server ever had.
    pub(crate) fn most_memory_mib(&self) -> f64 {
        self.status_mib("VmHWM:")
    }

    /// Syncs per PUT of 4 KiB as strace counts them: one connection, then sixteen.
    pub(crate) fn syncs_per_put(&self) -> (f64, f64) {
        let of = |connections| {
            let case = Case {
                name: "",
                method: "PUT",
                size: 4 << 10,
                connections,
                keys: 100,
            };
            self.syncs_during(&case)
        };
        (of(1), of(16))
    }

    fn syncs_during(&self, case: &Case) -> f64 {
        let counts = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace")
            .args([
                "-f",
                "-c",
                "-e",
                "trace=fsync,fdatasync,sync_file_range,msync",
                "-o",
            ])
            .arg(counts.path())
            .args(["-p", &self.pids()[0].to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed");
        std::thread::sleep(Duration::from_millis(500));
        let (_, took) = load::run(self.address, self.requests(case), Duration::from_secs(2));
        let pid = nix::unistd::Pid::from_raw(strace.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        strace.wait().unwrap();
        let text = std::fs::read_to_string(counts.path()).unwrap();
        let syncs = text
            .lines()
            .filter(|line| line.contains("sync") && !line.contains("errors"));
        let calls = syncs.filter_map(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok());
        calls.sum::<f64>() / took.len() as f64
    }

    /// What the server holds in memory when that many connections are open and each has asked once.
    pub(crate) fn memory_with_connections_mib(&self, connections: usize) -> f64 {
        let body = Arc::default();
        let request = self.request("GET", &format!("/{BUCKET}/{}-0-0", 4 << 10), &body);
        let open: Vec<_> = (0..connections)
            .map(|_| {
                let mut connection = Connection::with_buffer(self.address, 8 << 10);
                connection.call(&request);
                connection
            })
            .collect();
        let memory = self.status_mib("VmRSS:");
        drop(open);
        memory
    }
}

fn prepare_garage(program: &Path, config: &Path) {
    let run = |args: &[&str]| -> Option<String> {
        let output = Command::new(program)
            .arg("-c")
            .arg(config)
            .args(args)
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let until = Instant::now() + Duration::from_secs(30);
    let node = loop {
        if let Some(node) = run(&["node", "id", "-q"]) {
            break node.trim().split('@').next().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "Garage says no node id");
        std::thread::sleep(Duration::from_millis(100));
    };
    for args in [
        &["layout", "assign", "-z", "one", "-c", "20G", &node][..],
        &["layout", "apply", "--version", "1"],
        &[
            "key",
            "import",
            "--yes",
            "-n",
            "bench",
            GARAGE_ID,
            GARAGE_SECRET,
        ],
        &["bucket", "create", BUCKET],
        &[
            "bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", "bench",
        ],
    ] {
        run(args).unwrap_or_else(|| panic!("garage {args:?} failed"));
    }
}
