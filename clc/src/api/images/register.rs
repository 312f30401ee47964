//! RegisterImage: a bundle becomes an image.

use ec2::{
    Code,
    images::{BlockDeviceMapping, RegisterImage, RegisterImageOutput},
};
use image::manifest::{Architecture, Kind, Manifest};
use sha2::{Digest, Sha256};
use store::Tx;
use types::{AccountId, ImageId, ImageKind, ImageState};

use super::{
    Row,
    bundle::{Bundle, Location},
    launchable, may_be_added,
};
use crate::{
    Caller, Clc,
    api::{
        change,
        errors::{Error, Result},
        naming,
        tags::{self, Tags},
    },
    rows::{self, images::Device},
};

/// The word for images without a kernel or ramdisk of their own: the image is one itself.
const ITSELF: &str = "true";
/// How images virtualise. A partition becomes a whole disk here, so those that were made for
/// paravirtual machines run like all others.
const VIRTUALIZATION: [&str; 2] = ["hvm", "paravirtual"];
/// The disks that an instance has beside its root, under their names in a mapping.
const DISKS: [&str; 2] = ["ephemeral0", "swap"];
/// Names in bundles' mappings for the root itself.
const ROOTS: [&str; 2] = ["ami", "root"];
/// Mappings of one image, more than any client has ever sent.
const MAPPINGS_MAX: usize = 64;
/// The longest name of a device: `/dev/` and what Linux allows.
const DEVICE_NAME_MAX: usize = 5 + 32;

/// Makes an image of the bundle at `bucket/key` of the manifest.
pub async fn register_image(
    clc: &Clc,
    caller: &Caller,
    ask: RegisterImage,
) -> Result<RegisterImageOutput> {
    let asked = Asked::of(ask)?;
    let bundle = Bundle::read(clc, caller, &asked.location).await?;
    let row = row(clc, caller, &asked, &bundle)?;

    let (by, id, kept, tags) = (caller.clone(), row.id.clone(), bundle.kept, asked.tags);
    let users_may = clc.config.images.users_may_register_kernels;
    change(clc, caller, move |tx| {
        if row.kind != ImageKind::Machine && !users_may {
            must_be_administrators(tx, by.account())?;
        }
        check_companion(tx, &by, row.kernel.as_ref(), ImageKind::Kernel)?;
        check_companion(tx, &by, row.ramdisk.as_ref(), ImageKind::Ramdisk)?;
        may_be_added(tx, &row.account, &row.name)?;
        rows::images::insert(tx, &row, &kept)?;
        tags::put_all(tx, &by, row.id.as_str(), "image", &tags)
    })
    .await?;
    Ok(RegisterImageOutput { image_id: id })
}

/// A kernel runs before anything of its image does, and is shown to everyone who picks one.
fn must_be_administrators(tx: &Tx, account: &AccountId) -> Result<()> {
    if rows::identity::first_account(tx)?.as_ref() == Some(account) {
        return Ok(());
    }
    let message = "Only the cloud's administrators register kernels and ramdisks here. A machine image \
                   boots the kernel on its own disk; images.users_may_register_kernels in clc.toml \
                   lets users register kernels too";
    Err(Error::new(Code::UnauthorizedOperation, message))
}

/// What a request asks for, checked by itself.
struct Asked {
    location: Location,
    name: Option<String>,
    description: Option<String>,
    architecture: Option<String>,
    platform: Option<String>,
    kernel: Option<String>,
    ramdisk: Option<String>,
    root_device: Option<String>,
    devices: Vec<Device>,
    tags: Tags,
}

impl Asked {
    fn of(ask: RegisterImage) -> Result<Self> {
        let tags = tags::of_new(&ask.tag_specifications, "image")?;
        let location = location(&ask)?;
        for (parameter, text) in [("Name", &ask.name), ("Description", &ask.description)] {
            if let Some(text) = text {
                naming::printable(parameter, text)?;
            }
        }
        refuse_firmware(&ask)?;
        if let Some(word) = &ask.virtualization_type {
            one_of("VirtualizationType", word, &VIRTUALIZATION)?;
        }
        if let Some(word) = &ask.architecture {
            word.parse::<Architecture>().map_err(|error| {
                ec2::Error::invalid("Architecture", word.escape_debug(), &error.to_string())
            })?;
        }
        if let Some(name) = &ask.root_device_name {
            device_name("RootDeviceName", name)?;
        }
        Ok(Self {
            location,
            devices: devices(&ask.block_device_mappings)?,
            name: ask.name,
            description: ask.description,
            architecture: ask.architecture,
            platform: ask
                .platform
                .filter(|platform| platform.eq_ignore_ascii_case("windows")),
            kernel: ask.kernel_id,
            ramdisk: ask.ramdisk_id,
            root_device: ask.root_device_name,
            tags,
        })
    }
}

