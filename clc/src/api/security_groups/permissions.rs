//! Rules as clients say them and as answers show them.
//!
//! A request says one protocol and port range with many other ends; a row is one of each. `-1` means
//! everything and matches whatever ports are given with it: Terraform revokes `-1` with ports 0 to 0,
//! others with none.

use std::{collections::HashMap, net::IpAddr};

use ec2::{
    Code,
    security_groups::{
        IpPermission, IpPermissionShown, IpRange, IpRangeShown, RulesAsk, UserIdGroupPair,
        UserIdGroupPairShown,
    },
};
use ipnet::Ipv4Net;
use store::Tx;
use types::{AccountId, SecurityGroupId, SecurityGroupRuleId};

use crate::{
    Caller,
    api::{
        errors::{Error, Result},
        naming,
    },
    rows::{
        self,
        security_groups::{Peer, Permission, Rule, SecurityGroup},
    },
};

/// A rule that a request speaks of.
pub(super) struct Wanted {
    pub(super) permission: Permission,
    pub(super) description: Option<String>,
}

/// What every new group has: all may leave it.
pub(super) fn everything_out(group: &SecurityGroup, id: SecurityGroupRuleId) -> Rule {
    let permission = Permission {
        is_egress: true,
        protocol: "-1".to_owned(),
        from_port: -1,
        to_port: -1,
        peer: Peer::Cidr(Ipv4Net::default()),
    };
    Rule {
        id,
        group: group.id.clone(),
        permission,
        description: None,
        created_at: group.created_at,
    }
}

/// What a request wants done with the rules that it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Authorize,
    Revoke,
}

/// All rules that a request speaks of, one for each other end.
pub(super) fn wanted(
    tx: &Tx,
    caller: &Caller,
    group: &SecurityGroup,
    ask: &RulesAsk,
    is_egress: bool,
    doing: Doing,
) -> Result<Vec<Wanted>> {
    let mut asked = ask.ip_permissions.clone();
    asked.extend(flat(ask)?);
    if asked.is_empty() {
        return Err(ec2::Error::missing("IpPermissions").into());
    }
    let mut all = Vec::new();
    for permission in asked {
        no_ipv6(&permission, doing)?;
        one_permission(tx, caller, group, &permission, is_egress, &mut all)?;
    }
    Ok(all)
}

/// The one rule of the parameters of before 2010.
fn flat(ask: &RulesAsk) -> Result<Option<IpPermission>> {
    let flat = &ask.flat;
    let group = flat
        .source_security_group_name
        .as_ref()
        .map(|name| UserIdGroupPair {
            group_name: Some(name.clone()),
            user_id: flat.source_security_group_owner_id.clone(),
            ..UserIdGroupPair::default()
        });
    let range = flat.cidr_ip.as_ref().map(|cidr| IpRange {
        cidr_ip: cidr.clone(),
        description: None,
    });
    if group.is_none() && range.is_none() && flat.ip_protocol.is_none() {
        return Ok(None);
    }
    // A source group alone means everything, as it did in EC2.
    let ip_protocol = match (&flat.ip_protocol, &group) {
        (Some(protocol), _) => protocol.clone(),
        (None, Some(_)) => "-1".to_owned(),
        (None, None) => return Err(ec2::Error::missing("IpProtocol").into()),
    };
    Ok(Some(IpPermission {
        ip_protocol,
        from_port: flat.from_port,
        to_port: flat.to_port,
        groups: group.into_iter().collect(),
        ip_ranges: range.into_iter().collect(),
        ..IpPermission::default()
    }))
}

fn one_permission(
    tx: &Tx,
    caller: &Caller,
    group: &SecurityGroup,
    asked: &IpPermission,
    is_egress: bool,
    all: &mut Vec<Wanted>,
) -> Result<()> {
    let (protocol, from_port, to_port) = traffic(asked)?;
    let mut add = |peer, description: &Option<String>| -> Result<()> {
        if let Some(text) = description {
            naming::printable("Description", text)?;
        }
        let permission = Permission {
            is_egress,
            protocol: protocol.clone(),
            from_port,
            to_port,
            peer,
        };
        all.push(Wanted {
            permission,
            description: description.clone(),
        });
        Ok(())
    };
    for range in &asked.ip_ranges {
        add(Peer::Cidr(network(&range.cidr_ip)?), &range.description)?;
    }
    for pair in &asked.groups {
        add(
            Peer::Group(peer(tx, caller, group, pair)?),
            &pair.description,
        )?;
    }
    if !asked.prefix_list_ids.is_empty() {
        return Err(malformed("Prefix lists are not supported"));
    }
    if asked.ip_ranges.is_empty() && asked.groups.is_empty() {
        return Err(ec2::Error::missing("IpPermissions.N.IpRanges.N.CidrIp").into());
    }
    Ok(())
}

