//! Copies: an object onto another key, or a range of one as a part of an upload.

use std::ops::Range;

use http::HeaderMap;
use s3::{
    Action, Code, Error, VersionId,
    documents::copy::write_copy,
    encryption::Encryption,
    range::ByteRange,
    request::{CopyObject, PartName, Place, Source},
};

use super::{Ask, Done, encryption::set_encryption, same, versions::shown};
use crate::{
    answer,
    digests::{Digests, Verified},
    engine::{
        Body, Bucket, Change, Engine, Failure, Found, Object,
        blobs::NewBlob,
        change::PutChange,
        facts::{Part, Piece, Sealing},
        quota::Intended,
    },
    outflow::Reading,
    seal::{DataKey, Sealer},
};

impl Ask<'_> {
    /// Finds what is to be copied, if the caller may read it and its conditions hold.
    async fn source(&self, source: &Source) -> Result<(Bucket, Found), Failure> {
        let at = Place {
            bucket: source.from.bucket.clone(),
            key: source.from.key.clone(),
            version: source.from.version.clone(),
        };
        let wish = self.wish_to(Action::GetObject);
        let (bucket, found) = self.find_object_as(&wish, &source.whose, at).await?;
        let is_named = source.from.version.is_some();
        wish.on_object(&bucket, &found.object, is_named)?;
        let judged = source
            .conditions
            .judge(&found.object.etag, found.object.modified);
        judged.map_err(|_| Error::from(Code::PreconditionFailed))?;
        Ok((bucket, found))
    }

    pub(super) async fn copy_object(&self, at: Place, copy: CopyObject) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        let (origin, found) = self.source(&copy.source).await?;
        let source = &copy.source.from;
        let onto_itself =
            (&source.bucket, &source.key) == (&at.bucket, &at.key) && source.version.is_none();
        let changes = copy.replace.is_some()
            || copy.storage_class.is_some()
            || copy.encryption != Encryption::Default;
        if onto_itself && !changes {
            return Err(Error::new(
                Code::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself \
                 without changing the object's metadata, storage class, website redirect location \
                 or encryption attributes.",
            )
            .into());
        }

        self.check_extras(&bucket, &at.key, copy.tags.as_ref(), &copy.lock)?;
        let owner = self.owner_of_new(&bucket, copy.acl.as_ref());
        let acl = self.list_of_new(copy.acl, &bucket, &at.key, &owner)?;
        let intended = Intended::Object(at.key.clone());
        let engine = &self.api.engine;
        engine.foresee(&bucket, intended, found.object.size).await?;
        let origin_object = found.object.clone();
        let old = self.key_of(&found.object, copy.source.key.as_ref())?;
        let new = self.seal_new(&copy.encryption, &bucket)?;
        let inline = Self::inline_again(&found, old.as_ref(), new.as_ref())?;
        let found_object = &origin_object;
        let (body, blobs) = match (&old, &new) {
            (None, None) => self.api.engine.duplicate_body(&found).await?,
            _ => self.copy_sealed(found, old, new.as_ref()).await?,
        };
        let mut attributes = copy
            .replace
            .unwrap_or_else(|| found_object.attributes.clone());
        attributes.storage_class = copy.storage_class;
        let object = Object {
            bucket: at.bucket,
            key: at.key,
            modified: self.now,
            owner,
            acl,
            attributes,
            tags: copy.tags.unwrap_or_else(|| found_object.tags.clone()),
            lock: copy.lock,
            encryption: new.map(|(sealing, _)| sealing),
            body,
            upload_id: None,
            ..found_object.clone()
        };
        let document = write_copy(
            "CopyObjectResult",
            &object.etag,
            object.modified,
            object.checksum.as_ref(),
        );
        let sealing = object.encryption.clone();
        let put = PutChange {
            bucket: same(&bucket),
            object,
            inline,
            blobs,
            conditions: copy.conditions,
            unique: rand::random(),
        };
        let version = self.put(put).await?;
        let mut answer = answer::xml(document);
        let headers = answer.headers_mut();
        answer::set_version(headers, version.as_ref());
        set_encryption(headers, sealing.as_ref());
        set_source_version(headers, shown(&origin, &origin_object));
        Ok(answer)
    }

    /// Every file again, opened and sealed anew. The object's files are as many as they were, so
    /// that its parts stay its parts.
    async fn copy_sealed(
        &self,
        found: Found,
        old: Option<DataKey>,
        new: Option<&(Sealing, DataKey)>,
    ) -> Result<(Body, Vec<NewBlob>), Failure> {
        if found.inline().is_some() {
            return Ok((Body::Inline, Vec::new()));
        }
        let _room = self.api.engine.admit(found.object.size)?;
        let new = new.map(|(_, key)| key.clone());
        let work = move |engine: &Engine| seal_again(engine, found, old, new);
        self.api.engine.blocking(work).await
    }

    pub(super) async fn upload_part_copy(
        &self,
        at: Place,
        name: PartName,
        source: Source,
        range: Option<ByteRange>,
    ) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        let upload = self.find_upload(&at, &name.upload_id).await?;
        let (origin, found) = self.source(&source).await?;
        let source_version = shown(&origin, &found.object).cloned();
        let bytes = part_range(range, found.object.size)?;
        let size = bytes.end - bytes.start;
        let intended = Intended::Part(name.upload_id.clone(), name.number);
        self.api.engine.foresee(&bucket, intended, size).await?;
        let _room = self.api.engine.admit(size)?;

        let digests = Digests::for_object(&Default::default(), upload.checksum.algorithm);
        let old = self.key_of(&found.object, source.key.as_ref())?;
        let master = &self.api.master_key;
        let new = master.open_data_key(upload.encryption.as_ref(), name.key.as_ref())?;
        let salt = new.as_ref().map(|_| DataKey::salt());
        let sealer = new.zip(salt.as_ref()).map(|(key, salt)| key.sealer(salt));
        let work = move |engine: &Engine| {
            let lane = engine.outflows().enter()?;
            let reading = Reading::begin(engine.clone(), found, old, &bytes, lane)?;
            copy_bytes(engine, reading, sealer, digests)
        };
        let (blob, verified) = self.api.engine.blocking(work).await?;

        let part = Part {
            upload_id: name.upload_id,
            number: name.number,
            etag: hex::encode(verified.md5),
            modified: self.now,
            checksum: Some(verified.checksum),
            piece: Piece {
                blob: blob.id().clone(),
                size,
                salt,
                checksum: None,
            },
        };
        let document = write_copy(
            "CopyPartResult",
            &part.etag,
            part.modified,
            part.checksum.as_ref(),
        );
        let change = Change::PutPart {
            bucket: same(&bucket),
            part: Box::new(part),
            blob,
        };
        self.api.engine.commit(change).await?;
        let mut answer = answer::xml(document);
        let headers = answer.headers_mut();
        set_encryption(headers, upload.encryption.as_ref());
        set_source_version(headers, source_version.as_ref());
        Ok(answer)
    }
}

