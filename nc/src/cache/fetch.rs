//! Parts of a bundle over HTTP, by a ticket.
//!
//! A ticket is a node's permission for a quarter of an hour: presigned addresses, digests, the key.
//! It is renewed in mid-transfer, kept in memory, and never printed. A part is asked for again when
//! the answer is late, cut short or a server's error; not when the server says that it is not there.
//! Only the rest of it is asked for, as long as the store says that it is still the same object.

use std::{mem, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use control::{
    CallError, Cloud, Code,
    caches::CopyReport,
    cloud::{Ticket, TicketAsk, TicketPart},
    node::ImageRef,
    rpc::Call,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use image::{
    digest::Sha1Digest,
    keys::BundleKey,
    manifest::{MAX_IMAGE_BYTES, PART_BYTES},
    unbundle::{FetchError, Order, Part, PartSource},
};
use tokio::{sync::Mutex, time::Instant};

use super::{CacheError, Form};
use crate::bandwidth::Direction;

/// Attempts at a part or a ticket: with the waits below, about 40 seconds, which outlast the restart
/// of a daemon or a switch.
const TRIES: u32 = 9;
/// The wait after the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// An attempt that brought so much was no failure, but a slow line: it does not count. A hundredth of
/// a part, so that the attempts at a part stay bounded.
const PROGRESS_BYTES: usize = PART_BYTES as usize / 100;
/// A part of 10 MiB in two minutes is 90 KB/s: slower than that is down.
const PART_TIMEOUT: Duration = Duration::from_secs(120);
/// Memory that a part is gathered in: of a size that the allocator has again as soon as it is free,
/// which that of a whole part is not.
const PIECE_BYTES: usize = 256 << 10;
/// Connecting within a data centre takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who gives tickets, and hears how far a node's copies are.
#[async_trait]
pub trait Tickets: Send + Sync + 'static {
    /// A fresh ticket for an image that an instance here needs.
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError>;

    /// Says how far our copy of an entry is, for those who wait for it.
    async fn copied(&self, report: CopyReport) -> Result<(), CallError>;
}

/// The Cloud Controller as giver of tickets.
#[derive(Clone)]
pub struct CloudTickets(pub Arc<dyn Cloud>);

#[async_trait]
impl Tickets for CloudTickets {
    async fn ticket(&self, ask: TicketAsk) -> Result<Ticket, CallError> {
        let call = Call::new(format!("ticket-{}", ask.image.id));
        self.0.image_ticket(&call, ask).await
    }

    async fn copied(&self, report: CopyReport) -> Result<(), CallError> {
        let call = Call::new(format!("copy-{}", report.image));
        self.0.image_copy(&call, report).await.map(drop)
    }
}

/// An HTTP client for parts: http, and https with the given trust.
pub type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The client that fetches parts.
pub fn http(tls: &rustls::ClientConfig) -> Http {
    let mut tls = tls.clone();
    // The connector says itself which protocols it offers.
    tls.alpn_protocols.clear();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// The parts of one image, for the pipeline.
pub struct TicketParts {
    image: ImageRef,
    tickets: Arc<dyn Tickets>,
    http: Http,
    incoming: Direction,
    current: Mutex<Current>,
}

/// The ticket in use. Renewals wait for one another, so that one serves all.
struct Current {
    ticket: Arc<Ticket>,
    got_at: Instant,
}

impl Current {
    fn new(ticket: Ticket) -> Self {
        Self {
            ticket: Arc::new(ticket),
            got_at: Instant::now(),
        }
    }

    /// At four fifths of its life a ticket may not outlast the next part.
    fn is_old(&self) -> bool {
        self.got_at.elapsed() > Duration::from_millis(self.ticket.valid_ms) * 4 / 5
    }
}

/// Why a part could not be fetched this time.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error("the server answers {0}")]
    Refused(StatusCode),
    #[error("it is not there any more")]
    Missing,
    #[error("no answer within {} seconds", PART_TIMEOUT.as_secs())]
    Late,
    #[error("{found} bytes came, {expected} were promised")]
    Length { expected: u64, found: u64 },
    #[error("more came than the {expected} bytes that were promised")]
    TooLong { expected: u64 },
    #[error("{0}")]
    Transfer(String),
    #[error("the bundle changed while it was fetched")]
    Changed,
    #[error("no new ticket: {0}")]
    NoTicket(CallError),
}

impl Attempt {
    /// Whether the same request may succeed later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(status) => {
                status.is_server_error()
                    || [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            Self::Late | Self::Length { .. } | Self::Transfer(_) => true,
            Self::NoTicket(error) => error.code.may_pass(),
            Self::Missing | Self::TooLong { .. } | Self::Changed => false,
        }
    }
}

