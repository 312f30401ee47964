//! VPCs and their subnets. Each account has a default one.

use serde::{Deserialize, Serialize};
use types::{AccountId, SubnetId, VpcId, Zone};

use crate::{Action, Filter, Tag, common::Value};

/// Lists VPCs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcs {
    #[serde(default, rename = "VpcId")]
    pub vpc_ids: Vec<VpcId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcsOutput {
    pub vpc_set: Vec<Vpc>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vpc {
    pub vpc_id: VpcId,
    pub owner_id: AccountId,
    pub state: String,
    pub cidr_block: String,
    pub cidr_block_association_set: Vec<CidrBlockAssociation>,
    pub dhcp_options_id: String,
    pub instance_tenancy: String,
    pub is_default: bool,
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CidrBlockAssociation {
    pub association_id: String,
    pub cidr_block: String,
    pub cidr_block_state: CidrBlockState,
}

#[derive(Debug, Clone, Serialize)]
pub struct CidrBlockState {
    pub state: String,
}

impl Action for DescribeVpcs {
    const NAME: &'static str = "DescribeVpcs";
    type Output = DescribeVpcsOutput;
}

/// Shows one attribute of a VPC.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeVpcAttribute {
    pub vpc_id: VpcId,
    pub attribute: VpcAttribute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VpcAttribute {
    EnableDnsSupport,
    EnableDnsHostnames,
    EnableNetworkAddressUsageMetrics,
}

/// The attribute that was asked for, and no other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeVpcAttributeOutput {
    pub vpc_id: VpcId,
    pub enable_dns_support: Option<Value<bool>>,
    pub enable_dns_hostnames: Option<Value<bool>>,
    pub enable_network_address_usage_metrics: Option<Value<bool>>,
}

/// Lists subnets.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSubnets {
    #[serde(default, rename = "SubnetId")]
    pub subnet_ids: Vec<SubnetId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSubnetsOutput {
    pub subnet_set: Vec<Subnet>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub subnet_id: SubnetId,
    pub subnet_arn: String,
    pub owner_id: AccountId,
    pub state: String,
    pub vpc_id: VpcId,
    pub cidr_block: String,
    pub available_ip_address_count: u32,
    pub availability_zone: Zone,
    pub default_for_az: bool,
    pub map_public_ip_on_launch: bool,
    pub assign_ipv6_address_on_creation: bool,
    pub tag_set: Vec<Tag>,
}

impl Action for DescribeVpcAttribute {
    const NAME: &'static str = "DescribeVpcAttribute";
    type Output = DescribeVpcAttributeOutput;
}

impl Action for DescribeSubnets {
    const NAME: &'static str = "DescribeSubnets";
    type Output = DescribeSubnetsOutput;
}
