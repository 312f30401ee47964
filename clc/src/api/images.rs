//! Images: registered from a bundle's manifest, listed, taken out of use.
//!
//! A manifest is a user's file. It is read as the caller, who must also be able to read every part;
//! our strict parser takes it or says what is wrong; and the cloud must hold the key that it was
//! bundled for. So an image that is registered can be launched, or its parts were touched since.

use base64::{Engine, engine::general_purpose::STANDARD};
use control::{
    CallError, Code as Peer,
    objects::{ObjectStats, Principal, ReadObject, StatObjects},
    rpc::Call,
};
use ec2::{
    Code, Done, Tag,
    images::{
        DeregisterImage, DescribeImages, DescribeImagesOutput, Image, RegisterImage,
        RegisterImageOutput,
    },
};
use image::manifest::{Kind, MAX_MANIFEST_BYTES, Manifest, PART_BYTES};
use sha2::{Digest, Sha256};
use store::Tx;
use types::{ImageId, ImageKind, ImageState};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
    paging::{Page, by_time},
    tags,
};
use crate::{Caller, Clc, rows, rows::images::Image as Row};

/// Asks in one StatObjects, below the message limit of the control protocol.
const STAT_MAX: usize = 10_000;
/// The word for images without a kernel or ramdisk of their own: the image is one itself.
const ITSELF: &str = "true";
/// The owner that means the caller.
const SELF: &str = "self";

/// Makes an image of the bundle at `bucket/key` of the manifest.
pub async fn register_image(
    clc: &Clc,
    caller: &Caller,
    ask: RegisterImage,
) -> Result<RegisterImageOutput> {
    let tags = tags::of_new(&ask.tag_specifications, "image")?;
    let (bucket, key) = location(&ask)?;
    for (parameter, text) in [("Name", &ask.name), ("Description", &ask.description)] {
        if let Some(text) = text {
            naming::printable(parameter, text)?;
        }
    }

    let bytes = read_manifest(clc, caller, &bucket, &key).await?;
    let manifest = Manifest::parse(&bytes).map_err(|error| bad_manifest(error.to_string()))?;
    if manifest.user != *caller.account() {
        let message = "The manifest was made for another account: its user is not the caller's account number";
        return Err(Error::new(Code::AuthFailure, message));
    }
    clc.image_key.unwrap(&manifest.cloud_key).map_err(|_| {
        bad_manifest(
            "the bundle was made for another cloud: get this one's certificate and bundle again",
        )
    })?;
    let prefix = key
        .rsplit_once('/')
        .map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let part_sizes = stat_parts(clc, caller, &bucket, &prefix, &manifest).await?;

    let kind = kind_of(&manifest, &ask)?;
    let row = Row {
        id: clc.mint(|rng| ImageId::mint(kind, rng)),
        account: caller.account().clone(),
        kind,
        state: ImageState::Available,
        // Old clients send no name; where it came from is as good as one.
        name: ask
            .name
            .clone()
            .unwrap_or_else(|| format!("{bucket}/{key}")),
        description: ask.description.clone(),
        architecture: ask
            .architecture
            .clone()
            .unwrap_or_else(|| manifest.architecture.as_str().to_owned()),
        platform: ask
            .platform
            .clone()
            .filter(|platform| platform.eq_ignore_ascii_case("windows")),
        location: format!("{bucket}/{key}"),
        kernel: companion(
            kind,
            ask.kernel_id.as_deref().or(manifest.kernel_id.as_deref()),
        )?,
        ramdisk: companion(
            kind,
            ask.ramdisk_id.as_deref().or(manifest.ramdisk_id.as_deref()),
        )?,
        root_device: ask.root_device_name.clone(),
        size_bytes: manifest.size_bytes,
        manifest_sha256: hex::encode(Sha256::digest(&bytes)),
        is_public: false,
        created_at: clc.now(),
    };
    let image_id = row.id.clone();
    let kept = rows::images::Manifest {
        bucket,
        prefix,
        bytes,
        part_sizes,
    };
    let by = caller.clone();
    change(clc, caller, move |tx| {
        for companion in [&row.kernel, &row.ramdisk].into_iter().flatten() {
            launchable(tx, &by, companion)?;
        }
        let has_name = |image: &Row| image.account == row.account && image.name == row.name;
        if rows::images::list_visible(tx, &row.account)?
            .iter()
            .any(has_name)
        {
            let message = format!("AMI name {} is already in use by another AMI", row.name);
            return Err(Error::new(Code::InvalidAmiNameDuplicate, message));
        }
        rows::images::insert(tx, &row, &kept)?;
        tags::put_all(tx, &by, row.id.as_str(), "image", &tags)
    })
    .await?;
    Ok(RegisterImageOutput { image_id })
}

