//! Versions 2 and 1 of the query services: the signature is a field among the fields it covers.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Received, Refused, Rules,
    claim::{Proven, Version, check_window},
    encode,
    encode::{decode_form, pairs},
    hash::{hmac_sha1, hmac_sha256, same},
    received::{QUERY_EXPIRES_MAX_SECS, text},
    refused::Expected,
    stamp,
    v4::{body::Promise, join_fields},
};

/// The longest list of fields that is worth sorting; a RunInstances has under a hundred, a
/// DescribeInstances by id a thousand.
const FIELDS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Sha1,
    Sha256,
}

#[derive(Debug, Clone, Copy)]
enum Life {
    Stamped(i64),
    Until(i64),
}

/// What a version 1 or 2 request says.
#[derive(Debug, Clone)]
pub(crate) struct QueryClaim {
    pub(crate) version: Version,
    method: Method,
    life: Life,
    signature: String,
    /// Every field but the signature, decoded, sorted by name.
    fields: Vec<(String, String)>,
}

impl QueryClaim {
    /// Reads the fields of the query and of the form as one list, in which no name comes twice.
    pub(crate) fn read(
        received: &Received<'_>,
        form: &str,
    ) -> Result<(String, Option<String>, Self), Refused> {
        let mut fields = sorted_fields(received.query, form)?;
        let signature = take(&mut fields, "Signature").ok_or(Refused::Missing("Signature"))?;
        let get = |name| {
            fields
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.as_str())
        };
        let need = |name: &'static str| get(name).ok_or(Refused::Missing(name));

        let version = match need("SignatureVersion")? {
            "2" => Version::Two,
            "1" => Version::One,
            other => return Err(unsupported("SignatureVersion", other)),
        };
        let method = match (version, get("SignatureMethod")) {
            (Version::Two, Some("HmacSHA256")) => Method::Sha256,
            (_, Some("HmacSHA1")) | (Version::One, None) => Method::Sha1,
            (_, Some(other)) => return Err(unsupported("SignatureMethod", other)),
            (_, None) => return Err(Refused::Missing("SignatureMethod")),
        };
        let life = read_life(get("Timestamp"), get("Expires"))?;
        let access_key = need("AWSAccessKeyId")?.to_owned();
        let session_token = get("SecurityToken").map(str::to_owned);
        let claim = Self {
            version,
            method,
            life,
            signature,
            fields,
        };
        Ok((access_key, session_token, claim))
    }

    pub(crate) fn verify(
        &self,
        received: &Received<'_>,
        _form: &str,
        secret: &str,
        rules: &Rules,
        now_ms: i64,
    ) -> Result<Proven, Refused> {
        let valid_until_ms = self.check_time(rules, now_ms)?;
        self.check_signature(received, secret)?;
        Ok(Proven {
            signature: self.signature.clone(),
            signed_at_ms: match self.life {
                Life::Stamped(ms) => Some(ms),
                Life::Until(_) => None,
            },
            valid_until_ms,
            promise: Promise::Nothing,
        })
    }

    fn check_time(&self, rules: &Rules, now_ms: i64) -> Result<i64, Refused> {
        match self.life {
            Life::Stamped(ms) => {
                check_window(ms, now_ms, rules.window_ms)?;
                Ok(ms + rules.window_ms)
            }
            Life::Until(expired_ms) if now_ms >= expired_ms => {
                Err(Refused::Expired { expired_ms, now_ms })
            }
            Life::Until(ms) if ms - now_ms > QUERY_EXPIRES_MAX_SECS * 1000 => {
                Err(Refused::BadExpires {
                    max_secs: QUERY_EXPIRES_MAX_SECS,
                })
            }
            Life::Until(ms) => Ok(ms),
        }
    }

    fn check_signature(&self, received: &Received<'_>, secret: &str) -> Result<(), Refused> {
        let forms = self.strings_to_sign(received);
        for form in &forms {
            let expected = match self.method {
                Method::Sha1 => STANDARD.encode(hmac_sha1(secret.as_bytes(), form.as_bytes())),
                Method::Sha256 => STANDARD.encode(hmac_sha256(secret.as_bytes(), form.as_bytes())),
            };
            if same(self.signature.as_bytes(), expected.as_bytes()) {
                return Ok(());
            }
        }
        Err(Refused::Mismatch(Box::new(Expected {
            signature: self.signature.chars().take(128).collect(),
            string_to_sign: forms.into_iter().next().unwrap_or_default().into_bytes(),
            canonical_request: None,
        })))
    }

    /// The strings that an honest client may have signed, the documented one first: with the port
    /// in the host or (libcloud) without.
    fn strings_to_sign(&self, received: &Received<'_>) -> Vec<String> {
        if self.version == Version::One {
            return vec![self.joined_fields()];
        }
        let path = if received.path.is_empty() {
            "/"
        } else {
            received.path
        };
        let fields: Vec<(String, String)> = self
            .fields
            .iter()
            .map(|(name, value)| (encode(name.as_bytes()), encode(value.as_bytes())))
            .collect();
        let fields = join_fields(&fields);
        let host = received.host().to_ascii_lowercase();
        let bare = host.rsplit_once(':').map(|(bare, _)| bare.to_owned());
        let form = |host: &str| format!("{}\n{host}\n{path}\n{fields}", received.method);
        std::iter::once(form(&host))
            .chain(bare.map(|bare| form(&bare)))
            .collect()
    }

    /// Version 1: names and values end to end, sorted without regard to case.
    fn joined_fields(&self) -> String {
        let mut fields: Vec<&(String, String)> = self.fields.iter().collect();
        fields.sort_by_key(|(name, _)| name.to_lowercase());
        fields
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()])
            .collect()
    }
}

fn sorted_fields(query: &str, form: &str) -> Result<Vec<(String, String)>, Refused> {
    let mut fields: Vec<(String, String)> = pairs(query)
        .chain(pairs(form))
        .take(FIELDS_MAX + 1)
        .map(|(name, value)| (text(decode_form(name)), text(decode_form(value))))
        .collect();
    if fields.len() > FIELDS_MAX {
        return Err(Refused::Malformed(
            "the request has too many parameters".into(),
        ));
    }
    fields.sort();
    match fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Refused::Duplicated(pair[0].0.chars().take(64).collect())),
        None => Ok(fields),
    }
}

fn take(fields: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = fields.iter().position(|(key, _)| key == name)?;
    Some(fields.remove(at).1)
}

/// `Timestamp` or `Expires`, never both.
fn read_life(timestamp: Option<&str>, expires: Option<&str>) -> Result<Life, Refused> {
    match (timestamp, expires) {
        (Some(at), None) => stamp::parse(at).map(Life::Stamped),
        (None, Some(at)) => stamp::parse(at).map(Life::Until),
        (None, None) => Err(Refused::Missing("Timestamp")),
        (Some(_), Some(_)) => Err(Refused::Malformed(
            "the request must contain either Timestamp or Expires, not both".into(),
        )),
    }
}

fn unsupported(name: &str, value: &str) -> Refused {
    Refused::Unsupported(format!(
        "{name} {}",
        value.chars().take(32).collect::<String>()
    ))
}
