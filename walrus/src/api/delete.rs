//! Deleting objects: one, or a thousand in one request with one sync.

use http::StatusCode;
use s3::{
    BucketName, Code, Error,
    documents::delete::{Delete, DeleteLine, Deleted, Outcome, write_outcomes},
    request::{DeleteObject, Place},
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, same};
use crate::{
    answer,
    body::{RequestBody, Source as _},
    engine::{self, Change, Failure, change::DeleteChange, facts::Bucket},
};

impl Ask<'_> {
    pub(super) async fn delete_object(&self, at: Place, delete: DeleteObject) -> Done {
        let bucket = self.find_bucket(at.bucket).await?;
        let line = DeleteLine {
            key: Ok(at.key),
            version: at.version,
            conditions: delete.conditions,
        };
        let change = self.delete_change(&bucket, line, delete.bypass_governance)?;
        let deleted = deleted(self.commit(change).await?)?;

        let mut answer = answer::status(StatusCode::NO_CONTENT);
        let headers = answer.headers_mut();
        answer::set_version(headers, deleted.version.as_ref());
        if deleted.is_marker {
            answer::set(headers, "x-amz-delete-marker", "true");
        }
        Ok(answer)
    }

    pub(super) async fn delete_objects(
        &self,
        name: BucketName,
        bypass_governance: bool,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.find_bucket(name).await?;
        let claims = body.claims();
        if claims.md5.is_none() && claims.checksum.is_none() && claims.trailer.is_none() {
            let why = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
            return Err(Error::new(Code::InvalidRequest, why).into());
        }
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let delete = Delete::read(&document)?;
        let outcomes = self
            .delete_lines(&bucket, delete.objects, bypass_governance)
            .await;
        Ok(answer::xml(write_outcomes(&outcomes?, delete.quiet)))
    }

    /// Each key is allowed, judged and answered for itself.
    async fn delete_lines(
        &self,
        bucket: &Bucket,
        lines: Vec<DeleteLine>,
        bypass_governance: bool,
    ) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        for line in lines {
            let (key, version) = (line.name().to_owned(), line.version.clone());
            let result = match self.delete_change(bucket, line, bypass_governance) {
                Ok(change) => {
                    places.push(outcomes.len());
                    changes.push(change);
                    Ok(Deleted::default())
                }
                Err(error) => Err(error),
            };
            outcomes.push(Outcome {
                key,
                version,
                result,
            });
        }

        let done = self.commit_all(changes).await;
        for (place, done) in places.into_iter().zip(done) {
            match done {
                Ok(done) => outcomes[place].result = Ok(deleted(done)?),
                Err(Failure::Refused(error)) => outcomes[place].result = Err(error),
                Err(failure) => return Err(failure),
            }
        }
        if self.is_logged {
            for outcome in &outcomes {
                let error = outcome.result.as_ref().err();
                let error = error.map(|error| error.code.as_str());
                self.trail
                    .deleted(&outcome.key, outcome.version.as_ref(), error);
            }
        }
        Ok(outcomes)
    }

    fn delete_change(
        &self,
        bucket: &Bucket,
        line: DeleteLine,
        bypass_governance: bool,
    ) -> s3::Result<Change> {
        let key = line.key.map_err(|(_, error)| error)?;
        self.wish()
            .on_deletion(bucket, &key, line.version.is_some())?;
        Ok(Change::DeleteObject(Box::new(DeleteChange {
            bucket: same(bucket),
            bypass_governance: bypass_governance && self.may_bypass(bucket, &key),
            key,
            version: line.version,
            conditions: line.conditions,
            owner: self.owner_of_new(bucket, None),
            now: self.now,
            unique: rand::random(),
        })))
    }
}

fn deleted(done: engine::Done) -> Result<Deleted, Failure> {
    match done {
        engine::Done::Deleted(deleted) => Ok(deleted),
        _ => Err(Code::InternalError.into()),
    }
}
