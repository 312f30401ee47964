//! What may change of an instance while it lives.

use rusqlite::params;
use store::{Error, Tx};
use types::{InstanceId, NetworkInterfaceId, SecurityGroupId};

/// Whether TerminateInstances is refused.
pub fn set_termination_off(tx: &Tx, id: &InstanceId, is_off: bool) -> Result<(), Error> {
    tx.prepare_cached("UPDATE instances SET api_termination_off = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), is_off])?;
    Ok(())
}

/// `stop` or `terminate`, when the guest shuts itself down.
pub fn set_shutdown_behavior(tx: &Tx, id: &InstanceId, behavior: &str) -> Result<(), Error> {
    tx.prepare_cached("UPDATE instances SET shutdown_behavior = ?2 WHERE id = ?1")?
        .execute([id.as_str(), behavior])?;
    Ok(())
}

/// The groups of an interface, instead of those that it has. The caller grows the network's version.
pub fn set_groups(
    tx: &Tx,
    interface: &NetworkInterfaceId,
    groups: &[SecurityGroupId],
) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM interface_groups WHERE interface = ?1")?
        .execute([interface.as_str()])?;
    let sql = "INSERT INTO interface_groups (interface, security_group) VALUES (?1, ?2)";
    for group in groups {
        tx.prepare_cached(sql)?
            .execute([interface.as_str(), group.as_str()])?;
    }
    Ok(())
}
