//! Every S3 operation on one page: its name, the policy action that allows it, and whether we serve
//! it. What is not served is answered `NotImplemented` by name, after the same authentication.
//! GetAccountUsage is radosgw's alone (`GET /?usage`); like ListBuckets it names an account's buckets.

/// On what an operation acts, which is what its policy resource names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The account: no resource of its own.
    Account,
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

macro_rules! actions {
    ($($name:ident $scope:ident $policy:literal $served:ident;)*) => {
        /// An operation of the S3 API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are those of the S3 API reference")]
        pub enum Action { $($name),* }

        impl Action {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, as the API reference has it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// The action that a policy must allow.
            pub const fn policy_action(self) -> &'static str {
                match self { $(Self::$name => $policy),* }
            }

            /// The action that a policy must allow if a version is named.
            pub const fn policy_action_of(self, a_version: bool) -> &'static str {
                match self {
                    Self::GetObject | Self::HeadObject if a_version => "s3:GetObjectVersion",
                    Self::GetObjectAcl if a_version => "s3:GetObjectVersionAcl",
                    Self::PutObjectAcl if a_version => "s3:PutObjectVersionAcl",
                    Self::GetObjectTagging if a_version => "s3:GetObjectVersionTagging",
                    Self::PutObjectTagging if a_version => "s3:PutObjectVersionTagging",
                    Self::DeleteObjectTagging if a_version => "s3:DeleteObjectVersionTagging",
                    Self::GetObjectAttributes if a_version => "s3:GetObjectVersionAttributes",
                    other => other.policy_action(),
                }
            }

            /// What it acts on.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope),* }
            }

            /// Whether it makes an object or begins to, so that no version can be named.
            pub const fn makes_object(self) -> bool {
                matches!(
                    self,
                    Self::PutObject
                        | Self::CopyObject
                        | Self::CreateMultipartUpload
                        | Self::UploadPart
                        | Self::UploadPartCopy
                        | Self::CompleteMultipartUpload
                )
            }

            /// Whether Walrus does it.
            pub const fn served(self) -> bool {
                match self { $(Self::$name => served::$served),* }
            }
        }
    };
}

#[allow(non_upper_case_globals, reason = "the table reads as words")]
mod served {
    pub(super) const yes: bool = true;
    pub(super) const not_yet: bool = false;
}

