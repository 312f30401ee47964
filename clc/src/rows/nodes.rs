//! Nodes that have joined, and the roster that their zone's CC is told.

use std::net::{Ipv4Addr, SocketAddr};

use rusqlite::{OptionalExtension, Row};
use store::{Error, Tx};
use types::{NodeId, Timestamp, Zone};

use super::{parsed, parsed_or_null};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub id: NodeId,
    /// Its zone.
    pub zone: Zone,
    /// Where it serves its CC.
    pub address: SocketAddr,
    /// Its host's name.
    pub hostname: String,
    /// Its address for vxlan, once it has said so.
    pub underlay: Option<Ipv4Addr>,
    /// Whether the administrator has declared it dead.
    pub dead: bool,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<NodeRow> {
    Ok(NodeRow {
        id: parsed(row, "id")?,
        zone: parsed(row, "zone")?,
        address: parsed(row, "address")?,
        hostname: row.get("hostname")?,
        underlay: parsed_or_null(row, "underlay")?,
        dead: row.get("dead")?,
    })
}

/// All nodes, in the order of their ids.
pub fn list(tx: &Tx) -> Result<Vec<NodeRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM nodes ORDER BY id")?;
    let rows = found.query_map([], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The nodes of a zone, in the order of their ids.
pub fn of_zone(tx: &Tx, zone: &Zone) -> Result<Vec<NodeRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM nodes WHERE zone = ?1 ORDER BY id")?;
    let rows = found.query_map([zone.as_str()], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a node; its zone's roster grows by a generation, and no guest may reach it.
pub fn insert(tx: &Tx, node: &NodeRow, now: Timestamp) -> Result<(), Error> {
    let sql =
        "INSERT INTO nodes (id, zone, address, hostname, joined_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let address = node.address.to_string();
    tx.execute(
        sql,
        (
            node.id.as_str(),
            node.zone.as_str(),
            address,
            &node.hostname,
            now.0,
        ),
    )?;
    super::network::bump_all(tx)?;
    bump_roster(tx, &node.zone)
}

/// Notes that a node has moved. Whether anything changed.
pub fn move_to(tx: &Tx, node: &NodeId, zone: &Zone, address: SocketAddr) -> Result<bool, Error> {
    let sql = "UPDATE nodes SET address = ?2 WHERE id = ?1 AND address <> ?2";
    let changed = tx.execute(sql, (node.as_str(), address.to_string()))? > 0;
    if changed {
        super::network::bump_all(tx)?;
        bump_roster(tx, zone)?;
    }
    Ok(changed)
}

/// Notes a node's address for vxlan. Whether it is new: then all networks change, its zone's by a
/// peer, and the others' by an address that guests do not reach.
pub fn set_underlay(tx: &Tx, node: &NodeId, underlay: Ipv4Addr) -> Result<bool, Error> {
    let sql = "UPDATE nodes SET underlay = ?2 WHERE id = ?1 AND underlay IS NOT ?2";
    let changed = tx.execute(sql, (node.as_str(), underlay.to_string()))? > 0;
    if changed {
        super::network::bump_all(tx)?;
    }
    Ok(changed)
}

/// The generation of a zone's roster.
pub fn roster_generation(tx: &Tx, zone: &Zone) -> Result<u64, Error> {
    let sql = "SELECT roster_generation FROM zones WHERE name = ?1";
    Ok(tx.query_row(sql, [zone.as_str()], |row| row.get(0))?)
}

fn bump_roster(tx: &Tx, zone: &Zone) -> Result<(), Error> {
    let sql = "UPDATE zones SET roster_generation = roster_generation + 1 WHERE name = ?1";
    tx.execute(sql, [zone.as_str()])?;
    Ok(())
}

/// A node.
pub fn find(tx: &Tx, node: &NodeId) -> Result<Option<NodeRow>, Error> {
    Ok(tx
        .query_row(
            "SELECT * FROM nodes WHERE id = ?1",
            [node.as_str()],
            from_row,
        )
        .optional()?)
}

/// Notes that a node is dead, or after all not: roster and network follow. Whether there is one.
pub fn declare_dead(tx: &Tx, node: &NodeId, dead: bool) -> Result<bool, Error> {
    let Some(row) = find(tx, node)? else {
        return Ok(false);
    };
    if row.dead != dead {
        tx.execute(
            "UPDATE nodes SET dead = ?2 WHERE id = ?1",
            (node.as_str(), dead),
        )?;
        bump_roster(tx, &row.zone)?;
        super::network::bump(tx, &row.zone)?;
    }
    Ok(true)
}
