//! What conditions of policies may look at: who asks from where, when, and what the request says.
//! The names are those of the "Actions, resources, and condition keys for Amazon S3" page.

use http::{HeaderMap, request::Parts};
use s3::{Operation, Request, documents::tagging::Tags, headers::Headers, request::Place};
use sigv4::vouch::Origin;
use types::Timestamp;

use crate::{
    auth::{Authenticated, Signed},
    directory::Caller,
};

/// Headers that conditions may look at, each by its name after `s3:`.
const HEADERS: [&str; 15] = [
    "x-amz-acl",
    "x-amz-metadata-directive",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-content-sha256",
    "x-amz-object-ownership",
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-grant-full-control",
    "x-amz-mfa",
];

/// All facts of a request.
pub(super) fn of(
    parts: &Parts,
    request: &Request,
    known: &Authenticated,
    origin: Origin,
    now: Timestamp,
) -> iam::Context {
    let headers = Headers(&parts.headers);
    let mut context = surroundings(headers, origin, now);
    context.add("s3:authType", known.signed.kind());
    add_caller(&mut context, &known.caller, known.signed, now);
    add_headers(&mut context, headers, now);
    add_tags(&mut context, &headers.tags().unwrap_or_default());
    add_source(&mut context, headers, &request.operation);
    add_parameters(&mut context, &request.operation);
    context
}

/// The facts of a form, whose fields stand for headers.
pub(super) fn of_form(
    parts: &Parts,
    (said, tags): (&HeaderMap, &Tags),
    (caller, signed): (&Caller, Signed),
    origin: Origin,
    now: Timestamp,
) -> iam::Context {
    let mut context = surroundings(Headers(&parts.headers), origin, now);
    context.add("s3:authType", "POST");
    add_caller(&mut context, caller, signed, now);
    add_headers(&mut context, Headers(said), now);
    add_tags(&mut context, tags);
    context
}

/// The facts of a browser's visit of a website.
pub(super) fn of_visit(parts: &Parts, origin: Origin, now: Timestamp) -> iam::Context {
    surroundings(Headers(&parts.headers), origin, now)
}

fn surroundings(headers: Headers<'_>, origin: Origin, now: Timestamp) -> iam::Context {
    let mut context = iam::Context::new()
        .with("aws:CurrentTime", now.to_string())
        .with("aws:EpochTime", now.as_secs().to_string())
        .with("aws:SourceIp", origin.address.to_string())
        .with("aws:SecureTransport", origin.secure.to_string());
    for (name, header) in [("aws:UserAgent", "user-agent"), ("aws:Referer", "referer")] {
        if let Some(text) = headers.text(header) {
            context.add(name, text);
        }
    }
    context
}

fn add_caller(context: &mut iam::Context, caller: &Caller, signed: Signed, now: Timestamp) {
    if let Some(account) = caller.account() {
        context.add("aws:PrincipalAccount", account.as_str());
    }
    if let Some(version) = signed.version() {
        context.add("s3:signatureversion", version);
    }
    if let Some(age_ms) = signed.age_ms(now) {
        context.add("s3:signatureAge", age_ms.to_string());
    }
}

/// What headers say of an object.
fn add_headers(context: &mut iam::Context, headers: Headers<'_>, now: Timestamp) {
    for name in HEADERS {
        if let Some(text) = headers.text(name) {
            context.add(&format!("s3:{name}"), text);
        }
    }
    add_lock(context, headers, now);
}

/// Where a copy comes from, as the client wrote it; but never with an account before the bucket, by
/// which a condition that names the bucket would be passed by.
fn add_source(context: &mut iam::Context, headers: Headers<'_>, operation: &Operation) {
    let qualified = operation
        .source()
        .filter(|source| source.from.qualifier.is_some());
    let text = match qualified {
        None => headers.text("x-amz-copy-source"),
        Some(source) => Some(source.from.unqualified()),
    };
    if let Some(text) = text {
        context.add("s3:x-amz-copy-source", text);
    }
}

fn add_tags(context: &mut iam::Context, tags: &Tags) {
    for (name, value) in tags.pairs() {
        context.add(&format!("s3:RequestObjectTag/{name}"), value);
        context.add("s3:RequestObjectTagKeys", name);
    }
}

fn add_lock(context: &mut iam::Context, headers: Headers<'_>, now: Timestamp) {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let lock = headers.lock().unwrap_or_default();
    if let Some(retention) = lock.retention {
        let left_ms = retention.until.as_millis() - now.as_millis();
        context.add("s3:object-lock-mode", retention.mode.as_str());
        context.add(
            "s3:object-lock-retain-until-date",
            retention.until.to_string(),
        );
        let days = (left_ms / DAY_MS).to_string();
        context.add("s3:object-lock-remaining-retention-days", days);
    }
    if let Some(held) = lock.held {
        let word = s3::documents::lock::hold_word(held);
        context.add("s3:object-lock-legal-hold", word);
    }
}

fn add_parameters(context: &mut iam::Context, operation: &Operation) {
    let mut listing = |prefix: &str, delimiter: Option<&String>, max_keys: u32| {
        context.add("s3:prefix", prefix);
        context.add("s3:max-keys", max_keys.to_string());
        if let Some(delimiter) = delimiter {
            context.add("s3:delimiter", delimiter.as_str());
        }
    };
    match operation {
        Operation::ListObjects { list, .. } => {
            listing(&list.prefix, list.delimiter.as_ref(), list.max_keys);
        }
        Operation::ListObjectVersions { list, .. } => {
            listing(&list.prefix, list.delimiter.as_ref(), list.max_keys);
        }
        Operation::ListMultipartUploads { list, .. } => {
            listing(&list.prefix, list.delimiter.as_ref(), list.max_uploads);
        }
        Operation::GetObject { at, .. }
        | Operation::HeadObject { at, .. }
        | Operation::DeleteObject { at, .. }
        | Operation::GetObjectAcl { at }
        | Operation::PutObjectAcl { at, .. }
        | Operation::GetObjectTagging { at }
        | Operation::PutObjectTagging { at }
        | Operation::DeleteObjectTagging { at } => add_version(context, at),
        _ => {}
    }
}

fn add_version(context: &mut iam::Context, at: &Place) {
    if let Some(version) = &at.version {
        context.add("s3:VersionId", version.as_str());
    }
}
