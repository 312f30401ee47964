//! A bundle behind an HTTP server, with faults to order, and the tickets for it.

use std::{
    io::Write,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use control::{
    CallError,
    caches::CopyReport,
    cloud::{Ticket, TicketAsk, TicketPart},
    node::ImageRef,
};
use futures_util::StreamExt;
use image::{
    bundle::{self, PartSink},
    digest::{Sha1Digest, Sha256Digest},
};
use nc::cache::Tickets;
use types::Secret;

/// How long a ticket holds.
const VALID_MS: u64 = 900_000;

/// A bundle, served.
pub(crate) struct Store {
    image: ImageRef,
    address: std::net::SocketAddr,
    ticket: Mutex<Ticket>,
    parts: Mutex<Vec<Option<Bytes>>>,
    hits: AtomicUsize,
    tickets: AtomicUsize,
    faults: Mutex<Vec<u16>>,
    cuts: AtomicUsize,
    per_ticket: AtomicUsize,
    used: Mutex<std::collections::HashMap<usize, usize>>,
    slow_ms: AtomicU64,
    step_ms: AtomicU64,
    asked: AtomicU64,
    sent: AtomicU64,
    server: Mutex<Option<tokio::runtime::Runtime>>,
    endless: std::sync::atomic::AtomicBool,
}

#[derive(serde::Deserialize)]
struct Signature {
    ticket: usize,
}

impl Store {
    /// Bundles `image` and serves the parts.
    pub(crate) async fn serve(image: &[u8]) -> Arc<Self> {
        Self::serve_at(Ipv4Addr::LOCALHOST, image).await
    }

    /// The same at another address than the loopback's.
    pub(crate) async fn serve_at(address: Ipv4Addr, image: &[u8]) -> Arc<Self> {
        let (parts, ticket) = bundled(image);
        let (size, name) = (image.len() as u64, Sha256Digest::of(image));
        Self::start(address, size, name, parts, ticket).await
    }

    /// Serves a bundle that is gzip of `zeros` zeros, and says that it is an image of `size` bytes.
    pub(crate) async fn serve_bomb(zeros: usize, size: u64) -> Arc<Self> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mebibyte = vec![0; 1 << 20];
        let header = bomb_header(zeros as u64);
        gzip.write_all(&header).unwrap();
        for _ in 0..zeros >> 20 {
            gzip.write_all(&mebibyte).unwrap();
        }
        let plain = gzip.finish().unwrap();
        let (parts, ticket) = encrypted(plain, size, Sha1Digest::of(b""));
        let name = Sha256Digest::of(b"bomb");
        Self::start(Ipv4Addr::LOCALHOST, size, name, parts, ticket).await
    }

    /// Serves a bundle of any tar, right in all its digests, that says it is an image of `size` bytes.
    pub(crate) async fn serve_tar(tar: &[u8], size: u64) -> Arc<Self> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar).unwrap();
        let (parts, ticket) = encrypted(gzip.finish().unwrap(), size, Sha1Digest::of(tar));
        let name = Sha256Digest::of(tar);
        Self::start(Ipv4Addr::LOCALHOST, size, name, parts, ticket).await
    }

    async fn start(
        address: Ipv4Addr,
        size_bytes: u64,
        name: Sha256Digest,
        parts: Vec<Bytes>,
        ticket: Ticket,
    ) -> Arc<Self> {
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        let digits = &name.to_string()[..8];
        let image = ImageRef {
            id: format!("emi-{digits}").parse().unwrap(),
            manifest_sha256: name.to_string(),
            size_bytes,
        };
        let store = Arc::new(Self {
            image,
            address: listener.local_addr().unwrap(),
            ticket: Mutex::new(ticket),
            parts: Mutex::new(parts.into_iter().map(Some).collect()),
            hits: AtomicUsize::new(0),
            tickets: AtomicUsize::new(0),
            faults: Mutex::default(),
            cuts: AtomicUsize::new(0),
            per_ticket: AtomicUsize::new(usize::MAX),
            used: Mutex::default(),
            slow_ms: AtomicU64::new(0),
            step_ms: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            server: Mutex::default(),
            endless: Default::default(),
        });
        store.serve_on(listener);
        store
    }

    /// Serves, in a runtime of its own: what ends with it ends at once, as a process that is killed.
    fn serve_on(self: &Arc<Self>, listener: std::net::TcpListener) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let router = Router::new()
            .route("/{part}", get(answer))
            .with_state(Arc::downgrade(self));
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        *self.server.lock().unwrap() = Some(runtime);
    }

    /// Dies in the midst of whatever it does, and is back at the same address after `pause`.
    pub(crate) async fn restart(self: &Arc<Self>, pause: Duration) {
        let server = self.server.lock().unwrap().take();
        server.unwrap().shutdown_background();
        tokio::time::sleep(pause).await;
        let address = self.address;
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.set_reuseaddr(true).unwrap();
        bound.bind(address).unwrap();
        self.serve_on(bound.listen(64).unwrap().into_std().unwrap());
    }

    pub(crate) fn image(&self) -> ImageRef {
        self.image.clone()
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts.lock().unwrap().len()
    }

    /// Requests for parts, whatever was answered.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(SeqCst)
    }

    /// Bytes of parts that were asked for, and that were sent before a cut.
    pub(crate) fn asked_and_sent(&self) -> (u64, u64) {
        (self.asked.load(SeqCst), self.sent.load(SeqCst))
    }

    /// Bytes of all parts.
    pub(crate) fn bundled_bytes(&self) -> u64 {
        self.ticket.lock().unwrap().bundled_bytes
    }

    /// Tickets given.
    pub(crate) fn tickets(&self) -> usize {
        self.tickets.load(SeqCst)
    }

    /// The next `count` requests are answered with `status`.
    pub(crate) fn fail_next(&self, status: u16, count: usize) {
        self.faults
            .lock()
            .unwrap()
            .extend(std::iter::repeat_n(status, count));
    }

    /// The next `count` answers are cut short.
    pub(crate) fn cut_next(&self, count: usize) {
        self.cuts.store(count, SeqCst);
    }

    /// Each ticket serves so many requests; then the server refuses it.
    pub(crate) fn tickets_serve(&self, requests: usize) {
        self.per_ticket.store(requests, SeqCst);
    }

    /// Answers never end.
    pub(crate) fn never_end(&self) {
        self.endless.store(true, SeqCst);
    }

    /// Each answer takes that long.
    pub(crate) fn slow(&self, time: Duration) {
        self.slow_ms.store(time.as_millis() as u64, SeqCst);
    }

    /// Each eighth of an answer takes that long.
    pub(crate) fn trickle(&self, time: Duration) {
        self.step_ms.store(time.as_millis() as u64, SeqCst);
    }

    /// Flips a bit of a part.
    pub(crate) fn damage(&self, part: usize) {
        let mut parts = self.parts.lock().unwrap();
        let mut bytes = parts[part].take().unwrap().to_vec();
        bytes[1000] ^= 4;
        parts[part] = Some(bytes.into());
    }

    /// Removes a part.
    pub(crate) fn lose(&self, part: usize) {
        self.parts.lock().unwrap()[part] = None;
    }

    /// Changes what tickets say.
    pub(crate) fn lie(&self, edit: impl FnOnce(&mut Ticket)) {
        edit(&mut self.ticket.lock().unwrap());
    }
}

