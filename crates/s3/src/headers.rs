//! What a writer says about an object in headers: content headers, metadata, checksums, conditions,
//! access list. Headers of features that we do not have are refused here by name: a client that
//! asks for encryption must not believe that it got it.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::{
    Code, Error, Result,
    acl::{self, AclWish, Canned, Permission},
    checksum::{Algorithm, Kind},
    conditions::{DeleteConditions, ETags, ReadConditions, WriteConditions, parse_date},
    documents::{
        lock::{Locked, Mode, Retention, parse_hold},
        tagging::Tags,
    },
};

/// User metadata, names and values together (S3 user guide, "Working with object metadata").
const MAX_METADATA_BYTES: usize = 2048;

const METADATA: &str = "x-amz-meta-";

/// Features that exist in S3 and not here yet, by the start of the header that asks for them.
const NOT_YET: [&str; 2] = ["x-amz-mfa", "x-amz-write-offset-bytes"];

/// Storage classes that are kept as a label; the ones that would need a restore are not.
const STORAGE_CLASSES: [&str; 5] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "REDUCED_REDUNDANCY",
];

/// Read access to a request's headers.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub &'a HeaderMap);

impl<'a> Headers<'a> {
    /// A header's text; bytes that are not UTF-8 are read as Latin-1, as HTTP once said.
    pub fn text(self, name: &str) -> Option<String> {
        self.0
            .get(name)
            .map(|value| match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => text.to_owned(),
                Err(_) => value
                    .as_bytes()
                    .iter()
                    .map(|&byte| char::from(byte))
                    .collect(),
            })
    }

    pub(crate) fn number(self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.trim().parse();
        number
            .map(Some)
            .map_err(|_| Error::invalid_argument(name, text, "It is not a number."))
    }

    fn date(self, name: &str) -> Option<Timestamp> {
        parse_date(&self.text(name)?)
    }

    fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(http::HeaderName::as_str)
    }

    /// `NotImplemented` if a header asks for something that we do not do.
    pub fn refuse_unserved(self) -> Result<()> {
        match self
            .names()
            .find(|name| NOT_YET.iter().any(|start| name.starts_with(start)))
        {
            Some(name) => Err(Error::not_implemented(name)),
            None => Ok(()),
        }
    }

    /// Conditions of a read; with `x-amz-copy-source-` before them, those of a copy's source.
    pub fn read_conditions(self, prefix: &str) -> ReadConditions {
        let tags = |name| {
            self.text(&format!("{prefix}{name}"))
                .map(|text| ETags::parse(&text))
        };
        let date = |name| self.date(&format!("{prefix}{name}"));
        ReadConditions {
            if_match: tags("if-match"),
            if_none_match: tags("if-none-match"),
            if_modified_since: date("if-modified-since"),
            if_unmodified_since: date("if-unmodified-since"),
        }
    }

    /// Conditions of a write.
    pub fn write_conditions(self) -> WriteConditions {
        let read = self.read_conditions("");
        WriteConditions {
            if_match: read.if_match,
            if_none_match: read.if_none_match,
        }
    }

    /// Conditions of a delete.
    pub fn delete_conditions(self) -> Result<DeleteConditions> {
        Ok(DeleteConditions {
            if_match: self.read_conditions("").if_match,
            modified: self.date("x-amz-if-match-last-modified-time"),
            size: self.number("x-amz-if-match-size")?,
        })
    }

    /// The tags that are asked for.
    pub fn tags(self) -> Result<Tags> {
        match self.text("x-amz-tagging") {
            None => Ok(Tags::default()),
            Some(text) => Tags::parse(&text),
        }
    }

    /// The lock that is asked for.
    pub fn lock(self) -> Result<Locked> {
        let (mode, until) = (
            self.text("x-amz-object-lock-mode"),
            self.text("x-amz-object-lock-retain-until-date"),
        );
        let wrong = |name, text: &str| {
            Error::invalid_argument(name, text, "The lock that is asked for is unknown")
        };
        let retention = match (&mode, &until) {
            (None, None) => None,
            (Some(mode), Some(until)) => Some(Retention {
                mode: Mode::parse(mode).ok_or_else(|| wrong("x-amz-object-lock-mode", mode))?,
                until: parse_date(until)
                    .ok_or_else(|| wrong("x-amz-object-lock-retain-until-date", until))?,
            }),
            _ => {
                let why = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must \
                           both be supplied";
                return Err(Error::new(Code::InvalidArgument, why));
            }
        };
        let hold = self.text("x-amz-object-lock-legal-hold");
        let held = hold.map(|text| {
            parse_hold(&text).ok_or_else(|| wrong("x-amz-object-lock-legal-hold", &text))
        });
        Ok(Locked {
            retention,
            held: held.transpose()?,
        })
    }

    /// Whether the right to bypass a governed retention is to be used.
    pub fn bypasses_governance(self) -> bool {
        let text = self.text("x-amz-bypass-governance-retention");
        text.is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// The access list that is asked for; `None` if no header speaks of one.
    pub fn acl(self) -> Result<Option<AclWish>> {
        let mut grants = Vec::new();
        for (permission, name) in Permission::headers() {
            if let Some(text) = self.text(name) {
                grants.extend(acl::parse_grant_header(permission, &text)?);
            }
        }
        match (self.text("x-amz-acl"), grants.is_empty()) {
            (None, true) => Ok(None),
            (None, false) => Ok(Some(AclWish::Explicit(grants))),
            (Some(name), true) => Ok(Some(AclWish::Canned(Canned::parse(&name)?))),
            (Some(_), false) => Err(Error::new(
                Code::InvalidRequest,
                "Specifying both Canned ACLs and Header Grants is not allowed",
            )),
        }
    }
}

