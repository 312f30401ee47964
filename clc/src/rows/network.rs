//! VPCs, subnets, interfaces and public addresses.
//!
//! Whoever changes what a network document is made of (interfaces, groups, rules, members, peers,
//! the addresses of daemons) calls [`bump`], [`bump_vpc`] or [`bump_all`] in the same transaction:
//! version N says exactly what the rows said at N.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rusqlite::{OptionalExtension, Row};
use store::{Error, Tx};
use types::{
    AccountId, InstanceId, MacAddr, NetworkAttachmentId, NetworkInterfaceId, NodeId,
    SecurityGroupId, SubnetId, Timestamp, VpcId, Zone, instance::ShortId,
};

use super::{Columns, parsed};

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcRow {
    /// Which.
    pub id: VpcId,
    /// Whose.
    pub account: AccountId,
    /// Its address space.
    pub cidr: Ipv4Net,
    /// Names its namespace.
    pub short: ShortId,
    /// Whether it is its account's default.
    pub is_default: bool,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetRow {
    /// Which.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Whose.
    pub account: AccountId,
    /// Its zone.
    pub zone: Zone,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Names its bridge and conntrack zone.
    pub short: ShortId,
    /// Its vxlan network identifier.
    pub vni: u32,
    /// Whether launches in its zone that name no subnet go here.
    pub is_default: bool,
    /// Whether its routes lead to an internet gateway.
    pub internet: bool,
    /// Whether launches get a public address.
    pub map_public: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceRow {
    /// Which.
    pub id: NetworkInterfaceId,
    /// Its attachment to the instance.
    pub attachment: NetworkAttachmentId,
    /// Its instance.
    pub instance: InstanceId,
    /// Whose.
    pub account: AccountId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: Zone,
    /// Names its tap.
    pub short: ShortId,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its private address.
    pub private_address: Ipv4Addr,
    /// Its public address.
    pub public_address: Option<Ipv4Addr>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An interface with where its instance is placed, for the network document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedInterface {
    /// The interface.
    pub interface: InterfaceRow,
    /// The node.
    pub node: NodeId,
}

fn vpc_from(row: &Row<'_>) -> rusqlite::Result<VpcRow> {
    Ok(VpcRow {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        cidr: parsed(row, "cidr")?,
        short: ShortId(row.get("short")?),
        is_default: row.get("is_default")?,
    })
}

fn subnet_from(row: &Row<'_>) -> rusqlite::Result<SubnetRow> {
    Ok(SubnetRow {
        id: parsed(row, "id")?,
        vpc: parsed(row, "vpc")?,
        account: parsed(row, "account")?,
        zone: parsed(row, "zone")?,
        cidr: parsed(row, "cidr")?,
        short: ShortId(row.get("short")?),
        vni: row.get("vni")?,
        is_default: row.get("is_default")?,
        internet: row.get("internet")?,
        map_public: row.get("map_public")?,
    })
}

/// An interface and its public address: of `interfaces i` and `public_addresses p`.
const INTERFACE: &str = "i.id, i.attachment, i.instance, i.account, i.vpc, i.subnet, i.zone, i.short, i.mac, \
    i.private_address, p.address, i.created_at";

/// In the order of [`INTERFACE`].
fn interface_from(row: &Row<'_>) -> rusqlite::Result<InterfaceRow> {
    let mut columns = Columns::of(row);
    Ok(InterfaceRow {
        id: columns.parsed()?,
        attachment: columns.parsed()?,
        instance: columns.parsed()?,
        account: columns.parsed()?,
        vpc: columns.parsed()?,
        subnet: columns.parsed()?,
        zone: columns.parsed()?,
        short: ShortId(columns.get()?),
        mac: columns.parsed()?,
        private_address: columns.parsed()?,
        public_address: columns.parsed_or_null()?,
        created_at: Timestamp(columns.get()?),
    })
}

/// Interfaces with their public addresses; a `WHERE` follows.
fn interfaces_where(rest: &str) -> String {
    format!(
        "SELECT {INTERFACE} FROM interfaces i LEFT JOIN public_addresses p ON p.interface = i.id WHERE {rest}"
    )
}

/// The version of a zone's network.
pub fn version(tx: &Tx, zone: &Zone) -> Result<u64, Error> {
    let sql = "SELECT network_version FROM zones WHERE name = ?1";
    Ok(tx.query_row(sql, [zone.as_str()], |row| row.get(0))?)
}

/// Grows the version of a zone's network, and gives the new one.
pub fn bump(tx: &Tx, zone: &Zone) -> Result<u64, Error> {
    let sql = "UPDATE zones SET network_version = network_version + 1 WHERE name = ?1
               RETURNING network_version";
    Ok(tx.query_row(sql, [zone.as_str()], |row| row.get(0))?)
}

/// Grows the version of every zone: for what all documents have in common.
pub fn bump_all(tx: &Tx) -> Result<(), Error> {
    tx.execute("UPDATE zones SET network_version = network_version + 1", [])?;
    Ok(())
}

/// Grows the version of every zone in which a VPC has an interface: for a change of its groups.
pub fn bump_vpc(tx: &Tx, vpc: &VpcId) -> Result<(), Error> {
    let sql = "UPDATE zones SET network_version = network_version + 1
               WHERE name IN (SELECT DISTINCT zone FROM interfaces WHERE vpc = ?1)";
    tx.execute(sql, [vpc.as_str()])?;
    Ok(())
}

/// An account's default VPC.
pub fn default_vpc(tx: &Tx, account: &AccountId) -> Result<Option<VpcRow>, Error> {
    let sql = "SELECT * FROM vpcs WHERE account = ?1 AND is_default";
    Ok(tx.query_row(sql, [account.as_str()], vpc_from).optional()?)
}

/// A VPC.
pub fn find_vpc(tx: &Tx, id: &VpcId) -> Result<Option<VpcRow>, Error> {
    Ok(tx
        .query_row("SELECT * FROM vpcs WHERE id = ?1", [id.as_str()], vpc_from)
        .optional()?)
}

/// All VPCs of an account, in the order of their ids.
pub fn vpcs_of(tx: &Tx, account: &AccountId) -> Result<Vec<VpcRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM vpcs WHERE account = ?1 ORDER BY id")?;
    let rows = found.query_map([account.as_str()], vpc_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The VPCs that have an interface in a zone, in the order of their ids.
pub fn vpcs_in(tx: &Tx, zone: &Zone) -> Result<Vec<VpcRow>, Error> {
    let sql =
        "SELECT * FROM vpcs WHERE id IN (SELECT vpc FROM interfaces WHERE zone = ?1) ORDER BY id";
    let mut found = tx.prepare_cached(sql)?;
    let rows = found.query_map([zone.as_str()], vpc_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a VPC.
pub fn insert_vpc(tx: &Tx, vpc: &VpcRow, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO vpcs (id, account, cidr, short, is_default, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (cidr, account) = (vpc.cidr.to_string(), vpc.account.as_str());
    tx.execute(
        sql,
        (
            vpc.id.as_str(),
            account,
            cidr,
            vpc.short.0,
            vpc.is_default,
            now.0,
        ),
    )?;
    Ok(())
}

/// A subnet.
pub fn find_subnet(tx: &Tx, id: &SubnetId) -> Result<Option<SubnetRow>, Error> {
    let sql = "SELECT * FROM subnets WHERE id = ?1";
    Ok(tx.query_row(sql, [id.as_str()], subnet_from).optional()?)
}

/// The subnet for an account's launches in a zone that name none.
pub fn default_subnet(
    tx: &Tx,
    account: &AccountId,
    zone: &Zone,
) -> Result<Option<SubnetRow>, Error> {
    let sql = "SELECT * FROM subnets WHERE account = ?1 AND zone = ?2 AND is_default";
    Ok(tx
        .query_row(sql, (account.as_str(), zone.as_str()), subnet_from)
        .optional()?)
}

/// The subnets of a VPC, in the order of their ids.
pub fn subnets_of(tx: &Tx, vpc: &VpcId) -> Result<Vec<SubnetRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM subnets WHERE vpc = ?1 ORDER BY id")?;
    let rows = found.query_map([vpc.as_str()], subnet_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a subnet.
pub fn insert_subnet(tx: &Tx, subnet: &SubnetRow, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO subnets (id, vpc, account, zone, cidr, short, vni, is_default, internet,
                   map_public, created_at)
               VALUES (:id, :vpc, :account, :zone, :cidr, :short, :vni, :is_default, :internet,
                   :map_public, :now)";
    tx.execute(
        sql,
        rusqlite::named_params! {
            ":id": subnet.id.as_str(),
            ":vpc": subnet.vpc.as_str(),
            ":account": subnet.account.as_str(),
            ":zone": subnet.zone.as_str(),
            ":cidr": subnet.cidr.to_string(),
            ":short": subnet.short.0,
            ":vni": subnet.vni,
            ":is_default": subnet.is_default,
            ":internet": subnet.internet,
            ":map_public": subnet.map_public,
            ":now": now.0,
        },
    )?;
    Ok(())
}

/// The least number that names no subnet: 16 bits, and so it is used again after a deletion.
pub fn free_subnet_short(tx: &Tx) -> Result<ShortId, Error> {
    Ok(ShortId(least_free(tx, "short")?))
}

/// The least vxlan network identifier that no subnet has.
pub fn free_vni(tx: &Tx) -> Result<u32, Error> {
    least_free(tx, "vni")
}

fn least_free(tx: &Tx, column: &'static str) -> Result<u32, Error> {
    let sql = format!(
        "SELECT min(candidate) FROM (SELECT 1 AS candidate UNION SELECT {column} + 1 FROM subnets)
         WHERE candidate NOT IN (SELECT {column} FROM subnets)"
    );
    Ok(tx.query_row(&sql, [], |row| row.get(0))?)
}

/// Adds an interface; its public address is taken apart, by [`take_public`].
pub fn insert_interface(
    tx: &Tx,
    interface: &InterfaceRow,
    groups: &[SecurityGroupId],
) -> Result<(), Error> {
    let sql = "INSERT INTO interfaces (id, attachment, instance, account, vpc, subnet, zone, short,
                   mac, private_address, created_at)
               VALUES (:id, :attachment, :instance, :account, :vpc, :subnet, :zone, :short, :mac,
                   :private_address, :created_at)";
    tx.prepare_cached(sql)?.execute(rusqlite::named_params! {
        ":id": interface.id.as_str(),
        ":attachment": interface.attachment.as_str(),
        ":instance": interface.instance.as_str(),
        ":account": interface.account.as_str(),
        ":vpc": interface.vpc.as_str(),
        ":subnet": interface.subnet.as_str(),
        ":zone": interface.zone.as_str(),
        ":short": interface.short.0,
        ":mac": interface.mac.to_string(),
        ":private_address": interface.private_address.to_string(),
        ":created_at": interface.created_at.0,
    })?;
    let sql = "INSERT INTO interface_groups (interface, security_group) VALUES (?1, ?2)";
    for group in groups {
        tx.prepare_cached(sql)?
            .execute((interface.id.as_str(), group.as_str()))?;
    }
    Ok(())
}

/// The interface of an instance; none once the instance is gone.
pub fn interface_of(tx: &Tx, instance: &InstanceId) -> Result<Option<InterfaceRow>, Error> {
    let mut found = tx.prepare_cached(&interfaces_where("i.instance = ?1"))?;
    Ok(found
        .query_row([instance.as_str()], interface_from)
        .optional()?)
}

/// All interfaces of an account, in the order of their ids.
pub fn interfaces_of_account(tx: &Tx, account: &AccountId) -> Result<Vec<InterfaceRow>, Error> {
    let mut found = tx.prepare_cached(&interfaces_where("i.account = ?1 ORDER BY i.id"))?;
    let rows = found.query_map([account.as_str()], interface_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The interfaces of a VPC in a zone with their nodes, in the order of their ids.
pub fn placed_interfaces(tx: &Tx, vpc: &VpcId, zone: &Zone) -> Result<Vec<PlacedInterface>, Error> {
    let sql = format!(
        "SELECT {INTERFACE}, n.node
         FROM interfaces i
         JOIN instances n ON n.id = i.instance
         LEFT JOIN public_addresses p ON p.interface = i.id
         WHERE i.vpc = ?1 AND i.zone = ?2 AND n.node IS NOT NULL ORDER BY i.id"
    );
    let mut found = tx.prepare_cached(&sql)?;
    let rows = found.query_map((vpc.as_str(), zone.as_str()), |row| {
        Ok(PlacedInterface {
            interface: interface_from(row)?,
            node: parsed(row, "node")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The groups of an interface, in the order of their ids.
pub fn groups_of(tx: &Tx, interface: &NetworkInterfaceId) -> Result<Vec<SecurityGroupId>, Error> {
    let sql =
        "SELECT security_group FROM interface_groups WHERE interface = ?1 ORDER BY security_group";
    let mut found = tx.prepare_cached(sql)?;
    let rows = found.query_map([interface.as_str()], |row| parsed(row, "security_group"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The private addresses of a group's members in all zones, in the order of the interfaces' ids.
pub fn members_of(tx: &Tx, group: &SecurityGroupId) -> Result<Vec<Ipv4Addr>, Error> {
    let sql =
        "SELECT i.private_address FROM interface_groups g JOIN interfaces i ON i.id = g.interface
               WHERE g.security_group = ?1 ORDER BY i.id";
    let mut found = tx.prepare_cached(sql)?;
    let rows = found.query_map([group.as_str()], |row| parsed(row, "private_address"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many private addresses of a subnet are taken.
pub fn count_private(tx: &Tx, subnet: &SubnetId) -> Result<usize, Error> {
    let mut count = tx.prepare_cached("SELECT count(*) FROM interfaces WHERE subnet = ?1")?;
    Ok(count.query_row([subnet.as_str()], |row| row.get(0))?)
}

/// Whether a private address of a subnet is taken.
pub fn is_private_taken(tx: &Tx, subnet: &SubnetId, address: Ipv4Addr) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM interfaces WHERE subnet = ?1 AND private_address = ?2";
    Ok(tx
        .prepare_cached(sql)?
        .exists((subnet.as_str(), address.to_string()))?)
}

/// Whether a public address is taken.
pub fn is_public_taken(tx: &Tx, address: Ipv4Addr) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM public_addresses WHERE address = ?1";
    Ok(tx.prepare_cached(sql)?.exists([address.to_string()])?)
}

/// The public addresses that are taken, in no order.
pub fn taken_public(tx: &Tx) -> Result<Vec<Ipv4Addr>, Error> {
    let mut found = tx.prepare_cached("SELECT address FROM public_addresses")?;
    let rows = found.query_map([], |row| parsed(row, "address"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives an address to an interface, as an automatic one that goes with it.
pub fn take_public(
    tx: &Tx,
    address: Ipv4Addr,
    interface: &NetworkInterfaceId,
    account: &AccountId,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO public_addresses (address, interface, account, taken_at)
               VALUES (?1, ?2, ?3, ?4)";
    let address = address.to_string();
    tx.prepare_cached(sql)?
        .execute((address, interface.as_str(), account.as_str(), now.0))?;
    Ok(())
}

/// Removes the interface of an instance that is gone, with its addresses, and grows its zone's
/// network; members of groups in other zones' documents follow with those zones' next version.
pub fn remove_interface_of(tx: &Tx, instance: &InstanceId) -> Result<(), Error> {
    let Some(interface) = interface_of(tx, instance)? else {
        return Ok(());
    };
    let id = interface.id.as_str();
    bump_vpc(tx, &interface.vpc)?;
    tx.execute(
        "DELETE FROM public_addresses WHERE interface = ?1 AND allocation IS NULL",
        [id],
    )?;
    tx.execute("DELETE FROM interfaces WHERE id = ?1", [id])?;
    Ok(())
}

/// The name of a group.
pub fn group_name(tx: &Tx, group: &SecurityGroupId) -> Result<String, Error> {
    let mut found = tx.prepare_cached("SELECT name FROM security_groups WHERE id = ?1")?;
    Ok(found.query_row([group.as_str()], |row| row.get(0))?)
}

/// The number that names a group's sets on the nodes.
pub fn group_short(tx: &Tx, group: &SecurityGroupId) -> Result<ShortId, Error> {
    let mut found = tx.prepare_cached("SELECT short FROM security_groups WHERE id = ?1")?;
    Ok(ShortId(
        found.query_row([group.as_str()], |row| row.get(0))?,
    ))
}

/// Every account's default VPC, in the order of their ids.
pub fn default_vpcs(tx: &Tx) -> Result<Vec<VpcRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM vpcs WHERE is_default ORDER BY id")?;
    let rows = found.query_map([], vpc_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
