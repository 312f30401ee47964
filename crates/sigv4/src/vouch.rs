//! Where a request comes from, as the CLC's front door vouches for it to Walrus: policies may ask for
//! it (`aws:SourceIp`, `aws:SecureTransport`), and Walrus sees only the connection of the front door.
//!
//! ```text
//! x-mallee-client: ACCESS_KEY SCHEME ADDRESS UNIX_MS HMAC-SHA256(secret, purpose, SCHEME, ADDRESS,
//!                  UNIX_MS, method, target, authorization)
//! ```
//!
//! The key is the cloud's own, which only the CLC and Walrus have. The word holds for one request
//! within the window of S3's signatures: whoever saw it cannot put it on another. No client signs
//! this header, and what they signed is untouched by it.

use std::net::IpAddr;

use http::{HeaderValue, header, request::Parts};

use crate::{hash, hash::hmac_sha256, received::S3_WINDOW_MS, sign::Key};

/// The header. One that a client sends never reaches Walrus through the front door.
pub const HEADER: &str = "x-mallee-client";
/// Beside a word that holds: what the client's handshake agreed on, for access logs. Nothing is
/// decided by it.
pub const TLS_HEADER: &str = "x-mallee-client-tls";
/// What the key signs here, so that it cannot be taken for anything else that it signs.
const PURPOSE: &str = "mallee client 1";

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: IpAddr,
    /// Whether it came over https.
    pub secure: bool,
}

impl Origin {
    fn scheme(self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// What the front door says: this request comes from there. `None` if the key cannot stand in a
/// header.
pub fn vouch(head: &Parts, origin: Origin, key: Key<'_>, now_ms: i64) -> Option<HeaderValue> {
    let mac = hex::encode(mac(head, origin, now_ms, key.secret));
    let (scheme, address) = (origin.scheme(), origin.address);
    let text = format!("{} {scheme} {address} {now_ms} {mac}", key.access_key);
    HeaderValue::from_str(&text).ok()
}

/// A word that is yet to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched<'a> {
    /// By whom. It must be the cloud's own key.
    pub access_key: &'a str,
    origin: Origin,
    at_ms: i64,
    mac: [u8; 32],
}

impl<'a> Vouched<'a> {
    /// Reads the header's value; `None` if the front door did not write it.
    pub fn read(value: &'a HeaderValue) -> Option<Self> {
        let mut words = value.to_str().ok()?.split(' ');
        let mut next = || words.next();
        let (access_key, scheme) = (next()?, next()?);
        let (address, at_ms, hex_mac) = (next()?, next()?, next()?);
        let mut mac = [0; 32];
        hex::decode_to_slice(hex_mac, &mut mac).ok()?;
        let read = Self {
            access_key,
            origin: Origin {
                address: address.parse().ok()?,
                secure: match scheme {
                    "https" => true,
                    "http" => false,
                    _ => return None,
                },
            },
            at_ms: at_ms.parse().ok()?,
            mac,
        };
        next().is_none().then_some(read)
    }

    /// The origin, if the word was given with that secret, for this request, just now.
    pub fn verify(&self, head: &Parts, secret: &str, now_ms: i64) -> Option<Origin> {
        let is_recent = now_ms.abs_diff(self.at_ms) <= S3_WINDOW_MS.unsigned_abs();
        let expected = mac(head, self.origin, self.at_ms, secret);
        (hash::same(&self.mac, &expected) && is_recent).then_some(self.origin)
    }
}

fn mac(head: &Parts, origin: Origin, at_ms: i64, secret: &str) -> [u8; 32] {
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let stamp = at_ms.to_string();
    let address = origin.address.to_string();
    let authorization = head.headers.get(header::AUTHORIZATION);
    let parts: [&[u8]; 7] = [
        PURPOSE.as_bytes(),
        origin.scheme().as_bytes(),
        address.as_bytes(),
        stamp.as_bytes(),
        head.method.as_str().as_bytes(),
        target.as_bytes(),
        // Last, for it is the one that could have a newline in it.
        authorization.map_or(b"", HeaderValue::as_bytes),
    ];
    hmac_sha256(secret.as_bytes(), &parts.join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key<'static> = Key {
        access_key: "AKIDSYSTEM",
        secret: "of the cloud",
        session_token: None,
    };
    const NOW_MS: i64 = 1_764_000_000_000;

    fn head(method: &str, target: &str, authorization: &str) -> Parts {
        let request = http::Request::builder().method(method).uri(target);
        let request = request.header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    fn from(address: &str) -> Origin {
        Origin {
            address: address.parse().unwrap(),
            secure: true,
        }
    }

    #[test]
    fn a_word_holds_for_its_request_and_its_time_only() {
        let origin = from("203.0.113.7");
        let mine = head("GET", "/b/k?x=1", "AWS a:b");
        let value = vouch(&mine, origin, KEY, NOW_MS).unwrap();
        let word = Vouched::read(&value).unwrap();
        assert_eq!(word.access_key, KEY.access_key);
        assert_eq!(word.verify(&mine, KEY.secret, NOW_MS + 1), Some(origin));
        // As the front door sends it: with an authority in front.
        let passed = head("GET", "http://walrus:8779/b/k?x=1", "AWS a:b");
        assert_eq!(word.verify(&passed, KEY.secret, NOW_MS), Some(origin));

        for other in [
            head("PUT", "/b/k?x=1", "AWS a:b"),
            head("GET", "/b/k?x=2", "AWS a:b"),
            head("GET", "/b/k?x=1", "AWS a:c"),
        ] {
            assert_eq!(word.verify(&other, KEY.secret, NOW_MS), None, "{other:?}");
        }
        assert_eq!(word.verify(&mine, "guessed", NOW_MS), None);
        for late in [S3_WINDOW_MS + 1, -S3_WINDOW_MS - 1, i64::MAX - NOW_MS] {
            assert_eq!(word.verify(&mine, KEY.secret, NOW_MS + late), None);
        }
    }

    #[test]
    fn an_address_that_was_changed_is_not_believed() {
        let mine = head("GET", "/b/k", "");
        let value = vouch(&mine, from("203.0.113.7"), KEY, NOW_MS).unwrap();
        for (was, is) in [("203.0.113.7", "10.0.0.1"), ("https", "http")] {
            let forged = value.to_str().unwrap().replace(was, is);
            let forged = HeaderValue::from_str(&forged).unwrap();
            let word = Vouched::read(&forged).unwrap();
            assert_eq!(word.verify(&mine, KEY.secret, NOW_MS), None);
        }
    }

    #[test]
    fn what_the_front_door_never_writes_is_no_word() {
        for odd in [
            "",
            "10.0.0.1",
            "a http 10.0.0.1 1 ff",
            "a http b 1 ff",
            "a ftp 10.0.0.1 1 ff",
            "a http 10.0.0.1",
        ] {
            let value = HeaderValue::from_str(odd).unwrap();
            assert_eq!(Vouched::read(&value), None, "{odd:?}");
        }
        let long = format!("a 10.0.0.1 1 {} more", "00".repeat(32));
        assert_eq!(Vouched::read(&HeaderValue::from_str(&long).unwrap()), None);
    }
}