impl TicketParts {
    /// The parts of a first ticket, and the order that it makes.
    pub fn open(
        image: &ImageRef,
        form: Form,
        ticket: Ticket,
        tickets: Arc<dyn Tickets>,
        (http, incoming): (Http, Direction),
    ) -> Result<(Self, Order), CacheError> {
        let order = order_of(&ticket, form).map_err(|why| CacheError::BadTicket {
            image: image.id.to_string(),
            why,
        })?;
        let current = Mutex::new(Current::new(ticket));
        Ok((
            Self {
                image: image.clone(),
                tickets,
                http,
                incoming,
                current,
            },
            order,
        ))
    }

    /// The ticket to use: renewed if it is old, or if `refused` is the one that a server refused.
    async fn ticket(&self, refused: Option<&Arc<Ticket>>) -> Result<Arc<Ticket>, Attempt> {
        let mut current = self.current.lock().await;
        let still_refused = refused.is_some_and(|ticket| Arc::ptr_eq(ticket, &current.ticket));
        if still_refused || current.is_old() {
            let ask = TicketAsk {
                image: self.image.clone(),
                entry: None,
                peers_failed: false,
            };
            let renewed = self.tickets.ticket(ask).await.map_err(Attempt::NoTicket)?;
            if !same_bundle(&renewed, &current.ticket) {
                return Err(Attempt::Changed);
            }
            *current = Current::new(renewed);
        }
        Ok(current.ticket.clone())
    }

    async fn attempt(
        &self,
        ticket: &Ticket,
        index: usize,
        partial: &mut Partial,
    ) -> Result<(), Attempt> {
        let part = ticket.parts.get(index).ok_or(Attempt::Missing)?;
        let transfer = self.transfer(part, partial);
        tokio::time::timeout(PART_TIMEOUT, transfer)
            .await
            .unwrap_or(Err(Attempt::Late))
    }

    /// Brings what is missing of a part, as far as it comes.
    async fn transfer(&self, part: &TicketPart, partial: &mut Partial) -> Result<(), Attempt> {
        // Errors of the client name the host at most; the address itself is a secret.
        let failed =
            |error: &(dyn std::error::Error + 'static)| Attempt::Transfer(daemon::chain(error));
        let mut request = Request::get(part.url.reveal().as_str());
        let rest = partial.rest();
        if let Some((from, etag)) = &rest {
            request = request
                .header(header::RANGE, format!("bytes={from}-"))
                .header(header::IF_RANGE, etag);
        }
        let request = request
            .body(Empty::new())
            .map_err(|_| Attempt::Transfer("the ticket's address is malformed".to_owned()))?;
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| failed(&error))?;
        match answer.status() {
            StatusCode::OK => partial.begin(answer.headers()),
            StatusCode::PARTIAL_CONTENT if goes_on(&rest, answer.headers()) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                *partial = Partial::default();
                return Err(Attempt::Transfer("it came from another place".to_owned()));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Attempt::Missing),
            status => return Err(Attempt::Refused(status)),
        }

        let expected = part.size_bytes;
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failed(&error))?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            if (partial.length() + data.len()) as u64 > expected {
                *partial = Partial::default();
                return Err(Attempt::TooLong { expected });
            }
            partial.take(data);
            // What is not read yet waits at the store: its TCP slows down to our pace.
            self.incoming.pass(data.len()).await;
        }
        match partial.length() as u64 {
            found if found == expected => Ok(()),
            found => Err(Attempt::Length { expected, found }),
        }
    }
}

/// What has come of a part so far. It outlives the attempt that brought it.
#[derive(Default)]
struct Partial {
    /// Whole pieces.
    pieces: Part,
    /// The piece that is being filled.
    last: BytesMut,
    /// What the store calls the object that they are of; none cannot be gone on with.
    etag: Option<HeaderValue>,
}

impl Partial {
    /// An answer begins that holds the part from its first byte on.
    fn begin(&mut self, headers: &HeaderMap) {
        (self.pieces, self.last) = Default::default();
        let is_strong = |etag: &&HeaderValue| etag.as_bytes().starts_with(b"\"");
        self.etag = headers.get(header::ETAG).filter(is_strong).cloned();
    }

