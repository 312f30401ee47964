//! A version 4 claim: read from the header or from the query, then checked: its time, what it covers,
//! its payload, and its signature in each form that an honest client may have made.

use std::collections::HashMap;

use super::{
    Scope,
    body::{Promise, Seal},
};
use crate::{
    Received, Refused, Rules,
    claim::{Proven, check_window},
    hash::{EMPTY_SHA256, hmac_sha256, same},
    received::PRESIGN_MAX_SECS,
    refused::Expected,
    sha256_hex, stamp, v4,
};

/// What a version 4 request says.
#[derive(Debug, Clone)]
pub(crate) struct V4Claim {
    pub(crate) scope: Scope,
    signed_headers: Vec<String>,
    signature: String,
    stamped_ms: i64,
    expires_secs: Option<i64>,
    pub(crate) presigned: bool,
}

impl V4Claim {
    /// Reads what follows the algorithm in the header: `Credential=, SignedHeaders=, Signature=`.
    pub(crate) fn from_header(
        received: &Received<'_>,
        rest: &str,
        rules: &Rules,
    ) -> Result<(String, Option<String>, Self), Refused> {
        let mut fields: HashMap<&str, &str> = HashMap::new();
        for field in rest.split(',') {
            let Some((name, value)) = field.trim().split_once('=') else {
                return Err(Refused::Malformed(
                    "the authorization header is malformed".into(),
                ));
            };
            if fields.insert(name.trim(), value.trim()).is_some() {
                return Err(Refused::Duplicated(name.trim().chars().take(32).collect()));
            }
        }
        let field = |name: &'static str| fields.get(name).copied().ok_or(Refused::Missing(name));

        let (access_key, scope) = Scope::parse(field("Credential")?)?;
        let date = received
            .header("x-amz-date")
            .or_else(|| received.header("date"))
            .ok_or(Refused::Missing("X-Amz-Date"))?;
        let claim = Self {
            scope,
            signed_headers: parse_signed_headers(field("SignedHeaders")?)?,
            signature: field("Signature")?.to_owned(),
            stamped_ms: stamp::parse(date)?,
            expires_secs: None,
            presigned: false,
        };
        claim.check_scope(rules)?;
        let token = received.header("x-amz-security-token").map(str::to_owned);
        Ok((access_key, token, claim))
    }

