//! Images, and the manifests that they were made of.

use rusqlite::{OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};
use store::{Error, Tx};
use types::{AccountId, ImageId, ImageKind, ImageState, Timestamp};

use super::{parsed, parsed_or_null, unreadable, word};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Whose it is.
    pub account: AccountId,
    /// Machine, kernel or ramdisk.
    pub kind: ImageKind,
    /// Available, or deregistered and kept for its instances; of a copy, how far it is.
    pub state: ImageState,
    /// Its name, unique among the account's images that are not deregistered.
    pub name: String,
    /// What its maker said of it.
    pub description: Option<String>,
    /// `x86_64`.
    pub architecture: String,
    /// `windows`, or nothing.
    pub platform: Option<String>,
    /// Where its manifest is, as it was given.
    pub location: String,
    /// The kernel that it boots with, where it is no whole disk.
    pub kernel: Option<ImageId>,
    /// The ramdisk beside the kernel.
    pub ramdisk: Option<ImageId>,
    /// The name of its root device, as it was given.
    pub root_device: Option<String>,
    /// The size of the plain image.
    pub size_bytes: u64,
    /// SHA-256 of its manifest in hex: what names its content in a cache.
    pub manifest_sha256: String,
    /// Whether anyone may launch it.
    pub is_public: bool,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Its product codes.
    pub product_codes: Vec<String>,
    /// The disks that its maker expects beside the root.
    pub devices: Vec<Device>,
    /// When others cease to find it in their lists.
    pub deprecated_at: Option<Timestamp>,
    /// The image that it is a copy of; its parts are then the cloud's own.
    pub copied_from: Option<ImageId>,
    /// Why the copy could not be made, or is not made yet.
    pub copy_failure: Option<String>,
}

/// A disk under two names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `/dev/sdb`.
    pub device: String,
    /// `ephemeral0`, `swap`.
    pub virtual_name: String,
}

/// What an image was made of: enough to write a node's ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The bucket of manifest and parts.
    pub bucket: String,
    /// What stands before a part's file name in its key; empty, or ends in a slash.
    pub prefix: String,
    /// The manifest, byte for byte.
    pub bytes: Vec<u8>,
    /// The sizes of the parts in their order, as Walrus told them.
    pub part_sizes: Vec<u64>,
}

impl Manifest {
    /// The keys of the parts, in their order.
    pub fn keys(&self, manifest: &image::manifest::Manifest) -> Vec<String> {
        let key = |part: &image::manifest::Part| format!("{}{}", self.prefix, part.file_name);
        manifest.parts.iter().map(key).collect()
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        kind: word(row, "kind", ImageKind::from_word)?,
        state: state(row)?,
        name: row.get("name")?,
        description: row.get("description")?,
        architecture: row.get("architecture")?,
        platform: row.get("platform")?,
        location: row.get("location")?,
        kernel: parsed_or_null(row, "kernel")?,
        ramdisk: parsed_or_null(row, "ramdisk")?,
        root_device: row.get("root_device")?,
        size_bytes: row.get("size_bytes")?,
        manifest_sha256: row.get("manifest_sha256")?,
        is_public: row.get("is_public")?,
        created_at: Timestamp(row.get("created_at")?),
        product_codes: json(row, "product_codes")?,
        devices: json(row, "devices")?,
        deprecated_at: row.get::<_, Option<i64>>("deprecated_at")?.map(Timestamp),
        copied_from: parsed_or_null(row, "copied_from")?,
        copy_failure: row.get("copy_failure")?,
    })
}

/// Of an image in use, a copy's state is the image's.
fn state(row: &Row<'_>) -> rusqlite::Result<ImageState> {
    let state = word(row, "state", ImageState::from_word)?;
    match row.get_ref("copy_state")?.as_str_or_null()? {
        Some(_) if state == ImageState::Available => word(row, "copy_state", ImageState::from_word),
        _ => Ok(state),
    }
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(row, column, error))
}

fn to_json(plain: &impl Serialize) -> String {
    serde_json::to_string(plain).expect("plain data is JSON")
}

