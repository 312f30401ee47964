//! A bundle's objects over HTTP, by tickets: put a few at a time, each compared with what the store
//! says it got, the manifest last. What is there already, from a run that was killed, is not sent.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use control::{
    CallError,
    cloud::{BundlePlace, BundleTicket, BundleTicketAsk},
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use md5::{Digest, Md5};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use types::Secret;

use super::{BundleTickets, paced::Paced};
use crate::bandwidth::Direction;

/// Uploads at once: one on the wire while another is being synced by the store; 10 MiB each.
const UPLOADS_MAX: usize = 2;
/// How often the store may get other bytes of an object than were sent: chance does not do it so often.
const DAMAGED_MAX: u32 = 9;
/// Between attempts at what fails for a reason that may pass: it is tried for as long as the task has,
/// whose end drops the whole run. A store or a Cloud Controller may be away for hours.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A part of 10 MiB in two minutes is 90 KB/s: slower than that is down.
const PUT_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An error's XML, which is told to nobody, is read so far to keep the connection.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An HTTP client that uploads.
pub(super) type Http = Client<HttpsConnector<HttpConnector>, Paced>;

/// The client that stores parts: http, and https with the given trust.
pub(super) fn http(tls: &rustls::ClientConfig) -> Http {
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

/// Why something is not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// No ticket.
    #[error("the Cloud Controller gives no ticket: {0}")]
    NoTicket(CallError),
    /// The store refuses.
    #[error("the store refuses {what}: {status}")]
    Refused {
        /// Which object.
        what: String,
        /// What it answered.
        status: StatusCode,
    },
    /// The store cannot be reached, or breaks off.
    #[error("{what} cannot be stored: {why}")]
    Transfer {
        /// Which object.
        what: String,
        /// What happened.
        why: String,
    },
    /// The store got something else.
    #[error("the store got other bytes of {0} than were sent")]
    Damaged(String),
    /// The ticket has no address for it.
    #[error("the ticket has no address for part {0}")]
    NoPlace(usize),
}

impl StoreError {
    /// Whether the user can mend it: a bucket that is not there, a policy that does not suffice.
    pub(super) fn is_the_clients(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_client_error(),
            Self::NoTicket(_) | Self::Transfer { .. } | Self::Damaged(_) | Self::NoPlace(_) => {
                false
            }
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::NoTicket(error) => error.code.may_pass(),
            Self::Transfer { .. } | Self::Damaged(_) => true,
            Self::NoPlace(_) => false,
        }
    }
}

/// Where one bundle goes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    tickets: Arc<dyn BundleTickets>,
    http: Http,
    outgoing: Direction,
    ask: BundleTicketAsk,
    first: Arc<BundleTicket>,
    current: Arc<tokio::sync::Mutex<Current>>,
}

/// The addresses in use: from which part on, and since when.
struct Current {
    ticket: BundleTicket,
    first_part: usize,
    got_at: Instant,
}

impl Current {
    fn place(&self, part: usize) -> Option<&BundlePlace> {
        // At half of its life a ticket may not outlast an attempt at an object.
        let is_fresh = self.got_at.elapsed() < Duration::from_millis(self.ticket.valid_ms) / 2;
        let at = part.checked_sub(self.first_part).filter(|_| is_fresh)?;
        self.ticket.parts.get(at)
    }
}

impl Store {
    /// Gets a first ticket.
    pub(super) async fn open(
        tickets: Arc<dyn BundleTickets>,
        (http, outgoing): (Http, Direction),
        ask: BundleTicketAsk,
    ) -> Result<Self, StoreError> {
        let first = patiently(|| async { ticket(&*tickets, ask.clone()).await }).await?;
        let current = Current {
            ticket: first.clone(),
            first_part: 0,
            got_at: Instant::now(),
        };
        Ok(Self {
            tickets,
            http,
            outgoing,
            ask,
            first: Arc::new(first),
            current: Arc::new(tokio::sync::Mutex::new(current)),
        })
    }

    /// The first ticket: what is the same in all.
    pub(super) fn ticket(&self) -> &BundleTicket {
        &self.first
    }

