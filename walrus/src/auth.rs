//! Who sent a request: the signature, checked against the directory before anything else is done.
//! What comes out is the caller, and what verifies the body while it streams.

use http::request::Parts;
use s3::{Action, Code, Error, Request, Result, address::Domains, post::Form};
use sigv4::{BodyVerifier, Claim, PolicyClaim, Received, Refused, Rules, Version};
use types::{Secret, Timestamp};

use crate::directory::{Caller, Directory};

/// A request whose sender is known, or known to be nobody.
#[derive(Debug)]
pub struct Authenticated {
    /// Who.
    pub caller: Caller,
    /// What the body must keep to.
    pub body: BodyVerifier,
    /// How it was signed.
    pub signed: Signed,
}

/// How a request was signed, as conditions of policies see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signed {
    how: Option<(Version, bool)>,
    at_ms: Option<i64>,
}

impl Signed {
    /// `REST-HEADER`, `REST-QUERY-STRING`, or nothing in particular.
    pub fn kind(&self) -> &'static str {
        match self.how {
            Some((_, true)) => "REST-QUERY-STRING",
            Some((_, false)) => "REST-HEADER",
            None => "ANONYMOUS",
        }
    }

    /// How access logs call it.
    pub fn log_kind(&self) -> Option<&'static str> {
        self.how.map(|(_, is_query)| match is_query {
            true => "QueryString",
            false => "AuthHeader",
        })
    }

    /// How access logs call the version.
    pub fn log_version(&self) -> Option<&'static str> {
        self.how.map(|(version, _)| match version {
            Version::Four => "SigV4",
            Version::One | Version::Two => "SigV2",
        })
    }

    /// The name of the version.
    pub fn version(&self) -> Option<&'static str> {
        self.how.map(|(version, _)| match version {
            Version::Four => "AWS4-HMAC-SHA256",
            Version::One | Version::Two => "AWS",
        })
    }

    /// How old the signature is, where it says so.
    pub fn age_ms(&self, now: Timestamp) -> Option<i64> {
        self.at_ms.map(|at_ms| now.as_millis() - at_ms)
    }
}

/// Checks a request's signature.
pub fn authenticate(
    parts: &Parts,
    request: &Request,
    domains: &Domains,
    directory: &Directory,
    rules: &Rules,
    now: Timestamp,
) -> Result<Authenticated> {
    let host = parts
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let received = Received {
        host_bucket: host.and_then(|host| domains.bucket_of(host)),
        ..Received::of(parts)
    };
    let announced = request.body.decoded_length.or(request.body.content_length);

    // A browser asks before a request without signing anything, even if its address is presigned;
    // and a form speaks for itself.
    let claim = match request.action {
        Action::PreflightCors | Action::PostObject => None,
        _ => Claim::read(&received, "", rules).map_err(|refused| told(refused, ""))?,
    };
    let Some(claim) = claim else {
        let payload = parts.headers.get("x-amz-content-sha256");
        let payload = payload.and_then(|payload| payload.to_str().ok());
        let body = BodyVerifier::unsigned(announced, payload);
        return Ok(Authenticated {
            caller: Caller::anonymous(),
            body,
            signed: Signed::default(),
        });
    };
    let key = claim.access_key.as_str();
    let (secret, caller) = find_key(directory, key)?;
    if claim.session_token.is_some() {
        // Temporary credentials are not given out yet, so that this one can't be ours.
        return Err(Code::InvalidToken.into());
    }

    let verified = claim.verify(&received, "", secret.reveal(), rules, now.as_millis());
    let verified = verified.map_err(|refused| told(refused, key))?;
    Ok(Authenticated {
        caller,
        body: verified.body(announced),
        signed: Signed {
            how: Some((verified.version, verified.presigned)),
            at_ms: verified.signed_at_ms,
        },
    })
}

fn find_key<'a>(directory: &'a Directory, key: &str) -> Result<(&'a Secret<String>, Caller)> {
    let unknown = || Error::from(Code::InvalidAccessKeyId).with("AWSAccessKeyId", key);
    directory.find_key(key).ok_or_else(unknown)
}

/// Checks the signature of a form's policy. A form without a policy is nobody's in particular.
pub fn authenticate_form(
    form: &Form,
    directory: &Directory,
    rules: &Rules,
) -> Result<(Caller, Signed)> {
    let told = |refused, key: &str| match refused {
        Refused::Missing(name) => {
            let why = format!("Bucket POST must contain a field named '{name}'.");
            Error::invalid_argument(name, "", why)
        }
        refused => told(refused, key),
    };
    let claim = PolicyClaim::read(&form.to_map(), rules).map_err(|refused| told(refused, ""))?;
    let Some(claim) = claim else {
        return Ok((Caller::anonymous(), Signed::default()));
    };
    let key = claim.access_key.as_str();
    let (secret, caller) = find_key(directory, key)?;
    if form.get("x-amz-security-token").is_some() {
        // As in headers.
        return Err(Code::InvalidToken.into());
    }
    claim
        .verify(secret.reveal())
        .map_err(|refused| told(refused, key))?;
    let signed = Signed {
        how: Some((claim.version(), false)),
        at_ms: None,
    };
    Ok((caller, signed))
}

/// A refusal in S3's words, with what its sender needs to find the mistake.
fn told(refused: Refused, access_key: &str) -> Error {
    let text = refused.to_string();
    let iso = |ms: i64| Timestamp(ms).to_string();
    match refused {
        Refused::Missing(_) | Refused::Malformed(_) | Refused::WrongService { .. } => {
            Error::new(Code::AuthorizationHeaderMalformed, text)
        }
        Refused::BadExpires { .. } => Error::new(Code::AuthorizationQueryParametersError, text),
        Refused::Duplicated(_) | Refused::TwoSignatures | Refused::BadPayloadHash(_) => {
            Error::new(Code::InvalidArgument, text)
        }
        Refused::Unsupported(_) => Error::new(Code::InvalidRequest, text),
        Refused::BadDate(_) => Error::new(Code::AccessDenied, text),
        Refused::Skewed {
            stamped_ms,
            now_ms,
            window_ms,
        } => Error::from(Code::RequestTimeTooSkewed)
            .with("RequestTime", iso(stamped_ms))
            .with("ServerTime", iso(now_ms))
            .with("MaxAllowedSkewMilliseconds", window_ms.to_string()),
        Refused::Expired { expired_ms, now_ms } => {
            Error::new(Code::AccessDenied, "Request has expired")
                .with("Expires", iso(expired_ms))
                .with("ServerTime", iso(now_ms))
        }
        Refused::Unsigned(header) => Error::new(
            Code::AccessDenied,
            "There were headers present in the request which were not signed",
        )
        .with("HeadersNotSigned", header),
        Refused::PayloadMismatch { given, computed } => {
            Error::from(Code::XAmzContentSHA256Mismatch)
                .with("ClientComputedContentSHA256", given)
                .with("S3ComputedContentSHA256", computed)
        }
        Refused::Mismatch(expected) => {
            let text = String::from_utf8_lossy(&expected.string_to_sign).into_owned();
            let error = Error::from(Code::SignatureDoesNotMatch)
                .with("AWSAccessKeyId", access_key)
                .with("StringToSign", text)
                .with("SignatureProvided", expected.signature.clone())
                .with("StringToSignBytes", spaced_hex(&expected.string_to_sign));
            match &expected.canonical_request {
                Some(canonical) => error
                    .with("CanonicalRequest", String::from_utf8_lossy(canonical))
                    .with("CanonicalRequestBytes", spaced_hex(canonical)),
                None => error,
            }
        }
    }
}

fn spaced_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