fn set_source_version(headers: &mut HeaderMap, version: Option<&VersionId>) {
    if let Some(version) = version {
        answer::set(headers, "x-amz-copy-source-version-id", version.as_str());
    }
}

/// The range must lie inside the source; it is not cut to fit, as that of a GET is.
fn part_range(range: Option<ByteRange>, size: u64) -> Result<Range<u64>, Error> {
    match range {
        None => Ok(0..size),
        Some(ByteRange::From(first, Some(last))) if last < size => Ok(first..last + 1),
        Some(_) => Err(Error::new(
            Code::InvalidRange,
            format!("The specified copy range is invalid for the source object size: {size}"),
        )),
    }
}

fn copy_bytes(
    engine: &Engine,
    mut reading: Reading,
    mut sealer: Option<Sealer>,
    mut digests: Digests,
) -> Result<(NewBlob, Verified), Failure> {
    let mut sink = engine.new_blob()?;
    loop {
        let (next, data) = reading.read()?;
        if data.is_empty() {
            break;
        }
        digests.update(&data);
        match &mut sealer {
            None => sink.write(&data)?,
            Some(sealer) => sink.write(&sealer.push(&data))?,
        }
        reading = next;
    }
    if let Some(sealer) = sealer {
        sink.write(&sealer.finish())?;
    }
    let verified = digests.verify(&Default::default(), &[])?;
    Ok((sink.finish()?, verified))
}

fn seal_again(
    engine: &Engine,
    found: Found,
    old: Option<DataKey>,
    new: Option<DataKey>,
) -> Result<(Body, Vec<NewBlob>), Failure> {
    let sizes: Vec<u64> = found.object.body.pieces().iter().map(|p| p.size).collect();
    let (mut pieces, mut blobs) = (Vec::new(), Vec::new());
    let whole = 0..found.object.size;
    let lane = engine.outflows().enter()?;
    let mut reading = Reading::begin(engine.clone(), found, old, &whole, lane)?;
    for size in sizes {
        let salt = new.as_ref().map(|_| DataKey::salt());
        let mut sealer = new
            .as_ref()
            .zip(salt.as_ref())
            .map(|(key, salt)| key.sealer(salt));
        let mut sink = engine.new_blob()?;
        let mut left = size;
        while left > 0 {
            // What is read at once never reaches over the end of a file.
            let (next, data) = reading.read()?;
            reading = next;
            if data.is_empty() || data.len() as u64 > left {
                return Err(Failure::Damaged("a file has another length".to_owned()));
            }
            left -= data.len() as u64;
            match &mut sealer {
                None => sink.write(&data)?,
                Some(sealer) => sink.write(&sealer.push(&data))?,
            }
        }
        if let Some(sealer) = sealer {
            sink.write(&sealer.finish())?;
        }
        let blob = sink.finish()?;
        pieces.push(Piece {
            blob: blob.id().clone(),
            size,
            salt,
            checksum: None,
        });
        blobs.push(blob);
    }
    Ok((Body::Pieces(pieces), blobs))
}
