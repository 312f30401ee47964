//! Who besides its owner may launch an image.

use rusqlite::params;
use store::{Error, Tx};
use types::{AccountId, ImageId};

/// The accounts that may, in order.
pub fn of(tx: &Tx, image: &ImageId) -> Result<Vec<AccountId>, Error> {
    let sql = "SELECT account FROM image_launch_permissions WHERE image = ?1 ORDER BY account";
    let mut query = tx.prepare_cached(sql)?;
    let rows = query.query_map([image.as_str()], |row| super::parsed(row, "account"))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether that account may.
pub fn has(tx: &Tx, image: &ImageId, account: &AccountId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM image_launch_permissions WHERE image = ?1 AND account = ?2";
    Ok(tx
        .prepare_cached(sql)?
        .exists([image.as_str(), account.as_str()])?)
}

/// Images and accounts that may launch them: of the images that an account owns, and of those that
/// it may launch itself.
pub fn known_to(tx: &Tx, account: &AccountId) -> Result<Vec<(ImageId, AccountId)>, Error> {
    let sql = "SELECT image, account FROM image_launch_permissions WHERE account = ?1 \
               UNION SELECT p.image, p.account FROM image_launch_permissions AS p \
               JOIN images ON images.id = p.image WHERE images.account = ?1";
    let mut query = tx.prepare_cached(sql)?;
    let rows = query.query_map([account.as_str()], |row| {
        Ok((super::parsed(row, "image")?, super::parsed(row, "account")?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Lets an account launch an image.
pub fn add(tx: &Tx, image: &ImageId, account: &AccountId) -> Result<(), Error> {
    let sql = "INSERT INTO image_launch_permissions (image, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    tx.prepare_cached(sql)?
        .execute([image.as_str(), account.as_str()])?;
    Ok(())
}

/// Lets it no longer.
pub fn remove(tx: &Tx, image: &ImageId, account: &AccountId) -> Result<(), Error> {
    let sql = "DELETE FROM image_launch_permissions WHERE image = ?1 AND account = ?2";
    tx.prepare_cached(sql)?
        .execute([image.as_str(), account.as_str()])?;
    Ok(())
}

/// Lets everyone launch it, or only its owner and those who are named.
pub fn set_public(tx: &Tx, image: &ImageId, is_public: bool) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET is_public = ?2 WHERE id = ?1")?
        .execute(params![image.as_str(), is_public])?;
    store::changed_one(rows, image)
}

/// Leaves an image to its owner alone.
pub fn reset(tx: &Tx, image: &ImageId) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM image_launch_permissions WHERE image = ?1")?
        .execute([image.as_str()])?;
    set_public(tx, image, false)
}
