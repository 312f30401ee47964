//! Which function does which operation.

use s3::{Error, Operation};

use super::{Ask, Done};
use crate::body::RequestBody;

impl Ask<'_> {
    pub(super) async fn run(self, operation: Operation, body: &mut RequestBody) -> Done {
        match operation {
            Operation::ListBuckets(list) => self.list_buckets(list).await,
            Operation::GetAccountUsage => self.get_account_usage().await,
            Operation::CreateBucket { bucket, create } => {
                self.create_bucket(bucket, create, body).await
            }
            Operation::DeleteBucket { bucket } => self.delete_bucket(bucket).await,
            Operation::HeadBucket { bucket, read_stats } => {
                self.head_bucket(bucket, read_stats).await
            }
            Operation::GetBucketLocation { bucket } => self.get_bucket_location(bucket).await,
            Operation::GetBucketAcl { bucket } => self.get_bucket_acl(bucket).await,
            Operation::PutBucketAcl { bucket, acl } => self.put_bucket_acl(bucket, acl, body).await,
            Operation::ListObjects { bucket, list } => self.list_objects(bucket, list).await,
            Operation::DeleteObjects {
                bucket,
                bypass_governance,
            } => self.delete_objects(bucket, bypass_governance, body).await,
            Operation::ListObjectVersions { bucket, list } => {
                self.list_object_versions(bucket, list).await
            }
            Operation::GetSetting { bucket, kind } => self.get_setting(bucket, kind).await,
            Operation::PutSetting { bucket, kind } => self.put_setting(bucket, kind, body).await,
            Operation::DeleteSetting { bucket, kind } => self.delete_setting(bucket, kind).await,
            Operation::GetBucketPolicyStatus { bucket } => {
                self.get_bucket_policy_status(bucket).await
            }
            Operation::Preflight { bucket, asked } => self.preflight(bucket, asked).await,
            Operation::PostObject { bucket } => self.post_object(bucket, body).await,
            Operation::ListMultipartUploads { bucket, list } => {
                self.list_multipart_uploads(bucket, list).await
            }
            Operation::PutObject { at, put } => self.put_object(at, put, body).await,
            Operation::CopyObject { at, copy } => self.copy_object(at, copy).await,
            Operation::GetObject { at, get } => self.get_object(at, get, false).await,
            Operation::HeadObject { at, get } => self.get_object(at, get, true).await,
            Operation::DeleteObject { at, delete } => self.delete_object(at, delete).await,
            Operation::GetObjectAttributes { at, get } => self.get_object_attributes(at, get).await,
            Operation::GetObjectTagging { at } => self.get_object_tagging(at).await,
            Operation::PutObjectTagging { at } => self.put_object_tagging(at, body).await,
            Operation::DeleteObjectTagging { at } => self.delete_object_tagging(at).await,
            Operation::GetObjectRetention { at } => self.get_object_retention(at).await,
            Operation::PutObjectRetention {
                at,
                bypass_governance,
            } => self.put_object_retention(at, bypass_governance, body).await,
            Operation::GetObjectLegalHold { at } => self.get_object_legal_hold(at).await,
            Operation::PutObjectLegalHold { at } => self.put_object_legal_hold(at, body).await,
            Operation::GetObjectAcl { at } => self.get_object_acl(at).await,
            Operation::PutObjectAcl { at, acl } => self.put_object_acl(at, acl, body).await,
            Operation::CreateMultipartUpload { at, create } => {
                self.create_multipart_upload(at, create).await
            }
            Operation::UploadPart { at, part } => self.upload_part(at, part, body).await,
            Operation::UploadPartCopy {
                at,
                part,
                source,
                range,
            } => self.upload_part_copy(at, part, source, range).await,
            Operation::CompleteMultipartUpload {
                at,
                upload_id,
                complete,
            } => {
                self.complete_multipart_upload(at, upload_id, complete, body)
                    .await
            }
            Operation::AbortMultipartUpload { at, upload_id } => {
                self.abort_multipart_upload(at, upload_id).await
            }
            Operation::ListParts {
                at,
                upload_id,
                list,
            } => self.list_parts(at, upload_id, list).await,
            Operation::NotServed => Err(Error::not_implemented(self.action.name()).into()),
        }
    }
}
