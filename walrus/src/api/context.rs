//! What conditions of policies may look at: who asks from where, when, and what the request says.
//! The names are those of the "Actions, resources, and condition keys for Amazon S3" page.

use http::request::Parts;
use s3::{Operation, Request, documents::tagging::Tags, headers::Headers, request::Place};
use sigv4::vouch::Origin;
use types::Timestamp;

use crate::auth::Authenticated;

/// Headers that conditions may look at, each by its name after `s3:`.
const HEADERS: [&str; 16] = [
    "x-amz-acl",
    "x-amz-copy-source",
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
    let mut context = iam::Context::new()
        .with("aws:CurrentTime", now.to_string())
        .with("aws:EpochTime", now.as_secs().to_string())
        .with("aws:SourceIp", origin.address.to_string())
        .with("aws:SecureTransport", origin.secure.to_string())
        .with("s3:authType", known.signed.kind());
    for (name, header) in [("aws:UserAgent", "user-agent"), ("aws:Referer", "referer")] {
        if let Some(text) = headers.text(header) {
            context.add(name, text);
        }
    }
    if let Some(account) = known.caller.account() {
        context.add("aws:PrincipalAccount", account.as_str());
    }
    if let Some(version) = known.signed.version() {
        context.add("s3:signatureversion", version);
    }
    if let Some(age_ms) = known.signed.age_ms(now) {
        context.add("s3:signatureAge", age_ms.to_string());
    }
    for name in HEADERS {
        if let Some(text) = headers.text(name) {
            context.add(&format!("s3:{name}"), text);
        }
    }
    add_tags(&mut context, headers);
    add_lock(&mut context, headers, now);
    add_parameters(&mut context, &request.operation);
    context
}

fn add_tags(context: &mut iam::Context, headers: Headers<'_>) {
    let tags = headers.text("x-amz-tagging");
    let tags = tags
        .and_then(|text| Tags::parse(&text).ok())
        .unwrap_or_default();
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
