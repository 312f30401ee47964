//! The signers: what the administrator's command, the tickets of image parts and the tests use.
//! They make the documented form and no other.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    Received, decode, encode, encode_path,
    hash::{hmac_sha1, hmac_sha256},
    stamp,
    v4::{self, Scope, UNSIGNED_PAYLOAD, join_fields},
};

/// Headers that proxies and HTTP libraries change on the way, and that nobody signs.
const NEVER_SIGNED: [&str; 6] = [
    "authorization",
    "connection",
    "expect",
    "transfer-encoding",
    "user-agent",
    "x-forwarded-for",
];

/// Who signs.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The access key id.
    pub access_key: &'a str,
    /// Its secret.
    pub secret: &'a str,
    /// The token of a temporary credential.
    pub session_token: Option<&'a str>,
}

/// For what.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Any text; the cloud's own region by habit.
    pub region: &'a str,
    /// `ec2`, `s3`, `iam`, `sts`, `bootstrap`.
    pub service: &'a str,
}

impl Target<'_> {
    fn scope(&self, now_ms: i64) -> Scope {
        let (region, service) = (self.region.to_owned(), self.service.to_owned());
        Scope {
            day: stamp::day_text(now_ms),
            region,
            service,
        }
    }
}

/// Signs a request by version 4: adds `x-amz-date`, `x-amz-content-sha256`, `authorization` and, with
/// a temporary credential, its token. `payload_hash` is the hex SHA-256 of the body, or one of S3's
/// words. The `host` header must be there.
///
/// Fails if the key or region cannot stand in a header.
pub fn v4_header(
    head: &mut http::request::Parts,
    key: Key<'_>,
    target: Target<'_>,
    payload_hash: &str,
    now_ms: i64,
) -> Result<(), http::header::InvalidHeaderValue> {
    let scope = target.scope(now_ms);
    let stamp = stamp::basic_text(now_ms);
    head.headers
        .insert("x-amz-date", HeaderValue::from_str(&stamp)?);
    head.headers
        .insert("x-amz-content-sha256", HeaderValue::from_str(payload_hash)?);
    if let Some(token) = key.session_token {
        head.headers
            .insert("x-amz-security-token", HeaderValue::from_str(token)?);
    }

    let signed_headers = names_to_sign(&head.headers);
    let received = Received::of(head);
    let path = documented_path(received.path, target.service);
    let query = v4::query_forms(&received.query.replace('+', "%2B")).swap_remove(0);
    let canonical = v4::canonical_request(
        received.method,
        &path,
        &query,
        &head.headers,
        &signed_headers,
        payload_hash,
    );
    let signature = signature(&scope, &stamp, key.secret, &canonical);
    let authorization = format!(
        "{} Credential={}/{}, SignedHeaders={}, Signature={signature}",
        v4::ALGORITHM,
        key.access_key,
        scope.text(),
        signed_headers.join(";"),
    );
    head.headers.insert(
        http::header::AUTHORIZATION,
        HeaderValue::from_str(&authorization)?,
    );
    Ok(())
}

fn names_to_sign(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|name| !NEVER_SIGNED.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

fn documented_path(path: &str, service: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    if service == "s3" {
        encode_path(&decode(path))
    } else {
        encode_path(path.as_bytes())
    }
}

fn signature(scope: &Scope, stamp: &str, secret: &str, canonical: &[u8]) -> String {
    let text = v4::string_to_sign(stamp, scope, canonical);
    hex::encode(hmac_sha256(&scope.signing_key(secret), text.as_bytes()))
}

/// What a presigned request is.
#[derive(Debug, Clone, Copy)]
pub struct Presign<'a> {
    /// `GET`, `PUT`, ...
    pub method: &'a str,
    /// The host with its port, as the client will send it.
    pub host: &'a str,
    /// The path, percent-encoded as it will be sent.
    pub path: &'a str,
    /// The rest of the query, encoded.
    pub query: &'a str,
    /// Headers besides the host that the request must have, just so: names in lower case, sorted.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long it is good for.
    pub expires_secs: i64,
}

