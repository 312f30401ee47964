//! Volumes.

use serde::{Deserialize, Serialize};
use types::{Gib, InstanceId, SnapshotId, VolumeId, VolumeState, Zone};
use wire::IsoTime;

use crate::{Action, Done, Filter, Tag, TagSpecification};

/// Makes a volume: a size, or a snapshot to copy.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVolume {
    pub availability_zone: String,
    pub size: Option<u32>,
    pub snapshot_id: Option<SnapshotId>,
    pub volume_type: Option<String>,
    pub iops: Option<u32>,
    pub encrypted: Option<bool>,
    pub kms_key_id: Option<String>,
    pub multi_attach_enabled: Option<bool>,
    pub client_token: Option<String>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

impl Action for CreateVolume {
    const NAME: &'static str = "CreateVolume";
    type Output = Volume;
}

/// Lists volumes. Naming a volume that does not exist is an error; filtering to none is not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVolumes {
    #[serde(default, rename = "VolumeId")]
    pub volume_ids: Vec<VolumeId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumesOutput {
    pub volume_set: Vec<Volume>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub volume_id: VolumeId,
    pub size: Gib,
    pub snapshot_id: Option<SnapshotId>,
    pub availability_zone: Zone,
    pub status: VolumeState,
    pub create_time: IsoTime,
    pub volume_type: String,
    pub iops: Option<u32>,
    pub encrypted: bool,
    pub multi_attach_enabled: bool,
    pub attachment_set: Vec<VolumeAttachment>,
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    pub volume_id: VolumeId,
    pub instance_id: InstanceId,
    pub device: String,
    pub status: String,
    pub attach_time: IsoTime,
    pub delete_on_termination: bool,
}

impl Action for DescribeVolumes {
    const NAME: &'static str = "DescribeVolumes";
    type Output = DescribeVolumesOutput;
}

/// Lists how volumes are, and what has happened to those that are in error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVolumeStatus {
    #[serde(default, rename = "VolumeId")]
    pub volume_ids: Vec<VolumeId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVolumeStatusOutput {
    pub volume_status_set: Vec<VolumeStatusItem>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusItem {
    pub volume_id: VolumeId,
    pub availability_zone: Zone,
    pub volume_status: VolumeStatusInfo,
    pub events_set: Vec<VolumeStatusEvent>,
    pub actions_set: Vec<VolumeStatusAction>,
}

#[derive(Debug, Clone, Serialize)]
pub struct VolumeStatusInfo {
    pub status: &'static str,
    pub details: Vec<VolumeStatusDetails>,
}

#[derive(Debug, Clone, Serialize)]
pub struct VolumeStatusDetails {
    pub name: &'static str,
    pub status: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusEvent {
    pub event_type: &'static str,
    pub description: String,
    pub event_id: String,
    pub not_before: IsoTime,
}

/// What the owner of the volume can do about an event.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusAction {
    pub code: &'static str,
    pub description: &'static str,
    pub event_type: &'static str,
    pub event_id: String,
}

impl Action for DescribeVolumeStatus {
    const NAME: &'static str = "DescribeVolumeStatus";
    type Output = DescribeVolumeStatusOutput;
}

/// Removes a volume that is attached nowhere.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteVolume {
    pub volume_id: VolumeId,
}

impl Action for DeleteVolume {
    const NAME: &'static str = "DeleteVolume";
    type Output = Done;
}