/// Bucket and key of the manifest.
fn location(ask: &RegisterImage) -> Result<Location> {
    if let Some(location) = &ask.image_location {
        return Location::parse(location);
    }
    match ask
        .block_device_mappings
        .iter()
        .any(|one| one.ebs.is_some())
    {
        true => Err(of_snapshots()),
        false => Err(ec2::Error::missing("ImageLocation").into()),
    }
}

fn of_snapshots() -> Error {
    let message =
        "Images of snapshots are not supported yet; register a bundle by its ImageLocation";
    Error::new(Code::UnsupportedOperation, message)
}

/// Guests have a BIOS and nothing else: what would not boot is refused now.
fn refuse_firmware(ask: &RegisterImage) -> Result<()> {
    let refused = |what: &str| {
        let message = format!("Images with {what} are not supported: guests boot by a BIOS");
        Err(Error::new(Code::UnsupportedOperation, message))
    };
    match ask.boot_mode.as_deref() {
        None | Some("legacy-bios" | "uefi-preferred") => {}
        Some(_) => return refused("another boot mode than legacy-bios"),
    }
    if ask.tpm_support.is_some() || ask.uefi_data.is_some() {
        return refused("a TPM or UEFI data");
    }
    if ask.imds_support.is_some() {
        let message = "ImdsSupport is not supported for images: set MetadataOptions at launch";
        return Err(Error::new(Code::UnsupportedOperation, message));
    }
    Ok(())
}

fn one_of(parameter: &str, word: &str, words: &[&str]) -> Result<()> {
    if words.contains(&word) {
        return Ok(());
    }
    let reason = format!("Expected one of: {}", words.join(", "));
    Err(ec2::Error::invalid(parameter, word.escape_debug(), &reason).into())
}

/// `/dev/sda1`, `sda1`.
fn device_name(parameter: &str, name: &str) -> Result<()> {
    let stem = name.strip_prefix("/dev/").unwrap_or(name);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !stem.is_empty() && name.len() <= DEVICE_NAME_MAX && stem.bytes().all(plain) {
        return Ok(());
    }
    let reason = "Expected a device's name, such as /dev/sda1";
    let shown: String = name.escape_debug().take(2 * DEVICE_NAME_MAX).collect();
    Err(ec2::Error::invalid(parameter, shown, reason).into())
}

/// What is mapped must be there in an instance: one disk of its type, and swap. Under which name a
/// guest finds it is the guest's to say.
fn devices(mappings: &[BlockDeviceMapping]) -> Result<Vec<Device>> {
    let bad = |message: String| Err(Error::new(Code::InvalidBlockDeviceMapping, message));
    if mappings.len() > MAPPINGS_MAX {
        return bad(format!("An image has {MAPPINGS_MAX} mappings at most"));
    }
    let mut devices: Vec<Device> = Vec::new();
    for mapping in mappings {
        let Some(device) = &mapping.device_name else {
            return Err(ec2::Error::missing("BlockDeviceMapping.DeviceName").into());
        };
        device_name("BlockDeviceMapping.DeviceName", device)?;
        if mapping.ebs.is_some() {
            return Err(of_snapshots());
        }
        // A device that is mapped to nothing, and the root, say nothing new.
        let Some(virtual_name) = &mapping.virtual_name else {
            continue;
        };
        if ROOTS.contains(&virtual_name.as_str()) {
            continue;
        }
        if !DISKS.contains(&virtual_name.as_str()) {
            let shown = virtual_name.escape_debug();
            return bad(format!(
                "An instance has no disk '{shown}': beside its root there are {}",
                DISKS.join(" and ")
            ));
        }
        if devices.iter().any(|other| other.device == *device) {
            return bad(format!("The device '{device}' is mapped twice"));
        }
        devices.push(Device {
            device: device.clone(),
            virtual_name: virtual_name.clone(),
        });
    }
    Ok(devices)
}

