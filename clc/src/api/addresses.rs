//! Elastic addresses: none can be allocated yet, so that all lists are empty.

use ec2::{
    Code,
    addresses::{Address, DescribeAddresses, DescribeAddressesOutput},
};

use super::{
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
};
use crate::{Caller, Clc};

impl Filterable for Address {
    const FIELDS: &'static [Field<Self>] = &[
        ("allocation-id", |address| {
            vec![address.allocation_id.to_string()]
        }),
        ("association-id", |_| vec![]),
        ("domain", |address| vec![address.domain.clone()]),
        ("instance-id", |_| vec![]),
        ("network-border-group", |_| vec![]),
        ("network-interface-id", |_| vec![]),
        ("network-interface-owner-id", |_| vec![]),
        ("private-ip-address", |_| vec![]),
        ("public-ip", |address| vec![address.public_ip.clone()]),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

/// Lists nothing, and refuses to find what is named.
pub async fn describe_addresses(
    _: &Clc,
    _: &Caller,
    ask: DescribeAddresses,
) -> Result<DescribeAddressesOutput> {
    Filters::<Address>::of(ask.filters)?;
    naming::all_found(&ask.allocation_ids, |_| false)?;
    if let Some(address) = ask.public_ips.first() {
        let message = format!("Address '{address}' not found.");
        return Err(Error::new(Code::Id("InvalidAddress.NotFound"), message));
    }
    Ok(DescribeAddressesOutput {
        addresses_set: Vec::new(),
    })
}
