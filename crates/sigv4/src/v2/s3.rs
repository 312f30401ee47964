//! Version 2 of S3: `Authorization: AWS KEY:SIGNATURE`, or `AWSAccessKeyId`, `Expires` and
//! `Signature` in the query.
//!
//! The rule: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Received, Refused, Rules,
    claim::{Proven, check_window},
    decode,
    encode::{decode_form, pairs},
    encode_path,
    hash::{hmac_sha1, same},
    received::{S3_PREFIXES, text},
    refused::Expected,
    stamp,
    v4::body::Promise,
};

/// The fields of a query that belong to the resource, and so to the signature (botocore's list).
const SUB_RESOURCES: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
    "encryption",
];

/// What a version 2 request to S3 says.
#[derive(Debug, Clone)]
pub(crate) struct S3Claim {
    signature: String,
    /// The date line of the string to sign, as it was sent.
    date: String,
    life: Life,
}

#[derive(Debug, Clone, Copy)]
enum Life {
    Stamped(i64),
    Until(i64),
}

impl S3Claim {
    /// `rest` is what follows `AWS ` in the header.
    pub(crate) fn from_header(
        received: &Received<'_>,
        rest: &str,
    ) -> Result<(String, Option<String>, Self), Refused> {
        let (key, signature) = rest
            .trim()
            .rsplit_once(':')
            .filter(|(key, signature)| !key.is_empty() && !signature.is_empty())
            .ok_or_else(|| Refused::Malformed("the authorization header is malformed".into()))?;
        let amz_date = received.header("x-amz-date");
        let plain_date = received.header("date");
        let date = amz_date.or(plain_date).ok_or(Refused::Missing("Date"))?;
        let claim = Self {
            signature: signature.to_owned(),
            // With x-amz-date the date line is empty: the header is signed among the x-amz- ones.
            date: if amz_date.is_some() {
                String::new()
            } else {
                date.to_owned()
            },
            life: Life::Stamped(stamp::parse(date)?),
        };
        let token = received.header("x-amz-security-token").map(str::to_owned);
        Ok((key.to_owned(), token, claim))
    }

    pub(crate) fn from_query(
        received: &Received<'_>,
    ) -> Result<(String, Option<String>, Self), Refused> {
        let field = |name: &'static str| -> Result<String, Refused> {
            let mut found =
                pairs(received.query).filter(|(key, _)| decode_form(key) == name.as_bytes());
            let value = found.next().ok_or(Refused::Missing(name))?.1;
            match found.next() {
                Some(_) => Err(Refused::Duplicated(name.to_owned())),
                None => Ok(text(decode(value))),
            }
        };
        let key = field("AWSAccessKeyId")?;
        let expires = field("Expires")?;
        let secs: i64 = expires
            .parse()
            .map_err(|_| Refused::BadDate(expires.clone()))?;
        let claim = Self {
            signature: field("Signature")?,
            date: expires,
            life: Life::Until(secs.saturating_mul(1000)),
        };
        Ok((key, received.query_field("x-amz-security-token"), claim))
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        secret: &str,
        rules: &Rules,
        now_ms: i64,
    ) -> Result<Proven, Refused> {
        let (signed_at_ms, valid_until_ms) = match self.life {
            Life::Stamped(ms) => {
                check_window(ms, now_ms, rules.window_ms)?;
                (Some(ms), ms + rules.window_ms)
            }
            Life::Until(expired_ms) if now_ms >= expired_ms => {
                return Err(Refused::Expired { expired_ms, now_ms });
            }
            // Version 2 has no limit here: euca2ools' import asks for thirty days.
            Life::Until(ms) => (None, ms),
        };
        self.check_signature(received, secret)?;
        let signature = self.signature.clone();
        Ok(Proven {
            signature,
            signed_at_ms,
            valid_until_ms,
            promise: Promise::Nothing,
        })
    }

    fn check_signature(&self, received: &Received<'_>, secret: &str) -> Result<(), Refused> {
        let mut documented = None;
        for resource in resource_forms(received) {
            let string_to_sign = self.string_to_sign(received, &resource);
            let expected = STANDARD.encode(hmac_sha1(secret.as_bytes(), &string_to_sign));
            if same(self.signature.as_bytes(), expected.as_bytes()) {
                return Ok(());
            }
            documented.get_or_insert(string_to_sign);
        }
        Err(Refused::Mismatch(Box::new(Expected {
            signature: self.signature.chars().take(128).collect(),
            string_to_sign: documented.unwrap_or_default(),
            canonical_request: None,
        })))
    }

    fn string_to_sign(&self, received: &Received<'_>, resource: &str) -> Vec<u8> {
        string_to_sign(received, &self.date, resource)
    }
}

