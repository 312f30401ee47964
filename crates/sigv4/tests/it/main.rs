//! Signatures as AWS published them, as its own signer makes them, and as old clients send them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod body;
mod clients;
mod oracle;
mod vectors;

use http::{HeaderMap, HeaderName, HeaderValue};
use sigv4::{Claim, Received, Refused, Rules, Verified};

/// A request in plain pieces.
#[derive(Clone, Default)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) host_bucket: Option<&'static str>,
}

impl Ask {
    pub(crate) fn new(method: &'static str, path: &str, query: &str) -> Self {
        Self {
            method,
            path: path.into(),
            query: query.into(),
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn verify(
        &self,
        secret: &str,
        rules: &Rules,
        now: &str,
    ) -> Result<Verified, Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let received = Received {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            host_bucket: self.host_bucket,
        };
        let claim = Claim::read(&received, &self.body, rules)?.expect("the request is signed");
        claim.verify(
            &received,
            &self.body,
            secret,
            rules,
            sigv4::stamp::parse(now).unwrap(),
        )
    }
}
