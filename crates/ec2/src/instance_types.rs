//! Instance types. Eucalyptus had this action years before AWS, with another answer: clients of an
//! API version before 2016-11-15 get that one.

use serde::{Deserialize, Serialize};

use crate::{Action, Filter};

/// Lists instance types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceTypes {
    #[serde(default, rename = "InstanceType")]
    pub instance_types: Vec<String>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
    /// Eucalyptus: whether to tell the room for each type, too.
    pub availability: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum DescribeInstanceTypesOutput {
    Amazon(InstanceTypes),
    Eucalyptus(InstanceTypeDetails),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypes {
    pub instance_type_set: Vec<InstanceType>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceType {
    pub instance_type: String,
    pub current_generation: bool,
    pub free_tier_eligible: bool,
    pub supported_usage_classes: Vec<&'static str>,
    pub supported_root_device_types: Vec<&'static str>,
    pub supported_virtualization_types: Vec<&'static str>,
    pub bare_metal: bool,
    pub hypervisor: &'static str,
    pub processor_info: ProcessorInfo,
    pub v_cpu_info: VCpuInfo,
    pub memory_info: MemoryInfo,
    pub instance_storage_supported: bool,
    pub instance_storage_info: InstanceStorageInfo,
    pub ebs_info: EbsInfo,
    pub network_info: NetworkInfo,
    pub placement_group_info: PlacementGroupInfo,
    pub hibernation_supported: bool,
    pub burstable_performance_supported: bool,
    pub dedicated_hosts_supported: bool,
    pub auto_recovery_supported: bool,
    pub supported_boot_modes: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessorInfo {
    pub supported_architectures: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VCpuInfo {
    #[serde(rename = "defaultVCpus")]
    pub default_vcpus: u32,
    pub default_cores: u32,
    pub default_threads_per_core: u32,
}

#[derive(Debug, Serialize)]
pub struct MemoryInfo {
    #[serde(rename = "sizeInMiB")]
    pub size_in_mib: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStorageInfo {
    #[serde(rename = "totalSizeInGB")]
    pub total_size_in_gb: u32,
    pub nvme_support: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInfo {
    pub ebs_optimized_support: &'static str,
    pub encryption_support: &'static str,
    pub nvme_support: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    pub network_performance: &'static str,
    pub maximum_network_interfaces: u32,
    pub ipv4_addresses_per_interface: u32,
    pub ipv6_addresses_per_interface: u32,
    pub ipv6_supported: bool,
    pub ena_support: &'static str,
    pub efa_supported: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementGroupInfo {
    pub supported_strategies: Vec<&'static str>,
}

/// Eucalyptus's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeDetails {
    pub instance_type_details: Vec<InstanceTypeDetail>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeDetail {
    pub name: String,
    pub cpu: u32,
    pub memory: u32,
    pub disk: u32,
    pub network_interfaces: u32,
    pub availability: Vec<InstanceTypeAvailability>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeAvailability {
    pub zone_name: String,
    pub max: u64,
    pub available: u64,
}

impl Action for DescribeInstanceTypes {
    const NAME: &'static str = "DescribeInstanceTypes";
    type Output = DescribeInstanceTypesOutput;
}
