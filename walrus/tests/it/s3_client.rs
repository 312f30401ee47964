//! A small S3 client: it signs what it is given and changes nothing, so that tests can send what no
//! SDK would.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sigv4::{sha256_hex, sign, vouch};

use crate::daemon_process::{Key, Walrus, now_ms};

const TARGET: sign::Target<'static> = sign::Target {
    region: "mallee-1",
    service: "s3",
};

/// Nothing that is asked for here takes so long.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The text of the first element of that name.
    pub(crate) fn element(&self, name: &str) -> String {
        let text = self.text();
        let start = text
            .find(&format!("<{name}>"))
            .map(|at| at + name.len() + 2);
        let end = text.find(&format!("</{name}>"));
        start
            .zip(end)
            .map(|(start, end)| text[start..end].to_owned())
            .unwrap_or_default()
    }

    /// All texts of the elements of that name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (start, end) = (format!("<{name}>"), format!("</{name}>"));
        let parts = text
            .split(&start)
            .skip(1)
            .filter_map(|part| part.split_once(&end));
        parts.map(|(inside, _)| inside.to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status.as_u16(), self.element("Code").as_str()),
            (status, code),
            "{}",
            self.text()
        );
        assert!(!self.header("x-amz-request-id").is_empty());
        self
    }
}

/// A signer at one Walrus.
#[derive(Clone)]
pub(crate) struct S3 {
    http: Client<HttpConnector, Full<Bytes>>,
    pub(crate) host: String,
    /// Access key and secret.
    key: Option<(String, String)>,
}

impl S3 {
    pub(crate) fn of(walrus: &Walrus, key: Key) -> Self {
        Self::at(&walrus.s3.to_string(), key.id, key.secret)
    }

    /// At any S3.
    pub(crate) fn at(host: &str, access_key: &str, secret: &str) -> Self {
        Self {
            key: Some((access_key.to_owned(), secret.to_owned())),
            ..Self::nobody_at(host)
        }
    }

    pub(crate) fn anonymous(walrus: &Walrus) -> Self {
        Self::nobody_at(&walrus.s3.to_string())
    }

    fn nobody_at(host: &str) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(tcp);
        Self {
            http,
            host: host.to_owned(),
            key: None,
        }
    }

    /// A request that is signed unless the client is anonymous.
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<Full<Bytes>> {
        let mut builder = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("http://{}{target}", self.host));
        if !headers.iter().any(|(name, _)| *name == "host") {
            builder = builder.header("host", &self.host);
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        if method == "PUT" || method == "POST" {
            builder = builder.header("content-length", body.len());
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        if let Some((access_key, secret)) = &self.key {
            let key = sign::Key {
                access_key,
                secret,
                session_token: None,
            };
            sign::v4_header(&mut head, key, TARGET, &sha256_hex(body), now_ms()).unwrap();
        }
        Request::from_parts(head, Full::from(Bytes::copy_from_slice(body)))
    }

    /// The answer, if there is one.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        match tokio::time::timeout(ANSWER_LIMIT, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_late) => {
                // The client's pool may miss that a server died. One that lives must not be silent.
                let lives = tokio::net::TcpStream::connect(&self.host).await.is_ok();
                assert!(!lives, "walrus is silent for {ANSWER_LIMIT:?}");
                None
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let response = self.http.request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// A GET with a word on where it comes from, and over what, as the front door passes one on.
    pub(crate) async fn get_vouched(
        &self,
        target: &str,
        address: &str,
        tls: &str,
        by: Key,
    ) -> Answer {
        let (mut head, body) = self.request("GET", target, &[], b"").into_parts();
        let origin = vouch::Origin {
            address: address.parse().unwrap(),
            secure: true,
        };
        let key = sign::Key {
            access_key: by.id,
            secret: by.secret,
            session_token: None,
        };
        let word = vouch::vouch(&head, origin, key, now_ms()).unwrap();
        head.headers.insert(vouch::HEADER, word);
        head.headers.insert(vouch::TLS_HEADER, tls.parse().unwrap());
        let request = Request::from_parts(head, body);
        self.send(request).await.expect("walrus answers")
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(self.request(method, target, headers, body))
            .await
            .expect("walrus answers")
    }

    pub(crate) async fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.call("PUT", target, &[], body).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, &[], b"").await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.call("DELETE", target, &[], b"").await
    }
}

/// The status of an unsigned GET, if anybody answers.
pub(crate) async fn plain_get(url: &str) -> Option<u16> {
    let http: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Full::default()).unwrap();
    Some(http.request(request).await.ok()?.status().as_u16())
}

/// What an unsigned GET answers.
pub(crate) async fn plain_text(url: &str) -> String {
    let http: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Full::default()).unwrap();
    let body = http.request(request).await.unwrap().into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(size: usize, seed: u8) -> Vec<u8> {
    (0..size)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}