/// Bucket and key of the manifest.
fn location(ask: &RegisterImage) -> Result<(String, String)> {
    let Some(location) = &ask.image_location else {
        if ask
            .block_device_mappings
            .iter()
            .any(|mapping| mapping.ebs.is_some())
        {
            let message =
                "Images of snapshots are not supported yet; register a bundle by its ImageLocation";
            return Err(Error::new(Code::UnsupportedOperation, message));
        }
        return Err(ec2::Error::missing("ImageLocation").into());
    };
    match location.trim_start_matches('/').split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok((bucket.to_owned(), key.to_owned()))
        }
        _ => Err(ec2::Error::invalid(
            "ImageLocation",
            location,
            "Expected BUCKET/NAME.manifest.xml",
        )
        .into()),
    }
}

fn bad_manifest(why: impl std::fmt::Display) -> Error {
    Error::new(
        Code::InvalidManifest,
        format!("The manifest cannot be used: {why}"),
    )
}

fn principal(caller: &Caller) -> Principal {
    Principal {
        account: caller.account().clone(),
        user: caller.user().to_owned(),
    }
}

fn objects(clc: &Clc) -> Result<std::sync::Arc<dyn control::Objects>> {
    clc.peers.objects().ok_or_else(|| {
        Error::new(
            Code::Unavailable,
            "The object store has not joined the cloud yet. Try again.",
        )
    })
}

async fn read_manifest(clc: &Clc, caller: &Caller, bucket: &str, key: &str) -> Result<Vec<u8>> {
    let ask = ReadObject {
        principal: principal(caller),
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        bytes_max: MAX_MANIFEST_BYTES as u64,
    };
    let call = Call::new(caller.request_id().as_str());
    let object = objects(clc)?
        .read_object(&call, ask)
        .await
        .map_err(|error| unreadable(bucket, key, error))?;
    STANDARD
        .decode(object.content)
        .map_err(|error| ec2::Error::internal(error).into())
}

/// As the caller would be told by S3.
fn unreadable(bucket: &str, key: &str, error: CallError) -> Error {
    match error.code {
        Peer::NotFound => bad_manifest(format_args!("{bucket}/{key} does not exist")),
        Peer::Forbidden => bad_manifest(format_args!("you may not read {bucket}/{key}")),
        Peer::Invalid => bad_manifest(format_args!("{bucket}/{key}: {}", error.message)),
        _ => error.into(),
    }
}

/// The sizes of all parts, each of which the caller must be able to read.
async fn stat_parts(
    clc: &Clc,
    caller: &Caller,
    bucket: &str,
    prefix: &str,
    manifest: &Manifest,
) -> Result<Vec<u64>> {
    let objects = objects(clc)?;
    let keys: Vec<String> = manifest
        .parts
        .iter()
        .map(|part| format!("{prefix}{}", part.file_name))
        .collect();
    let mut sizes = Vec::with_capacity(keys.len());
    for keys in keys.chunks(STAT_MAX) {
        let ask = StatObjects {
            principal: principal(caller),
            bucket: bucket.to_owned(),
            keys: keys.to_vec(),
        };
        let call = Call::new(caller.request_id().as_str());
        let ObjectStats { objects: stats } = objects.stat_objects(&call, ask).await?;
        for (key, stat) in keys.iter().zip(&stats) {
            let size = stat
                .size
                .as_ref()
                .map_err(|why| bad_manifest(format_args!("part {bucket}/{key}: {why}")))?;
            if *size > PART_BYTES {
                return Err(bad_manifest(format_args!(
                    "part {bucket}/{key} has more than {PART_BYTES} bytes"
                )));
            }
            sizes.push(*size);
        }
    }
    let sum: u64 = sizes.iter().sum();
    if sizes.len() != manifest.parts.len() || sum != manifest.bundled_bytes {
        let said = manifest.bundled_bytes;
        return Err(bad_manifest(format_args!(
            "it says {said} bytes of parts, and they have {sum}"
        )));
    }
    Ok(sizes)
}

