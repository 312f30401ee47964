//! The network that every account has from the start, so that clients which know nothing of VPCs
//! just work: a VPC, a subnet in each zone, the group `default`.

use ipnet::Ipv4Net;
use rand::Rng;
use store::{Error, Tx};
use types::{AccountId, SecurityGroupId, SecurityGroupRuleId, SubnetId, Timestamp, VpcId, Zone};

use crate::rows::{
    cloud,
    network::{self, SubnetRow, VpcRow},
    security_groups::{self, Peer, Permission, Rule, SecurityGroup},
    short_ids,
};

/// How much longer a subnet's prefix is than its VPC's: sixteen subnets, as in EC2.
const SUBNET_BITS: u8 = 4;
/// The name of the group that an instance is in if it names none; EC2's users write it.
pub const DEFAULT_GROUP: &str = "default";

/// Gives an account its default VPC, with a subnet in every zone.
pub fn make(
    tx: &Tx,
    account: &AccountId,
    cidr: Ipv4Net,
    rng: &mut impl Rng,
    now: Timestamp,
) -> Result<VpcId, Error> {
    let vpc = VpcRow {
        id: VpcId::mint(rng),
        account: account.clone(),
        cidr,
        short: short_ids::next(tx)?,
        is_default: true,
    };
    network::insert_vpc(tx, &vpc, now)?;
    for zone in cloud::zones(tx)? {
        add_subnet(tx, &vpc, &zone, rng, now)?;
    }
    make_group(tx, &vpc, rng, now)?;
    Ok(vpc.id)
}

/// Gives every default VPC a subnet in a zone that is new.
pub fn extend(tx: &Tx, zone: &Zone, rng: &mut impl Rng, now: Timestamp) -> Result<(), Error> {
    for vpc in network::default_vpcs(tx)? {
        if network::default_subnet(tx, &vpc.account, zone)?.is_none() {
            add_subnet(tx, &vpc, zone, rng, now)?;
        }
    }
    Ok(())
}

/// A VPC that has no room for another subnet gets none: launches in that zone must name one.
fn add_subnet(
    tx: &Tx,
    vpc: &VpcRow,
    zone: &Zone,
    rng: &mut impl Rng,
    now: Timestamp,
) -> Result<(), Error> {
    let taken: Vec<Ipv4Net> = network::subnets_of(tx, &vpc.id)?
        .into_iter()
        .map(|subnet| subnet.cidr)
        .collect();
    let Some(cidr) = free_subnet(vpc.cidr, &taken) else {
        return Ok(());
    };
    let subnet = SubnetRow {
        id: SubnetId::mint(rng),
        vpc: vpc.id.clone(),
        account: vpc.account.clone(),
        zone: zone.clone(),
        cidr,
        short: network::free_subnet_short(tx)?,
        vni: network::free_vni(tx)?,
        is_default: true,
        internet: true,
        map_public: true,
    };
    network::insert_subnet(tx, &subnet, now)
}

fn free_subnet(vpc: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let is_free = |cidr: &Ipv4Net| {
        taken
            .iter()
            .all(|other| !other.contains(cidr) && !cidr.contains(other))
    };
    vpc.subnets(vpc.prefix_len() + SUBNET_BITS)
        .ok()?
        .find(is_free)
}

/// Members of the group reach one another; everything may go out; nothing else comes in.
fn make_group(tx: &Tx, vpc: &VpcRow, rng: &mut impl Rng, now: Timestamp) -> Result<(), Error> {
    let group = SecurityGroup {
        id: SecurityGroupId::mint(rng),
        account: vpc.account.clone(),
        vpc: vpc.id.clone(),
        name: DEFAULT_GROUP.to_owned(),
        description: "default VPC security group".to_owned(),
        short: short_ids::next(tx)?,
        created_at: now,
    };
    security_groups::insert(tx, &group)?;
    let everywhere = Ipv4Net::default();
    for (is_egress, peer) in [
        (false, Peer::Group(group.id.clone())),
        (true, Peer::Cidr(everywhere)),
    ] {
        let permission = Permission {
            is_egress,
            protocol: "-1".to_owned(),
            from_port: -1,
            to_port: -1,
            peer,
        };
        security_groups::insert_rule(
            tx,
            &Rule {
                id: SecurityGroupRuleId::mint(rng),
                group: group.id.clone(),
                permission,
                description: None,
                created_at: now,
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_follow_one_another_and_never_overlap() {
        let vpc: Ipv4Net = "172.31.0.0/16".parse().unwrap();
        let mut taken = Vec::new();
        while let Some(next) = free_subnet(vpc, &taken) {
            taken.push(next);
        }
        assert_eq!(taken.len(), 16);
        assert_eq!(taken[0], "172.31.0.0/20".parse().unwrap());
        assert_eq!(taken[15], "172.31.240.0/20".parse().unwrap());
        let odd = ["172.31.0.0/24".parse().unwrap()];
        assert_eq!(
            free_subnet(vpc, &odd),
            Some("172.31.16.0/20".parse().unwrap())
        );
    }
}
