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
use types::ImageId;

use super::call;
use crate::{
    Clc,
    rows::images::{self, Image},
};

/// Objects in one call: Walrus links some thousand in a second.
const LINK_MAX: usize = 1_000;

/// See the module.
pub struct KeepImages(pub Arc<Clc>);

impl Reconcile for KeepImages {
    const NAME: &'static str = "keep_images";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        let db = &self.0.db;
        let (pending, unused) = db
            .read(|tx| Ok::<_, store::Error>((images::list_pending(tx)?, images::list_unused(tx)?)))
            .await?;
        for copy in &pending {
            make(&self.0, &copy.id, &mut summary).await?;
        }
        for image in unused {
            forget(&self.0, image, &mut summary).await?;
        }
        Ok(summary)
    }
}

async fn make(clc: &Clc, id: &ImageId, summary: &mut Summary) -> Result<(), BoxError> {
    let Some(objects) = clc.peers.objects() else {
        return Ok(());
    };
    let asked = id.clone();
    let kept = clc.db.read(move |tx| images::manifest(tx, &asked)).await?;
    let Some(kept) = kept else { return Ok(()) };
    let made = link(&*objects, id, &kept).await;

    let (id, bucket) = (id.clone(), bucket(id));
    match made {
        Ok(()) => {
            summary.count("copied", 1);
            clc.db
                .write(move |tx| images::set_copied(tx, &id, &bucket))
                .await?;
        }
        // What was to be copied is gone, or is somebody's who took it away: that is final.
        Err(error) if matches!(error.code, Code::NotFound | Code::Forbidden | Code::Invalid) => {
            summary.count("refused", 1);
            let why = format!("The bundle cannot be copied: {}", error.message);
            clc.db
                .write(move |tx| images::set_copy_failed(tx, &id, &why))
                .await?;
        }
        Err(error) => {
            summary.count("failed", 1);
            tracing::warn!(image = %id, %error, "an image is not copied yet");
        }
    }
    Ok(())
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