fn row(clc: &Clc, caller: &Caller, asked: &Asked, bundle: &Bundle) -> Result<Row> {
    let manifest = &bundle.manifest;
    let kind = kind_of(manifest, asked)?;
    let of_manifest = |id: &Option<String>| id.clone().filter(|id| id != ITSELF);
    let either = |asked: &Option<String>, made: &Option<String>| {
        companion(kind, asked.clone().or_else(|| of_manifest(made)))
    };
    let (kernel, ramdisk) = (
        either(&asked.kernel, &manifest.kernel_id)?,
        either(&asked.ramdisk, &manifest.ramdisk_id)?,
    );
    if ramdisk.is_some() && kernel.is_none() {
        let message = "A ramdisk needs a kernel: give KernelId too";
        return Err(Error::new(Code::InvalidParameterCombination, message));
    }
    let architecture = asked.architecture.clone();
    let name = asked.name.clone();
    Ok(Row {
        id: clc.mint(|rng| ImageId::mint(kind, rng)),
        account: caller.account().clone(),
        kind,
        state: ImageState::Available,
        // Old clients send no name; where it came from is as good as one.
        name: name.unwrap_or_else(|| asked.location.to_string()),
        description: asked.description.clone(),
        architecture: architecture.unwrap_or_else(|| manifest.architecture.as_str().to_owned()),
        platform: asked.platform.clone(),
        location: asked.location.to_string(),
        kernel,
        ramdisk,
        root_device: asked.root_device.clone(),
        size_bytes: manifest.size_bytes,
        manifest_sha256: hex::encode(Sha256::digest(&bundle.kept.bytes)),
        is_public: false,
        created_at: clc.now(),
        product_codes: manifest.product_codes.clone(),
        devices: match asked.devices.is_empty() {
            true => devices_of(manifest),
            false => asked.devices.clone(),
        },
        deprecated_at: None,
        copied_from: None,
        copy_failure: None,
    })
}

/// What the bundler wished for, as far as instances have it.
fn devices_of(manifest: &Manifest) -> Vec<Device> {
    let wishes = manifest.block_device_mapping.iter();
    let there = wishes.filter(|wish| {
        DISKS.contains(&wish.virtual_name.as_str()) && device_name("", &wish.device).is_ok()
    });
    there
        .map(|wish| Device {
            device: wish.device.clone(),
            virtual_name: wish.virtual_name.clone(),
        })
        .collect()
}

/// The kind: the manifest says it, or a kernel or ramdisk that is `true`.
fn kind_of(manifest: &Manifest, asked: &Asked) -> Result<ImageKind> {
    let is_itself = |asked: &Option<String>, made: &Option<String>| {
        [asked, made].iter().any(|id| id.as_deref() == Some(ITSELF))
    };
    let is_kernel = is_itself(&asked.kernel, &manifest.kernel_id);
    let is_ramdisk = is_itself(&asked.ramdisk, &manifest.ramdisk_id);
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
fn companion(kind: ImageKind, id: Option<String>) -> Result<Option<ImageId>> {
    match id.filter(|id| kind == ImageKind::Machine && !id.is_empty()) {
        Some(id) => Ok(Some(id.parse().map_err(ec2::Error::from)?)),
        None => Ok(None),
    }
}

/// Refuses what the caller may not boot with, and what is of another kind than it is used as.
pub(in crate::api) fn check_companion(
    tx: &Tx,
    caller: &Caller,
    id: Option<&ImageId>,
    kind: ImageKind,
) -> Result<Option<Row>> {
    let Some(id) = id else { return Ok(None) };
    let image = launchable(tx, caller, id)?;
    if image.kind != kind {
        let parameter = match kind {
            ImageKind::Ramdisk => "RamdiskId",
            ImageKind::Kernel | ImageKind::Machine => "KernelId",
        };
        let reason = format!("It is a {} image", image.kind.as_str());
        return Err(ec2::Error::invalid(parameter, id, &reason).into());
    }
    Ok(Some(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(device: &str, virtual_name: Option<&str>) -> BlockDeviceMapping {
        BlockDeviceMapping {
            device_name: Some(device.to_owned()),
            virtual_name: virtual_name.map(str::to_owned),
            ebs: None,
            no_device: wire::Verbatim(None),
        }
    }

    #[test]
    fn what_is_mapped_is_there_or_is_refused() {
        let good = [
            mapping("sda1", Some("ami")),
            mapping("/dev/sdb", Some("ephemeral0")),
            mapping("/dev/sdc", Some("swap")),
            mapping("/dev/sdd", None),
        ];
        let names: Vec<_> = devices(&good)
            .unwrap()
            .into_iter()
            .map(|device| (device.device, device.virtual_name))
            .collect();
        let name = |device: &str, virtual_name: &str| (device.to_owned(), virtual_name.to_owned());
        assert_eq!(
            names,
            [name("/dev/sdb", "ephemeral0"), name("/dev/sdc", "swap")]
        );

        for (device, virtual_name) in [
            ("/dev/sdb", "ephemeral1"),
            ("/dev/sdb", ""),
            ("/dev/../etc", "swap"),
            ("", "swap"),
            ("/dev/sd\0", "swap"),
        ] {
            let refused = devices(&[mapping(device, Some(virtual_name))]);
            assert!(refused.is_err(), "{device:?} {virtual_name:?}");
        }
        assert!(devices(&[good[1].clone(), mapping("/dev/sdb", Some("swap"))]).is_err());
        assert!(devices(&vec![mapping("/dev/sdb", None); MAPPINGS_MAX + 1]).is_err());
    }
}
