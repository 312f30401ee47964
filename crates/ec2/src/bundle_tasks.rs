//! Bundle tasks: an instance's root disk becomes a bundle in S3.

use serde::{Deserialize, Serialize};
use types::{BundleId, InstanceId};
use wire::IsoTime;

use crate::{Action, Filter};

/// Shuts the instance down, bundles its root disk into a bucket, starts it again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BundleInstance {
    pub instance_id: InstanceId,
    pub storage: Storage,
}

#[derive(Debug, Deserialize)]
pub struct Storage {
    #[serde(rename = "S3")]
    pub s3: S3Storage,
}

/// Where to, and the permission: a POST policy in base64, signed with the secret of the access key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct S3Storage {
    #[serde(rename = "AWSAccessKeyId")]
    pub aws_access_key_id: Option<String>,
    pub bucket: String,
    pub prefix: String,
    pub upload_policy: String,
    pub upload_policy_signature: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleTaskOutput {
    pub bundle_instance_task: BundleTask,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleTask {
    pub bundle_id: BundleId,
    pub instance_id: InstanceId,
    pub state: String,
    /// `42%`.
    pub progress: String,
    pub start_time: IsoTime,
    pub update_time: IsoTime,
    pub storage: StorageShown,
    pub error: Option<BundleTaskError>,
}

#[derive(Debug, Serialize)]
pub struct StorageShown {
    #[serde(rename = "S3")]
    pub s3: S3StorageShown,
}

/// Without the permission: it is the client's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3StorageShown {
    pub bucket: String,
    pub prefix: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleTaskError {
    pub code: String,
    pub message: String,
}

impl Action for BundleInstance {
    const NAME: &'static str = "BundleInstance";
    type Output = BundleTaskOutput;
}

/// Lists bundle tasks, those that ended within a day included.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeBundleTasks {
    #[serde(default, rename = "BundleId")]
    pub bundle_ids: Vec<BundleId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeBundleTasksOutput {
    pub bundle_instance_tasks_set: Vec<BundleTask>,
}

impl Action for DescribeBundleTasks {
    const NAME: &'static str = "DescribeBundleTasks";
    type Output = DescribeBundleTasksOutput;
}

/// Gives a bundle task up; the instance is started again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CancelBundleTask {
    pub bundle_id: BundleId,
}

impl Action for CancelBundleTask {
    const NAME: &'static str = "CancelBundleTask";
    type Output = BundleTaskOutput;
}