actions! {
    ListBuckets Account "s3:ListAllMyBuckets" yes;
    GetAccountUsage Account "s3:ListAllMyBuckets" yes;

    CreateBucket Bucket "s3:CreateBucket" yes;
    DeleteBucket Bucket "s3:DeleteBucket" yes;
    HeadBucket Bucket "s3:ListBucket" yes;
    GetBucketLocation Bucket "s3:GetBucketLocation" yes;
    ListObjects Bucket "s3:ListBucket" yes;
    ListObjectsV2 Bucket "s3:ListBucket" yes;
    ListMultipartUploads Bucket "s3:ListBucketMultipartUploads" yes;
    GetBucketAcl Bucket "s3:GetBucketAcl" yes;
    PutBucketAcl Bucket "s3:PutBucketAcl" yes;
    DeleteObjects Bucket "s3:DeleteObject" yes;

    ListObjectVersions Bucket "s3:ListBucketVersions" yes;
    GetBucketVersioning Bucket "s3:GetBucketVersioning" yes;
    PutBucketVersioning Bucket "s3:PutBucketVersioning" yes;
    GetBucketPolicy Bucket "s3:GetBucketPolicy" yes;
    PutBucketPolicy Bucket "s3:PutBucketPolicy" yes;
    DeleteBucketPolicy Bucket "s3:DeleteBucketPolicy" yes;
    GetBucketPolicyStatus Bucket "s3:GetBucketPolicyStatus" yes;
    GetBucketTagging Bucket "s3:GetBucketTagging" yes;
    PutBucketTagging Bucket "s3:PutBucketTagging" yes;
    DeleteBucketTagging Bucket "s3:PutBucketTagging" yes;
    GetBucketCors Bucket "s3:GetBucketCORS" yes;
    PutBucketCors Bucket "s3:PutBucketCORS" yes;
    DeleteBucketCors Bucket "s3:PutBucketCORS" yes;
    PreflightCors Bucket "s3:GetObject" yes;
    GetBucketLifecycleConfiguration Bucket "s3:GetLifecycleConfiguration" yes;
    PutBucketLifecycleConfiguration Bucket "s3:PutLifecycleConfiguration" yes;
    DeleteBucketLifecycle Bucket "s3:PutLifecycleConfiguration" yes;
    GetBucketLogging Bucket "s3:GetBucketLogging" yes;
    PutBucketLogging Bucket "s3:PutBucketLogging" yes;
    GetBucketNotificationConfiguration Bucket "s3:GetBucketNotification" yes;
    PutBucketNotificationConfiguration Bucket "s3:PutBucketNotification" yes;
    GetBucketRequestPayment Bucket "s3:GetBucketRequestPayment" yes;
    PutBucketRequestPayment Bucket "s3:PutBucketRequestPayment" yes;
    GetBucketWebsite Bucket "s3:GetBucketWebsite" yes;
    PutBucketWebsite Bucket "s3:PutBucketWebsite" yes;
    DeleteBucketWebsite Bucket "s3:DeleteBucketWebsite" yes;
    GetBucketEncryption Bucket "s3:GetEncryptionConfiguration" yes;
    PutBucketEncryption Bucket "s3:PutEncryptionConfiguration" yes;
    DeleteBucketEncryption Bucket "s3:PutEncryptionConfiguration" yes;
    GetBucketOwnershipControls Bucket "s3:GetBucketOwnershipControls" yes;
    PutBucketOwnershipControls Bucket "s3:PutBucketOwnershipControls" yes;
    DeleteBucketOwnershipControls Bucket "s3:PutBucketOwnershipControls" yes;
    GetPublicAccessBlock Bucket "s3:GetBucketPublicAccessBlock" yes;
    PutPublicAccessBlock Bucket "s3:PutBucketPublicAccessBlock" yes;
    DeletePublicAccessBlock Bucket "s3:PutBucketPublicAccessBlock" yes;
    GetObjectLockConfiguration Bucket "s3:GetBucketObjectLockConfiguration" yes;
    PutObjectLockConfiguration Bucket "s3:PutBucketObjectLockConfiguration" yes;
    GetBucketAccelerateConfiguration Bucket "s3:GetAccelerateConfiguration" not_yet;
    PutBucketAccelerateConfiguration Bucket "s3:PutAccelerateConfiguration" not_yet;
    GetBucketReplication Bucket "s3:GetReplicationConfiguration" not_yet;
    PutBucketReplication Bucket "s3:PutReplicationConfiguration" not_yet;
    DeleteBucketReplication Bucket "s3:PutReplicationConfiguration" not_yet;
    GetBucketAnalyticsConfiguration Bucket "s3:GetAnalyticsConfiguration" not_yet;
    PutBucketAnalyticsConfiguration Bucket "s3:PutAnalyticsConfiguration" not_yet;
    DeleteBucketAnalyticsConfiguration Bucket "s3:PutAnalyticsConfiguration" not_yet;
    GetBucketInventoryConfiguration Bucket "s3:GetInventoryConfiguration" not_yet;
    PutBucketInventoryConfiguration Bucket "s3:PutInventoryConfiguration" not_yet;
    DeleteBucketInventoryConfiguration Bucket "s3:PutInventoryConfiguration" not_yet;
    GetBucketMetricsConfiguration Bucket "s3:GetMetricsConfiguration" not_yet;
    PutBucketMetricsConfiguration Bucket "s3:PutMetricsConfiguration" not_yet;
    DeleteBucketMetricsConfiguration Bucket "s3:PutMetricsConfiguration" not_yet;
    GetBucketIntelligentTieringConfiguration Bucket "s3:GetIntelligentTieringConfiguration" not_yet;
    PutBucketIntelligentTieringConfiguration Bucket "s3:PutIntelligentTieringConfiguration" not_yet;
    DeleteBucketIntelligentTieringConfiguration Bucket "s3:PutIntelligentTieringConfiguration" not_yet;
    PostObject Bucket "s3:PutObject" yes;

    PutObject Object "s3:PutObject" yes;
    CopyObject Object "s3:PutObject" yes;
    GetObject Object "s3:GetObject" yes;
    HeadObject Object "s3:GetObject" yes;
    DeleteObject Object "s3:DeleteObject" yes;
    GetObjectAcl Object "s3:GetObjectAcl" yes;
    PutObjectAcl Object "s3:PutObjectAcl" yes;
    CreateMultipartUpload Object "s3:PutObject" yes;
    UploadPart Object "s3:PutObject" yes;
    UploadPartCopy Object "s3:PutObject" yes;
    CompleteMultipartUpload Object "s3:PutObject" yes;
    AbortMultipartUpload Object "s3:AbortMultipartUpload" yes;
    ListParts Object "s3:ListMultipartUploadParts" yes;

    GetObjectAttributes Object "s3:GetObjectAttributes" yes;
    GetObjectTagging Object "s3:GetObjectTagging" yes;
    PutObjectTagging Object "s3:PutObjectTagging" yes;
    DeleteObjectTagging Object "s3:DeleteObjectTagging" yes;
    GetObjectRetention Object "s3:GetObjectRetention" yes;
    PutObjectRetention Object "s3:PutObjectRetention" yes;
    GetObjectLegalHold Object "s3:GetObjectLegalHold" yes;
    PutObjectLegalHold Object "s3:PutObjectLegalHold" yes;
    GetObjectTorrent Object "s3:GetObject" not_yet;
    RestoreObject Object "s3:RestoreObject" not_yet;
    SelectObjectContent Object "s3:GetObject" not_yet;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_one_name_and_a_policy_action() {
        let mut names: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Action::ALL.len());
        assert!(
            Action::ALL
                .iter()
                .all(|action| action.policy_action().starts_with("s3:"))
        );
    }
}
