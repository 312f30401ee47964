//! What a stranger's bytes meet first at Walrus, as functions that may refuse and must not panic. The
//! fuzz targets call them, and so do the tests, with every file of the corpora.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::request::Parts;
use s3::{
    Key, Request,
    acl::{People, Person},
    address::Domains,
    copy_source::CopySource,
    documents::{access, bucket, delete, logging, multipart, notification, versions, website},
    post::policy::PostPolicy,
};
use sigv4::{Claim, Received, Rules};
use types::AccountId;

/// 2026-11-28T12:00:00Z: what the corpora are signed at.
const NOW_MS: i64 = 1_795_867_200_000;
const SECRET: &str = "secret";

/// A request's head as it is on the wire, up to the empty line; the rest is its body.
fn parts(data: &[u8]) -> Option<(Parts, &[u8])> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = match end {
        Some(at) => (&data[..at], &data[at + 4..]),
        None => (data, &data[data.len()..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some((request.body(()).ok()?.into_parts().0, body))
}

/// Which operation on which bucket and key.
pub fn route(data: &[u8]) {
    let Some((parts, _)) = parts(data) else {
        return;
    };
    let domains = Domains::new(["s3.localhost".to_owned()]);
    if let Ok(request) = Request::parse(&parts, &domains) {
        assert!(
            !request.resource.is_empty(),
            "an answer names what it is about"
        );
    }
}

/// Who asks; and the body in its chunks, in two halves.
pub fn signature(data: &[u8]) {
    is_signed(data);
}

/// Whether it is signed, by the secret that the corpus has, and its body with it.
pub fn is_signed(data: &[u8]) -> bool {
    let Some((parts, body)) = parts(data) else {
        return false;
    };
    let received = Received::of(&parts);
    let Ok(Some(claim)) = Claim::read(&received, "", &Rules::S3) else {
        return false;
    };
    let Ok(verified) = claim.verify(&received, "", SECRET, &Rules::S3, NOW_MS) else {
        return false;
    };
    let decoded = parts.headers.get("x-amz-decoded-content-length");
    let decoded = decoded.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut verifier = verified.body(decoded.or(Some(body.len() as u64)));
    let mut payload = 0;
    for half in [&body[..body.len() / 2], &body[body.len() / 2..]] {
        let mut input = Bytes::copy_from_slice(half);
        loop {
            match verifier.take(&mut input) {
                Ok(Some(piece)) => payload += piece.len(),
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    assert!(payload <= body.len(), "bytes out of nothing");
    verifier.finish().is_ok()
}

/// A directory without anybody in it.
struct Nobody;

impl People for Nobody {
    fn person(&self, account: &AccountId) -> Person {
        Person {
            id: account.to_string(),
            name: String::new(),
        }
    }

    fn find_account(&self, _: &str) -> Option<AccountId> {
        None
    }
}

/// The documents that clients send.
pub fn document(data: &[u8]) {
    let owner = "111111111111"
        .parse()
        .expect("twelve digits are an account");
    let _ = access::read_acl(data, &owner, &Nobody);
    let _ = bucket::read_location(data);
    let _ = multipart::read_parts(data);
    let _ = versions::Versioning::read(data);
    if let Ok(site) = website::Website::read(data) {
        let again = website::Website::read(site.write().as_bytes());
        assert_eq!(again.as_ref(), Ok(&site), "what is kept is given back");
    }
    let _ = PostPolicy::parse(&STANDARD.encode(data));
    if let Ok(delete) = delete::Delete::read(data) {
        assert!(delete.objects.len() <= 1000, "more than S3 takes at once");
    }
    // What is kept is what was said: it is written, and read again.
    if let Ok(logging) = logging::Logging::read(data) {
        let text = logging::Logging::write(logging.as_ref());
        assert_eq!(logging::Logging::read(text.as_bytes()).ok(), Some(logging));
    }
    if let Ok(rules) = notification::Notifications::read(data) {
        let text = notification::Notifications::write(Some(&rules));
        let again = notification::Notifications::read(text.as_bytes());
        assert_eq!(again.ok(), Some(rules));
    }
}

/// Where a copy comes from.
pub fn copy_source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(source) = CopySource::parse(text) {
        let key = Key::parse(source.key.as_str()).expect("a key is one however it is read");
        assert_eq!(key, source.key);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        assert!(
            source.bucket.as_str().bytes().all(is_name),
            "{:?}",
            source.bucket
        );
    }
}
