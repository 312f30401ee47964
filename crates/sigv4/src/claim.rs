//! One request, one claim: what it says about who sent it, in whatever version; then whether that
//! is true. A [`Verified`] can be made nowhere else.

use crate::{
    Received, Refused, Rules, v2,
    v4::{
        self,
        body::{BodyVerifier, Promise},
        claim::{V4Claim, query_fields},
    },
};

/// Which rules a signature was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Query services only; Hybridfox.
    One,
    /// Query services and S3.
    Two,
    /// Everything current.
    Four,
}

/// What a request says about its sender, not yet believed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose secret the signature is to be checked with. Any text.
    pub access_key: String,
    /// The token of a temporary credential, if one came. It is the caller's to check.
    pub session_token: Option<String>,
    /// Which version.
    pub version: Version,
    /// Whether the signature stands in the query and can be handed on.
    pub presigned: bool,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    Four(V4Claim),
    TwoQuery(v2::QueryClaim),
    TwoS3(v2::S3Claim),
}

/// A request whose signature was made with the secret of its access key.
#[derive(Debug)]
pub struct Verified {
    /// Whose.
    pub access_key: String,
    /// The token of a temporary credential, as the claim had it.
    pub session_token: Option<String>,
    /// Which version.
    pub version: Version,
    /// Whether the signature stood in the query.
    pub presigned: bool,
    /// The signature: the name of this request in a replay cache.
    pub signature: String,
    /// When it was signed, where the version says so, milliseconds since 1970.
    pub signed_at_ms: Option<i64>,
    /// Until when the same bytes would be accepted again, milliseconds since 1970.
    pub valid_until_ms: i64,
    /// The service that a version 4 scope names.
    pub service: Option<String>,
    promise: Promise,
}

impl Verified {
    /// What verifies the body as it streams. `announced` is the payload's length: Content-Length,
    /// or `x-amz-decoded-content-length` if the body is chunked.
    pub fn body(&self, announced: Option<u64>) -> BodyVerifier {
        BodyVerifier::new(self.promise.clone(), announced)
    }

    /// Whether the payload comes framed as `aws-chunked`.
    pub fn is_chunked(&self) -> bool {
        matches!(self.promise, Promise::Chunks { .. })
    }
}

impl Claim {
    /// Reads what the request says. `form` is the body of a query service's POST, empty for S3.
    /// `None`: the request carries no signature and speaks for nobody.
    pub fn read(
        received: &Received<'_>,
        form: &str,
        rules: &Rules,
    ) -> Result<Option<Self>, Refused> {
        let fields = query_fields(received)?;
        let in_query_2 = v2::is_signed(received, form, rules);
        let authorization = one_authorization(received)?;

        let ways = [!fields.is_empty(), in_query_2, authorization.is_some()];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err(Refused::TwoSignatures);
        }
        if let Some(text) = authorization {
            return Self::from_authorization(received, text, rules).map(Some);
        }
        if !fields.is_empty() {
            let (access_key, token, claim) = V4Claim::from_query(&fields, rules)?;
            return Ok(Some(Self::four(access_key, token, claim)));
        }
        if !in_query_2 {
            return Ok(None);
        }
        version_2_is_spoken(rules)?;
        if rules.s3 {
            let (access_key, session_token, claim) = v2::S3Claim::from_query(received)?;
            return Ok(Some(Self::two(
                access_key,
                session_token,
                true,
                How::TwoS3(claim),
            )));
        }
        let (access_key, session_token, claim) = v2::QueryClaim::read(received, form)?;
        let version = claim.version;
        let claim = Self::two(access_key, session_token, false, How::TwoQuery(claim));
        Ok(Some(Self { version, ..claim }))
    }

    /// The service that a version 4 scope names, for routing.
    pub fn service(&self) -> Option<&str> {
        match &self.how {
            How::Four(four) => Some(&four.scope.service),
            How::TwoQuery(_) | How::TwoS3(_) => None,
        }
    }

    fn four(access_key: String, session_token: Option<String>, claim: V4Claim) -> Self {
        let (version, presigned) = (Version::Four, claim.presigned);
        Self {
            access_key,
            session_token,
            version,
            presigned,
            how: How::Four(claim),
        }
    }

    fn two(access_key: String, session_token: Option<String>, presigned: bool, how: How) -> Self {
        Self {
            access_key,
            session_token,
            version: Version::Two,
            presigned,
            how,
        }
    }

    fn from_authorization(
        received: &Received<'_>,
        text: &str,
        rules: &Rules,
    ) -> Result<Self, Refused> {
        let (method, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        match method {
            v4::ALGORITHM => {
                let (access_key, token, claim) = V4Claim::from_header(received, rest, rules)?;
                Ok(Self::four(access_key, token, claim))
            }
            "AWS" if rules.s3 => {
                version_2_is_spoken(rules)?;
                let (access_key, token, claim) = v2::S3Claim::from_header(received, rest)?;
                Ok(Self::two(access_key, token, false, How::TwoS3(claim)))
            }
            other => Err(Refused::Unsupported(other.chars().take(32).collect())),
        }
    }

    /// Checks the claim with the secret of its access key.
    pub fn verify(
        &self,
        received: &Received<'_>,
        form: &str,
        secret: &str,
        rules: &Rules,
        now_ms: i64,
    ) -> Result<Verified, Refused> {
        let proven = match &self.how {
            How::Four(four) => four.verify(received, form, secret, rules, now_ms)?,
            How::TwoQuery(two) => two.verify(received, form, secret, rules, now_ms)?,
            How::TwoS3(two) => two.verify(received, secret, rules, now_ms)?,
        };
        Ok(Verified {
            access_key: self.access_key.clone(),
            session_token: self.session_token.clone(),
            version: self.version,
            presigned: self.presigned,
            signature: proven.signature,
            signed_at_ms: proven.signed_at_ms,
            valid_until_ms: proven.valid_until_ms,
            service: self.service().map(str::to_owned),
            promise: proven.promise,
        })
    }
}

/// What each version proves.
pub(crate) struct Proven {
    pub(crate) signature: String,
    pub(crate) signed_at_ms: Option<i64>,
    pub(crate) valid_until_ms: i64,
    pub(crate) promise: Promise,
}

pub(crate) fn check_window(stamped_ms: i64, now_ms: i64, window_ms: i64) -> Result<(), Refused> {
    if (now_ms - stamped_ms).abs() > window_ms {
        return Err(Refused::Skewed {
            stamped_ms,
            now_ms,
            window_ms,
        });
    }
    Ok(())
}

fn one_authorization<'a>(received: &Received<'a>) -> Result<Option<&'a str>, Refused> {
    let mut values = received.headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refused::Duplicated("Authorization".into()));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Refused::Malformed("the authorization header is malformed".into()))
}

fn version_2_is_spoken(rules: &Rules) -> Result<(), Refused> {
    if rules.version_2 {
        return Ok(());
    }
    Err(Refused::Unsupported("SignatureVersion 2".into()))
}