/// There is no IPv6 here: no such rule can be made, and none is there to be revoked. Terraform
/// revokes the one of every new group and expects to hear that it is not there.
fn no_ipv6(asked: &IpPermission, doing: Doing) -> Result<()> {
    let Some(range) = asked.ipv6_ranges.first() else {
        return Ok(());
    };
    let code = match doing {
        Doing::Authorize => Code::InvalidParameterValue,
        Doing::Revoke => Code::InvalidPermissionNotFound,
    };
    let message = format!("IPv6 is not supported: {}", range.cidr_ipv6);
    Err(Error::new(code, message))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidPermissionMalformed, message)
}

/// Protocol and ports in the one form that rows have.
fn traffic(asked: &IpPermission) -> Result<(String, i32, i32)> {
    let protocol = match asked.ip_protocol.to_ascii_lowercase().as_str() {
        "-1" | "all" => return Ok(("-1".to_owned(), -1, -1)),
        "tcp" | "6" => "tcp",
        "udp" | "17" => "udp",
        "icmp" | "1" => "icmp",
        number => {
            let number: u8 = number.parse().map_err(|_| {
                ec2::Error::invalid(
                    "IpProtocol",
                    &asked.ip_protocol,
                    "Expected tcp, udp, icmp, -1 or a number",
                )
            })?;
            return Ok((number.to_string(), -1, -1));
        }
    };
    let (from, to) = match (asked.from_port, asked.to_port) {
        (Some(from), Some(to)) => (from, to),
        (None, None) if protocol == "icmp" => (-1, -1),
        (Some(kind), None) if protocol == "icmp" => (kind, -1),
        (None, _) => return Err(ec2::Error::missing("FromPort").into()),
        (_, None) => return Err(ec2::Error::missing("ToPort").into()),
    };
    let is_right = match protocol {
        // Every code of any type makes no sense; EC2 refuses it too.
        "icmp" => {
            (-1..=255).contains(&from) && (-1..=255).contains(&to) && (from != -1 || to == -1)
        }
        // All ports: 0 to 65535, or -1 to -1 as old clients say it.
        _ => (from, to) == (-1, -1) || (0..=65535).contains(&from) && (from..=65535).contains(&to),
    };
    if !is_right {
        let message = format!("Invalid port range or ICMP type for {protocol}: {from} to {to}");
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    let is_all_ports = protocol != "icmp" && (from, to) == (-1, -1);
    let (from, to) = if is_all_ports { (0, 65535) } else { (from, to) };
    Ok((protocol.to_owned(), from, to))
}

/// A range of addresses, its host bits cleared as EC2 does.
fn network(text: &str) -> Result<Ipv4Net> {
    let parsed = text
        .parse::<Ipv4Net>()
        .ok()
        .or_else(|| match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Some(Ipv4Net::from(address)),
            _ => None,
        });
    let net = parsed.ok_or_else(|| {
        let message = format!(
            "CIDR block {} is malformed",
            text.get(..64).unwrap_or(text).escape_debug()
        );
        Error::new(Code::InvalidParameterValue, message)
    })?;
    Ok(net.trunc())
}

/// The group at the other end: one of the same VPC, by id or by name.
fn peer(
    tx: &Tx,
    caller: &Caller,
    group: &SecurityGroup,
    pair: &UserIdGroupPair,
) -> Result<SecurityGroupId> {
    if let Some(user) = pair
        .user_id
        .as_ref()
        .filter(|user| user.as_str() != caller.account().as_str())
    {
        let message =
            format!("You have specified two resources that belong to different accounts: {user}");
        return Err(Error::new(Code::Id("InvalidGroup.NotFound"), message));
    }
    let found = match (&pair.group_id, &pair.group_name) {
        (Some(id), _) => rows::security_groups::find(tx, caller.account(), id)?,
        (None, Some(name)) => rows::security_groups::find_by_name(tx, &group.vpc, name)?,
        (None, None) => return Err(ec2::Error::missing("IpPermissions.N.Groups.N.GroupId").into()),
    };
    let found = found.filter(|found| found.vpc == group.vpc);
    found.map(|found| found.id).ok_or_else(|| {
        let name = pair
            .group_id
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| pair.group_name.clone());
        let message = format!(
            "The security group '{}' does not exist",
            name.unwrap_or_default()
        );
        Error::new(Code::Id("InvalidGroup.NotFound"), message)
    })
}

/// A permission in words, for messages.
pub(super) fn said(permission: &Permission) -> String {
    let Permission {
        is_egress,
        protocol,
        from_port,
        to_port,
        peer,
    } = permission;
    let peer = match peer {
        Peer::Cidr(cidr) => cidr.to_string(),
        Peer::Group(group) => group.to_string(),
    };
    let way = if *is_egress { "to" } else { "from" };
    match protocol.as_str() {
        "-1" => format!("{way}: {peer}, ALL, ALLOW"),
        _ => format!(
            "{way}: {peer}, {}, {from_port} to {to_port}, ALLOW",
            protocol.to_uppercase()
        ),
    }
}

pub(super) fn cidr(peer: &Peer) -> Option<String> {
    match peer {
        Peer::Cidr(cidr) => Some(cidr.to_string()),
        Peer::Group(_) => None,
    }
}

pub(super) fn peer_group(peer: &Peer) -> Option<SecurityGroupId> {
    match peer {
        Peer::Cidr(_) => None,
        Peer::Group(group) => Some(group.clone()),
    }
}