    /// Stores what comes until the sender is done; the first failure ends it.
    pub(super) async fn put_parts(
        &self,
        mut parts: mpsc::Receiver<(usize, Bytes)>,
    ) -> Result<(), StoreError> {
        let mut uploads = JoinSet::new();
        loop {
            let is_full = uploads.len() == UPLOADS_MAX;
            tokio::select! {
                part = parts.recv(), if !is_full => match part {
                    Some((index, bytes)) => {
                        let store = self.clone();
                        uploads.spawn(async move { store.put_part(index, bytes).await });
                    }
                    None => break,
                },
                Some(done) = uploads.join_next() => finished(done)?,
            }
        }
        while let Some(done) = uploads.join_next().await {
            finished(done)?;
        }
        Ok(())
    }

    /// Stores the manifest: from then on there is a bundle.
    pub(super) async fn put_manifest(&self, text: Bytes) -> Result<(), StoreError> {
        let bytes = &text;
        patiently(|| async {
            let place = ticket(&*self.tickets, self.ask.clone()).await?.manifest;
            self.upload("the manifest", &place, bytes).await
        })
        .await
    }

    async fn put_part(&self, part: usize, bytes: Bytes) -> Result<(), StoreError> {
        let (what, bytes) = (&format!("part {part}"), &bytes);
        // Each attempt asks where to: what was a good address an hour ago is refused for ever.
        patiently(|| async { self.upload(what, &self.place(part).await?, bytes).await }).await
    }

    /// Where a part goes; asks for more addresses if need be.
    async fn place(&self, part: usize) -> Result<BundlePlace, StoreError> {
        let mut current = self.current.lock().await;
        if let Some(place) = current.place(part) {
            return Ok(place.clone());
        }
        let ask = BundleTicketAsk {
            first_part: u32::try_from(part).map_err(|_| StoreError::NoPlace(part))?,
            ..self.ask.clone()
        };
        *current = Current {
            ticket: ticket(&*self.tickets, ask).await?,
            first_part: part,
            got_at: Instant::now(),
        };
        let place = current.ticket.parts.first();
        place.cloned().ok_or(StoreError::NoPlace(part))
    }

    async fn upload(
        &self,
        what: &str,
        place: &BundlePlace,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        // The entity tag of an object that was put whole is its MD5.
        let etag = hex::encode(Md5::digest(bytes));
        if is_there(&self.http, what, &place.head, &etag).await {
            tracing::debug!(what, "is in the store already");
            return Ok(());
        }
        let by = (&self.http, &self.outgoing);
        put(by, what, &place.put, &self.first.acl, bytes, &etag).await
    }
}

async fn ticket(
    tickets: &dyn BundleTickets,
    ask: BundleTicketAsk,
) -> Result<BundleTicket, StoreError> {
    tickets.ticket(ask).await.map_err(StoreError::NoTicket)
}

