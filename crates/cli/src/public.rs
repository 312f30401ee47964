//! The public API as a client: S3 requests and query-service calls, signed by version 4. A body that
//! was refused for a passing reason is sent again, whole.

use std::time::Duration;

use bytes::Bytes;
use daemon::clock::SystemClock;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use sigv4::sign::{Key, Target};

use crate::{Failure, environment, trust, xml};

/// An answer that we read whole: lists, manifests, errors.
const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// A part of 10 MiB over a slow line.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Tries of a request that failed for a passing reason, and the pause before the next.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

const DEFAULT_REGION: &str = "mallee-1";
/// The version of EC2's API that our calls are written to.
const EC2_VERSION: &str = "2016-11-15";
/// The version of STS's.
const STS_VERSION: &str = "2011-06-15";

/// UTC in milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemClock::shared().now_ms()
}

/// An address of a service: `http://HOST:PORT/services/compute/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    authority: String,
    path: String,
}

impl Endpoint {
    /// Reads an address.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        let wrong =
            |why: &str| Failure::Usage(format!("{url:?} is no address of the cloud: {why}"));
        let uri: Uri = url.parse().map_err(|_| wrong("it does not parse"))?;
        let scheme = uri
            .scheme()
            .filter(|scheme| [&Scheme::HTTP, &Scheme::HTTPS].contains(scheme))
            .ok_or_else(|| wrong("it must begin with http:// or https://"))?
            .clone();
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("it has no host"))?
            .to_string();
        let path = if uri.path().is_empty() {
            "/"
        } else {
            uri.path()
        };
        Ok(Self {
            scheme,
            authority,
            path: path.to_owned(),
        })
    }

    /// The same cloud's address of another service.
    fn sibling(&self, path: &str) -> Self {
        Self {
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path: path.to_owned(),
        }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The refusal that the body holds.
    pub fn refusal(&self) -> Failure {
        let text = self.text();
        let code = xml::text(&text, "Code").unwrap_or_else(|| self.status.to_string());
        let message = xml::text(&text, "Message").unwrap_or_else(|| "no reason given".to_owned());
        match self.status {
            StatusCode::NOT_FOUND => Failure::NotFound(format!("{message} ({code})")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Forbidden(format!("{message} ({code})"))
            }
            _ => Failure::Refused { code, message },
        }
    }
}

/// The public API, with a key.
#[derive(Clone)]
pub struct Public {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    ec2: Endpoint,
    s3: Endpoint,
    sts: Endpoint,
    bootstrap: Endpoint,
    region: String,
    access_key: String,
    secret: String,
    session_token: Option<String>,
}