/// The string to sign, as bytes: a header may hold any.
pub(crate) fn string_to_sign(received: &Received<'_>, date: &str, resource: &str) -> Vec<u8> {
    let line = |name: &str| -> Vec<u8> {
        match received.headers.get(name) {
            Some(value) => value.as_bytes().trim_ascii().to_vec(),
            None => received.query_field(name).unwrap_or_default().into_bytes(),
        }
    };
    let mut out = format!("{}\n", received.method).into_bytes();
    for value in [
        line("content-md5"),
        line("content-type"),
        date.as_bytes().to_vec(),
    ] {
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    for (name, value) in amz_headers(received) {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    out.extend_from_slice(resource.as_bytes());
    out
}

/// The `x-amz-` headers, sorted, values of one name joined by commas. A presigned request carries
/// them in its query.
fn amz_headers(received: &Received<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut out: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |name: String, value: &[u8]| {
        if !name.starts_with("x-amz-") {
            return;
        }
        match out.entry(name) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(value.trim_ascii().to_vec());
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                slot.get_mut().push(b',');
                slot.get_mut().extend_from_slice(value.trim_ascii());
            }
        }
    };
    for (name, value) in received.headers {
        add(name.as_str().to_owned(), value.as_bytes());
    }
    for (name, value) in pairs(received.query) {
        add(text(decode(name)).to_ascii_lowercase(), &decode(value));
    }
    out
}

/// The resources that an honest client may have signed, the documented one first: the path as sent
/// or encoded anew, whole or (euca2ools) without the endpoint's own part; sub-resources decoded or
/// as sent. A bucket that the host names stands before all of them: version 2 does not sign the
/// host, so without it one signature would fit every bucket.
fn resource_forms(received: &Received<'_>) -> Vec<String> {
    let bucket = received.host_bucket.map(|bucket| format!("/{bucket}"));
    let bucket = bucket.unwrap_or_default();
    let mut paths: Vec<String> = Vec::new();
    let mut add = |path: &str| {
        let path = format!("{bucket}{path}");
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    for path in [
        received.path.to_owned(),
        encode_path(&decode(received.path)),
    ] {
        let stripped = S3_PREFIXES
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix));
        add(&path);
        match stripped {
            Some("") => add("/"),
            Some(rest) if rest.starts_with('/') => add(rest),
            _ => {}
        }
    }
    // boto ends the path of a bucket with a slash that it does not send.
    let buckets: Vec<String> = paths
        .iter()
        .filter(|path| is_bucket(path))
        .cloned()
        .collect();
    paths.extend(buckets.into_iter().map(|path| path + "/"));
    let queries = sub_resource_forms(received.query);
    paths
        .iter()
        .flat_map(|path| queries.iter().map(move |query| format!("{path}{query}")))
        .collect()
}

fn is_bucket(path: &str) -> bool {
    path.len() > 1 && path[1..].split('/').count() == 1
}

/// Names are decoded first, as the service does: `%61cl` is a sub-resource too.
fn sub_resource_forms(query: &str) -> Vec<String> {
    let mut fields: Vec<(String, &str)> = pairs(query)
        .map(|(name, value)| (text(decode_form(name)), value))
        .filter(|(name, _)| SUB_RESOURCES.contains(&name.as_str()))
        .collect();
    if fields.is_empty() {
        return vec![String::new()];
    }
    fields.sort_unstable();
    let join = |value_of: fn(&str) -> String| {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| match *value {
                "" => name.clone(),
                value => format!("{name}={}", value_of(value)),
            })
            .collect();
        format!("?{}", fields.join("&"))
    };
    let (decoded, sent) = (join(|value| text(decode(value))), join(str::to_owned));
    if decoded == sent {
        vec![decoded]
    } else {
        vec![decoded, sent]
    }
}
