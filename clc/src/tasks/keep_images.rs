//! Copies of images get parts of their own; a deregistered image goes when nothing needs it.
//!
//! A copy's parts lie in a bucket of the cloud's own account that is named by the copy's id: nobody
//! can have taken that name, and nobody but the cloud can delete in it. Making and removing them may
//! be cut off anywhere and done again.

use std::{sync::Arc, time::Duration};

use control::{
    CallError, Code, Objects,
    objects::{DropObjects, LinkObjects},
};
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use image::manifest::Manifest;
use types::{ImageId, Timestamp};

use super::{call, millis};
use crate::{
    Clc,
    rows::images::{self, Image},
};

/// Objects in one call: Walrus links some thousand in a second.
const LINK_MAX: usize = 1_000;

/// See the module.
pub struct KeepImages {
    clc: Arc<Clc>,
    /// Since when we have been here: what our own absence took is nobody's delay.
    since: Timestamp,
}

impl KeepImages {
    /// Counts from now on.
    pub fn new(clc: Arc<Clc>) -> Self {
        let since = clc.now();
        Self { clc, since }
    }
}

impl Reconcile for KeepImages {
    const NAME: &'static str = "keep_images";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        let db = &self.clc.db;
        let (pending, unused) = db
            .read(|tx| Ok::<_, store::Error>((images::list_pending(tx)?, images::list_unused(tx)?)))
            .await?;
        for copy in pending {
            self.make(copy, &mut summary).await?;
        }
        for image in unused {
            forget(&self.clc, image, &mut summary).await?;
        }
        Ok(summary)
    }
}

impl KeepImages {
    async fn make(&self, copy: Image, summary: &mut Summary) -> Result<(), BoxError> {
        let (id, db) = (copy.id.clone(), &self.clc.db);
        let Err(error) = copied(&self.clc, &id).await else {
            summary.count("copied", 1);
            let bucket = bucket(&id);
            return Ok(db
                .write(move |tx| images::set_copied(tx, &id, &bucket))
                .await?);
        };
        // What was to be copied is gone, or is somebody's who took it away: that does not pass.
        if !error.code.may_pass() || self.is_overdue(&copy) {
            summary.count("refused", 1);
            let why = format!("The bundle cannot be copied: {}", error.message);
            db.write(move |tx| images::set_copy_failed(tx, &id, &why))
                .await?;
            return Ok(());
        }
        summary.count("failed", 1);
        tracing::warn!(image = %id, %error, "an image is not copied yet");
        let why = format!("The bundle is not copied yet: {}", error.message);
        if copy.copy_failure.as_ref() != Some(&why) {
            db.write(move |tx| images::set_copy_waits(tx, &id, &why))
                .await?;
        }
        Ok(())
    }

    fn is_overdue(&self, copy: &Image) -> bool {
        let limit = millis(self.clc.config.limits.image_copy_s);
        copy.created_at.max(self.since).plus_millis(limit) <= self.clc.now()
    }
}

async fn copied(clc: &Clc, id: &ImageId) -> Result<(), CallError> {
    let objects = clc
        .peers
        .objects()
        .ok_or_else(|| CallError::new(Code::NotReady, "no object store has joined the cloud"))?;
    let asked = id.clone();
    let kept = clc.db.read(move |tx| images::manifest(tx, &asked)).await;
    let kept = kept
        .map_err(|error: store::Error| CallError::internal(&error))?
        .ok_or_else(|| CallError::not_found(format_args!("the manifest of {id}")))?;
    link(&*objects, id, &kept).await
}

async fn link(
    objects: &dyn Objects,
    id: &ImageId,
    kept: &images::Manifest,
) -> Result<(), CallError> {
    let manifest = Manifest::parse(&kept.bytes)
        .map_err(|error| CallError::new(Code::Invalid, error.to_string()))?;
    let names: Vec<String> = manifest
        .parts
        .into_iter()
        .map(|part| part.file_name)
        .collect();
    for names in names.chunks(LINK_MAX) {
        let ask = LinkObjects {
            from_bucket: kept.bucket.clone(),
            from_prefix: kept.prefix.clone(),
            names: names.to_vec(),
            to_bucket: bucket(id),
        };
        objects.link_objects(&call("keep_images"), ask).await?;
    }
    Ok(())
}

async fn forget(clc: &Clc, image: Image, summary: &mut Summary) -> Result<(), BoxError> {
    if image.copied_from.is_some() {
        let Some(objects) = clc.peers.objects() else {
            return Ok(());
        };
        let ask = DropObjects {
            bucket: bucket(&image.id),
        };
        if let Err(error) = objects.drop_objects(&call("keep_images"), ask).await {
            summary.count("failed", 1);
            tracing::warn!(image = %image.id, %error, "the parts of a copy are not removed yet");
            return Ok(());
        }
    }
    let id = image.id;
    let is_gone = clc.db.write(move |tx| images::forget(tx, &id)).await?;
    summary.count("forgotten", u64::from(is_gone));
    Ok(())
}

/// The bucket of a copy's parts.
fn bucket(id: &ImageId) -> String {
    id.to_string()
}