/// Its server goes with it: a campaign has hundreds of stores.
impl Drop for Store {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut().unwrap().take() {
            server.shutdown_background();
        }
    }
}

#[async_trait]
impl Tickets for Store {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        let image = ask.image;
        assert_eq!(image.id, self.image.id);
        let number = self.tickets.fetch_add(1, SeqCst);
        let mut ticket = self.ticket.lock().unwrap().clone();
        ticket.image = image.id.clone();
        for (index, part) in ticket.parts.iter_mut().enumerate() {
            part.url = Secret::new(format!("http://{}/{index}?ticket={number}", self.address));
        }
        Ok(ticket)
    }

    async fn copied(&self, _: CopyReport) -> Result<(), CallError> {
        Ok(())
    }
}

/// Tickets from whichever store has the image.
pub(crate) fn all(stores: &[Arc<Store>]) -> Arc<dyn Tickets> {
    struct All(Vec<Arc<Store>>);
    #[async_trait]
    impl Tickets for All {
        async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
            let has = |store: &&Arc<Store>| store.image.id == ask.image.id;
            match self.0.iter().find(has) {
                Some(store) => store.ticket(ask).await,
                None => Err(CallError::not_found(&ask.image.id)),
            }
        }

        async fn copied(&self, _: CopyReport) -> Result<(), CallError> {
            Ok(())
        }
    }
    Arc::new(All(stores.to_vec()))
}

