//! A Walrus in a process of its own, as an administrator starts it, in a cloud that has nothing but
//! identities: a fake CLC serves them over the control API.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, extract::Request};
use control::{
    CallError, Changes, Feed, Role,
    cloud::{AccessKey, Account, IdentityChange, PublicCertificate, PublicCertificateAsk, User},
    feed::Poll,
    rpc::{self, Call, Callers, ConnectedPeer},
};
use daemon::tls::{Authority, Identity, Issue, Peer, Tls};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use types::{AccountId, Secret};

use crate::other_store::{self, OtherStore};

pub(crate) const ALICE: Key = Key {
    id: "AKIAALICEALICEALICE2",
    secret: "alice-secret-0123456789ab",
};
pub(crate) const BOB: Key = Key {
    id: "AKIABOBBOBBOBBOBBOB2",
    secret: "bob-secret-0123456789ab",
};
/// A user of Alice's account who may read what begins with `public/`, from one network what begins
/// with `office/`, write what begins with `drop/`, and make the bucket `carols`.
pub(crate) const CAROL: Key = Key {
    id: "AKIACAROLCAROLCAROL2",
    secret: "carol-secret-0123456789",
};
pub(crate) const SYSTEM: Key = Key {
    id: "AKIASYSTEMSYSTEMSYS2",
    secret: "system-secret-012345678",
};

#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A CLC that knows who is who and nothing else.
struct Identities(Feed<String, IdentityChange>);

