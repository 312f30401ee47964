//! Deleting objects: one, or a thousand in one request with one sync.

use http::StatusCode;
use s3::{
    BucketName, Code, Error,
    conditions::{Tags, WriteConditions},
    documents::delete::{Delete, DeleteLine, Outcome, write_outcomes},
    request::Place,
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, same};
use crate::{
    answer,
    body::RequestBody,
    engine::{Change, Failure, facts::Bucket},
};

impl Ask<'_> {
    pub(super) async fn delete_object(&self, at: Place, conditions: WriteConditions) -> Done {
        let bucket = self.bucket_to_write(at.bucket, &at.key).await?;
        let bucket = same(&bucket);
        let change = Change::DeleteObject {
            bucket,
            key: at.key,
            conditions,
        };
        self.api.engine.commit(change).await?;
        Ok(answer::status(StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_objects(&self, name: BucketName, body: &mut RequestBody) -> Done {
        let bucket = self.find_bucket(name).await?;
        let claims = body.claims();
        if claims.md5.is_none() && claims.checksum.is_none() && claims.trailer.is_none() {
            let why = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
            return Err(Error::new(Code::InvalidRequest, why).into());
        }
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let delete = Delete::read(&document)?;
        let outcomes = self.delete_lines(&bucket, delete.objects).await;
        Ok(answer::xml(write_outcomes(&outcomes?, delete.quiet)))
    }

    /// Each key is allowed, judged and answered for itself.
    async fn delete_lines(
        &self,
        bucket: &Bucket,
        lines: Vec<DeleteLine>,
    ) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        for line in lines {
            match self.delete_change(bucket, line) {
                Ok((key, change)) => {
                    places.push(outcomes.len());
                    outcomes.push(Outcome {
                        key,
                        result: Ok(()),
                    });
                    changes.push(change);
                }
                Err((key, error)) => outcomes.push(Outcome {
                    key,
                    result: Err(error),
                }),
            }
        }

        let done = self.api.engine.commit_all(changes).await;
        for (place, done) in places.into_iter().zip(done) {
            match done {
                Ok(_) => {}
                Err(Failure::Refused(error)) => outcomes[place].result = Err(error),
                Err(failure) => return Err(failure),
            }
        }
        Ok(outcomes)
    }

    fn delete_change(
        &self,
        bucket: &Bucket,
        line: DeleteLine,
    ) -> Result<(String, Change), (String, Error)> {
        let key = line.key?;
        let name = key.as_str().to_owned();
        if line.version_id.is_some_and(|version| version != "null") {
            return Err((name, Code::NoSuchVersion.into()));
        }
        if let Err(denied) = self.wish().on_key(bucket, &key) {
            return Err((name, denied));
        }
        let conditions = WriteConditions {
            if_match: line.etag.map(|etag| Tags::These(vec![etag])),
            if_none_match: None,
        };
        Ok((
            name,
            Change::DeleteObject {
                bucket: same(bucket),
                key,
                conditions,
            },
        ))
    }
}
