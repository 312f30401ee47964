//! Objects: put, get, head.

use http::{HeaderMap, StatusCode, header};
use s3::{
    Code, Error, VersionId,
    checksum::Checksum,
    request::{GetObject, Place, PutObject},
};

use super::{Ask, Done, same, versions::shown};
use crate::{
    answer,
    body::RequestBody,
    engine::{self, Change, Failure, Object, change::PutChange, facts::Bucket},
    intake::{self, Taken},
    outflow::{self, Span},
};

impl Ask<'_> {
    pub(super) async fn put_object(
        &self,
        at: Place,
        put: PutObject,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        let owner = self.owner_of_new(&bucket);
        let acl = self.list_of_new(put.acl, &bucket, &at.key, &owner)?;
        let taken = intake::take_in(&self.api.engine, body, None, false).await?;

        let object = Object {
            etag: hex::encode(taken.verified.md5),
            size: taken.size,
            modified: self.now,
            owner,
            acl,
            attributes: put.attributes,
            checksum: Some(taken.verified.checksum.clone()),
            body: taken.body(),
            upload_id: None,
            bucket: at.bucket,
            key: at.key,
            version: VersionId::null(),
            order: 0,
        };
        self.api.metrics.received(object.size);
        let mut answer = put_answer(&object.etag, object.checksum.as_ref());
        let Taken { inline, blob, .. } = taken;
        let put = PutChange {
            bucket: same(&bucket),
            object,
            inline,
            blobs: blob.into_iter().collect(),
            conditions: put.conditions,
            unique: rand::random(),
        };
        let version = self.put(put).await?;
        answer::set_version(answer.headers_mut(), version.as_ref());
        Ok(answer)
    }

    /// Commits an object; answers its version if its bucket has versions.
    pub(super) async fn put(&self, put: PutChange) -> Result<Option<VersionId>, Failure> {
        let change = Change::PutObject(Box::new(put));
        match self.api.engine.commit(change).await? {
            engine::Done::Written(version) => Ok(version),
            _ => Err(Code::InternalError.into()),
        }
    }

    /// What nobody in particular writes belongs to the bucket's owner, or it could never be
    /// deleted by anyone but by way of the bucket.
    pub(super) fn owner_of_new(&self, bucket: &Bucket) -> types::AccountId {
        self.caller.account().unwrap_or(&bucket.owner).clone()
    }

    pub(super) async fn get_object(&self, at: Place, get: GetObject, is_head: bool) -> Done {
        if !get.overrides.is_empty() && self.caller.account().is_none() {
            let why =
                "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(Error::new(Code::InvalidRequest, why).into());
        }
        let is_named = at.version.is_some();
        let (bucket, found) = self.find_object(at).await?;
        self.wish().on_object(&found.object, is_named)?;
        let version = shown(&bucket, &found.object).cloned();
        match get
            .conditions
            .judge(&found.object.etag, found.object.modified)
        {
            Err(error) if error.code == Code::NotModified => {
                return Ok(not_modified(&found.object));
            }
            judged => judged?,
        }

        let span = Span::of(&found.object, &get)?;
        let mut headers = HeaderMap::new();
        set_headers(&mut headers, &found.object, &span, &get);
        answer::set_version(&mut headers, version.as_ref());
        let mut answer = if is_head {
            answer::status(StatusCode::OK)
        } else {
            self.api.metrics.sent(span.bytes.end - span.bytes.start);
            http::Response::new(outflow::send(&self.api.engine, found, span.bytes).await?)
        };
        *answer.headers_mut() = headers;
        if span.is_part {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(answer)
    }
}

/// What a cache needs to go on with what it has (RFC 9110, 15.4.5).
fn not_modified(object: &Object) -> answer::Answer {
    let mut answer = answer::status(StatusCode::NOT_MODIFIED);
    let headers = answer.headers_mut();
    answer::set(headers, header::ETAG, format!("\"{}\"", object.etag));
    answer::set(headers, header::LAST_MODIFIED, object.modified.http_date());
    if let Some(text) = &object.attributes.cache_control {
        answer::set(headers, header::CACHE_CONTROL, text);
    }
    answer
}

/// The answer of a PUT, of an object or of a part.
pub(super) fn put_answer(etag: &str, checksum: Option<&Checksum>) -> answer::Answer {
    let mut answer = answer::status(StatusCode::OK);
    let headers = answer.headers_mut();
    answer::set(headers, header::ETAG, format!("\"{etag}\""));
    set_checksum(headers, checksum);
    answer
}

fn set_checksum(headers: &mut HeaderMap, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        answer::set(headers, checksum.algorithm.header(), &checksum.value);
        answer::set(headers, "x-amz-checksum-type", checksum.kind.as_str());
    }
}

fn set_headers(headers: &mut HeaderMap, object: &Object, span: &Span, get: &GetObject) {
    let said = &object.attributes;
    let kept = [
        (header::CACHE_CONTROL, &said.cache_control),
        (header::CONTENT_DISPOSITION, &said.content_disposition),
        (header::CONTENT_ENCODING, &said.content_encoding),
        (header::CONTENT_LANGUAGE, &said.content_language),
        (header::EXPIRES, &said.expires),
    ];
    for (name, value) in kept {
        if let Some(value) = value {
            answer::set(headers, name, value);
        }
    }
    let kind = said
        .content_type
        .as_deref()
        .unwrap_or("binary/octet-stream");
    answer::set(headers, header::CONTENT_TYPE, kind);
    for (name, value) in &get.overrides {
        answer::set(headers, *name, value);
    }

    for (name, value) in &said.metadata {
        answer::set(
            headers,
            format!("x-amz-meta-{name}"),
            outflow::header_text(value),
        );
    }
    if said.storage_class.is_some() {
        answer::set(headers, "x-amz-storage-class", said.storage_class());
    }
    answer::set(headers, header::ETAG, format!("\"{}\"", object.etag));
    answer::set(headers, header::LAST_MODIFIED, object.modified.http_date());
    answer::set(headers, header::ACCEPT_RANGES, "bytes");
    answer::set(
        headers,
        header::CONTENT_LENGTH,
        (span.bytes.end - span.bytes.start).to_string(),
    );
    if span.is_part {
        let (first, last) = (span.bytes.start, span.bytes.end.saturating_sub(1));
        answer::set(
            headers,
            header::CONTENT_RANGE,
            format!("bytes {first}-{last}/{}", object.size),
        );
    }
    if get.part_number.is_some() && object.body.pieces().len() > 1 {
        answer::set(
            headers,
            "x-amz-mp-parts-count",
            object.body.pieces().len().to_string(),
        );
    }
    // A checksum of the whole beside a part of it would be taken for the part's.
    if get.checksum_mode && !span.is_part {
        set_checksum(headers, object.checksum.as_ref());
    }
}
