//! Elastic addresses. None can be allocated yet; clients ask for those of an instance all the same.

use serde::{Deserialize, Serialize};
use types::AllocationId;

use crate::{Action, Filter};

/// Lists elastic addresses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAddresses {
    #[serde(default, rename = "PublicIp")]
    pub public_ips: Vec<String>,
    #[serde(default, rename = "AllocationId")]
    pub allocation_ids: Vec<AllocationId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAddressesOutput {
    pub addresses_set: Vec<Address>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub public_ip: String,
    pub allocation_id: AllocationId,
    pub domain: String,
}

impl Action for DescribeAddresses {
    const NAME: &'static str = "DescribeAddresses";
    type Output = DescribeAddressesOutput;
}
