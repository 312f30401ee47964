//! Images, and the manifests that they were made of.

use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{AccountId, ImageId, ImageKind, ImageState, Timestamp};

use super::{parsed, parsed_or_null, word};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Whose it is.
    pub account: AccountId,
    /// Machine, kernel or ramdisk.
    pub kind: ImageKind,
    /// Available, or deregistered and kept for its instances.
    pub state: ImageState,
    /// Its name, unique among the account's available images.
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

fn from_row(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        kind: word(row, "kind", ImageKind::from_word)?,
        state: word(row, "state", ImageState::from_word)?,
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
    })
}

/// Adds an image with its manifest; a constraint refuses a second available one of that name.
pub fn insert(tx: &Tx, image: &Image, manifest: &Manifest) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO images (id, account, kind, state, name, description, architecture, platform, location, \
         kernel, ramdisk, root_device, size_bytes, manifest_sha256, is_public, created_at) \
         VALUES (:id, :account, :kind, :state, :name, :description, :architecture, :platform, :location, \
         :kernel, :ramdisk, :root_device, :size_bytes, :manifest_sha256, :is_public, :created_at)",
    )?
    .execute(named_params! {
        ":id": image.id.as_str(),
        ":account": image.account.as_str(),
        ":kind": image.kind.as_str(),
        ":state": image.state.as_str(),
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
    })?;
    let part_sizes = serde_json::to_string(&manifest.part_sizes).expect("numbers are JSON");
    tx.prepare_cached(
        "INSERT INTO image_manifests (image, bucket, prefix, manifest, part_sizes) \
         VALUES (:image, :bucket, :prefix, :manifest, :part_sizes)",
    )?
    .execute(named_params! {
        ":image": image.id.as_str(),
        ":bucket": manifest.bucket,
        ":prefix": manifest.prefix,
        ":manifest": manifest.bytes,
        ":part_sizes": part_sizes,
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
            let sizes: String = row.get("part_sizes")?;
            let part_sizes = serde_json::from_str(&sizes)
                .map_err(|error| super::unreadable(row, "part_sizes", error))?;
            Ok(Manifest {
                bucket: row.get("bucket")?,
                prefix: row.get("prefix")?,
                bytes: row.get("manifest")?,
                part_sizes,
            })
        })
        .optional()?)
}

/// The available images that the account owns or anyone may launch, oldest first.
pub fn list_visible(tx: &Tx, account: &AccountId) -> Result<Vec<Image>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM images WHERE state = 'available' AND (account = ?1 OR is_public) ORDER BY created_at, id",
    )?;
    let rows = query.query_map([account.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Takes an image out of use.
pub fn deregister(tx: &Tx, id: &ImageId) -> Result<(), Error> {
    tx.prepare_cached("UPDATE images SET state = 'deregistered' WHERE id = ?1")?
        .execute([id.as_str()])?;
    super::tags::delete_all(tx, id.as_str())
}
