//! Regions: there is one, this cloud.

use ec2::regions::{DescribeRegions, DescribeRegionsOutput, Region};

use super::{
    errors::Result,
    filters::{Field, Filterable, Filters},
};
use crate::{Caller, Clc};

impl Filterable for Region {
    const FIELDS: &'static [Field<Self>] = &[
        ("endpoint", |region| vec![region.region_endpoint.clone()]),
        ("opt-in-status", |region| vec![region.opt_in_status.clone()]),
        ("region-name", |region| vec![region.region_name.clone()]),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

/// Lists the region. Clients build URLs from the endpoint: it is a host with a port, no scheme.
pub async fn describe_regions(
    clc: &Clc,
    _: &Caller,
    ask: DescribeRegions,
) -> Result<DescribeRegionsOutput> {
    let filters = Filters::of(ask.filters)?;
    let own = clc.region.as_str();
    if let Some(name) = ask.region_names.iter().find(|name| *name != own) {
        return Err(
            ec2::Error::invalid("RegionName", name, &format!("The region is {own}")).into(),
        );
    }

    let url = clc.config.public_url();
    let region = Region {
        region_name: own.to_owned(),
        region_endpoint: url
            .split_once("://")
            .map_or(url.as_str(), |(_, rest)| rest)
            .to_owned(),
        opt_in_status: "opt-in-not-required".to_owned(),
    };
    let region_info = Some(region)
        .filter(|region| filters.admit(region))
        .into_iter()
        .collect();
    Ok(DescribeRegionsOutput { region_info })
}