/// Rules of one direction as EC2 shows them: those of one protocol and port range together.
pub(super) fn shown(
    rules: &[&Rule],
    is_egress: bool,
    account: &AccountId,
    names: &HashMap<SecurityGroupId, String>,
) -> Vec<IpPermissionShown> {
    let mut all: Vec<IpPermissionShown> = Vec::new();
    for rule in rules
        .iter()
        .filter(|rule| rule.permission.is_egress == is_egress)
    {
        let Permission {
            protocol,
            from_port,
            to_port,
            peer,
            ..
        } = &rule.permission;
        // Ports mean nothing for all protocols and for most numbers.
        let has_ports = ["tcp", "udp", "icmp"].contains(&protocol.as_str());
        let (from, to) = (
            has_ports.then_some(*from_port),
            has_ports.then_some(*to_port),
        );
        let is_same = |shown: &IpPermissionShown| {
            shown.ip_protocol == *protocol && shown.from_port == from && shown.to_port == to
        };
        let at = all.iter().position(is_same).unwrap_or_else(|| {
            all.push(IpPermissionShown {
                ip_protocol: protocol.clone(),
                from_port: from,
                to_port: to,
                groups: Vec::new(),
                ip_ranges: Vec::new(),
                ipv6_ranges: Vec::new(),
                prefix_list_ids: Vec::new(),
            });
            all.len() - 1
        });
        let description = rule.description.clone();
        match peer {
            Peer::Cidr(cidr) => {
                all[at].ip_ranges.push(IpRangeShown {
                    cidr_ip: cidr.to_string(),
                    description,
                });
            }
            Peer::Group(group) => all[at].groups.push(UserIdGroupPairShown {
                user_id: account.clone(),
                group_name: names.get(group).cloned(),
                group_id: group.clone(),
                description,
            }),
        }
    }
    all
}

// What filters look at.

pub(super) fn cidrs(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .flat_map(|one| one.ip_ranges.iter().map(|range| range.cidr_ip.clone()))
        .collect()
}

pub(super) fn protocols(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter().map(|one| one.ip_protocol.clone()).collect()
}

pub(super) fn from_ports(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .filter_map(|one| one.from_port)
        .map(|port| port.to_string())
        .collect()
}

pub(super) fn to_ports(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .filter_map(|one| one.to_port)
        .map(|port| port.to_string())
        .collect()
}

pub(super) fn group_ids(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .flat_map(|one| one.groups.iter().map(|group| group.group_id.to_string()))
        .collect()
}

pub(super) fn group_names(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .flat_map(|one| {
            one.groups
                .iter()
                .filter_map(|group| group.group_name.clone())
        })
        .collect()
}

pub(super) fn user_ids(all: &[IpPermissionShown]) -> Vec<String> {
    all.iter()
        .flat_map(|one| one.groups.iter().map(|group| group.user_id.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: &str, from: Option<i32>, to: Option<i32>) -> Result<(String, i32, i32)> {
        traffic(&IpPermission {
            ip_protocol: protocol.to_owned(),
            from_port: from,
            to_port: to,
            ..IpPermission::default()
        })
    }

    #[test]
    fn all_protocols_mean_the_same_with_any_ports() {
        for (from, to) in [
            (None, None),
            (Some(0), Some(0)),
            (Some(-1), Some(-1)),
            (Some(0), Some(65535)),
        ] {
            assert_eq!(asked("-1", from, to).unwrap(), ("-1".to_owned(), -1, -1));
        }
    }

    #[test]
    fn ports_and_icmp_types_are_checked() {
        assert_eq!(
            asked("6", Some(22), Some(22)).unwrap(),
            ("tcp".to_owned(), 22, 22)
        );
        assert_eq!(
            asked("TCP", Some(-1), Some(-1)).unwrap(),
            ("tcp".to_owned(), 0, 65535)
        );
        assert_eq!(
            asked("icmp", Some(8), Some(-1)).unwrap(),
            ("icmp".to_owned(), 8, -1)
        );
        assert_eq!(
            asked("47", Some(1), Some(2)).unwrap(),
            ("47".to_owned(), -1, -1)
        );
        for (protocol, from, to) in [
            ("tcp", None, Some(22)),
            ("tcp", Some(22), None),
            ("tcp", Some(23), Some(22)),
            ("tcp", Some(0), Some(65536)),
            ("udp", Some(-2), Some(2)),
            ("icmp", Some(-1), Some(0)),
            ("icmp", Some(256), Some(0)),
            ("tcpx", Some(1), Some(2)),
            ("256", None, None),
        ] {
            assert!(
                asked(protocol, from, to).is_err(),
                "{protocol} {from:?} {to:?}"
            );
        }
    }

    #[test]
    fn a_range_loses_its_host_bits_and_an_address_is_a_range_of_one() {
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        for text in ["", "10.0.0.0/33", "::/0", "10.0.0", "0.0.0.0/0; drop"] {
            assert!(network(text).is_err(), "{text:?}");
        }
    }
}
