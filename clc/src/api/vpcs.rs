//! VPCs and subnets, as they are: each account has its default ones.

use ec2::{
    Tag,
    common::Value,
    vpcs::{
        CidrBlockAssociation, CidrBlockState, DescribeSubnets, DescribeSubnetsOutput,
        DescribeVpcAttribute, DescribeVpcAttributeOutput, DescribeVpcs, DescribeVpcsOutput, Subnet,
        Vpc, VpcAttribute,
    },
};
use types::Arn;

use super::{
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
    paging::Page,
    tags,
};
use crate::{Caller, Clc, rows};

/// Addresses of a subnet that nobody gets: network, router, resolver, one kept, broadcast.
const KEPT: u32 = 5;

impl Filterable for Vpc {
    const FIELDS: &'static [Field<Self>] = &[
        ("cidr", |vpc| vec![vpc.cidr_block.clone()]),
        ("cidr-block", |vpc| vec![vpc.cidr_block.clone()]),
        ("cidr-block-association.cidr-block", |vpc| {
            vec![vpc.cidr_block.clone()]
        }),
        ("dhcp-options-id", |vpc| vec![vpc.dhcp_options_id.clone()]),
        ("is-default", |vpc| vec![vpc.is_default.to_string()]),
        ("isDefault", |vpc| vec![vpc.is_default.to_string()]),
        ("owner-id", |vpc| vec![vpc.owner_id.to_string()]),
        ("state", |vpc| vec![vpc.state.clone()]),
        ("vpc-id", |vpc| vec![vpc.vpc_id.to_string()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists VPCs.
pub async fn describe_vpcs(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeVpcs,
) -> Result<DescribeVpcsOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.vpc_ids.is_empty())?;
    let account = caller.account().clone();
    let (vpcs, mut tags) = clc
        .db
        .read(move |tx| {
            let tags = rows::tags::by_resource(tx, &account, "vpc")?;
            Ok::<_, Error>((rows::network::vpcs_of(tx, &account)?, tags))
        })
        .await?;

    let picked = naming::pick(vpcs, &ask.vpc_ids, |vpc| &vpc.id)?;
    let shown = picked.into_iter().map(|vpc| {
        let cidr = vpc.cidr.to_string();
        Vpc {
            tag_set: tags::shown(tags.remove(vpc.id.as_str()).unwrap_or_default()),
            owner_id: vpc.account,
            state: "available".to_owned(),
            cidr_block_association_set: vec![CidrBlockAssociation {
                association_id: vpc.id.as_str().replacen("vpc-", "vpc-cidr-assoc-", 1),
                cidr_block: cidr.clone(),
                cidr_block_state: CidrBlockState {
                    state: "associated".to_owned(),
                },
            }],
            cidr_block: cidr,
            dhcp_options_id: "default".to_owned(),
            instance_tenancy: "default".to_owned(),
            is_default: vpc.is_default,
            vpc_id: vpc.id,
        }
    });
    let admitted = shown.filter(|vpc| filters.admit(vpc)).collect();
    let (vpc_set, next_token) = page.cut(admitted, |vpc| vpc.vpc_id.to_string());
    Ok(DescribeVpcsOutput {
        vpc_set,
        next_token,
    })
}

/// Shows an attribute. Names are given and resolved in every VPC.
pub async fn describe_vpc_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeVpcAttribute,
) -> Result<DescribeVpcAttributeOutput> {
    let id = ask.vpc_id.clone();
    let found = clc
        .db
        .read(move |tx| Ok::<_, Error>(rows::network::find_vpc(tx, &id)?))
        .await?;
    if found.is_none_or(|vpc| vpc.account != *caller.account()) {
        return Err(ec2::Error::not_found(&ask.vpc_id).into());
    }
    let shown = |attribute, value| (ask.attribute == attribute).then_some(Value { value });
    Ok(DescribeVpcAttributeOutput {
        vpc_id: ask.vpc_id,
        enable_dns_support: shown(VpcAttribute::EnableDnsSupport, true),
        enable_dns_hostnames: shown(VpcAttribute::EnableDnsHostnames, true),
        enable_network_address_usage_metrics: shown(
            VpcAttribute::EnableNetworkAddressUsageMetrics,
            false,
        ),
    })
}

impl Filterable for Subnet {
    const FIELDS: &'static [Field<Self>] = &[
        ("availability-zone", |subnet| {
            vec![subnet.availability_zone.to_string()]
        }),
        ("availabilityZone", |subnet| {
            vec![subnet.availability_zone.to_string()]
        }),
        ("available-ip-address-count", |subnet| {
            vec![subnet.available_ip_address_count.to_string()]
        }),
        ("cidr", |subnet| vec![subnet.cidr_block.clone()]),
        ("cidr-block", |subnet| vec![subnet.cidr_block.clone()]),
        ("cidrBlock", |subnet| vec![subnet.cidr_block.clone()]),
        ("default-for-az", |subnet| {
            vec![subnet.default_for_az.to_string()]
        }),
        ("defaultForAz", |subnet| {
            vec![subnet.default_for_az.to_string()]
        }),
        ("map-public-ip-on-launch", |subnet| {
            vec![subnet.map_public_ip_on_launch.to_string()]
        }),
        ("owner-id", |subnet| vec![subnet.owner_id.to_string()]),
        ("state", |subnet| vec![subnet.state.clone()]),
        ("subnet-arn", |subnet| vec![subnet.subnet_arn.clone()]),
        ("subnet-id", |subnet| vec![subnet.subnet_id.to_string()]),
        ("vpc-id", |subnet| vec![subnet.vpc_id.to_string()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists subnets.
pub async fn describe_subnets(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeSubnets,
) -> Result<DescribeSubnetsOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.subnet_ids.is_empty())?;
    let account = caller.account().clone();
    let (subnets, mut tags) = clc
        .db
        .read(move |tx| {
            let mut subnets = Vec::new();
            for vpc in rows::network::vpcs_of(tx, &account)? {
                for subnet in rows::network::subnets_of(tx, &vpc.id)? {
                    let taken = rows::network::count_private(tx, &subnet.id)?;
                    subnets.push((subnet, taken));
                }
            }
            Ok::<_, Error>((subnets, rows::tags::by_resource(tx, &account, "subnet")?))
        })
        .await?;

    let picked = naming::pick(subnets, &ask.subnet_ids, |(subnet, _)| &subnet.id)?;
    let shown = picked.into_iter().map(|(subnet, taken)| {
        let size = 1_u32
            .checked_shl(u32::from(32 - subnet.cidr.prefix_len()))
            .unwrap_or(u32::MAX);
        let free = size
            .saturating_sub(KEPT)
            .saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        Subnet {
            tag_set: tags::shown(tags.remove(subnet.id.as_str()).unwrap_or_default()),
            subnet_arn: Arn::ec2(
                clc.region.as_str(),
                &subnet.account,
                "subnet",
                subnet.id.as_str(),
            )
            .to_string(),
            owner_id: subnet.account,
            state: "available".to_owned(),
            vpc_id: subnet.vpc,
            cidr_block: subnet.cidr.to_string(),
            available_ip_address_count: free,
            availability_zone: subnet.zone,
            default_for_az: subnet.is_default,
            map_public_ip_on_launch: subnet.map_public,
            assign_ipv6_address_on_creation: false,
            subnet_id: subnet.id,
        }
    });
    let admitted = shown.filter(|subnet| filters.admit(subnet)).collect();
    let (subnet_set, next_token) = page.cut(admitted, |subnet| subnet.subnet_id.to_string());
    Ok(DescribeSubnetsOutput {
        subnet_set,
        next_token,
    })
}