    /// Reads the `X-Amz-*` fields of a query, as [`query_fields`] gives them.
    pub(crate) fn from_query(
        fields: &HashMap<String, String>,
        rules: &Rules,
    ) -> Result<(String, Option<String>, Self), Refused> {
        let field = |name: &'static str| {
            fields
                .get(&name.to_ascii_lowercase())
                .map(String::as_str)
                .ok_or(Refused::Missing(name))
        };
        let algorithm = field("X-Amz-Algorithm")?;
        if algorithm != v4::ALGORITHM {
            return Err(Refused::Unsupported(algorithm.chars().take(32).collect()));
        }
        let (access_key, scope) = Scope::parse(field("X-Amz-Credential")?)?;
        let claim = Self {
            scope,
            signed_headers: parse_signed_headers(field("X-Amz-SignedHeaders")?)?,
            signature: field("X-Amz-Signature")?.to_owned(),
            stamped_ms: stamp::parse(field("X-Amz-Date")?)?,
            expires_secs: parse_expires(fields.get("x-amz-expires").map(String::as_str), rules)?,
            presigned: true,
        };
        claim.check_scope(rules)?;
        Ok((
            access_key,
            fields.get("x-amz-security-token").cloned(),
            claim,
        ))
    }

    fn check_scope(&self, rules: &Rules) -> Result<(), Refused> {
        if !rules.services.contains(&self.scope.service.as_str()) {
            let given = self.scope.service.chars().take(64).collect();
            return Err(Refused::WrongService { given });
        }
        if stamp::day_text(self.stamped_ms) != self.scope.day {
            return Err(Refused::Malformed(
                "the date of the credential's scope is not the date of the request".into(),
            ));
        }
        Ok(())
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        form: &str,
        secret: &str,
        rules: &Rules,
        now_ms: i64,
    ) -> Result<Proven, Refused> {
        let valid_until_ms = self.check_time(rules, now_ms)?;
        self.check_coverage(received, rules)?;
        let (payload_hash, payload) = self.payload(received, form, rules)?;

        let key = self.scope.signing_key(secret);
        self.check_signature(received, rules, &payload_hash, &key)?;

        let seal = |trailer| {
            let (stamp, previous) = (stamp::basic_text(self.stamped_ms), self.signature.clone());
            let seal = Seal {
                key,
                stamp,
                scope: self.scope.clone(),
                previous,
            };
            Promise::Chunks {
                seal: Some(seal),
                trailer,
            }
        };
        let promise = match payload {
            Payload::Unsigned => Promise::Nothing,
            Payload::Sha256(digest) => Promise::Sha256(digest),
            Payload::SignedChunks { trailer } => seal(trailer),
            Payload::UnsignedChunks => Promise::Chunks {
                seal: None,
                trailer: true,
            },
        };
        Ok(Proven {
            signature: self.signature.clone(),
            signed_at_ms: Some(self.stamped_ms),
            valid_until_ms,
            promise,
        })
    }

    /// What stands in the last line of the canonical request, and what that promises of the body. A
    /// presigned request leaves the payload open unless it says otherwise; whoever uses it may
    /// promise more in a header that nobody signed.
    fn payload(
        &self,
        received: &Received<'_>,
        form: &str,
        rules: &Rules,
    ) -> Result<(String, Payload), Refused> {
        const HEADER: &str = "x-amz-content-sha256";
        let header = received.header(HEADER);
        if !rules.s3 {
            return query_payload(header, form);
        }
        let in_query = received.query_field("X-Amz-Content-Sha256");
        let is_signed = self.signed_headers.iter().any(|name| name == HEADER);
        let word = match (header, in_query) {
            (Some(word), _) if !self.presigned || is_signed => word.to_owned(),
            (None, _) if !self.presigned => return Err(Refused::Missing(HEADER)),
            (_, Some(word)) => word,
            (_, None) => v4::UNSIGNED_PAYLOAD.to_owned(),
        };
        let payload = promised(header.unwrap_or(&word))?;
        Ok((word, payload))
    }

    /// Inside the window around the server's clock, or inside the life of a presigned request.
    fn check_time(&self, rules: &Rules, now_ms: i64) -> Result<i64, Refused> {
        let (stamped_ms, window_ms) = (self.stamped_ms, rules.window_ms);
        let Some(expires_secs) = self.expires_secs else {
            check_window(stamped_ms, now_ms, window_ms)?;
            return Ok(stamped_ms + window_ms);
        };
        if stamped_ms - window_ms > now_ms {
            return Err(Refused::Skewed {
                stamped_ms,
                now_ms,
                window_ms,
            });
        }
        let expired_ms = stamped_ms + expires_secs * 1000;
        if now_ms >= expired_ms {
            return Err(Refused::Expired { expired_ms, now_ms });
        }
        Ok(expired_ms)
    }

    /// `host` must be signed, and each `x-amz-` header that came: whoever holds a signature must not
    /// be able to add an ACL or a copy source. A query service reads no such headers.
    fn check_coverage(&self, received: &Received<'_>, rules: &Rules) -> Result<(), Refused> {
        let is_signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        if !is_signed("host") {
            return Err(Refused::Unsigned("host".into()));
        }
        let free = ["x-amz-content-sha256", "x-amz-security-token"];
        let mut names = received.headers.keys().map(|name| name.as_str());
        let unsigned = names.find(|name| {
            let binds = rules.s3 || *name == "x-amz-date";
            let is_free = free.contains(name) && (!rules.s3 || self.expires_secs.is_some());
            name.starts_with("x-amz-") && binds && !is_free && !is_signed(name)
        });
        unsigned.map_or(Ok(()), |name| Err(Refused::Unsigned(name.to_owned())))
    }

    fn check_signature(
        &self,
        received: &Received<'_>,
        rules: &Rules,
        payload_hash: &str,
        key: &[u8; 32],
    ) -> Result<(), Refused> {
        let stamp = stamp::basic_text(self.stamped_ms);
        let mut documented: Option<Expected> = None;
        let paths = v4::path_forms(received, rules.s3);
        for query in v4::query_forms(received.query) {
            for path in &paths {
                let canonical = v4::canonical_request(
                    received.method,
                    path,
                    &query,
                    received.headers,
                    &self.signed_headers,
                    payload_hash,
                );
                let string_to_sign = v4::string_to_sign(&stamp, &self.scope, &canonical);
                let expected = hex::encode(hmac_sha256(key, string_to_sign.as_bytes()));
                if same(self.signature.as_bytes(), expected.as_bytes()) {
                    return Ok(());
                }
                documented.get_or_insert_with(|| Expected {
                    signature: self.signature.chars().take(128).collect(),
                    string_to_sign: string_to_sign.into_bytes(),
                    canonical_request: Some(canonical),
                });
            }
        }
        Err(Refused::Mismatch(Box::new(documented.unwrap_or_default())))
    }
}

