//! Giving an instance its interface: private address, Ethernet address, public address.
//!
//! Done inside the transaction of the launch; the rows' unique keys make sure that an address never
//! has two owners. The caller grows the network's version once for all that it adds.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rand::{Rng, RngExt};
use store::{Error, Tx};
use types::{
    AccountId, InstanceId, MacAddr, NetworkAttachmentId, NetworkInterfaceId, SecurityGroupId,
    Timestamp,
};

use crate::rows::{
    network::{self, InterfaceRow, SubnetRow},
    short_ids,
};

/// At a subnet's start: network, router, resolver, and one that EC2 keeps; its users count on it.
const KEPT_AT_START: u32 = 4;
/// At its end: broadcast.
const KEPT_AT_END: u32 = 1;

/// Why an interface could not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// All private addresses are taken.
    #[error("the subnet has no free address")]
    SubnetFull,
    /// The private address that was asked for is taken.
    #[error("the private address {0} is in use")]
    InUse(Ipv4Addr),
    /// The private address that was asked for is not one of the subnet's.
    #[error("the private address {0} is not one that the subnet gives")]
    NotInSubnet(Ipv4Addr),
    /// All public addresses are taken.
    #[error("there is no free public address")]
    PublicPoolEmpty,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// For which instance.
    pub instance: &'a InstanceId,
    /// Whose it is.
    pub account: &'a AccountId,
    /// In which subnet.
    pub subnet: &'a SubnetRow,
    /// In which groups.
    pub groups: &'a [SecurityGroupId],
    /// Exactly this private address.
    pub private_address: Option<Ipv4Addr>,
    /// The addresses of which one is wanted in front; empty: none is.
    pub public_pool: &'a [Ipv4Addr],
    /// Now.
    pub now: Timestamp,
}

/// Gives an interface with its addresses, or says why not.
pub fn give(
    tx: &Tx,
    ask: &Ask<'_>,
    rng: &mut impl Rng,
) -> Result<Result<InterfaceRow, NoAddress>, Error> {
    let private_address = match choose_private(tx, ask, rng)? {
        Ok(address) => address,
        Err(none) => return Ok(Err(none)),
    };
    let public_address = match choose_public(tx, ask.public_pool, rng)? {
        Ok(address) => address,
        Err(none) => return Ok(Err(none)),
    };
    let interface = InterfaceRow {
        id: NetworkInterfaceId::mint(rng),
        attachment: NetworkAttachmentId::mint(rng),
        instance: ask.instance.clone(),
        account: ask.account.clone(),
        vpc: ask.subnet.vpc.clone(),
        subnet: ask.subnet.id.clone(),
        zone: ask.subnet.zone.clone(),
        short: short_ids::next(tx)?,
        mac: MacAddr::mint(rng),
        private_address,
        public_address,
        created_at: ask.now,
    };
    network::insert_interface(tx, &interface, ask.groups)?;
    if let Some(address) = public_address {
        network::take_public(tx, address, &interface.id, ask.account, ask.now)?;
    }
    Ok(Ok(interface))
}

fn choose_private(
    tx: &Tx,
    ask: &Ask<'_>,
    rng: &mut impl Rng,
) -> Result<Result<Ipv4Addr, NoAddress>, Error> {
    let is_taken = |address| network::is_private_taken(tx, &ask.subnet.id, address);
    let given = given_by(ask.subnet.cidr);
    Ok(match ask.private_address {
        Some(address) if !given.contains(&u32::from(address)) => {
            Err(NoAddress::NotInSubnet(address))
        }
        Some(address) if is_taken(address)? => Err(NoAddress::InUse(address)),
        Some(address) => Ok(address),
        None => {
            let count = given.end.saturating_sub(given.start) as usize;
            let at = |index: usize| Ipv4Addr::from(given.start + index as u32);
            free(count, at, is_taken, rng)?.ok_or(NoAddress::SubnetFull)
        }
    })
}

fn choose_public(
    tx: &Tx,
    pool: &[Ipv4Addr],
    rng: &mut impl Rng,
) -> Result<Result<Option<Ipv4Addr>, NoAddress>, Error> {
    if pool.is_empty() {
        return Ok(Ok(None));
    }
    let is_taken = |address| network::is_public_taken(tx, address);
    let found = free(pool.len(), |index| pool[index], is_taken, rng)?;
    Ok(found.map(Some).ok_or(NoAddress::PublicPoolEmpty))
}

/// The addresses of a subnet that instances may have.
fn given_by(cidr: Ipv4Net) -> std::ops::Range<u32> {
    let (first, last) = (u32::from(cidr.network()), u32::from(cidr.broadcast()));
    first.saturating_add(KEPT_AT_START)..(last + 1).saturating_sub(KEPT_AT_END)
}

/// The next free address from a random place on: one that was just given back is still in the
/// caches of others, and is not the next to be given. Asked one by one, since a subnet of thousands
/// is mostly free and a launch of many would read it whole each time.
fn free(
    count: usize,
    at: impl Fn(usize) -> Ipv4Addr,
    is_taken: impl Fn(Ipv4Addr) -> Result<bool, Error>,
    rng: &mut impl Rng,
) -> Result<Option<Ipv4Addr>, Error> {
    let start = if count == 0 {
        0
    } else {
        rng.random_range(0..count)
    };
    for step in 0..count {
        let address = at((start + step) % count);
        if !is_taken(address)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashSet};

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_first_four_and_the_last_address_of_a_subnet_are_never_given() {
        let given = given_by("172.31.16.0/28".parse().unwrap());
        let all: Vec<Ipv4Addr> = given.map(Ipv4Addr::from).collect();
        assert_eq!(all.len(), 11);
        assert_eq!(all[0], Ipv4Addr::new(172, 31, 16, 4));
        assert_eq!(all[10], Ipv4Addr::new(172, 31, 16, 14));
    }

    #[test]
    fn every_free_address_is_found_and_no_taken_one() {
        let mut rng = StdRng::seed_from_u64(1);
        let at = |index: usize| Ipv4Addr::from(0x0a00_0000 + index as u32);
        let taken = RefCell::new(HashSet::new());
        let is_taken = |address| Ok(taken.borrow().contains(&address));
        for _ in 0..50 {
            let address = free(50, at, is_taken, &mut rng).unwrap().unwrap();
            assert!(taken.borrow_mut().insert(address));
        }
        assert_eq!(free(50, at, is_taken, &mut rng).unwrap(), None);
        assert_eq!(free(0, at, is_taken, &mut rng).unwrap(), None);
    }
}