/// Adds an image with its manifest; a constraint refuses a second one of that name in use. An image
/// that is pending is a copy.
pub fn insert(tx: &Tx, image: &Image, manifest: &Manifest) -> Result<(), Error> {
    let is_copy = image.copied_from.is_some();
    tx.prepare_cached(
        "INSERT INTO images (id, account, kind, state, name, description, architecture, platform, location, \
         kernel, ramdisk, root_device, size_bytes, manifest_sha256, is_public, created_at, \
         product_codes, devices, deprecated_at, copied_from, copy_state) \
         VALUES (:id, :account, :kind, 'available', :name, :description, :architecture, :platform, :location, \
         :kernel, :ramdisk, :root_device, :size_bytes, :manifest_sha256, :is_public, :created_at, \
         :product_codes, :devices, :deprecated_at, :copied_from, :copy_state)",
    )?
    .execute(named_params! {
        ":id": image.id.as_str(),
        ":account": image.account.as_str(),
        ":kind": image.kind.as_str(),
        ":name": image.name,
        ":description": image.description,
        ":architecture": image.architecture,
        ":platform": image.platform,
        ":location": image.location,
        ":kernel": image.kernel.as_ref().map(ImageId::as_str),
        ":ramdisk": image.ramdisk.as_ref().map(ImageId::as_str),
        ":root_device": image.root_device,
        ":size_bytes": image.size_bytes,
        ":manifest_sha256": image.manifest_sha256,
        ":is_public": image.is_public,
        ":created_at": image.created_at.as_millis(),
        ":product_codes": to_json(&image.product_codes),
        ":devices": to_json(&image.devices),
        ":deprecated_at": image.deprecated_at.map(Timestamp::as_millis),
        ":copied_from": image.copied_from.as_ref().map(ImageId::as_str),
        ":copy_state": is_copy.then_some(image.state.as_str()),
    })?;
    tx.prepare_cached(
        "INSERT INTO image_manifests (image, bucket, prefix, manifest, part_sizes) \
         VALUES (:image, :bucket, :prefix, :manifest, :part_sizes)",
    )?
    .execute(named_params! {
        ":image": image.id.as_str(),
        ":bucket": manifest.bucket,
        ":prefix": manifest.prefix,
        ":manifest": manifest.bytes,
        ":part_sizes": to_json(&manifest.part_sizes),
    })?;
    Ok(())
}

/// The image of that id, whosever it is and whatever its state.
pub fn find(tx: &Tx, id: &ImageId) -> Result<Option<Image>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM images WHERE id = ?1")?
        .query_row([id.as_str()], from_row)
        .optional()?)
}

/// The manifest of an image.
pub fn manifest(tx: &Tx, id: &ImageId) -> Result<Option<Manifest>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM image_manifests WHERE image = ?1")?
        .query_row([id.as_str()], |row| {
            Ok(Manifest {
                bucket: row.get("bucket")?,
                prefix: row.get("prefix")?,
                bytes: row.get("manifest")?,
                part_sizes: json(row, "part_sizes")?,
            })
        })
        .optional()?)
}

fn list(tx: &Tx, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Image>, Error> {
    let mut query = tx.prepare_cached(sql)?;
    let rows = query.query_map(parameters, from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The images in use that the account owns or may launch, oldest first.
pub fn list_visible(tx: &Tx, account: &AccountId) -> Result<Vec<Image>, Error> {
    let sql = "SELECT * FROM images WHERE state = 'available' AND (account = ?1 OR is_public \
               OR id IN (SELECT image FROM image_launch_permissions WHERE account = ?1)) \
               ORDER BY created_at, id";
    list(tx, sql, [account.as_str()])
}

/// All images in use, oldest first.
pub fn list_all(tx: &Tx) -> Result<Vec<Image>, Error> {
    let sql = "SELECT * FROM images WHERE state = 'available' ORDER BY created_at, id";
    list(tx, sql, [])
}

/// How many images of an account are in use.
pub fn count(tx: &Tx, account: &AccountId) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM images WHERE account = ?1 AND state = 'available'";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([account.as_str()], |row| row.get(0))?)
}

/// Whether the account has an image of that name in use.
pub fn has_name(tx: &Tx, account: &AccountId, name: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM images WHERE account = ?1 AND name = ?2 AND state = 'available'";
    Ok(tx.prepare_cached(sql)?.exists([account.as_str(), name])?)
}

/// Takes an image out of use.
pub fn deregister(tx: &Tx, id: &ImageId) -> Result<(), Error> {
    tx.prepare_cached("UPDATE images SET state = 'deregistered' WHERE id = ?1")?
        .execute([id.as_str()])?;
    super::tags::delete_all(tx, id.as_str())
}

/// Says something else of an image.
pub fn set_description(tx: &Tx, id: &ImageId, description: Option<&str>) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET description = ?2 WHERE id = ?1")?
        .execute((id.as_str(), description))?;
    store::changed_one(rows, id)
}

/// Gives an image other product codes.
pub fn set_product_codes(tx: &Tx, id: &ImageId, codes: &[String]) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET product_codes = ?2 WHERE id = ?1")?
        .execute((id.as_str(), to_json(&codes)))?;
    store::changed_one(rows, id)
}