/// The kind: the manifest says it, or a kernel or ramdisk that is `true`.
fn kind_of(manifest: &Manifest, ask: &RegisterImage) -> Result<ImageKind> {
    let is_kernel =
        ask.kernel_id.as_deref() == Some(ITSELF) || manifest.kernel_id.as_deref() == Some(ITSELF);
    let is_ramdisk =
        ask.ramdisk_id.as_deref() == Some(ITSELF) || manifest.ramdisk_id.as_deref() == Some(ITSELF);
    Ok(match (is_kernel, is_ramdisk, manifest.kind) {
        (true, true, _) => {
            let message = "An image cannot be a kernel and a ramdisk";
            return Err(Error::new(Code::InvalidParameterCombination, message));
        }
        (true, false, _) | (false, false, Kind::Kernel) => ImageKind::Kernel,
        (false, true, _) | (false, false, Kind::Ramdisk) => ImageKind::Ramdisk,
        (false, false, Kind::Machine) => ImageKind::Machine,
    })
}

/// The kernel or ramdisk that a machine image boots with.
fn companion(kind: ImageKind, id: Option<&str>) -> Result<Option<ImageId>> {
    match id.filter(|id| kind == ImageKind::Machine && !id.is_empty()) {
        Some(id) => Ok(Some(id.parse().map_err(ec2::Error::from)?)),
        None => Ok(None),
    }
}

/// The image of that id, if the caller may launch it.
pub(super) fn launchable(tx: &Tx, caller: &Caller, id: &ImageId) -> Result<Row> {
    let found = rows::images::find(tx, id)?;
    let visible = found.filter(|image| image.account == *caller.account() || image.is_public);
    let image = visible.ok_or_else(|| {
        Error::new(
            Code::Id("InvalidAMIID.NotFound"),
            format!("The image id '[{id}]' does not exist"),
        )
    })?;
    match image.state {
        ImageState::Available => Ok(image),
        ImageState::Deregistered => {
            let message = format!("The image ID '{id}' is no longer available");
            Err(Error::new(Code::InvalidAmiIdUnavailable, message))
        }
    }
}

/// Takes an image out of use. Its name is free again; its instances keep what they have.
pub async fn deregister_image(clc: &Clc, caller: &Caller, ask: DeregisterImage) -> Result<Done> {
    let by = caller.clone();
    change(clc, caller, move |tx| {
        let image = launchable(tx, &by, &ask.image_id)?;
        if image.account != *by.account() {
            let message = format!("Not authorized for image: {}", image.id);
            return Err(Error::new(Code::AuthFailure, message));
        }
        Ok(rows::images::deregister(tx, &image.id)?)
    })
    .await?;
    Ok(Done::YES)
}