/// Signs a request by version 4 in its query; gives path and query. The payload is left unsigned.
pub fn v4_presign(ask: Presign<'_>, key: Key<'_>, target: Target<'_>, now_ms: i64) -> String {
    let scope = target.scope(now_ms);
    let stamp = stamp::basic_text(now_ms);
    let credential = encode(format!("{}/{}", key.access_key, scope.text()).as_bytes());
    let names = ask.headers.iter().map(|(name, _)| *name);
    let signed: Vec<String> = std::iter::once("host")
        .chain(names)
        .map(str::to_owned)
        .collect();
    let mut query = format!(
        "X-Amz-Algorithm={}&X-Amz-Credential={credential}&X-Amz-Date={stamp}&X-Amz-Expires={}\
         &X-Amz-SignedHeaders={}",
        v4::ALGORITHM,
        ask.expires_secs,
        encode(signed.join(";").as_bytes()),
    );
    if let Some(token) = key.session_token {
        query.push_str("&X-Amz-Security-Token=");
        query.push_str(&encode(token.as_bytes()));
    }
    if !ask.query.is_empty() {
        query = format!("{}&{query}", ask.query);
    }

    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(ask.host) {
        headers.insert(http::header::HOST, host);
    }
    for (name, value) in ask.headers {
        let pair = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        );
        if let (Ok(name), Ok(value)) = pair {
            headers.insert(name, value);
        }
    }
    let payload = if target.service == "s3" {
        UNSIGNED_PAYLOAD
    } else {
        crate::hash::EMPTY_SHA256
    };
    let canonical = v4::canonical_request(
        ask.method,
        &documented_path(ask.path, target.service),
        &v4::query_forms(&query.replace('+', "%2B")).swap_remove(0),
        &headers,
        &signed,
        payload,
    );
    let signature = signature(&scope, &stamp, key.secret, &canonical);
    format!("{}?{query}&X-Amz-Signature={signature}", ask.path)
}

/// Signs a POST policy, in base64, by version 2: what goes into the field `Signature`.
pub fn v2_policy(policy: &str, secret: &str) -> String {
    STANDARD.encode(hmac_sha1(secret.as_bytes(), policy.as_bytes()))
}

/// Signs the fields of a query-service request by version 2 (HmacSHA256) and gives them encoded, for
/// the query or the body, the signature last.
pub fn v2_query(
    method: &str,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
    key: Key<'_>,
    now_ms: i64,
) -> String {
    let stamp = stamp::extended_text(now_ms);
    let own = [
        ("AWSAccessKeyId", key.access_key),
        ("SignatureVersion", "2"),
        ("SignatureMethod", "HmacSHA256"),
        ("Timestamp", stamp.as_str()),
    ];
    let token = key.session_token.map(|token| ("SecurityToken", token));
    let mut all: Vec<(&str, &str)> = fields.iter().copied().chain(own).chain(token).collect();
    all.sort_unstable();
    let encoded: Vec<(String, String)> = all
        .iter()
        .map(|(n, v)| (encode(n.as_bytes()), encode(v.as_bytes())))
        .collect();
    let body = join_fields(&encoded);

    let text = format!("{method}\n{}\n{path}\n{body}", host.to_ascii_lowercase());
    let signature = STANDARD.encode(hmac_sha256(key.secret.as_bytes(), text.as_bytes()));
    format!("{body}&Signature={}", encode(signature.as_bytes()))
}

/// Signs a request to S3 by version 2: adds `authorization`. The `date` header must be there;
/// `resource` is the canonical resource, with its sub-resources.
///
/// Fails if the key cannot stand in a header.
pub fn v2_s3_header(
    head: &mut http::request::Parts,
    resource: &str,
    key: Key<'_>,
) -> Result<(), http::header::InvalidHeaderValue> {
    if let Some(token) = key.session_token {
        head.headers
            .insert("x-amz-security-token", HeaderValue::from_str(token)?);
    }
    let received = Received::of(head);
    let has_amz_date = received.header("x-amz-date").is_some();
    let date = received
        .header("date")
        .filter(|_| !has_amz_date)
        .unwrap_or("");
    let text = crate::v2::s3_string_to_sign(&received, date, resource);
    let signature = STANDARD.encode(hmac_sha1(key.secret.as_bytes(), &text));
    let value = HeaderValue::from_str(&format!("AWS {}:{signature}", key.access_key))?;
    head.headers.insert(http::header::AUTHORIZATION, value);
    Ok(())
}
