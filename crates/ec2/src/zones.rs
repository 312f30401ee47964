//! Availability zones. A zone is a cluster.

use serde::{Deserialize, Serialize};

use crate::{Action, Filter};

/// Lists the zones; with the zone name `verbose` (Eucalyptus) also the room for each instance type.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeAvailabilityZones {
    #[serde(default, rename = "ZoneName")]
    pub zone_names: Vec<String>,
    #[serde(default, rename = "ZoneId")]
    pub zone_ids: Vec<String>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub all_availability_zones: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeAvailabilityZonesOutput {
    pub availability_zone_info: Vec<AvailabilityZone>,
}

/// A zone. Name and state are free text: a row of `verbose` is one of these too.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityZone {
    pub zone_name: String,
    pub zone_state: String,
    pub region_name: Option<String>,
    pub zone_id: Option<String>,
    pub group_name: Option<String>,
    pub network_border_group: Option<String>,
    pub zone_type: Option<String>,
    pub opt_in_status: Option<String>,
    pub message_set: Vec<AvailabilityZoneMessage>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AvailabilityZoneMessage {
    pub message: String,
}

impl Action for DescribeAvailabilityZones {
    const NAME: &'static str = "DescribeAvailabilityZones";
    type Output = DescribeAvailabilityZonesOutput;
}
