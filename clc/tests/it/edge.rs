//! The public port over real sockets: a cloud that behaves behind it, and bytes as clients send them.

mod front_door;
mod limits;
mod query;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use clc::edge::{self, Asked, Behind, OwnKey, Service, Used};
use sigv4::sign::{Key, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use types::Secret;

pub(crate) const KEY: Key<'static> = Key {
    access_key: "AKIDEXAMPLE",
    secret: "a secret of sorts",
    session_token: None,
};

/// Nobody listens on port 1.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

/// Who holds [`KEY`], for the fake cloud.
const HOLDER: &str = "ann";

/// A cloud that knows one key and remembers what was done.
#[derive(Default)]
pub(crate) struct FakeCloud {
    pub(crate) called: Mutex<Vec<String>>,
    pub(crate) finished: AtomicUsize,
    pub(crate) go_on: Notify,
    /// Signatures that it keeps, over a restart of the edge, too; none while it cannot write.
    pub(crate) kept: Mutex<Vec<Used>>,
    pub(crate) cannot_write: AtomicBool,
    /// Whether it has a key that Walrus believes.
    pub(crate) has_own_key: AtomicBool,
}

impl FakeCloud {
    pub(crate) fn calls(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }
}

#[async_trait]
impl Behind for FakeCloud {
    type Holder = &'static str;

    async fn find_key(
        &self,
        access_key: &str,
    ) -> Result<Option<(Secret<String>, &'static str)>, daemon::BoxError> {
        if access_key == "AKIDBROKEN" {
            return Err("the database is gone".into());
        }
        let known = access_key == KEY.access_key;
        Ok(known.then(|| (Secret::new(KEY.secret.to_owned()), HOLDER)))
    }

    async fn keep_signature(&self, used: &Used) -> Result<(), daemon::BoxError> {
        if self.cannot_write.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.kept.lock().unwrap().push(used.clone());
        Ok(())
    }

    async fn kept_signatures(&self) -> Result<Vec<Used>, daemon::BoxError> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn own_key(&self) -> Option<OwnKey> {
        let own = OwnKey {
            id: KEY.access_key.to_owned(),
            secret: Secret::new(KEY.secret.to_owned()),
        };
        self.has_own_key.load(Ordering::SeqCst).then_some(own)
    }

    async fn call(&self, asked: Asked<&'static str>) -> ec2::Result<String> {
        assert_eq!(asked.holder, HOLDER);
        let service = asked.service.as_str();
        self.called
            .lock()
            .unwrap()
            .push(format!("{service}:{}", asked.action));
        match asked.action.as_str() {
            "RunInstances" | "CopyImage" | "DescribeSlowly" => self.go_on.notified().await,
            "DescribeNothing" => {
                return Err(ec2::Error::new(
                    ec2::Code::InvalidAction,
                    "no <such> action",
                ));
            }
            "DescribeDefects" => return Err(ec2::Error::internal("disk on fire")),
            _ => {}
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        let parameters: Vec<String> = asked
            .parameters
            .pairs()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Ok(format!("<{} {}/>", asked.action, parameters.join(" ")))
    }

    fn knows(&self, _service: Service, action: &str) -> bool {
        !action.starts_with("Invented")
    }
}

pub(crate) fn settings(walrus: SocketAddr) -> edge::Settings {
    edge::Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        plain: true,
        tls: None,
        walrus: (http::uri::Scheme::HTTP, walrus.to_string().parse().unwrap()),
        // The fakes speak http.
        walrus_tls: Arc::new(daemon::public::client_config(rustls::RootCertStore::empty())),
        version_2: true,
    }
}

/// The edge on a free port, before a fake cloud.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) cloud: Arc<FakeCloud>,
    pub(crate) context: daemon::Context,
}

impl Running {
    pub(crate) async fn start(walrus: SocketAddr) -> Self {
        Self::with(Arc::default(), settings(walrus)).await
    }

    pub(crate) async fn with(cloud: Arc<FakeCloud>, settings: edge::Settings) -> Self {
        let context = daemon::Context::new("clc", "0", "/nonexistent");
        let address = edge::serve(&context, cloud.clone(), settings)
            .await
            .unwrap();
        Self {
            address,
            cloud,
            context,
        }
    }

    /// The same cloud and the same address in another life of the edge.
    pub(crate) async fn restart(self) -> Self {
        self.context.drain(Duration::from_secs(5)).await.unwrap();
        let settings = edge::Settings {
            listen: self.address,
            ..settings(NOBODY.parse().unwrap())
        };
        Self::with(self.cloud, settings).await
    }

    /// Without an object store: nobody listens on port 1.
    pub(crate) async fn alone() -> Self {
        Self::start(NOBODY.parse().unwrap()).await
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.context.clock.now_ms()
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read(&mut stream).await
    }

    /// A form as euca2ools 3.4 posts it, signed by version 4 at the given time.
    pub(crate) fn form(&self, path: &str, service: &str, body: &str, at_ms: i64) -> Vec<u8> {
        let host = self.address.to_string();
        let request = http::Request::post(path)
            .header("accept", "*/*")
            .header("accept-encoding", "gzip, deflate")
            .header("content-length", body.len())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("host", &host);
        let mut head = request.body(()).unwrap().into_parts().0;
        let target = Target {
            region: "undefined-4711",
            service,
        };
        let digest = sigv4::sha256_hex(body.as_bytes());
        sigv4::sign::v4_header(&mut head, KEY, target, &digest, at_ms).unwrap();
        head.headers.insert("connection", "close".parse().unwrap());
        text(&head, body)
    }
}

/// A request as it goes over the wire.
pub(crate) fn text(head: &http::request::Parts, body: &str) -> Vec<u8> {
    let mut out = format!("{} {} HTTP/1.1\r\n", head.method, head.uri);
    for (name, value) in &head.headers {
        out.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    format!("{out}\r\n{body}").into_bytes()
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("an answer")
        .unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
