//! Objects: put, get, head.

use http::{HeaderMap, StatusCode, header};
use s3::{
    AclWish, Code, Error, Key, VersionId,
    acl::Canned,
    checksum::Checksum,
    documents::{
        lock::{Locked, hold_word},
        ownership::Ownership,
        tagging::Tags,
    },
    request::{GetObject, Place, PutObject},
};

use super::{Ask, Done, encryption::set_encryption, same, versions::shown};
use crate::{
    answer,
    authorise::Extra,
    body::Source,
    engine::{self, Change, Failure, Object, change::PutChange, facts::Bucket, quota::Intended},
    intake::{self, Manner, Taken},
    outflow::{self, Span},
};

impl Ask<'_> {
    pub(super) async fn put_object(
        &self,
        at: Place,
        put: PutObject,
        body: &mut impl Source,
    ) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        self.check_extras(&bucket, &at.key, Some(&put.tags), &put.lock)?;
        let owner = self.owner_of_new(&bucket, put.acl.as_ref());
        let acl = self.list_of_new(put.acl, &bucket, &at.key, &owner)?;
        let seal = self.seal_new(&put.encryption, &bucket)?;
        let intended = Intended::Object(at.key.clone());
        let announced = intake::announced(body.claims())?;
        let engine = &self.api.engine;
        engine.foresee(&bucket, intended, announced).await?;
        let manner = Manner {
            seal: seal
                .as_ref()
                .map(|(sealing, key)| (key, sealing.salt.as_str())),
            ..Manner::default()
        };
        let taken = intake::take_in(&self.api.engine, body, manner).await?;

        let object = Object {
            etag: hex::encode(taken.verified.md5),
            size: taken.size,
            modified: self.now,
            owner,
            acl,
            attributes: put.attributes,
            checksum: Some(taken.verified.checksum.clone()),
            tags: put.tags,
            lock: put.lock,
            encryption: seal.map(|(sealing, _)| sealing),
            body: taken.body(),
            upload_id: None,
            bucket: at.bucket,
            key: at.key,
            version: VersionId::null(),
            order: 0,
        };
        self.api.metrics.received(object.size);
        let mut answer = put_answer(&object.etag, object.checksum.as_ref());
        set_encryption(answer.headers_mut(), object.encryption.as_ref());
        set_expiry(answer.headers_mut(), &bucket, &object);
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
        match self.commit(change).await? {
            engine::Done::Written(version) => Ok(version),
            _ => Err(Code::InternalError.into()),
        }
    }

    /// What nobody in particular writes belongs to the bucket's owner, or it could never be
    /// deleted by anyone but by way of the bucket.
    /// Where the bucket says so its owner owns what others write.
    pub(super) fn owner_of_new(&self, bucket: &Bucket, acl: Option<&AclWish>) -> types::AccountId {
        let full_control = AclWish::Canned(Canned::BucketOwnerFullControl);
        let to_bucket = match bucket.settings.ownership {
            Some(Ownership::BucketOwnerEnforced) => true,
            Some(Ownership::BucketOwnerPreferred) => acl == Some(&full_control),
            Some(Ownership::ObjectWriter) | None => false,
        };
        let writer = self.caller.account().filter(|_| !to_bucket);
        writer.unwrap_or(&bucket.owner).clone()
    }

    /// What a writer asks for besides writing is a right of its own.
    pub(super) fn check_extras(
        &self,
        bucket: &Bucket,
        key: &Key,
        tags: Option<&Tags>,
        lock: &Locked,
    ) -> Result<(), Error> {
        let asked = [
            (Extra::Tags, tags.is_some_and(|tags| !tags.is_empty())),
            (Extra::Retention, lock.retention.is_some()),
            (Extra::LegalHold, lock.held.is_some()),
        ];
        for (extra, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            self.wish().on_extra(extra, bucket, key)?;
        }
        Ok(())
    }

    pub(super) async fn get_object(&self, at: Place, get: GetObject, is_head: bool) -> Done {
        if !get.overrides.is_empty() && self.caller.account().is_none() {
            let why =
                "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(Error::new(Code::InvalidRequest, why).into());
        }
        let (bucket, found) = self.find_allowed(at).await?;
        let key = self.key_of(&found.object, get.key.as_ref())?;
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
        set_expiry(&mut headers, &bucket, &found.object);
        let mut answer = if is_head {
            answer::status(StatusCode::OK)
        } else {
            self.api.metrics.sent(span.bytes.end - span.bytes.start);
            http::Response::new(outflow::send(&self.api.engine, found, key, span.bytes).await?)
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

/// When the bucket's rules will delete the object.
fn set_expiry(headers: &mut HeaderMap, bucket: &Bucket, object: &Object) {
    let Some(rules) = &bucket.settings.lifecycle else {
        return;
    };
    let key = object.key.as_str();
    if let Some((date, rule)) = rules.expiry(key, &object.tags, object.size, object.modified) {
        let date = date.http_date();
        let text = format!("expiry-date=\"{date}\", rule-id=\"{rule}\"");
        answer::set(headers, "x-amz-expiration", text);
    }
}

fn set_lock(headers: &mut HeaderMap, lock: &Locked) {
    if let Some(retention) = lock.retention {
        answer::set(headers, "x-amz-object-lock-mode", retention.mode.as_str());
        let until = retention.until.to_string();
        answer::set(headers, "x-amz-object-lock-retain-until-date", until);
    }
    if let Some(held) = lock.held {
        answer::set(headers, "x-amz-object-lock-legal-hold", hold_word(held));
    }
}

/// The checksum of what is sent: one of the whole beside a part of it would be taken for the part's.
fn checksum_of(object: &Object, span: &Span, get: &GetObject) -> Option<Checksum> {
    let whole = object.checksum.as_ref()?;
    match get.part_number {
        Some(number) if object.upload_id.is_some() => {
            let piece = object.body.pieces().get(number as usize - 1)?;
            let checksum = piece.checksum.clone()?;
            Some(Checksum {
                kind: whole.kind,
                ..checksum
            })
        }
        Some(_) => Some(whole.clone()),
        None => (!span.is_part).then(|| whole.clone()),
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
    if !object.tags.is_empty() {
        let count = object.tags.count().to_string();
        answer::set(headers, "x-amz-tagging-count", count);
    }
    set_lock(headers, &object.lock);
    set_encryption(headers, object.encryption.as_ref());
    if let Some(to) = &said.redirect {
        answer::set(headers, "x-amz-website-redirect-location", to);
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
    if get.part_number.is_some() && object.upload_id.is_some() {
        answer::set(
            headers,
            "x-amz-mp-parts-count",
            object.body.pieces().len().to_string(),
        );
    }
    if get.checksum_mode {
        set_checksum(headers, checksum_of(object, span, get).as_ref());
    }
}
