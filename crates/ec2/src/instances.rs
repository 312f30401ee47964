//! Instances: their launch, their life, what is seen of them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use types::{
    AccountId, ImageId, InstanceId, InstanceState, ReservationId, SecurityGroupId, SubnetId,
    VolumeId, VpcId, Zone,
};
use wire::{Blob, IsoTime};

use crate::{
    Action, Done, Filter, GroupIdentifier, Tag, TagSpecification,
    common::{StateReason, Value},
    images::{BlockDeviceMapping, ProductCode},
    network_interfaces::InstanceNetworkInterface,
};

/// Launches instances: all of `MaxCount` if they fit, at least `MinCount`, or none.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunInstances {
    pub image_id: ImageId,
    pub min_count: u32,
    pub max_count: u32,
    pub key_name: Option<String>,
    #[serde(default, rename = "SecurityGroup")]
    pub security_groups: Vec<String>,
    #[serde(default, rename = "SecurityGroupId")]
    pub security_group_ids: Vec<SecurityGroupId>,
    pub user_data: Option<Blob>,
    pub instance_type: Option<String>,
    pub placement: Option<PlacementAsk>,
    pub kernel_id: Option<ImageId>,
    pub ramdisk_id: Option<ImageId>,
    #[serde(default, rename = "BlockDeviceMapping")]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    pub monitoring: Option<MonitoringAsk>,
    pub subnet_id: Option<SubnetId>,
    pub private_ip_address: Option<Ipv4Addr>,
    pub disable_api_termination: Option<bool>,
    pub instance_initiated_shutdown_behavior: Option<ShutdownBehavior>,
    pub client_token: Option<String>,
    #[serde(default, rename = "NetworkInterface")]
    pub network_interfaces: Vec<NetworkInterfaceAsk>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
    pub metadata_options: Option<MetadataOptionsAsk>,
    pub launch_template: Option<LaunchTemplateAsk>,
    pub iam_instance_profile: Option<InstanceProfileAsk>,
    pub hibernation_options: Option<HibernationAsk>,
    pub enclave_options: Option<EnclaveAsk>,
    pub ipv6_address_count: Option<u32>,
    /// Eucalyptus: `private` asks for no public address.
    pub addressing_type: Option<AddressingType>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LaunchTemplateAsk {
    pub launch_template_id: Option<String>,
    pub launch_template_name: Option<String>,
    pub version: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceProfileAsk {
    pub arn: Option<String>,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HibernationAsk {
    pub configured: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnclaveAsk {
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlacementAsk {
    pub availability_zone: Option<String>,
    pub tenancy: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MonitoringAsk {
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownBehavior {
    Stop,
    Terminate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressingType {
    Public,
    Private,
}

/// The interface, where a client asks for it by index instead of by the parameters beside it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterfaceAsk {
    pub device_index: Option<u32>,
    pub network_interface_id: Option<String>,
    pub subnet_id: Option<SubnetId>,
    #[serde(default, rename = "SecurityGroupId")]
    pub security_group_ids: Vec<SecurityGroupId>,
    pub associate_public_ip_address: Option<bool>,
    pub private_ip_address: Option<Ipv4Addr>,
    #[serde(default)]
    pub private_ip_addresses: Vec<PrivateAddressAsk>,
    pub delete_on_termination: Option<bool>,
    pub description: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrivateAddressAsk {
    pub private_ip_address: Ipv4Addr,
    pub primary: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetadataOptionsAsk {
    pub http_tokens: Option<HttpTokens>,
    pub http_put_response_hop_limit: Option<u32>,
    pub http_endpoint: Option<Switch>,
    pub instance_metadata_tags: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTokens {
    Optional,
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Disabled,
    Enabled,
}

impl Action for RunInstances {
    const NAME: &'static str = "RunInstances";
    type Output = Reservation;
}

/// Lists instances, by reservation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstances {
    #[serde(default, rename = "InstanceId")]
    pub instance_ids: Vec<InstanceId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstancesOutput {
    pub reservation_set: Vec<Reservation>,
    pub next_token: Option<String>,
}

impl Action for DescribeInstances {
    const NAME: &'static str = "DescribeInstances";
    type Output = DescribeInstancesOutput;
}

/// What one RunInstances made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub reservation_id: ReservationId,
    pub owner_id: AccountId,
    pub group_set: Vec<GroupIdentifier>,
    pub instances_set: Vec<Instance>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub instance_id: InstanceId,
    pub image_id: ImageId,
    pub instance_state: InstanceStateShown,
    pub private_dns_name: String,
    pub dns_name: String,
    pub reason: String,
    pub key_name: Option<String>,
    pub ami_launch_index: u32,
    pub product_codes: Vec<ProductCode>,
    pub instance_type: String,
    pub launch_time: IsoTime,
    pub placement: Placement,
    pub kernel_id: Option<ImageId>,
    pub ramdisk_id: Option<ImageId>,
    pub monitoring: Monitoring,
    pub subnet_id: Option<SubnetId>,
    pub vpc_id: Option<VpcId>,
    pub private_ip_address: Option<Ipv4Addr>,
    pub ip_address: Option<Ipv4Addr>,
    pub source_dest_check: Option<bool>,
    pub group_set: Vec<GroupIdentifier>,
    pub state_reason: Option<StateReason>,
    pub architecture: String,
    pub root_device_type: &'static str,
    pub root_device_name: &'static str,
    pub block_device_mapping: Vec<InstanceBlockDevice>,
    pub virtualization_type: &'static str,
    pub client_token: String,
    pub tag_set: Vec<Tag>,
    pub hypervisor: &'static str,
    pub network_interface_set: Vec<InstanceNetworkInterface>,
    pub ebs_optimized: bool,
    pub metadata_options: MetadataOptions,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct InstanceStateShown {
    pub code: u16,
    pub name: InstanceState,
}

impl From<InstanceState> for InstanceStateShown {
    fn from(state: InstanceState) -> Self {
        Self {
            code: state.code(),
            name: state,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub availability_zone: Zone,
    pub group_name: &'static str,
    pub tenancy: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Monitoring {
    pub state: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceBlockDevice {
    pub device_name: String,
    pub ebs: EbsInstanceBlockDevice,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInstanceBlockDevice {
    pub volume_id: VolumeId,
    pub status: String,
    pub attach_time: IsoTime,
    pub delete_on_termination: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataOptions {
    pub state: &'static str,
    pub http_tokens: HttpTokens,
    pub http_put_response_hop_limit: u32,
    pub http_endpoint: Switch,
    pub instance_metadata_tags: Switch,
}

/// Lists how instances are; those that run, unless all are asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceStatus {
    #[serde(default, rename = "InstanceId")]
    pub instance_ids: Vec<InstanceId>,
    pub include_all_instances: Option<bool>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceStatusOutput {
    pub instance_status_set: Vec<InstanceStatus>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    pub instance_id: InstanceId,
    pub availability_zone: Zone,
    pub instance_state: InstanceStateShown,
    pub events_set: Vec<InstanceStatusEvent>,
    pub system_status: InstanceStatusSummary,
    pub instance_status: InstanceStatusSummary,
}

#[derive(Debug, Clone, Serialize)]
pub struct InstanceStatusEvent {
    pub code: String,
    pub description: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct InstanceStatusSummary {
    pub status: &'static str,
    pub details: Vec<InstanceStatusDetails>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatusDetails {
    pub name: &'static str,
    pub status: &'static str,
    pub impaired_since: Option<IsoTime>,
}

impl Action for DescribeInstanceStatus {
    const NAME: &'static str = "DescribeInstanceStatus";
    type Output = DescribeInstanceStatusOutput;
}

/// Shows one attribute of an instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceAttribute {
    pub instance_id: InstanceId,
    pub attribute: InstanceAttribute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceAttribute {
    InstanceType,
    Kernel,
    Ramdisk,
    UserData,
    DisableApiTermination,
    DisableApiStop,
    InstanceInitiatedShutdownBehavior,
    RootDeviceName,
    BlockDeviceMapping,
    ProductCodes,
    SourceDestCheck,
    GroupSet,
    EbsOptimized,
    SriovNetSupport,
    EnaSupport,
    EnclaveOptions,
}

/// The attribute that was asked for, and no other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceAttributeOutput {
    pub instance_id: InstanceId,
    pub instance_type: Option<Value<String>>,
    pub kernel: Option<Value<Option<ImageId>>>,
    pub ramdisk: Option<Value<Option<ImageId>>>,
    pub user_data: Option<Value<Option<Blob>>>,
    pub disable_api_termination: Option<Value<bool>>,
    pub disable_api_stop: Option<Value<bool>>,
    pub instance_initiated_shutdown_behavior: Option<Value<ShutdownBehavior>>,
    pub root_device_name: Option<Value<&'static str>>,
    pub block_device_mapping: Option<Vec<InstanceBlockDevice>>,
    pub product_codes: Option<Vec<ProductCode>>,
    pub source_dest_check: Option<Value<bool>>,
    pub group_set: Option<Vec<GroupIdentifier>>,
    pub ebs_optimized: Option<Value<bool>>,
    pub sriov_net_support: Option<Value<&'static str>>,
    pub ena_support: Option<Value<bool>>,
    pub enclave_options: Option<EnclaveOptions>,
}

impl DescribeInstanceAttributeOutput {
    /// An answer without its attribute.
    pub fn of(instance_id: InstanceId) -> Self {
        Self {
            instance_id,
            instance_type: None,
            kernel: None,
            ramdisk: None,
            user_data: None,
            disable_api_termination: None,
            disable_api_stop: None,
            instance_initiated_shutdown_behavior: None,
            root_device_name: None,
            block_device_mapping: None,
            product_codes: None,
            source_dest_check: None,
            group_set: None,
            ebs_optimized: None,
            sriov_net_support: None,
            ena_support: None,
            enclave_options: None,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct EnclaveOptions {
    pub enabled: bool,
}

impl Action for DescribeInstanceAttribute {
    const NAME: &'static str = "DescribeInstanceAttribute";
    type Output = DescribeInstanceAttributeOutput;
}

/// Changes one attribute of an instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyInstanceAttribute {
    pub instance_id: InstanceId,
    pub disable_api_termination: Option<BooleanAsk>,
    pub disable_api_stop: Option<BooleanAsk>,
    pub instance_initiated_shutdown_behavior: Option<TextAsk>,
    #[serde(default, rename = "GroupId")]
    pub group_ids: Vec<SecurityGroupId>,
    pub source_dest_check: Option<BooleanAsk>,
    pub ebs_optimized: Option<BooleanAsk>,
    pub instance_type: Option<TextAsk>,
    pub kernel: Option<TextAsk>,
    pub ramdisk: Option<TextAsk>,
    pub user_data: Option<TextAsk>,
    #[serde(default, rename = "BlockDeviceMapping")]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    /// The older form: the attribute's name, and its value beside it.
    pub attribute: Option<String>,
    pub value: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BooleanAsk {
    pub value: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TextAsk {
    pub value: Option<String>,
}

impl Action for ModifyInstanceAttribute {
    const NAME: &'static str = "ModifyInstanceAttribute";
    type Output = Done;
}

/// Resets instances.
#[derive(Debug, Deserialize)]
pub struct RebootInstances {
    #[serde(rename = "InstanceId")]
    pub instance_ids: Vec<InstanceId>,
}

impl Action for RebootInstances {
    const NAME: &'static str = "RebootInstances";
    type Output = Done;
}

/// Ends instances. One that has ended already is no error.
#[derive(Debug, Deserialize)]
pub struct TerminateInstances {
    #[serde(rename = "InstanceId")]
    pub instance_ids: Vec<InstanceId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateInstancesOutput {
    pub instances_set: Vec<InstanceStateChange>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStateChange {
    pub instance_id: InstanceId,
    pub current_state: InstanceStateShown,
    pub previous_state: InstanceStateShown,
}

impl Action for TerminateInstances {
    const NAME: &'static str = "TerminateInstances";
    type Output = TerminateInstancesOutput;
}

/// Reads the last 64 KiB of an instance's serial console.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetConsoleOutput {
    pub instance_id: InstanceId,
    /// The latest is all there is: read so that nobody wonders.
    pub latest: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetConsoleOutputOutput {
    pub instance_id: InstanceId,
    pub timestamp: IsoTime,
    /// In base64; no element at all would make boto3's user stumble over a missing key.
    pub output: String,
}

impl Action for GetConsoleOutput {
    const NAME: &'static str = "GetConsoleOutput";
    type Output = GetConsoleOutputOutput;
}
