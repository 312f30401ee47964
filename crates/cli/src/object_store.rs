//! Any S3 as a client: what copying between two of them needs, streamed, over http or https, signed by
//! version 4. The cloud's own calls are in `public`.

use std::time::Duration;

use bytes::Bytes;
use daemon::public::client_config;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::RootCertStore;
use sigv4::sign::{self, Target};

use crate::{Failure, public::now_ms, trust, xml};

/// A body in either direction.
pub type StoreBody = UnsyncBoxBody<Bytes, BoxError>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A page of a list, and errors.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret: String,
    /// The token of a temporary credential.
    pub session_token: Option<String>,
}

/// A store, with a key.
#[derive(Clone)]
pub struct ObjectStore {
    http: Client<HttpsConnector<HttpConnector>, StoreBody>,
    scheme: String,
    authority: String,
    path: String,
    region: String,
    credentials: Credentials,
}

/// An object as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag without quotes.
    pub etag: String,
}

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// Objects in the order of their keys.
    pub objects: Vec<Listed>,
    /// What to ask for the next page with.
    pub next: Option<String>,
}

impl ObjectStore {
    /// A store at an address: `http://HOST:PORT`, `https://HOST`, perhaps with a path.
    pub fn new(url: &str, region: &str, credentials: Credentials) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::Usage(format!("{url:?} is no address of a store: {why}"));
        let uri: Uri = url.parse().map_err(|_| wrong("it does not parse"))?;
        let scheme = uri
            .scheme_str()
            .filter(|scheme| matches!(*scheme, "http" | "https"));
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        Ok(Self {
            http: client(scheme == Some("https"))?,
            scheme: scheme
                .ok_or_else(|| wrong("it begins with http:// or https://"))?
                .to_owned(),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            credentials,
        })
    }

    /// A page of a bucket's objects.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Page, Failure> {
        let mut query = format!("list-type=2&encoding-type=url&prefix={}", encode(prefix));
        if let Some(token) = after {
            query += &format!("&continuation-token={}", encode(token));
        }
        let text = self.document(Method::GET, bucket, "", &query, "").await?;
        let keys = xml::texts(&text, "Key");
        let (sizes, etags) = (xml::texts(&text, "Size"), xml::texts(&text, "ETag"));
        let unreadable = || Failure::failed("listing", "the answer cannot be read");
        if keys.len() != sizes.len() || keys.len() != etags.len() {
            return Err(unreadable());
        }
        let objects = keys
            .iter()
            .zip(sizes)
            .zip(etags)
            .map(|((key, size), etag)| {
                let key = sigv4::decode(&key.replace('+', " "));
                Some(Listed {
                    key: String::from_utf8(key).ok()?,
                    size: size.parse().ok()?,
                    etag: etag.trim_matches('"').to_owned(),
                })
            });
        Ok(Page {
            objects: objects.collect::<Option<_>>().ok_or_else(unreadable)?,
            next: xml::text(&text, "NextContinuationToken").filter(|token| !token.is_empty()),
        })
    }

    /// What is known of an object, `None` if there is none.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<HeaderMap>, Failure> {
        let answer = self
            .send(Method::HEAD, bucket, key, "", HeaderMap::new(), empty())
            .await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.into_parts().0.headers)),
            status => Err(refused(status, "")),
        }
    }

    /// An object, or a range of it.
    pub async fn get(
        &self,
        bucket: &str,
        key: &str,
        headers: HeaderMap,
    ) -> Result<(HeaderMap, StoreBody), Failure> {
        let answer = self
            .send(Method::GET, bucket, key, "", headers, empty())
            .await?;
        let answer = self.checked(answer).await?;
        let (head, body) = answer.into_parts();
        Ok((head.headers, body))
    }

    /// Writes an object, or with `query` a part of one; answers the entity tag. Headers name the
    /// length.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        query: &str,
        headers: HeaderMap,
        body: StoreBody,
    ) -> Result<String, Failure> {
        let answer = self
            .send(Method::PUT, bucket, key, query, headers, body)
            .await?;
        let answer = self.checked(answer).await?;
        let etag = answer
            .headers()
            .get(header::ETAG)
            .and_then(|etag| etag.to_str().ok());
        Ok(etag.unwrap_or_default().trim_matches('"').to_owned())
    }

    /// Makes a bucket; one that is ours already is no error.
    pub async fn make_bucket(&self, bucket: &str) -> Result<(), Failure> {
        match self.document(Method::PUT, bucket, "", "", "").await {
            Err(Failure::Refused { code, .. }) if code == "BucketAlreadyOwnedByYou" => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// Begins an upload in parts and answers its id.
    pub async fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        headers: HeaderMap,
    ) -> Result<String, Failure> {
        let answer = self
            .send(Method::POST, bucket, key, "uploads", headers, empty())
            .await?;
        let text = read(self.checked(answer).await?.into_body()).await?;
        xml::text(&text, "UploadId")
            .ok_or_else(|| Failure::failed("beginning an upload", "no id came"))
    }

    /// Makes an object of its parts.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: &[String],
    ) -> Result<(), Failure> {
        let part = |(at, etag): (usize, &String)| {
            format!(
                "<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>",
                at + 1
            )
        };
        let parts: String = parts.iter().enumerate().map(part).collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let query = format!("uploadId={}", encode(upload));
        let said = self
            .document(Method::POST, bucket, key, &query, &document)
            .await?;
        // A refusal may come with status 200, behind the spaces that keep the connection alive.
        match xml::text(&said, "Code") {
            Some(code) => Err(Failure::Refused {
                code,
                message: xml::text(&said, "Message").unwrap_or_default(),
            }),
            None => Ok(()),
        }
    }

    async fn document(
        &self,
        method: Method,
        bucket: &str,
        key: &str,
        query: &str,
        body: &str,
    ) -> Result<String, Failure> {
        let body = Full::from(body.to_owned())
            .map_err(|never| match never {})
            .boxed_unsync();
        let answer = self
            .send(method, bucket, key, query, HeaderMap::new(), body)
            .await?;
        read(self.checked(answer).await?.into_body()).await
    }

    async fn checked(&self, answer: Response<StoreBody>) -> Result<Response<StoreBody>, Failure> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = read(answer.into_body()).await.unwrap_or_default();
        Err(refused(status, &text))
    }

    async fn send(
        &self,
        method: Method,
        bucket: &str,
        key: &str,
        query: &str,
        headers: HeaderMap,
        body: StoreBody,
    ) -> Result<Response<StoreBody>, Failure> {
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("/{}", sigv4::encode_path(key.as_bytes()))
        };
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        let uri = format!(
            "{}://{}{}/{bucket}{key}{query}",
            self.scheme, self.authority, self.path
        );
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, &self.authority);
        let request = request
            .body(())
            .map_err(|error| Failure::failed("making a request", error))?;
        let (mut head, ()) = request.into_parts();
        head.headers.extend(headers);

        let key = sign::Key {
            access_key: &self.credentials.access_key,
            secret: &self.credentials.secret,
            session_token: self.credentials.session_token.as_deref(),
        };
        let target = Target {
            region: &self.region,
            service: "s3",
        };
        sign::v4_header(&mut head, key, target, "UNSIGNED-PAYLOAD", now_ms())
            .map_err(|error| Failure::Usage(format!("the access key cannot be sent: {error}")))?;
        let answer = self.http.request(Request::from_parts(head, body)).await;
        let answer = answer.map_err(|error| {
            Failure::Unreachable(format!(
                "{} does not answer: {}",
                self.authority,
                daemon::chain(&error)
            ))
        })?;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

fn client(tls: bool) -> Result<Client<HttpsConnector<HttpConnector>, StoreBody>, Failure> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_LIMIT));
    http.enforce_http(false);
    let config = match tls {
        true => trust::from_environment()?,
        false => client_config(RootCertStore::empty()),
    };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector))
}

fn encode(text: &str) -> String {
    sigv4::encode(text.as_bytes())
}

/// No body.
pub fn empty() -> StoreBody {
    Full::default()
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn read(body: StoreBody) -> Result<String, Failure> {
    let bytes = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await;
    let bytes =
        bytes.map_err(|error| Failure::Unreachable(format!("an answer was cut off: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes.to_bytes()).into_owned())
}

fn refused(status: StatusCode, text: &str) -> Failure {
    let code = xml::text(text, "Code").unwrap_or_else(|| status.to_string());
    let message = xml::text(text, "Message").unwrap_or_else(|| "no reason given".to_owned());
    Failure::Refused { code, message }
}
