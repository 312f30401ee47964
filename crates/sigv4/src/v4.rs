//! Signature version 4: the scope, the canonical request, the signing key.
//!
//! The rule: <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>.

pub mod body;
pub(crate) mod claim;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::{
    Received, Refused, encode,
    encode::{decode, encode_path, pairs},
    hash::hmac_sha256,
};

/// The one algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The payload is not part of the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const TERMINATOR: &str = "aws4_request";

/// What a version 4 signature is good for: one day, one region, one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `20261123`.
    pub day: String,
    /// Any text: euca2ools sends `undefined-<pid>`. It is a signing input and nothing else.
    pub region: String,
    /// `ec2`, `s3`, ...
    pub service: String,
}

impl Scope {
    /// Reads `KEY/DAY/REGION/SERVICE/aws4_request` into the access key and the scope.
    pub fn parse(credential: &str) -> Result<(String, Scope), Refused> {
        let malformed = || {
            Refused::Malformed(
                "the credential is not of the form KEY/YYYYMMDD/REGION/SERVICE/aws4_request".into(),
            )
        };
        let mut parts = credential.rsplitn(5, '/');
        let mut next = || parts.next().ok_or_else(malformed);
        let (end, service, region, day, key) = (next()?, next()?, next()?, next()?, next()?);

        let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
        if end != TERMINATOR || !is_day || key.is_empty() || service.is_empty() {
            return Err(malformed());
        }
        let scope = Scope {
            day: day.into(),
            region: region.into(),
            service: service.to_lowercase(),
        };
        Ok((key.to_owned(), scope))
    }

    /// The scope as it stands in the string to sign.
    pub fn text(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.day, self.region, self.service)
    }

    /// The key for this scope, derived from the secret.
    pub fn signing_key(&self, secret: &str) -> [u8; 32] {
        let day = hmac_sha256(format!("AWS4{secret}").as_bytes(), self.day.as_bytes());
        let region = hmac_sha256(&day, self.region.as_bytes());
        let service = hmac_sha256(&region, self.service.as_bytes());
        hmac_sha256(&service, TERMINATOR.as_bytes())
    }
}

/// The string to sign over a canonical request.
pub fn string_to_sign(stamp: &str, scope: &Scope, canonical_request: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(canonical_request));
    format!("{ALGORITHM}\n{stamp}\n{}\n{digest}", scope.text())
}

/// The canonical request in one of the forms that clients use. Bytes, since a header may hold
/// anything.
pub(crate) fn canonical_request(
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    signed_headers: &[String],
    payload_hash: &str,
) -> Vec<u8> {
    let mut out = format!("{method}\n{path}\n{query}\n").into_bytes();
    for name in signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for (nth, value) in headers.get_all(name.as_str()).iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            fold_blanks(value.as_bytes(), &mut out);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload_hash.as_bytes());
    out
}

/// Trims a header's value and makes each run of blanks within it one.
fn fold_blanks(value: &[u8], out: &mut Vec<u8>) {
    let words = value
        .split(|b| matches!(b, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    for (nth, word) in words.enumerate() {
        if nth > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// The forms of the path that an honest client may have signed, the documented one first.
///
/// S3 encodes once; every other service encodes the encoded path again; euca2ools does that for S3
/// too; and some sign what they sent, however it was written.
pub(crate) fn path_forms(received: &Received<'_>, s3: bool) -> Vec<String> {
    let path = if received.path.is_empty() {
        "/"
    } else {
        received.path
    };
    let once = encode_path(&decode(path));
    let twice = encode_path(once.as_bytes());
    let sent_twice = encode_path(path.as_bytes());
    let sent = path.to_owned();
    distinct(if s3 {
        [once, sent, twice, sent_twice]
    } else {
        [sent_twice, sent, twice, once]
    })
}

fn distinct(forms: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for form in forms {
        if !out.contains(&form) {
            out.push(form);
        }
    }
    out
}

/// The forms of the query that an honest client may have signed: decoded, encoded and sorted, with
/// a `+` standing for itself or, where there is one, for a space.
pub(crate) fn query_forms(query: &str) -> Vec<String> {
    let plus_is_plus = canonical_query(query, decode);
    if !query.contains('+') {
        return vec![plus_is_plus];
    }
    distinct([canonical_query(query, encode::decode_form), plus_is_plus])
}

fn canonical_query(query: &str, decode: fn(&str) -> Vec<u8>) -> String {
    let mut fields: Vec<(String, String)> = pairs(query)
        .map(|(name, value)| (encode(&decode(name)), encode(&decode(value))))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    fields.sort();
    join_fields(&fields)
}

pub(crate) fn join_fields(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    fields.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_takes_any_region_and_a_key_with_slashes() {
        let (key, scope) = Scope::parse("A/B/20261123/undefined-4711/EC2/aws4_request").unwrap();
        assert_eq!(
            (key.as_str(), scope.region.as_str()),
            ("A/B", "undefined-4711")
        );
        assert_eq!(scope.service, "ec2");
    }

    #[test]
    fn a_credential_of_another_form_is_malformed() {
        for text in [
            "",
            "AKID",
            "AKID/20261123/r/ec2/aws5_request",
            "AKID/2026112/r/ec2/aws4_request",
            "/20261123/r/ec2/aws4_request",
            "20261123/r/ec2/aws4_request",
        ] {
            assert!(
                matches!(Scope::parse(text), Err(Refused::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn the_documented_signing_key_comes_out() {
        let scope = Scope {
            day: "20120215".into(),
            region: "us-east-1".into(),
            service: "iam".into(),
        };
        let key = scope.signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let expected = "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d";
        assert_eq!(hex::encode(key), expected);
    }

    #[test]
    fn blanks_in_a_header_fold_to_one() {
        let mut out = Vec::new();
        fold_blanks(b"  a   b \t c  ", &mut out);
        assert_eq!(out, b"a b c");
    }
}