impl Public {
    /// Reads addresses and key from the environment. `EC2_URL` or `AWS_ENDPOINT_URL` is enough: the
    /// others follow from it.
    pub fn from_environment() -> Result<Self, Failure> {
        let ec2 = environment::need(&["EC2_URL", "AWS_ENDPOINT_URL"], "the address of the cloud")?;
        let ec2 = Endpoint::parse(&ec2)?;
        let or_sibling = |names: &[&str], path: &str| match environment::first(names) {
            Some(url) => Endpoint::parse(&url),
            None => Ok(ec2.sibling(path)),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust::from_environment()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let builder = &mut Client::builder(TokioExecutor::new());
        Ok(Self {
            http: builder.pool_timer(TokioTimer::new()).build(connector),
            s3: or_sibling(&["S3_URL"], "/services/objectstorage/")?,
            sts: or_sibling(&["TOKEN_URL"], "/services/Tokens/")?,
            bootstrap: or_sibling(&["EUCA_BOOTSTRAP_URL"], "/services/Empyrean/")?,
            region: environment::get("AWS_DEFAULT_REGION").unwrap_or(DEFAULT_REGION.to_owned()),
            access_key: environment::need(
                &["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"],
                "the access key",
            )?,
            secret: environment::need(
                &["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"],
                "the secret key",
            )?,
            session_token: environment::first(&["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]),
            ec2,
        })
    }

    /// One call of EC2; gives its answer as XML.
    pub async fn ec2(&self, action: &str, fields: &[(&str, &str)]) -> Result<String, Failure> {
        self.query(&self.ec2, "ec2", EC2_VERSION, action, fields)
            .await
    }

    /// The account of the key.
    pub async fn account(&self) -> Result<String, Failure> {
        let said = self
            .query(&self.sts, "sts", STS_VERSION, "GetCallerIdentity", &[])
            .await?;
        xml::text(&said, "Account").ok_or_else(|| unreadable("GetCallerIdentity"))
    }

    /// The certificate that bundles are encrypted for, in PEM.
    pub async fn bundling_certificate(&self) -> Result<String, Failure> {
        let action = "DescribeServiceCertificates";
        let fields = [("Format", "pem"), ("FingerprintDigest", "SHA-256")];
        let said = self
            .query(&self.bootstrap, "bootstrap", "eucalyptus", action, &fields)
            .await?;
        let usages = xml::texts(&said, "certificateUsage");
        let at = usages.iter().position(|usage| usage == "image-bundling");
        let certificates = xml::texts(&said, "certificate");
        at.and_then(|at| certificates.into_iter().nth(at))
            .ok_or_else(|| unreadable(action))
    }

    /// How far the cloud's clock is ahead of ours, from one signed call.
    pub async fn skew_ms(&self) -> Result<i64, Failure> {
        let body = form("DescribeRegions", EC2_VERSION, &[]);
        let answer = self
            .send(
                &self.ec2,
                "ec2",
                Method::POST,
                "",
                form_headers(),
                body.into(),
            )
            .await?;
        let date = answer
            .headers
            .get(header::DATE)
            .and_then(|date| date.to_str().ok());
        let skew_ms = match date.map(sigv4::stamp::parse) {
            Some(Ok(theirs_ms)) => theirs_ms - now_ms(),
            _ => 0,
        };
        // A refusal for the clock's sake is the clock's, and that is what is being asked.
        if answer.status.is_success() || skew_ms.abs() > 60_000 {
            Ok(skew_ms)
        } else {
            Err(answer.refusal())
        }
    }

    async fn query(
        &self,
        endpoint: &Endpoint,
        service: &str,
        version: &str,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, Failure> {
        let body = form(action, version, fields);
        let answer = self
            .send(
                endpoint,
                service,
                Method::POST,
                "",
                form_headers(),
                body.into(),
            )
            .await?;
        if answer.status.is_success() {
            Ok(answer.text())
        } else {
            Err(answer.refusal())
        }
    }

    /// One request to S3, tried again while it fails for a passing reason. `path` is `BUCKET` or
    /// `BUCKET/KEY`, not encoded.
    pub async fn s3(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let path = sigv4::encode_path(path.as_bytes());
        let mut tried = 1;
        loop {
            let (method, headers, body) = (method.clone(), headers.clone(), body.clone());
            let answer = self
                .send(&self.s3, "s3", method, &path, headers, body)
                .await;
            let may_pass = match &answer {
                Ok(answer) => answer.status.is_server_error() && answer.status.as_u16() != 501,
                Err(failure) => matches!(failure, Failure::Unreachable(_)),
            };
            if !may_pass || tried == TRIES {
                return answer;
            }
            tokio::time::sleep(PAUSE * tried).await;
            tried += 1;
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        service: &str,
        method: Method,
        below: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let path = match below {
            "" => endpoint.path.clone(),
            below => format!("{}/{below}", endpoint.path.trim_end_matches('/')),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!(
                "{}://{}{path}",
                endpoint.scheme, endpoint.authority
            ))
            .header(header::HOST, &endpoint.authority)
            .header(header::CONTENT_LENGTH, body.len());
        let request = request
            .body(())
            .map_err(|error| Failure::failed("making a request", error))?;
        let mut head = request.into_parts().0;
        head.headers.extend(headers);
        self.sign(&mut head, service, &body)?;

        let unreachable = |why: String| {
            Failure::Unreachable(format!("{} does not answer: {why}", endpoint.authority))
        };
        let exchange = async {
            let request = Request::from_parts(head, Full::from(body));
            let answer = self.http.request(request).await;
            let (head, body) = answer
                .map_err(|error| unreachable(daemon::chain(&error)))?
                .into_parts();
            let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
            let body = body
                .map_err(|error| unreachable(error.to_string()))?
                .to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(REQUEST_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("nothing for {REQUEST_LIMIT:?}"))))
    }

    fn sign(
        &self,
        head: &mut http::request::Parts,
        service: &str,
        body: &Bytes,
    ) -> Result<(), Failure> {
        let key = Key {
            access_key: &self.access_key,
            secret: &self.secret,
            session_token: self.session_token.as_deref(),
        };
        let target = Target {
            region: &self.region,
            service,
        };
        let digest = sigv4::sha256_hex(body);
        sigv4::sign::v4_header(head, key, target, &digest, now_ms())
            .map_err(|error| Failure::Usage(format!("the access key cannot be sent: {error}")))
    }
}

fn form(action: &str, version: &str, fields: &[(&str, &str)]) -> String {
    let all = [("Action", action), ("Version", version)];
    let pairs = all.iter().chain(fields).map(|(name, value)| {
        format!(
            "{}={}",
            sigv4::encode(name.as_bytes()),
            sigv4::encode(value.as_bytes())
        )
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn form_headers() -> HeaderMap {
    let form = http::HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    HeaderMap::from_iter([(header::CONTENT_TYPE, form)])
}

fn unreadable(action: &str) -> Failure {
    Failure::failed(action, "the answer holds nothing that can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_its_scheme_and_its_path() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8773/services/compute/").unwrap();
        assert_eq!(endpoint.authority, "127.0.0.1:8773");
        assert_eq!(endpoint.path, "/services/compute/");
        assert_eq!(Endpoint::parse("http://h").unwrap().path, "/");
        assert_eq!(Endpoint::parse("https://h/").unwrap().scheme, Scheme::HTTPS);
        for url in ["h:8773", "", "ftp://h/"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(
            form("A", "v", &[("Name", "a b&c")]),
            "Action=A&Version=v&Name=a%20b%26c"
        );
    }
}