async fn answer(
    State(store): State<Weak<Store>>,
    Path(part): Path<usize>,
    Query(signature): Query<Signature>,
    headers: axum::http::HeaderMap,
) -> Response {
    let Some(store) = store.upgrade() else {
        return StatusCode::GONE.into_response();
    };
    store.hits.fetch_add(1, SeqCst);
    tokio::time::sleep(Duration::from_millis(store.slow_ms.load(SeqCst))).await;
    if let Some(status) = store.faults.lock().unwrap().pop() {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let used = {
        let mut used = store.used.lock().unwrap();
        let used = used.entry(signature.ticket).or_default();
        *used += 1;
        *used
    };
    if used > store.per_ticket.load(SeqCst) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let Some(bytes) = store.parts.lock().unwrap().get(part).cloned().flatten() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if store.endless.load(SeqCst) {
        let chunks = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(bytes));
        return Body::from_stream(chunks).into_response();
    }
    let etag = format!("\"{}\"", Sha1Digest::of(&bytes));
    let from = resumed_at(&headers, &etag).filter(|from| *from < bytes.len());
    let answer = Response::builder().header("etag", &etag);
    let (answer, bytes) = match from {
        Some(from) => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            let range = format!("bytes {from}-{last}/{all}");
            let answer = answer.status(StatusCode::PARTIAL_CONTENT);
            (answer.header("content-range", range), bytes.slice(from..))
        }
        None => (answer, bytes),
    };
    store.asked.fetch_add(bytes.len() as u64, SeqCst);
    let cut = store
        .cuts
        .fetch_update(SeqCst, SeqCst, |cuts| cuts.checked_sub(1))
        .is_ok();
    let sent = if cut { bytes.len() / 2 } else { bytes.len() };
    store.sent.fetch_add(sent as u64, SeqCst);
    let length = bytes.len();
    let body = match cut {
        false => in_steps(bytes, Duration::from_millis(store.step_ms.load(SeqCst))),
        true => {
            let half: Result<Bytes, std::io::Error> = Ok(bytes.slice(..sent));
            let broken = Err(std::io::ErrorKind::ConnectionReset.into());
            // Apart, so that what was sent arrives before the connection breaks.
            let broken = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                broken
            };
            let frames = futures_util::stream::once(async { half });
            Body::from_stream(frames.chain(futures_util::stream::once(broken)))
        }
    };
    answer.header("content-length", length).body(body).unwrap()
}

/// A body that comes in eight pieces with a pause before each.
fn in_steps(bytes: Bytes, pause: Duration) -> Body {
    let step = (bytes.len() / 8).max(1);
    let pieces: Vec<Bytes> = (0..bytes.len())
        .step_by(step)
        .map(|at| bytes.slice(at..bytes.len().min(at + step)))
        .collect();
    Body::from_stream(
        futures_util::stream::iter(pieces).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(piece)
        }),
    )
}