    /// Takes what came. It is copied: what came may be a little in the memory of much.
    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.last.capacity() == 0 {
                self.last.reserve(PIECE_BYTES);
            }
            let room = PIECE_BYTES - self.last.len();
            let (now, later) = data.split_at(data.len().min(room));
            self.last.extend_from_slice(now);
            data = later;
            if self.last.len() == PIECE_BYTES {
                self.pieces.push(mem::take(&mut self.last).freeze());
            }
        }
    }

    fn length(&self) -> usize {
        self.pieces.len() * PIECE_BYTES + self.last.len()
    }

    fn whole(mut self) -> Part {
        self.pieces.push(self.last.freeze());
        self.pieces
    }

    /// From which byte to go on, and with what object.
    fn rest(&self) -> Option<(usize, HeaderValue)> {
        let from = Some(self.length()).filter(|from| *from > 0);
        from.zip(self.etag.clone())
    }
}

/// Whether an answer goes on where we asked it to.
fn goes_on(rest: &Option<(usize, HeaderValue)>, headers: &HeaderMap) -> bool {
    let range = headers.get(header::CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
    rest.as_ref()
        .is_some_and(|(from, _)| range.starts_with(&format!("bytes {from}-")))
}

#[async_trait]
impl PartSource for TicketParts {
    async fn fetch(&self, index: usize) -> Result<Part, FetchError> {
        let (mut tries, mut wait) = (1, FIRST_WAIT);
        let (mut refused, mut partial) = (None, Partial::default());
        loop {
            let had = partial.length();
            let failure = match self.ticket(refused.as_ref()).await {
                Ok(ticket) => match self.attempt(&ticket, index, &mut partial).await {
                    Ok(()) => return Ok(partial.whole()),
                    Err(failure) => {
                        let no_more = matches!(failure, Attempt::Refused(StatusCode::FORBIDDEN));
                        refused = no_more.then_some(ticket);
                        failure
                    }
                },
                Err(failure) => failure,
            };
            if partial.length() >= had + PROGRESS_BYTES {
                (tries, wait) = (1, FIRST_WAIT);
            }
            if !failure.may_pass() || tries == TRIES {
                return Err(failure.into());
            }
            let has = partial.length();
            tracing::debug!(image = %self.image.id, part = index, has, %failure, "asking again for the rest of a part");
            tokio::time::sleep(wait).await;
            (tries, wait) = (tries + 1, (wait * 2).min(LONGEST_WAIT));
        }
    }
}

/// A first ticket, asked for again while the CLC is away.
pub(super) async fn first_ticket(
    ask: TicketAsk,
    tickets: &dyn Tickets,
) -> Result<Ticket, CacheError> {
    let image = ask.image.id.clone();
    let (mut wait, mut tries) = (FIRST_WAIT, 1);
    loop {
        match tickets.ticket(ask.clone()).await {
            Ok(ticket) => return Ok(ticket),
            Err(error) if error.code.may_pass() && error.code != Code::NoRoom && tries < TRIES => {
                tracing::debug!(%image, %error, "asking again for a ticket");
            }
            Err(cause) => {
                let image = image.to_string();
                return Err(CacheError::NoTicket { image, cause });
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        tries += 1;
    }
}

/// What the pipeline needs of a ticket. The CLC checked it all at registration; here it is parsed.
fn order_of(ticket: &Ticket, form: Form) -> Result<Order, &'static str> {
    if ticket.parts.is_empty() {
        return Err("it has no parts");
    }
    if ticket.size_bytes > MAX_IMAGE_BYTES {
        return Err("the image is larger than 1 TiB");
    }
    if ticket.parts.iter().any(|part| part.size_bytes > PART_BYTES) {
        return Err("a part is larger than 10 MiB");
    }
    let digest = |text: &str| {
        text.parse::<Sha1Digest>()
            .map_err(|_| "a digest is no SHA-1")
    };
    Ok(Order {
        parts: ticket
            .parts
            .iter()
            .map(|part| digest(&part.digest_sha1))
            .collect::<Result<_, _>>()?,
        bundled_bytes: ticket.bundled_bytes,
        size_bytes: ticket.size_bytes,
        digest: digest(&ticket.digest_sha1)?,
        key: BundleKey::from_hex(ticket.key.reveal(), ticket.iv.reveal())
            .map_err(|_| "the key is not 128 bits in hex")?,
        shape: form.shape(),
    })
}

/// Whether two tickets are for the same bytes.
fn same_bundle(a: &Ticket, b: &Ticket) -> bool {
    let parts = |ticket: &Ticket| -> Vec<(String, u64)> {
        let parts = ticket.parts.iter();
        parts
            .map(|part| (part.digest_sha1.clone(), part.size_bytes))
            .collect()
    };
    a.digest_sha1 == b.digest_sha1 && parts(a) == parts(b)
}
