//! One attribute of an image at a time: who may launch it, what is said of it, what it boots with.

use serde::{Deserialize, Serialize};
use types::{AccountId, ImageId};

use crate::{
    Action, Done,
    common::Value,
    images::{ImageBlockDevice, ProductCode},
    instances::TextAsk,
};

/// The attributes that EC2 shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageAttribute {
    Description,
    Kernel,
    Ramdisk,
    LaunchPermission,
    ProductCodes,
    BlockDeviceMapping,
    SriovNetSupport,
    BootMode,
    TpmSupport,
    UefiData,
    LastLaunchedTime,
    ImdsSupport,
    DeregistrationProtection,
}

/// Shows one attribute of an image, to its owner.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeImageAttribute {
    pub image_id: ImageId,
    pub attribute: ImageAttribute,
}

/// The one that was asked for is there; the others are not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeImageAttributeOutput {
    pub image_id: ImageId,
    pub description: Option<Value<Option<String>>>,
    pub kernel: Option<Value<Option<ImageId>>>,
    pub ramdisk: Option<Value<Option<ImageId>>>,
    pub launch_permission: Option<Vec<LaunchPermission>>,
    pub product_codes: Option<Vec<ProductCode>>,
    pub block_device_mapping: Option<Vec<ImageBlockDevice>>,
    pub boot_mode: Option<Value<&'static str>>,
    pub deregistration_protection: Option<Value<&'static str>>,
}

impl DescribeImageAttributeOutput {
    /// Of that image, with nothing shown yet.
    pub fn of(image_id: ImageId) -> Self {
        Self {
            image_id,
            description: None,
            kernel: None,
            ramdisk: None,
            launch_permission: None,
            product_codes: None,
            block_device_mapping: None,
            boot_mode: None,
            deregistration_protection: None,
        }
    }
}

/// Who may launch: an account, or the group `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchPermission {
    pub user_id: Option<AccountId>,
    pub group: Option<String>,
}

impl Action for DescribeImageAttribute {
    const NAME: &'static str = "DescribeImageAttribute";
    type Output = DescribeImageAttributeOutput;
}

/// Changes one attribute of an image. Launch permissions and the description come in two forms each:
/// as `LaunchPermission.Add.1.UserId`, `Description.Value`, or named by `Attribute`, as before 2011.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyImageAttribute {
    pub image_id: ImageId,
    pub launch_permission: Option<LaunchPermissionChanges>,
    pub description: Option<TextAsk>,
    pub imds_support: Option<TextAsk>,
    #[serde(default, rename = "ProductCode")]
    pub product_codes: Vec<String>,
    pub attribute: Option<String>,
    pub value: Option<String>,
    pub operation_type: Option<OperationType>,
    #[serde(default, rename = "UserId")]
    pub user_ids: Vec<String>,
    #[serde(default, rename = "UserGroup")]
    pub user_groups: Vec<String>,
    #[serde(default, rename = "OrganizationArn")]
    pub organization_arns: Vec<String>,
    #[serde(default, rename = "OrganizationalUnitArn")]
    pub organizational_unit_arns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationType {
    Add,
    Remove,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LaunchPermissionChanges {
    #[serde(default)]
    pub add: Vec<LaunchPermissionAsk>,
    #[serde(default)]
    pub remove: Vec<LaunchPermissionAsk>,
}

/// As text: what is no account is refused by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LaunchPermissionAsk {
    pub user_id: Option<String>,
    pub group: Option<String>,
    pub organization_arn: Option<String>,
    pub organizational_unit_arn: Option<String>,
}

impl Action for ModifyImageAttribute {
    const NAME: &'static str = "ModifyImageAttribute";
    type Output = Done;
}

/// Takes all launch permissions back: the image is its owner's alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResetImageAttribute {
    pub image_id: ImageId,
    pub attribute: String,
}

impl Action for ResetImageAttribute {
    const NAME: &'static str = "ResetImageAttribute";
    type Output = Done;
}
