//! Images: registered from a bundle's manifest in Walrus, copied, listed. Their attributes are in
//! [`image_attributes`](crate::image_attributes).

use serde::{Deserialize, Serialize};
use types::{AccountId, ImageId, ImageKind, ImageState, Region};
use wire::{IsoTime, Verbatim};

use crate::{Action, Done, Filter, Tag, TagSpecification, common::StateReason};

/// Makes an image of a bundle: `ImageLocation` is `bucket/name.manifest.xml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterImage {
    pub image_location: Option<String>,
    /// Optional here: old clients send none for a bundle, and Eucalyptus took its file name.
    pub name: Option<String>,
    pub description: Option<String>,
    pub architecture: Option<String>,
    pub kernel_id: Option<String>,
    pub ramdisk_id: Option<String>,
    pub root_device_name: Option<String>,
    #[serde(default, rename = "BlockDeviceMapping")]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    pub virtualization_type: Option<String>,
    pub platform: Option<String>,
    pub boot_mode: Option<String>,
    pub tpm_support: Option<String>,
    pub uefi_data: Option<String>,
    pub imds_support: Option<String>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

/// A disk that a launch or an image asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockDeviceMapping {
    pub device_name: Option<String>,
    pub virtual_name: Option<String>,
    pub ebs: Option<EbsBlockDevice>,
    /// Removes a device; its value says nothing, SDKs send it empty.
    #[serde(default)]
    pub no_device: Verbatim<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsBlockDevice {
    pub snapshot_id: Option<String>,
    pub volume_size: Option<u32>,
    pub volume_type: Option<String>,
    pub iops: Option<u32>,
    pub delete_on_termination: Option<bool>,
    pub encrypted: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterImageOutput {
    pub image_id: ImageId,
}

impl Action for RegisterImage {
    const NAME: &'static str = "RegisterImage";
    type Output = RegisterImageOutput;
}

/// Lists the images that the caller owns or may launch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeImages {
    #[serde(default, rename = "ImageId")]
    pub image_ids: Vec<ImageId>,
    #[serde(default, rename = "Owner")]
    pub owners: Vec<String>,
    #[serde(default, rename = "ExecutableBy")]
    pub executable_users: Vec<String>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
    pub include_deprecated: Option<bool>,
    /// No image is ever disabled here: read so that nobody wonders.
    pub include_disabled: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeImagesOutput {
    pub images_set: Vec<Image>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub image_id: ImageId,
    pub image_location: String,
    pub image_state: ImageState,
    pub image_owner_id: AccountId,
    pub image_owner_alias: Option<String>,
    pub creation_date: IsoTime,
    pub is_public: bool,
    pub product_codes: Vec<ProductCode>,
    pub architecture: String,
    pub image_type: ImageKind,
    pub kernel_id: Option<ImageId>,
    pub ramdisk_id: Option<ImageId>,
    pub platform: Option<String>,
    pub platform_details: String,
    pub usage_operation: String,
    pub state_reason: Option<StateReason>,
    pub name: String,
    pub description: Option<String>,
    pub root_device_type: String,
    pub root_device_name: Option<String>,
    pub block_device_mapping: Vec<ImageBlockDevice>,
    pub virtualization_type: String,
    pub hypervisor: String,
    pub boot_mode: String,
    pub source_image_id: Option<ImageId>,
    pub source_image_region: Option<Region>,
    pub deprecation_time: Option<IsoTime>,
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductCode {
    pub product_code: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBlockDevice {
    pub device_name: String,
    pub virtual_name: Option<String>,
}

impl Action for DescribeImages {
    const NAME: &'static str = "DescribeImages";
    type Output = DescribeImagesOutput;
}

/// Takes an image out of use. Running instances keep it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeregisterImage {
    pub image_id: ImageId,
}

impl Action for DeregisterImage {
    const NAME: &'static str = "DeregisterImage";
    type Output = Done;
}

/// Makes another image of an image's content, in the same region: there is one.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CopyImage {
    pub source_region: String,
    pub source_image_id: ImageId,
    pub name: Option<String>,
    pub description: Option<String>,
    pub client_token: Option<String>,
    pub copy_image_tags: Option<bool>,
    pub encrypted: Option<bool>,
    pub kms_key_id: Option<String>,
    pub destination_outpost_arn: Option<String>,
    pub destination_availability_zone: Option<String>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

impl Action for CopyImage {
    const NAME: &'static str = "CopyImage";
    type Output = RegisterImageOutput;
}

/// Takes an image out of others' lists from a day on. Whoever knows its id may still launch it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnableImageDeprecation {
    pub image_id: ImageId,
    pub deprecate_at: IsoTime,
}

impl Action for EnableImageDeprecation {
    const NAME: &'static str = "EnableImageDeprecation";
    type Output = Done;
}

/// Takes that back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DisableImageDeprecation {
    pub image_id: ImageId,
}

impl Action for DisableImageDeprecation {
    const NAME: &'static str = "DisableImageDeprecation";
    type Output = Done;
}