impl Filterable for Image {
    const FIELDS: &'static [Field<Self>] = &[
        ("architecture", |image| vec![image.architecture.clone()]),
        ("block-device-mapping.delete-on-termination", |_| vec![]),
        ("block-device-mapping.device-name", |_| vec![]),
        ("block-device-mapping.snapshot-id", |_| vec![]),
        ("block-device-mapping.volume-size", |_| vec![]),
        ("block-device-mapping.volume-type", |_| vec![]),
        ("creation-date", |image| {
            vec![image.creation_date.0.to_string()]
        }),
        ("description", |image| {
            image.description.iter().cloned().collect()
        }),
        ("hypervisor", |image| vec![image.hypervisor.clone()]),
        ("image-id", |image| vec![image.image_id.to_string()]),
        ("image-type", |image| {
            vec![image.image_type.as_str().to_owned()]
        }),
        ("is-public", |image| vec![image.is_public.to_string()]),
        ("kernel-id", |image| {
            image.kernel_id.iter().map(ToString::to_string).collect()
        }),
        ("manifest-location", |image| {
            vec![image.image_location.clone()]
        }),
        ("name", |image| vec![image.name.clone()]),
        ("owner-alias", |image| {
            image.image_owner_alias.iter().cloned().collect()
        }),
        ("owner-id", |image| vec![image.image_owner_id.to_string()]),
        ("platform", |image| image.platform.iter().cloned().collect()),
        ("product-code", |_| vec![]),
        ("product-code.type", |_| vec![]),
        ("ramdisk-id", |image| {
            image.ramdisk_id.iter().map(ToString::to_string).collect()
        }),
        ("root-device-name", |image| {
            image.root_device_name.iter().cloned().collect()
        }),
        ("root-device-type", |image| {
            vec![image.root_device_type.clone()]
        }),
        ("state", |image| vec![image.image_state.as_str().to_owned()]),
        ("state-reason-code", |_| vec![]),
        ("state-reason-message", |_| vec![]),
        ("virtualization-type", |image| {
            vec![image.virtualization_type.clone()]
        }),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists the images that the caller owns or may launch, oldest first.
///
/// euca2ools asks twice, for those owned by `self` and for those executable by `self`, and merges:
/// whatever one may launch is executable by oneself.
pub async fn describe_images(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeImages,
) -> Result<DescribeImagesOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(ask.max_results, ask.next_token, !ask.image_ids.is_empty())?;
    let account = caller.account().clone();
    let (images, mut tags) = clc
        .db
        .read(move |tx| {
            let tags = rows::tags::by_resource(tx, &account, "image")?;
            Ok::<_, Error>((rows::images::list_visible(tx, &account)?, tags))
        })
        .await?;

    let own = caller.account().as_str();
    let is_owned = |image: &Row| {
        let names = |owner: &String| {
            *owner == image.account.as_str() || owner == SELF && own == image.account.as_str()
        };
        ask.owners.is_empty() || ask.owners.iter().any(names)
    };
    let is_executable = |image: &Row| {
        let names = |user: &String| user == SELF || user == own || user == "all" && image.is_public;
        ask.executable_users.is_empty() || ask.executable_users.iter().any(names)
    };
    let picked = naming::pick(images, &ask.image_ids, |image| &image.id)?;
    let listed = picked
        .into_iter()
        .filter(|image| is_owned(image) && is_executable(image))
        .map(|image| {
            let own_tags = if image.account == *caller.account() {
                tags.remove(image.id.as_str())
            } else {
                None
            };
            shown(image, own_tags.unwrap_or_default())
        });
    let admitted = listed.filter(|image| filters.admit(image)).collect();
    let (images_set, next_token) = page.cut(admitted, |image| {
        by_time(image.creation_date.0, image.image_id.as_str())
    });
    Ok(DescribeImagesOutput {
        images_set,
        next_token,
    })
}

fn shown(image: Row, tags: Vec<(String, String)>) -> Image {
    Image {
        image_id: image.id,
        image_location: image.location,
        image_state: image.state,
        image_owner_id: image.account,
        image_owner_alias: None,
        creation_date: image.created_at.into(),
        is_public: image.is_public,
        product_codes: Vec::new(),
        architecture: image.architecture,
        image_type: image.kind,
        kernel_id: image.kernel,
        ramdisk_id: image.ramdisk,
        platform: image.platform,
        state_reason: None,
        name: image.name,
        description: image.description,
        root_device_type: "instance-store".to_owned(),
        root_device_name: image.root_device,
        block_device_mapping: Vec::new(),
        virtualization_type: "hvm".to_owned(),
        hypervisor: "kvm".to_owned(),
        tag_set: tags::shown(tags),
    }
}