/// Says when others cease to find an image in their lists; nothing: they do not.
pub fn set_deprecated_at(tx: &Tx, id: &ImageId, at: Option<Timestamp>) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET deprecated_at = ?2 WHERE id = ?1")?
        .execute((id.as_str(), at.map(Timestamp::as_millis)))?;
    store::changed_one(rows, id)
}

/// Copies that are yet to be made, with what they are made of.
pub fn list_pending(tx: &Tx) -> Result<Vec<Image>, Error> {
    let sql =
        "SELECT * FROM images WHERE copy_state = 'pending' AND state = 'available' ORDER BY id";
    list(tx, sql, [])
}

/// A copy's parts are there, in that bucket.
pub fn set_copied(tx: &Tx, id: &ImageId, bucket: &str) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE images SET copy_state = 'available', copy_failure = NULL WHERE id = ?1",
    )?
    .execute([id.as_str()])?;
    let rows = tx
        .prepare_cached("UPDATE image_manifests SET bucket = ?2, prefix = '' WHERE image = ?1")?
        .execute([id.as_str(), bucket])?;
    store::changed_one(rows, id)
}

/// A copy is not made yet, and why.
pub fn set_copy_waits(tx: &Tx, id: &ImageId, why: &str) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET copy_failure = ?2 WHERE id = ?1")?
        .execute([id.as_str(), why])?;
    store::changed_one(rows, id)
}

/// A copy cannot be made.
pub fn set_copy_failed(tx: &Tx, id: &ImageId, why: &str) -> Result<(), Error> {
    let rows = tx
        .prepare_cached("UPDATE images SET copy_state = 'failed', copy_failure = ?2 WHERE id = ?1")?
        .execute([id.as_str(), why])?;
    store::changed_one(rows, id)
}

/// The condition on a deregistered image that nothing needs it any more: no instance that boots or
/// booted with it is remembered, and nothing is being copied from it.
const UNUSED: &str = "state = 'deregistered' \
    AND NOT EXISTS (SELECT 1 FROM instances WHERE image = images.id) \
    AND NOT EXISTS (SELECT 1 FROM instances WHERE kernel = images.id) \
    AND NOT EXISTS (SELECT 1 FROM instances WHERE ramdisk = images.id) \
    AND NOT EXISTS (SELECT 1 FROM images AS copy \
        WHERE copy.copied_from = images.id AND copy.copy_state = 'pending' AND copy.state = 'available')";

/// Deregistered images that nothing needs any more.
pub fn list_unused(tx: &Tx) -> Result<Vec<Image>, Error> {
    list(
        tx,
        &format!("SELECT * FROM images WHERE {UNUSED} ORDER BY id"),
        [],
    )
}

/// Forgets a deregistered image, its manifest and permissions, if nothing needs it; says whether.
pub fn forget(tx: &Tx, id: &ImageId) -> Result<bool, Error> {
    let sql = format!("DELETE FROM images WHERE id = ?1 AND {UNUSED}");
    Ok(tx.prepare_cached(&sql)?.execute([id.as_str()])? > 0)
}