/// Tries again what failed for a reason that may pass, until whoever waits no longer does.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, StoreError> {
    let (mut wait, mut damaged) = (FIRST_WAIT, 0);
    loop {
        let error = match attempt().await {
            Err(error) if error.may_pass() => error,
            outcome => return outcome,
        };
        damaged += u32::from(matches!(error, StoreError::Damaged(_)));
        if damaged == DAMAGED_MAX {
            return Err(error);
        }
        tracing::debug!(%error, "trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Whether an object of that entity tag is there. What cannot be found out is as good as no.
async fn is_there(http: &Http, what: &str, url: &Secret<String>, etag: &str) -> bool {
    let by = (http, &Direction::default());
    let asked = send(by, what, Method::HEAD, url, HeaderMap::new(), Bytes::new()).await;
    asked.is_ok_and(|(status, headers)| status.is_success() && said(&headers) == Some(etag))
}

async fn put(
    by: (&Http, &Direction),
    what: &str,
    url: &Secret<String>,
    acl: &str,
    bytes: &Bytes,
    etag: &str,
) -> Result<(), StoreError> {
    let mut headers = HeaderMap::new();
    if let Ok(acl) = acl.parse() {
        headers.insert("x-amz-acl", acl);
    }
    let (status, headers) = send(by, what, Method::PUT, url, headers, bytes.clone()).await?;
    if !status.is_success() {
        let what = what.to_owned();
        return Err(StoreError::Refused { what, status });
    }
    match said(&headers) {
        Some(said) if said != etag => Err(StoreError::Damaged(what.to_owned())),
        Some(_) | None => Ok(()),
    }
}

/// The entity tag in an answer, without its quotes.
fn said(headers: &HeaderMap) -> Option<&str> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    Some(etag.trim_matches('"'))
}

async fn send(
    (http, outgoing): (&Http, &Direction),
    what: &str,
    method: Method,
    url: &Secret<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, HeaderMap), StoreError> {
    // Errors of the client name the host at most; the address itself is a secret.
    let failed = |why: String| StoreError::Transfer {
        what: what.to_owned(),
        why,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(url.reveal().as_str())
        .body(Paced::new(bytes, outgoing.clone()))
        .map_err(|_| failed("the ticket's address is malformed".to_owned()))?;
    request.headers_mut().extend(headers);
    let exchange = async {
        let answer = http.request(request).await;
        let (head, body) = answer
            .map_err(|error| failed(daemon::chain(&error)))?
            .into_parts();
        let read = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        read.map_err(|error| failed(error.to_string()))?;
        Ok((head.status, head.headers))
    };
    let late = || failed(format!("no answer within {} s", PUT_TIMEOUT.as_secs()));
    tokio::time::timeout(PUT_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn finished(
    done: Result<Result<(), StoreError>, tokio::task::JoinError>,
) -> Result<(), StoreError> {
    done.unwrap_or_else(|error| {
        Err(StoreError::Transfer {
            what: "a part".to_owned(),
            why: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use control::{Code, cloud::BundleLabel};

    use super::*;

    /// A Cloud Controller that is away for so many asks, and then gives or refuses.
    struct Away {
        asks: AtomicU32,
        refuses: bool,
    }

    #[async_trait::async_trait]
    impl BundleTickets for Away {
        async fn ticket(&self, _: BundleTicketAsk) -> Result<BundleTicket, CallError> {
            match self.asks.fetch_add(1, Ordering::Relaxed) {
                // Hours, at ten seconds each.
                0..1_000 => Err(CallError::new(Code::Unreachable, "connection refused")),
                _ if self.refuses => Err(CallError::new(Code::Conflict, "it has ended")),
                _ => Ok(BundleTicket {
                    key: Secret::new("00".repeat(16)),
                    iv: Secret::new("00".repeat(16)),
                    label: BundleLabel {
                        name: "web".to_owned(),
                        architecture: "x86_64".to_owned(),
                        account: "123456789012".parse().unwrap(),
                        kernel: None,
                        ramdisk: None,
                        cloud_key: Default::default(),
                        user_key: Default::default(),
                    },
                    parts: Vec::new(),
                    manifest: BundlePlace {
                        put: Secret::new("http://127.0.0.1:1/m".to_owned()),
                        head: Secret::new("http://127.0.0.1:1/m".to_owned()),
                    },
                    acl: "ec2-bundle-read".to_owned(),
                    valid_ms: 900_000,
                }),
            }
        }
    }

    async fn opened(refuses: bool) -> Result<Store, StoreError> {
        let asks = AtomicU32::new(0);
        let tickets = Arc::new(Away { asks, refuses });
        let ask = BundleTicketAsk {
            instance: "i-00000001".parse().unwrap(),
            task: "bun-00000001".parse().unwrap(),
            first_part: 0,
        };
        let roots = rustls::RootCertStore::empty();
        let tls = daemon::public::client_config(roots);
        Store::open(tickets, (http(&tls), Direction::default()), ask).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_controller_that_is_away_for_hours_is_waited_for_and_a_refusal_is_not() {
        assert!(opened(false).await.is_ok());
        let Err(refusal) = opened(true).await else {
            panic!("a task that has ended has a ticket");
        };
        assert!(matches!(refusal, StoreError::NoTicket(_)), "{refusal}");
    }
}
