//! CopyImage: another image of the same content. Within one region that is a matter of names, and
//! yet a copy must not break when the bundle that it was made of is deleted: it gets parts of its
//! own, in a bucket of the cloud's. Walrus links them, so no byte is copied. The image is pending
//! until [`keep_images`](crate::tasks::keep_images) has had that done.

use ec2::{
    Code,
    images::{CopyImage, RegisterImageOutput},
};
use image::manifest::Manifest;
use types::{ImageId, ImageState};

use super::{
    Row,
    bundle::{bad_manifest, part_sizes},
    launchable, may_be_added,
};
use crate::{
    Caller, Clc,
    api::{
        change,
        errors::{Error, Result},
        idempotency::Token,
        naming,
        tags::{self, Tags},
    },
    rows,
};

/// Copies an image that the caller may launch, and whose bundle it may read.
pub async fn copy_image(clc: &Clc, caller: &Caller, ask: CopyImage) -> Result<RegisterImageOutput> {
    let mut tags = checked(clc, &ask)?;
    let token = Token::of("CopyImage", ask.client_token.as_deref(), &ask)?;
    let (by, source_id, first) = (caller.clone(), ask.source_image_id.clone(), token.clone());
    let found = clc
        .db
        .read(move |tx| {
            if let Some(made) = first
                .map(|token| token.find(tx, &by))
                .transpose()?
                .flatten()
            {
                return Ok(Err(made.parse::<ImageId>().map_err(ec2::Error::from)?));
            }
            let source = launchable(tx, &by, &source_id)?;
            let kept = rows::images::manifest(tx, &source_id)?
                .ok_or_else(|| ec2::Error::internal("an image without a manifest"))?;
            let own_tags = match source.account == *by.account() {
                true => rows::tags::of(tx, source_id.as_str())?,
                false => Vec::new(),
            };
            Ok::<_, Error>(Ok((source, kept, own_tags)))
        })
        .await?;
    let (source, kept, own_tags) = match found {
        Ok(found) => found,
        Err(image_id) => return Ok(RegisterImageOutput { image_id }),
    };
    may_read(clc, caller, &source, &kept).await?;
    if ask.copy_image_tags == Some(true) {
        tags = merged(own_tags, tags);
    }

    let copy = row(clc, caller, &ask, source);
    let (by, now) = (caller.clone(), clc.now());
    let image_id = change(clc, caller, move |tx| {
        if let Some(made) = token
            .as_ref()
            .map(|token| token.find(tx, &by))
            .transpose()?
            .flatten()
        {
            return Ok(made.parse().map_err(ec2::Error::from)?);
        }
        // Looked up again: it may have gone meanwhile.
        launchable(tx, &by, &ask.source_image_id)?;
        may_be_added(tx, &copy.account, &copy.name)?;
        rows::images::insert(tx, &copy, &kept)?;
        tags::put_all(tx, &by, copy.id.as_str(), "image", &tags)?;
        if let Some(token) = &token {
            token.record(tx, &by, copy.id.as_str(), now)?;
        }
        Ok(copy.id)
    })
    .await?;
    clc.wakes.images.wake();
    Ok(RegisterImageOutput { image_id })
}

/// Checks a request by itself; gives the tags that it asks for.
fn checked(clc: &Clc, ask: &CopyImage) -> Result<Tags> {
    if ask.source_region != clc.region.as_str() {
        let reason = format!("This cloud has one region, {}", clc.region);
        let shown = ask.source_region.escape_debug();
        return Err(ec2::Error::invalid("SourceRegion", shown, &reason).into());
    }
    let elsewhere =
        ask.destination_outpost_arn.is_some() || ask.destination_availability_zone.is_some();
    if elsewhere || ask.encrypted == Some(true) || ask.kms_key_id.is_some() {
        let message =
            "Images are copied within the region, and as they are: bundles are encrypted already";
        return Err(Error::new(Code::UnsupportedOperation, message));
    }
    for (parameter, text) in [("Name", &ask.name), ("Description", &ask.description)] {
        if let Some(text) = text {
            naming::printable(parameter, text)?;
        }
    }
    tags::of_new(&ask.tag_specifications, "image")
}

/// As in EC2, who may launch an image may not copy it, unless its bundle may be read too. The parts
/// of a copy are the cloud's: they may be copied by the copy's owner.
async fn may_read(
    clc: &Clc,
    caller: &Caller,
    source: &Row,
    kept: &rows::images::Manifest,
) -> Result<()> {
    if source.copied_from.is_some() {
        if source.account == *caller.account() {
            return Ok(());
        }
        let message = "You do not have permission to access the storage of this image";
        return Err(Error::new(Code::AuthFailure, message));
    }
    let manifest = Manifest::parse(&kept.bytes).map_err(|error| bad_manifest(error.to_string()))?;
    part_sizes(clc, caller, kept, &manifest).await.map(drop)
}

/// The tags that are asked for stand over those that the source has.
fn merged(of_source: Tags, asked: Tags) -> Tags {
    let is_new = |key: &String| !asked.iter().any(|(other, _)| other == key);
    let mut tags: Tags = of_source
        .into_iter()
        .filter(|(key, _)| is_new(key))
        .collect();
    tags.extend(asked);
    tags
}

/// The copy: the source, but for whose it is and what is said of it.
fn row(clc: &Clc, caller: &Caller, ask: &CopyImage, source: Row) -> Row {
    Row {
        id: clc.mint(|rng| ImageId::mint(source.kind, rng)),
        account: caller.account().clone(),
        state: ImageState::Pending,
        name: ask.name.clone().unwrap_or(source.name),
        description: ask.description.clone().or(source.description),
        is_public: false,
        created_at: clc.now(),
        deprecated_at: None,
        copied_from: Some(source.id),
        copy_failure: None,
        ..source
    }
}
