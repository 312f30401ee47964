//! Security groups and their rules.

use std::collections::HashMap;

use ipnet::Ipv4Net;
use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{
    AccountId, NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId, Timestamp, VpcId,
    instance::ShortId,
};

use super::{parsed, parsed_or_null};

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Whose it is.
    pub account: AccountId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its name, unique within the VPC.
    pub name: String,
    /// What its maker said of it.
    pub description: String,
    /// Names its sets on the nodes.
    pub short: ShortId,
    /// When it came to be.
    pub created_at: Timestamp,
}

/// One permission of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// Its group.
    pub group: SecurityGroupId,
    /// What it permits.
    pub permission: Permission,
    /// What its maker said of it.
    pub description: Option<String>,
    /// When it came to be.
    pub created_at: Timestamp,
}

/// What makes a rule: two rules of a group that agree in this are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// What goes out, not what comes in.
    pub is_egress: bool,
    /// `-1` (all), `tcp`, `udp`, `icmp`, or the number of another protocol.
    pub protocol: String,
    /// The first port; ICMP's type; -1 for any.
    pub from_port: i32,
    /// The last port; ICMP's code; -1 for any.
    pub to_port: i32,
    /// The other end.
    pub peer: Peer,
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Addresses.
    Cidr(Ipv4Net),
    /// The members of a group of the same VPC.
    Group(SecurityGroupId),
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<SecurityGroup> {
    Ok(SecurityGroup {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        vpc: parsed(row, "vpc")?,
        name: row.get("name")?,
        description: row.get("description")?,
        short: ShortId(row.get("short")?),
        created_at: Timestamp(row.get("created_at")?),
    })
}

fn rule_from_row(row: &Row<'_>) -> rusqlite::Result<Rule> {
    let peer = match parsed_or_null(row, "cidr")? {
        Some(cidr) => Peer::Cidr(cidr),
        None => Peer::Group(parsed(row, "peer_group")?),
    };
    Ok(Rule {
        id: parsed(row, "id")?,
        group: parsed(row, "security_group")?,
        permission: Permission {
            is_egress: row.get("egress")?,
            protocol: row.get("protocol")?,
            from_port: row.get("from_port")?,
            to_port: row.get("to_port")?,
            peer,
        },
        description: row.get("description")?,
        created_at: Timestamp(row.get("created_at")?),
    })
}

/// Adds a group; a constraint refuses a second one of that name in the VPC.
pub fn insert(tx: &Tx, group: &SecurityGroup) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO security_groups (id, account, vpc, name, description, short, created_at) \
         VALUES (:id, :account, :vpc, :name, :description, :short, :created_at)",
    )?
    .execute(named_params! {
        ":id": group.id.as_str(),
        ":account": group.account.as_str(),
        ":vpc": group.vpc.as_str(),
        ":name": group.name,
        ":description": group.description,
        ":short": group.short.0,
        ":created_at": group.created_at.as_millis(),
    })?;
    Ok(())
}

/// The group of that id, if the account has it.
pub fn find(
    tx: &Tx,
    account: &AccountId,
    id: &SecurityGroupId,
) -> Result<Option<SecurityGroup>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM security_groups WHERE id = ?1 AND account = ?2")?
        .query_row([id.as_str(), account.as_str()], from_row)
        .optional()?)
}

/// The group of that name in the VPC.
pub fn find_by_name(tx: &Tx, vpc: &VpcId, name: &str) -> Result<Option<SecurityGroup>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM security_groups WHERE vpc = ?1 AND name = ?2")?
        .query_row([vpc.as_str(), name], from_row)
        .optional()?)
}

/// All of an account, oldest first.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<SecurityGroup>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM security_groups WHERE account = ?1 ORDER BY created_at, id",
    )?;
    let rows = query.query_map([account.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All of a VPC.
pub fn list_of_vpc(tx: &Tx, vpc: &VpcId) -> Result<Vec<SecurityGroup>, Error> {
    let mut query =
        tx.prepare_cached("SELECT * FROM security_groups WHERE vpc = ?1 ORDER BY id")?;
    let rows = query.query_map([vpc.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes a group with its rules and tags.
pub fn delete(tx: &Tx, id: &SecurityGroupId) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM security_groups WHERE id = ?1")?
        .execute([id.as_str()])?;
    super::tags::delete_all(tx, id.as_str())
}

/// Adds a rule; a constraint refuses the same permission twice.
pub fn insert_rule(tx: &Tx, rule: &Rule) -> Result<(), Error> {
    let (cidr, peer_group) = match &rule.permission.peer {
        Peer::Cidr(cidr) => (Some(cidr.to_string()), None),
        Peer::Group(group) => (None, Some(group.as_str())),
    };
    tx.prepare_cached(
        "INSERT INTO security_group_rules \
         (id, security_group, egress, protocol, from_port, to_port, cidr, peer_group, description, created_at) \
         VALUES (:id, :group, :egress, :protocol, :from, :to, :cidr, :peer_group, :description, :created_at)",
    )?
    .execute(named_params! {
        ":id": rule.id.as_str(),
        ":group": rule.group.as_str(),
        ":egress": rule.permission.is_egress,
        ":protocol": rule.permission.protocol,
        ":from": rule.permission.from_port,
        ":to": rule.permission.to_port,
        ":cidr": cidr,
        ":peer_group": peer_group,
        ":description": rule.description,
        ":created_at": rule.created_at.as_millis(),
    })?;
    Ok(())
}

/// The rules of a group, oldest first.
pub fn rules(tx: &Tx, group: &SecurityGroupId) -> Result<Vec<Rule>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM security_group_rules WHERE security_group = ?1 ORDER BY created_at, rowid",
    )?;
    let rows = query.query_map([group.as_str()], rule_from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The rules of all groups of an account, oldest first.
pub fn rules_of_account(tx: &Tx, account: &AccountId) -> Result<Vec<Rule>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT security_group_rules.* FROM security_group_rules \
         JOIN security_groups ON security_groups.id = security_group \
         WHERE account = ?1 ORDER BY security_group_rules.created_at, security_group_rules.rowid",
    )?;
    let rows = query.query_map([account.as_str()], rule_from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes a rule.
pub fn delete_rule(tx: &Tx, id: &SecurityGroupRuleId) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM security_group_rules WHERE id = ?1")?
        .execute([id.as_str()])?;
    super::tags::delete_all(tx, id.as_str())
}

/// Another group with a rule that names this one.
pub fn find_referrer(tx: &Tx, id: &SecurityGroupId) -> Result<Option<SecurityGroupId>, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT security_group FROM security_group_rules \
             WHERE peer_group = ?1 AND security_group <> ?1 LIMIT 1",
        )?
        .query_row([id.as_str()], |row| parsed(row, "security_group"))
        .optional()?)
}

/// The groups of every interface of an account.
pub fn by_interface(
    tx: &Tx,
    account: &AccountId,
) -> Result<HashMap<NetworkInterfaceId, Vec<SecurityGroupId>>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT interface, security_group FROM interface_groups \
         JOIN interfaces ON interfaces.id = interface WHERE account = ?1 ORDER BY security_group",
    )?;
    let mut rows = query.query([account.as_str()])?;
    let mut groups: HashMap<NetworkInterfaceId, Vec<SecurityGroupId>> = HashMap::new();
    while let Some(row) = rows.next()? {
        groups
            .entry(parsed(row, "interface")?)
            .or_default()
            .push(parsed(row, "security_group")?);
    }
    Ok(groups)
}