/// What is kept with an object and given back with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// `Content-Type`; none means `binary/octet-stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding` without `aws-chunked`, which is of the transfer and not of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Expires`, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The storage class as a label; none means `STANDARD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Where a website sends who asks for the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// User metadata: names without `x-amz-meta-`, in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
}

impl Attributes {
    /// Reads the headers of a PUT.
    pub fn parse(headers: Headers<'_>) -> Result<Self> {
        Ok(Self {
            content_type: headers.text("content-type").filter(|text| !text.is_empty()),
            cache_control: headers.text("cache-control"),
            content_disposition: headers.text("content-disposition"),
            content_encoding: headers
                .text("content-encoding")
                .and_then(without_aws_chunked),
            content_language: headers.text("content-language"),
            expires: headers.text("expires"),
            storage_class: storage_class(headers)?,
            redirect: redirect(headers)?,
            metadata: metadata(headers)?,
        })
    }

    /// The storage class as clients see it.
    pub fn storage_class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or("STANDARD")
    }
}

fn without_aws_chunked(text: String) -> Option<String> {
    let kept: Vec<_> = text.split(',').map(str::trim).collect();
    let kept: Vec<_> = kept
        .into_iter()
        .filter(|word| !word.is_empty() && *word != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

fn storage_class(headers: Headers<'_>) -> Result<Option<String>> {
    match headers.text("x-amz-storage-class") {
        None => Ok(None),
        Some(class) if class == "STANDARD" => Ok(None),
        Some(class) if STORAGE_CLASSES.contains(&class.as_str()) => Ok(Some(class)),
        Some(class) => Err(Error::not_implemented(&format!(
            "The storage class {class}"
        ))),
    }
}

/// A path of the same bucket, or an address.
fn redirect(headers: Headers<'_>) -> Result<Option<String>> {
    let name = "x-amz-website-redirect-location";
    let Some(text) = headers.text(name) else {
        return Ok(None);
    };
    if ["/", "http://", "https://"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return Ok(Some(text));
    }
    let why = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    Err(Error::new(Code::InvalidRedirectLocation, why))
}

fn metadata(headers: Headers<'_>) -> Result<Vec<(String, String)>> {
    let names = headers.names().filter(|name| name.starts_with(METADATA));
    let pairs = names.map(|name| {
        let values: Vec<_> = headers.0.get_all(name).iter().collect();
        let values = values
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        (
            name[METADATA.len()..].to_owned(),
            values.collect::<Vec<_>>().join(","),
        )
    });
    let pairs: Vec<_> = pairs.collect();

    let size: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MAX_METADATA_BYTES {
        return Err(Error::from(Code::MetadataTooLarge)
            .with("Size", size.to_string())
            .with("MaxSizeAllowed", MAX_METADATA_BYTES.to_string()));
    }
    Ok(pairs)
}

/// What the sender claims about a body, to be checked against the bytes before anything is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyClaims {
    /// Bytes of the body on the wire.
    pub content_length: Option<u64>,
    /// Bytes of the payload inside an `aws-chunked` body.
    pub decoded_length: Option<u64>,
    /// Whether HTTP's own chunks say where the body ends.
    pub is_chunked: bool,
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// A checksum given in a header.
    pub checksum: Option<(Algorithm, String)>,
    /// A checksum that will follow in a trailer.
    pub trailer: Option<Algorithm>,
    /// Whether `Expect: 100-continue` was sent.
    pub expects_continue: bool,
}

impl BodyClaims {
    /// Reads the headers of any request with a body.
    pub fn parse(headers: Headers<'_>) -> Result<Self> {
        let trailers = headers.text("x-amz-trailer").unwrap_or_default();
        let expects = headers.text(header::EXPECT.as_str()).unwrap_or_default();
        Ok(Self {
            content_length: headers.number(header::CONTENT_LENGTH.as_str())?,
            decoded_length: headers.number("x-amz-decoded-content-length")?,
            is_chunked: headers.0.contains_key(header::TRANSFER_ENCODING),
            md5: headers
                .text("content-md5")
                .map(|text| md5(&text))
                .transpose()?,
            checksum: checksum(headers)?,
            trailer: trailers
                .split(',')
                .find_map(|name| Algorithm::from_header(name.trim())),
            expects_continue: expects.eq_ignore_ascii_case("100-continue"),
        })
    }

    /// Bytes of the payload, or `MissingContentLength`.
    pub fn length(&self) -> Result<u64> {
        let length = self.decoded_length.or(self.content_length);
        length.ok_or_else(|| Code::MissingContentLength.into())
    }
}

fn md5(text: &str) -> Result<[u8; 16]> {
    let bytes = BASE64
        .decode(text.trim())
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::from(Code::InvalidDigest).with("Content-MD5", text))
}

