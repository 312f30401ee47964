//! Regions. A cloud is one.

use serde::{Deserialize, Serialize};

use crate::{Action, Filter};

/// Lists the regions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeRegions {
    #[serde(default, rename = "RegionName")]
    pub region_names: Vec<String>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub all_regions: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeRegionsOutput {
    pub region_info: Vec<Region>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    pub region_name: String,
    pub region_endpoint: String,
    pub opt_in_status: String,
}

impl Action for DescribeRegions {
    const NAME: &'static str = "DescribeRegions";
    type Output = DescribeRegionsOutput;
}