enum Payload {
    Unsigned,
    Sha256([u8; 32]),
    SignedChunks { trailer: bool },
    UnsignedChunks,
}

/// What a word for the payload promises of the body.
fn promised(word: &str) -> Result<Payload, Refused> {
    Ok(match word {
        v4::UNSIGNED_PAYLOAD => Payload::Unsigned,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Payload::SignedChunks { trailer: false },
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Payload::SignedChunks { trailer: true },
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Payload::UnsignedChunks,
        digest => Payload::Sha256(parse_digest(digest)?),
    })
}

/// A query service has the whole body in hand: the action stands in it, so it is always hashed.
fn query_payload(header: Option<&str>, form: &str) -> Result<(String, Payload), Refused> {
    let computed = if form.is_empty() {
        EMPTY_SHA256.to_owned()
    } else {
        sha256_hex(form.as_bytes())
    };
    if let Some(given) = header
        && !given.eq_ignore_ascii_case(&computed)
    {
        let given = given.chars().take(128).collect();
        return Err(Refused::PayloadMismatch { given, computed });
    }
    let digest = parse_digest(&computed)?;
    Ok((
        header.unwrap_or(&computed).to_owned(),
        Payload::Sha256(digest),
    ))
}

fn parse_digest(text: &str) -> Result<[u8; 32], Refused> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| Refused::BadPayloadHash(text.chars().take(128).collect()))?;
    Ok(digest)
}

/// The `X-Amz-*` fields that carry a version 4 signature in the query, names in lower case; empty
/// if there is no such signature.
pub(crate) fn query_fields(received: &Received<'_>) -> Result<HashMap<String, String>, Refused> {
    const NAMES: [&str; 7] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    ];
    let mut fields = HashMap::new();
    for (name, value) in crate::pairs(received.query) {
        let name = crate::received::text(crate::decode(name)).to_ascii_lowercase();
        if !NAMES.contains(&name.as_str()) {
            continue;
        }
        let value = crate::received::text(crate::decode(value));
        if fields.insert(name.clone(), value).is_some() {
            return Err(Refused::Duplicated(name));
        }
    }
    let is_signature = ["x-amz-algorithm", "x-amz-credential", "x-amz-signature"];
    if is_signature.iter().any(|name| fields.contains_key(*name)) {
        return Ok(fields);
    }
    Ok(HashMap::new())
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, Refused> {
    let names: Vec<String> = text.split(';').map(str::to_ascii_lowercase).collect();
    let is_strictly_sorted = names.windows(2).all(|pair| pair[0] < pair[1]);
    if names.iter().any(String::is_empty) || !is_strictly_sorted {
        let text = "the signed headers must be sorted names, each once, joined by semicolons";
        return Err(Refused::Malformed(text.into()));
    }
    Ok(names)
}

/// S3 wants a lifetime; elsewhere a presigned request without one lives as long as the window. One
/// of no seconds is a lifetime that is over, not a bad parameter: AWS calls only negative ones and
/// those above a week bad.
fn parse_expires(text: Option<&str>, rules: &Rules) -> Result<Option<i64>, Refused> {
    let Some(text) = text else {
        let missing = Err(Refused::Missing("X-Amz-Expires"));
        return if rules.s3 { missing } else { Ok(None) };
    };
    match text.parse::<i64>() {
        Ok(secs) if (0..=PRESIGN_MAX_SECS).contains(&secs) => Ok(Some(secs)),
        _ => Err(Refused::BadExpires {
            max_secs: PRESIGN_MAX_SECS,
        }),
    }
}