fn checksum(headers: Headers<'_>) -> Result<Option<(Algorithm, String)>> {
    let mut found = None;
    for name in headers
        .names()
        .filter(|name| name.starts_with("x-amz-checksum-"))
    {
        if [
            "x-amz-checksum-algorithm",
            "x-amz-checksum-type",
            "x-amz-checksum-mode",
        ]
        .contains(&name)
        {
            continue;
        }
        let algorithm = Algorithm::from_header(name).ok_or_else(|| Error::not_implemented(name))?;
        let value = headers.text(name).unwrap_or_default();
        let said = (algorithm, checked_value(algorithm, &value)?);
        if found.replace(said).is_some() {
            return Err(Error::new(
                Code::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
    }
    Ok(found)
}

/// A checksum as it came in a header, a trailer or a list of parts, if it can be one.
pub fn checked_value(algorithm: Algorithm, text: &str) -> Result<String> {
    let text = text.trim();
    let (value, _parts) = text.rsplit_once('-').unwrap_or((text, ""));
    let right = BASE64
        .decode(value)
        .is_ok_and(|bytes| bytes.len() == algorithm.value_bytes());
    if right {
        Ok(text.to_owned())
    } else {
        Err(Error::new(
            Code::InvalidRequest,
            format!("Value for {} header is invalid.", algorithm.header()),
        ))
    }
}

/// What a multipart upload says about its checksums when it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksumPlan {
    /// The algorithm of every part.
    pub algorithm: Option<Algorithm>,
    /// Over bytes or over parts.
    pub kind: Option<Kind>,
}

impl ChecksumPlan {
    /// Reads `x-amz-checksum-algorithm` and `x-amz-checksum-type`. CRC64NVME knows only the full
    /// object, the SHAs only the composite (S3 user guide, "Checking object integrity").
    pub fn parse(headers: Headers<'_>) -> Result<Self> {
        let algorithm = headers.text("x-amz-checksum-algorithm");
        let algorithm = algorithm.map(|name| Algorithm::parse(&name)).transpose()?;
        let kind = headers
            .text("x-amz-checksum-type")
            .map(|text| Kind::parse(&text))
            .transpose()?;

        let kind = match (algorithm, kind) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::new(
                    Code::InvalidRequest,
                    "The x-amz-checksum-type header can only be used with the \
                     x-amz-checksum-algorithm header.",
                ));
            }
            (Some(Algorithm::Crc64nvme), None | Some(Kind::FullObject)) => Some(Kind::FullObject),
            (Some(Algorithm::Crc32 | Algorithm::Crc32c), kind) => {
                Some(kind.unwrap_or(Kind::Composite))
            }
            (Some(Algorithm::Sha1 | Algorithm::Sha256), None | Some(Kind::Composite)) => {
                Some(Kind::Composite)
            }
            (Some(algorithm), Some(kind)) => {
                let (kind, name) = (kind.as_str(), algorithm.name());
                return Err(Error::new(
                    Code::InvalidRequest,
                    format!("The {kind} checksum type cannot be used with the {name} algorithm."),
                ));
            }
        };
        Ok(Self { algorithm, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn aws_chunked_is_no_encoding_of_the_object() {
        for (came, kept) in [
            ("aws-chunked", None),
            ("gzip, aws-chunked", Some("gzip")),
            ("aws-chunked,gzip", Some("gzip")),
            ("br", Some("br")),
        ] {
            let map = headers(&[("content-encoding", came)]);
            let said = Attributes::parse(Headers(&map)).unwrap();
            assert_eq!(said.content_encoding.as_deref(), kept, "{came}");
        }
    }

    #[test]
    fn what_we_do_not_do_is_refused_by_name() {
        for name in ["x-amz-mfa", "x-amz-write-offset-bytes"] {
            let map = headers(&[(name, "x")]);
            let error = Headers(&map).refuse_unserved().unwrap_err();
            assert_eq!(error.code, Code::NotImplemented);
            assert!(error.message.contains(name));
        }
        let map = headers(&[("x-amz-storage-class", "GLACIER")]);
        let error = Attributes::parse(Headers(&map)).unwrap_err();
        assert_eq!(error.code, Code::NotImplemented);
    }

    #[test]
    fn claims_must_be_well_formed() {
        let bad =
            |name, value: &str| BodyClaims::parse(Headers(&headers(&[(name, value)]))).unwrap_err();
        assert_eq!(bad("content-md5", "short").code, Code::InvalidDigest);
        assert_eq!(
            bad("x-amz-checksum-crc32", "AAAAAAAA").code,
            Code::InvalidRequest
        );
        assert_eq!(
            bad("x-amz-checksum-xxhash64", "AAAAAAAA").code,
            Code::NotImplemented
        );
        assert_eq!(bad("content-length", "-1").code, Code::InvalidArgument);

        let good = headers(&[
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("x-amz-checksum-crc32", "AAAAAA=="),
        ]);
        let claims = BodyClaims::parse(Headers(&good)).unwrap();
        assert_eq!(
            claims.checksum,
            Some((Algorithm::Crc32, "AAAAAA==".to_owned()))
        );
        assert_eq!(
            claims.length().unwrap_err().code,
            Code::MissingContentLength
        );
    }

    #[test]
    fn metadata_is_limited_to_two_kilobytes() {
        let map = headers(&[("x-amz-meta-Big", &"x".repeat(2100))]);
        assert_eq!(
            Attributes::parse(Headers(&map)).unwrap_err().code,
            Code::MetadataTooLarge
        );
        let map = headers(&[("x-amz-meta-Colour", "grün")]);
        let said = Attributes::parse(Headers(&map)).unwrap();
        assert_eq!(said.metadata, [("colour".to_owned(), "grün".to_owned())]);
    }
}
