//! Multipart uploads: a record, parts in files of their own, and one commit that makes an object of
//! them without copying a byte.

use http::StatusCode;
use s3::{
    BucketName,
    checksum::Kind,
    documents::multipart::{
        PartLine, read_parts, write_completed, write_created, write_part_list, write_upload_list,
    },
    encryption::CustomerKey,
    headers::ChecksumPlan,
    request::{Complete, CreateUpload, ListParts, ListUploads, PartName, Place},
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, encryption::set_encryption, objects::put_answer, same};
use crate::{
    answer,
    body::{RequestBody, Source as _},
    digests,
    engine::{
        self, Change, Failure,
        change::{CompleteChange, no_such_upload},
        facts::{Part, Piece, Sealing, Under, Upload},
        quota::Intended,
    },
    intake::{self, Manner, Taken},
};

impl Ask<'_> {
    pub(super) async fn create_multipart_upload(&self, at: Place, create: CreateUpload) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        self.check_extras(&bucket, &at.key, Some(&create.tags), &create.lock)?;
        let owner = self.owner_of_new(&bucket, create.acl.as_ref());
        // Without a wish the whole object gets AWS's default checksum.
        let checksum = match create.checksum.algorithm {
            Some(_) => create.checksum,
            None => ChecksumPlan {
                algorithm: Some(digests::DEFAULT),
                kind: Some(Kind::FullObject),
            },
        };
        let seal = self.seal_new(&create.encryption, &bucket)?;
        let upload = Upload {
            id: hex::encode(rand::random::<[u8; 16]>()),
            initiated: self.now,
            acl: self.list_of_new(create.acl, &bucket, &at.key, &owner)?,
            tags: create.tags,
            lock: create.lock,
            encryption: seal.map(|(sealing, _)| sealing),
            attributes: create.attributes,
            checksum,
            owner,
            bucket: at.bucket,
            key: at.key,
        };
        let sealing = upload.encryption.clone();
        let document = write_created(upload.bucket.as_str(), upload.key.as_str(), &upload.id);
        let change = Change::CreateUpload(same(&bucket), Box::new(upload));
        self.api.engine.commit(change).await?;

        let mut answer = answer::xml(document);
        set_encryption(answer.headers_mut(), sealing.as_ref());
        if let (Some(algorithm), Some(kind)) = (checksum.algorithm, checksum.kind) {
            let headers = answer.headers_mut();
            answer::set(headers, "x-amz-checksum-algorithm", algorithm.name());
            answer::set(headers, "x-amz-checksum-type", kind.as_str());
        }
        Ok(answer)
    }

    /// Finds an upload of this very object.
    pub(super) async fn find_upload(&self, at: &Place, upload_id: &str) -> Result<Upload, Failure> {
        let asked = upload_id.to_owned();
        let found = self
            .api
            .engine
            .view(move |view| view.find_upload(&asked))
            .await?;
        let upload = found.map(|kept| kept.thing);
        let upload = upload.filter(|upload| upload.bucket == at.bucket && upload.key == at.key);
        upload.ok_or_else(|| no_such_upload(upload_id).into())
    }

    pub(super) async fn upload_part(
        &self,
        at: Place,
        name: PartName,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        let upload = self.find_upload(&at, &name.upload_id).await?;
        let intended = Intended::Part(name.upload_id.clone(), name.number);
        let engine = &self.api.engine;
        engine
            .foresee(&bucket, intended, intake::announced(body.claims())?)
            .await?;
        let master = &self.api.master_key;
        let key = master.open_data_key(upload.encryption.as_ref(), name.key.as_ref())?;
        let manner = Manner {
            plan: upload.checksum.algorithm,
            to_file: true,
            seal: key.as_ref().map(|key| (key, "")),
        };
        let taken = intake::take_in(&self.api.engine, body, manner).await?;

        let Taken {
            verified,
            size,
            blob,
            salt,
            ..
        } = taken;
        let blob = blob.expect("a part lies in a file");
        self.api.metrics.received(size);
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
        let mut answer = put_answer(&part.etag, part.checksum.as_ref());
        set_encryption(answer.headers_mut(), upload.encryption.as_ref());
        let change = Change::PutPart {
            bucket: same(&bucket),
            part: Box::new(part),
            blob,
        };
        self.api.engine.commit(change).await?;
        Ok(answer)
    }

    /// The client's key must be the upload's, and must come again if the upload names a checksum
    /// (CompleteMultipartUpload reference). Of an upload that is complete nothing is known any more.
    async fn check_key(&self, upload_id: &str, key: Option<&CustomerKey>) -> Result<(), Failure> {
        let asked = upload_id.to_owned();
        let engine = &self.api.engine;
        let found = engine.view(move |view| view.find_upload(&asked)).await?;
        let Some(upload) = found.map(|kept| kept.thing) else {
            return Ok(());
        };
        let names_checksum = upload.checksum.algorithm != Some(digests::DEFAULT);
        let is_customers = |sealing: &Sealing| matches!(sealing.under, Under::Customer(_));
        let sealing = upload.encryption.filter(is_customers);
        if sealing.is_some() && (key.is_some() || names_checksum) {
            let master = &self.api.master_key;
            master.open_data_key(sealing.as_ref(), key)?;
        }
        Ok(())
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        at: Place,
        upload_id: String,
        complete: Complete,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.bucket_to_write(at.bucket, &at.key).await?;
        self.check_key(&upload_id, complete.key.as_ref()).await?;
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let change = CompleteChange {
            bucket: same(&bucket),
            key: at.key,
            upload_id,
            parts: read_parts(&document)?,
            checksum: complete.checksum,
            size: complete.size,
            conditions: complete.conditions,
            now: self.now,
            unique: rand::random(),
        };
        let change = Change::CompleteUpload(Box::new(change));
        let done = self.commit(change).await?;
        let engine::Done::Completed(object, version) = done else {
            return Err(s3::Code::InternalError.into());
        };
        let location = format!("{}://{}{}", self.scheme(), self.host, self.path);
        let mut answer = answer::xml(write_completed(
            &location,
            object.bucket.as_str(),
            object.key.as_str(),
            &object.etag,
            object.checksum.as_ref(),
        ));
        let headers = answer.headers_mut();
        answer::set_version(headers, version.as_ref());
        set_encryption(headers, object.encryption.as_ref());
        Ok(answer)
    }

    pub(super) async fn abort_multipart_upload(&self, at: Place, upload_id: String) -> Done {
        let bucket = self.bucket_to_write(at.bucket, &at.key).await?;
        let bucket = same(&bucket);
        self.api
            .engine
            .commit(Change::AbortUpload {
                bucket,
                key: at.key,
                upload_id,
            })
            .await?;
        Ok(answer::status(StatusCode::NO_CONTENT))
    }

    pub(super) async fn list_parts(&self, at: Place, upload_id: String, list: ListParts) -> Done {
        self.bucket_to_write(at.bucket.clone(), &at.key).await?;
        let upload = self.find_upload(&at, &upload_id).await?;

        let (after, limit) = (list.after, list.max_parts + 1);
        let view = self
            .api
            .engine
            .view(move |view| view.list_parts(&upload_id, after, limit));
        let parts: Vec<_> = view
            .await?
            .into_iter()
            .map(|kept| part_line(kept.thing))
            .collect();
        let document = write_part_list(
            at.bucket.as_str(),
            &upload.line(),
            &list,
            &parts,
            self.people(),
        );
        Ok(answer::xml(document))
    }

    pub(super) async fn list_multipart_uploads(&self, name: BucketName, list: ListUploads) -> Done {
        let bucket = self.find_bucket(name.clone()).await?;
        self.wish().on_bucket(&bucket)?;
        let (asked, wanted) = (name.clone(), list.clone());
        let page = self
            .api
            .engine
            .view(move |view| view.list_uploads(&asked, &wanted))
            .await?;
        Ok(answer::xml(write_upload_list(
            name.as_str(),
            &list,
            &page,
            self.people(),
        )))
    }
}

fn part_line(part: Part) -> PartLine {
    PartLine {
        number: part.number,
        modified: part.modified,
        etag: part.etag,
        size: part.piece.size,
        checksum: part.checksum,
    }
}