impl Identities {
    fn new() -> Self {
        let feed = Feed::new(hex::encode(rand::random::<[u8; 8]>()));
        let add = |account: &str, name: &str, user: &str, key: Key, policies: &[&str]| {
            let account: AccountId = account.parse().unwrap();
            let row = Account {
                account: account.clone(),
                name: name.to_owned(),
                canonical_id: hex::encode([account.as_str().as_bytes()[0]; 32]),
                deleted: false,
            };
            feed.set(format!("account {account}"), IdentityChange::Account(row));
            let row = User {
                account: account.clone(),
                name: user.to_owned(),
                path: "/".to_owned(),
                policies: policies.iter().map(|text| (*text).to_owned()).collect(),
                deleted: false,
            };
            feed.set(format!("user {account} {user}"), IdentityChange::User(row));
            let row = AccessKey {
                id: key.id.parse().unwrap(),
                account,
                user: user.to_owned(),
                secret: Secret::new(key.secret.to_owned()),
                active: true,
                deleted: false,
            };
            feed.set(format!("key {}", key.id), IdentityChange::Key(row));
        };
        let carols = r#"{"Statement":[
            {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::*/public/*"},
            {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::*/office/*",
             "Condition":{"IpAddress":{"aws:SourceIp":"198.51.100.0/24"}}},
            {"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::*/drop/*"},
            {"Effect":"Allow","Action":"s3:CreateBucket","Resource":"arn:aws:s3:::carols"}
        ]}"#;
        add("111111111111", "alice", "admin", ALICE, &[]);
        add("222222222222", "bob", "admin", BOB, &[]);
        add("111111111111", "alice", "carol", CAROL, &[carols]);
        // The identities that tests/compat/s3-tests/run names.
        for (digit, name) in [("3", "tina"), ("4", "irene"), ("5", "ruth"), ("6", "rosa")] {
            let id = format!("AKIA{}", name.to_uppercase().repeat(5));
            let key = Key {
                id: Box::leak(format!("{}2", &id[..19]).into_boxed_str()),
                secret: Box::leak(format!("{name}-secret-0123456789ab").into_boxed_str()),
            };
            add(&digit.repeat(12), name, "admin", key, &[]);
        }
        add("000000000000", "system", "admin", SYSTEM, &[]);
        Self(feed)
    }
}

/// The calls of the CLC's that Walrus makes.
fn routes(identities: Arc<Identities>, authority: Arc<Authority>) -> axum::Router {
    let identity = move |Extension(peer): Extension<ConnectedPeer>, request: Request| {
        let identities = identities.clone();
        let answer =
            async move |_: Call, poll: Poll| -> Result<Changes<IdentityChange>, CallError> {
                Ok(identities.0.poll(&poll).await)
            };
        rpc::answer(Callers::Roles(&[Role::Walrus]), peer.0, request, answer)
    };
    let certificate = move |Extension(peer): Extension<ConnectedPeer>, request: Request| {
        let authority = authority.clone();
        let answer = async move |_: Call,
                                 ask: PublicCertificateAsk|
                    -> Result<PublicCertificate, CallError> {
            let signed = authority.sign_public(&ask.csr_pem, &ask.names, now_ms());
            let certificate_pem = signed.unwrap();
            Ok(PublicCertificate { certificate_pem })
        };
        rpc::answer(Callers::Roles(&[Role::Walrus]), peer.0, request, answer)
    };
    axum::Router::new()
        .route("/v1/Cloud/identity", axum::routing::post(identity))
        .route(
            "/v1/Cloud/public_certificate",
            axum::routing::post(certificate),
        )
}

/// A Walrus, its cloud and its folder. Killed when it is dropped.
pub(crate) struct Walrus {
    pub(crate) folder: TempDir,
    pub(crate) s3: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) environment: Vec<(String, OsString)>,
    more: Vec<String>,
    disk: Option<String>,
    /// Where its large bodies lie, if not in its own folder.
    pub(crate) other: Option<OtherStore>,
    authority: Arc<Authority>,
    child: Option<Child>,
    cloud: CancellationToken,
    clc: SocketAddr,
    identities: Arc<Identities>,
}

impl Walrus {
    /// A new cloud with a Walrus that serves.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with `--set` arguments.
    pub(crate) async fn start_with(sets: &[&str]) -> Self {
        let mut walrus = Self::prepare(sets).await;
        walrus.run().await;
        walrus
    }

    /// The same with its objects on a small disk, which only it sees: options of tmpfs. Needs root.
    pub(crate) async fn start_on_small_disk(options: &str) -> Self {
        let mut walrus = Self::prepare(&["storage.reserve_mib=8"]).await;
        walrus.disk = Some(options.to_owned());
        walrus.run().await;
        walrus
    }

    pub(crate) async fn prepare(sets: &[&str]) -> Self {
        Self::prepare_in(&std::env::temp_dir(), sets).await
    }

    /// The same with large bodies in another store.
    pub(crate) async fn prepare_over(other: OtherStore, sets: &[&str]) -> Self {
        let mut walrus = Self::prepare_plain(&std::env::temp_dir(), sets).await;
        walrus.more.extend(other.sets(walrus.folder.path()));
        walrus.other = Some(other);
        walrus
    }

    /// A cloud and a folder below that one, and no process yet.
    pub(crate) async fn prepare_in(place: &Path, sets: &[&str]) -> Self {
        match other_store::is_asked() {
            true => {
                let other = Box::pin(OtherStore::start()).await;
                Self::prepare_over(other, sets).await
            }
            false => Self::prepare_plain(place, sets).await,
        }
    }

    /// The same with everything in its own folder, whatever the environment says.
    pub(crate) async fn prepare_plain(place: &Path, sets: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(place).unwrap();
        let authority = Arc::new(Authority::create(now_ms()).unwrap());
        let cloud = CancellationToken::new();
        let identities = Arc::new(Identities::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let tls_of_clc = folder.path().join("clc-tls");
        identity(&tls_of_clc, &authority, Role::Clc, "clc");
        let serving = (
            any,
            routes(identities.clone(), authority.clone()),
            cloud.clone(),
        );
        let clc = serve_cloud(&tls_of_clc, serving).await;

        let tls = folder.path().join("walrus/tls");
        identity(&tls, &authority, Role::Walrus, "walrus");
        std::fs::write(tls.join("cloud"), clc.to_string()).unwrap();
        Self {
            s3: testkit::ports::free(),
            control: testkit::ports::free(),
            admin: testkit::ports::free(),
            disk: None,
            other: None,
            environment: Vec::new(),
            more: sets.iter().map(|set| (*set).to_owned()).collect(),
            authority,
            folder,
            child: None,
            cloud,
            clc,
            identities,
        }
    }

    /// The certificate of its cloud's authority, in PEM.
    pub(crate) fn authority_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The Walrus that large bodies lie in.
    pub(crate) fn store_below(&mut self) -> &mut Self {
        let below = self.other.as_mut().and_then(|other| other.walrus.as_mut());
        below.unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("walrus")
    }

    /// Starts the process and waits until it is ready.
    pub(crate) async fn run(&mut self) {
        self.launch();
        self.until_ready().await;
    }

    /// Starts the process.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none());
        self.child = Some(self.command().spawn().unwrap());
    }

    /// Starts the process, and whether it becomes ready rather than ends.
    pub(crate) async fn comes_up(&mut self) -> bool {
        self.launch();
        let url = format!("http://{}/readyz", self.admin);
        let until = Instant::now() + Duration::from_secs(30);
        while crate::s3_client::plain_get(&url).await != Some(200) {
            assert!(Instant::now() < until, "walrus does neither");
            if !self.is_running() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Whether the process is there and has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
        if self.child.as_mut().is_some_and(ended) {
            self.child = None;
        }
        self.child.is_some()
    }

    async fn until_ready(&mut self) {
        let url = format!("http://{}/readyz", self.admin);
        let until = Instant::now() + Duration::from_secs(30);
        while crate::s3_client::plain_get(&url).await != Some(200) {
            assert!(Instant::now() < until, "walrus did not become ready");
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "walrus ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn command(&self) -> Command {
        let mut command = self.program();
        command
            .arg("--state")
            .arg(self.state())
            .args(["--set", &format!("s3.listen={}", self.s3)])
            .args(["--set", &format!("control.listen={}", self.control)])
            .args(["--set", &format!("admin.listen={}", self.admin)])
            .args(["--log", "warn"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        self.more.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        command
    }

    fn program(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_mallee-walrus");
        let Some(options) = &self.disk else {
            return Command::new(program);
        };
        let folder = self.state().join("objects");
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("unshare");
        let mount = format!(
            "mount -t tmpfs -o {options} tmpfs {} && exec \"$@\"",
            folder.display()
        );
        command.args(["--mount", "sh", "-c", &mount, "sh", program]);
        command
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it and starts it again with other `--set` arguments.
    pub(crate) async fn restart_with(&mut self, sets: &[&str]) {
        assert!(self.stop());
        self.more = sets.iter().map(|set| (*set).to_owned()).collect();
        self.run().await;
    }

    /// SIGTERM, and whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap().success()
    }

    /// Waits until it ends by itself, and whether it says that all is well.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let wait = tokio::task::spawn_blocking(move || child.wait().unwrap().success());
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("it ends")
            .unwrap()
    }

    /// Runs `mallee-walrus fsck`: its exit, and what it said.
    pub(crate) fn fsck(&self) -> (bool, String) {
        self.says(&["fsck"])
    }

    /// The same for any of its commands.
    pub(crate) fn says(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.other_process(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// A command of it that is still to be run.
    pub(crate) fn other_process(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments);
        command
    }

    /// More `--set` arguments for the next start.
    pub(crate) fn add_sets(&mut self, sets: Vec<String>) {
        self.more.extend(sets);
    }

    /// A client of the control API with the certificate of that role.
    pub(crate) fn control_as(&self, role: Role, name: &str) -> control::Client {
        let folder = self.folder.path().join(format!("{name}-client"));
        identity(&folder, &self.authority, role, name);
        let tls = Tls::open(&folder).unwrap();
        control::Client::new(&tls.client_config(), self.control, Role::Walrus, None)
    }

    /// The CLC goes away.
    pub(crate) fn lose_cloud(&self) {
        self.cloud.cancel();
    }

    /// It is back, with what it knew.
    pub(crate) async fn regain_cloud(&mut self) {
        self.cloud = CancellationToken::new();
        let routes = routes(self.identities.clone(), self.authority.clone());
        let serving = (self.clc, routes, self.cloud.clone());
        serve_cloud(&self.folder.path().join("clc-tls"), serving).await;
    }

    /// The CLC revokes an access key.
    pub(crate) fn revoke(&self, key: Key) {
        let row = AccessKey {
            id: key.id.parse().unwrap(),
            account: "111111111111".parse().unwrap(),
            user: "admin".to_owned(),
            secret: Secret::new(key.secret.to_owned()),
            active: false,
            deleted: false,
        };
        self.identities
            .0
            .set(format!("key {}", key.id), IdentityChange::Key(row));
    }

    /// Starts the process and waits until it answers at all.
    pub(crate) async fn run_unready(&mut self) {
        self.child = Some(self.command().spawn().unwrap());
        let url = format!("http://{}/readyz", self.admin);
        let until = Instant::now() + Duration::from_secs(30);
        while crate::s3_client::plain_get(&url).await.is_none()
            || tokio::net::TcpStream::connect(self.s3).await.is_err()
        {
            assert!(Instant::now() < until, "walrus does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// How many files of large bodies there are, wherever they lie.
    pub(crate) async fn blob_files(&self) -> usize {
        match &self.other {
            Some(other) => other.keys().await.len(),
            None => walkdir(&self.state().join("objects/blobs")),
        }
    }

    /// The memory that the process has, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// How many files there are below a folder.
pub(crate) fn walkdir(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                walkdir(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

impl Drop for Walrus {
    fn drop(&mut self) {
        self.cloud.cancel();
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn identity(folder: &Path, authority: &Authority, role: Role, name: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let peer = Peer::new(role, name, None).unwrap();
    Identity::make(folder, authority, &Issue::daemon(peer, now_ms())).unwrap();
}

/// Serves the cloud's calls at an address, and says which it is. One that was served a moment ago may have
/// to be waited for.
async fn serve_cloud(
    tls: &Path,
    (address, routes, stop): (SocketAddr, axum::Router, CancellationToken),
) -> SocketAddr {
    let config = Tls::open(tls).unwrap().server_config();
    let until = Instant::now() + Duration::from_secs(30);
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let address = listener.local_addr().unwrap();
    tokio::spawn(control::server::serve(listener, config, routes, stop));
    address
}