/// The first byte that is asked for, if the answer that it goes on from is still the same.
fn resumed_at(headers: &axum::http::HeaderMap, etag: &str) -> Option<usize> {
    let range = headers.get("range")?.to_str().unwrap();
    (headers.get("if-range")? == etag).then(|| {
        let from = range.strip_prefix("bytes=").unwrap();
        from.strip_suffix('-').unwrap().parse().unwrap()
    })
}

/// Bytes that do not compress, the same in each run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| step()).collect()
}

/// An image with an ext file system's magic at its place.
pub(crate) fn partition(length: usize) -> Vec<u8> {
    let mut image = noise(length);
    image[..4096].fill(0);
    image[1080..1082].copy_from_slice(&[0x53, 0xef]);
    image
}

/// Trust in nobody: parts come over http here.
pub(crate) fn no_tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Default)]
struct Memory(Vec<Bytes>);

impl PartSink for Memory {
    fn put(&mut self, _: &str, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.push(bytes.into());
        Ok(())
    }
}

fn bundled(image: &[u8]) -> (Vec<Bytes>, Ticket) {
    let key = image::keys::BundleKey::mint();
    let order = bundle::Order {
        name: "image",
        size_bytes: image.len() as u64,
        key: &key,
    };
    let mut parts = Memory::default();
    let bundled = bundle::bundle(order, &mut &image[..], &mut parts, &mut |_| {}).unwrap();
    let ticket = ticket(
        &parts.0,
        key.key(),
        key.iv(),
        order.size_bytes,
        bundled.digest,
    );
    (parts.0, ticket)
}

fn ticket(
    parts: &[Bytes],
    key: &[u8; 16],
    iv: &[u8; 16],
    size_bytes: u64,
    digest: Sha1Digest,
) -> Ticket {
    let part = |(index, bytes): (usize, &Bytes)| TicketPart {
        name: format!("image.part.{index:02}"),
        url: Secret::new(String::new()),
        digest_sha1: Sha1Digest::of(bytes).to_string(),
        size_bytes: bytes.len() as u64,
    };
    Ticket {
        image: "emi-00000001".parse().unwrap(),
        parts: parts.iter().enumerate().map(part).collect(),
        key: Secret::new(hex::encode(key)),
        iv: Secret::new(hex::encode(iv)),
        digest_sha1: digest.to_string(),
        size_bytes,
        bundled_bytes: parts.iter().map(|part| part.len() as u64).sum(),
        valid_ms: VALID_MS,
        blocks: None,
        peers: vec![],
        filled_by: None,
    }
}

/// A tar header that promises `size` bytes, by GNU tar.
fn bomb_header(size: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    let script = format!(
        "tar --format=gnu -cf - -C {} image | head -c 512",
        folder.path().display()
    );
    #[allow(clippy::disallowed_methods)] // a test's tool
    let made = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    made.stdout
}

/// Encrypts any stream into a bundle that is right in all its digests.
fn encrypted(plain: Vec<u8>, size_bytes: u64, digest: Sha1Digest) -> (Vec<Bytes>, Ticket) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("plain"), folder.path().join("cipher"));
    std::fs::write(&from, plain).unwrap();
    let (key, iv) = ([1; 16], [2; 16]);
    #[allow(clippy::disallowed_methods)] // a test's tool
    let status = std::process::Command::new("openssl")
        .args([
            "enc",
            "-aes-128-cbc",
            "-K",
            &hex::encode(key),
            "-iv",
            &hex::encode(iv),
            "-in",
        ])
        .arg(&from)
        .arg("-out")
        .arg(&to)
        .status()
        .unwrap();
    assert!(status.success());
    let cipher = std::fs::read(to).unwrap();
    let parts: Vec<_> = cipher
        .chunks(10 << 20)
        .map(Bytes::copy_from_slice)
        .collect();
    let ticket = ticket(&parts, &key, &iv, size_bytes, digest);
    (parts, ticket)
}
