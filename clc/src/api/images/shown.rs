//! Images as they are shown, and what they are filtered by.

use super::{CLOUDS_OWN, Row, View};
use crate::{
    api::{
        filters::{Field, Filterable},
        tags,
    },
    rows::images::Device,
};
use ec2::{
    Tag,
    common::StateReason,
    images::{Image, ImageBlockDevice, ProductCode},
};
use types::ImageState;

/// How all guests boot.
pub(in crate::api) const BOOT_MODE: &str = "legacy-bios";
/// The kind of a product code; there is no market here that would know another.
const PRODUCT_CODE_KIND: &str = "marketplace";

pub(in crate::api) fn product_codes(codes: Vec<String>) -> Vec<ProductCode> {
    let shown = |product_code| ProductCode {
        product_code,
        kind: PRODUCT_CODE_KIND.to_owned(),
    };
    codes.into_iter().map(shown).collect()
}

pub(in crate::api) fn devices(devices: Vec<Device>) -> Vec<ImageBlockDevice> {
    let shown = |device: Device| ImageBlockDevice {
        device_name: device.device,
        virtual_name: Some(device.virtual_name),
    };
    devices.into_iter().map(shown).collect()
}

impl View<'_> {
    pub(super) fn shown(&self, image: Row, own_tags: Vec<(String, String)>) -> Image {
        let is_copy = image.copied_from.is_some();
        let failure = image.copy_failure.clone().map(|message| StateReason {
            code: match image.state {
                ImageState::Failed => "Client.InternalError",
                ImageState::Pending | ImageState::Available | ImageState::Deregistered => {
                    "Server.InternalError"
                }
            }
            .to_owned(),
            message,
        });
        let alias = self.is_administrators(&image).then_some(CLOUDS_OWN[0]);
        let is_windows = image.platform.is_some();
        Image {
            image_id: image.id,
            image_location: image.location,
            image_state: image.state,
            image_owner_id: image.account,
            image_owner_alias: alias.map(str::to_owned),
            creation_date: image.created_at.into(),
            is_public: image.is_public,
            product_codes: product_codes(image.product_codes),
            architecture: image.architecture,
            image_type: image.kind,
            kernel_id: image.kernel,
            ramdisk_id: image.ramdisk,
            platform: image.platform,
            platform_details: if is_windows { "Windows" } else { "Linux/UNIX" }.to_owned(),
            usage_operation: "RunInstances".to_owned(),
            state_reason: failure,
            name: image.name,
            description: image.description,
            root_device_type: "instance-store".to_owned(),
            root_device_name: image.root_device,
            block_device_mapping: devices(image.devices),
            virtualization_type: "hvm".to_owned(),
            hypervisor: "kvm".to_owned(),
            boot_mode: BOOT_MODE.to_owned(),
            source_image_id: image.copied_from,
            source_image_region: is_copy.then(|| self.region.clone()),
            deprecation_time: image.deprecated_at.map(Into::into),
            tag_set: tags::shown(own_tags),
        }
    }
}

fn maybe<T: ToString>(value: Option<&T>) -> Vec<String> {
    value.map(ToString::to_string).into_iter().collect()
}

/// EC2's own list. What images here never have matches nothing.
impl Filterable for Image {
    const FIELDS: &'static [Field<Self>] = &[
        ("architecture", |image| vec![image.architecture.clone()]),
        ("block-device-mapping.delete-on-termination", |_| vec![]),
        ("block-device-mapping.device-name", |image| {
            let mapped = image.block_device_mapping.iter();
            mapped.map(|device| device.device_name.clone()).collect()
        }),
        ("block-device-mapping.encrypted", |_| vec![]),
        ("block-device-mapping.snapshot-id", |_| vec![]),
        ("block-device-mapping.volume-size", |_| vec![]),
        ("block-device-mapping.volume-type", |_| vec![]),
        ("boot-mode", |image| vec![image.boot_mode.clone()]),
        ("creation-date", |image| {
            vec![image.creation_date.0.to_string()]
        }),
        ("description", |image| maybe(image.description.as_ref())),
        ("ena-support", |_| vec!["false".to_owned()]),
        ("free-tier-eligible", |_| vec![]),
        ("hypervisor", |image| vec![image.hypervisor.clone()]),
        ("image-allowed", |_| vec![]),
        ("image-id", |image| vec![image.image_id.to_string()]),
        ("image-type", |image| {
            vec![image.image_type.as_str().to_owned()]
        }),
        ("image-watermark.source-image-creation-time", |_| vec![]),
        ("image-watermark.source-image-id", |_| vec![]),
        ("image-watermark.source-image-region", |_| vec![]),
        ("image-watermark.watermark-creation-time", |_| vec![]),
        ("image-watermark.watermark-key", |_| vec![]),
        (
            "instance-type-specification.supported-instance-type",
            |_| vec![],
        ),
        (
            "instance-type-specification.unsupported-instance-type",
            |_| vec![],
        ),
        ("is-public", |image| vec![image.is_public.to_string()]),
        ("kernel-id", |image| maybe(image.kernel_id.as_ref())),
        ("manifest-location", |image| {
            vec![image.image_location.clone()]
        }),
        ("name", |image| vec![image.name.clone()]),
        // Both names of the same owner.
        ("owner-alias", |image| match image.image_owner_alias {
            Some(_) => CLOUDS_OWN.map(str::to_owned).to_vec(),
            None => vec![],
        }),
        ("owner-id", |image| vec![image.image_owner_id.to_string()]),
        ("platform", |image| maybe(image.platform.as_ref())),
        ("product-code", |image| {
            let codes = image.product_codes.iter();
            codes.map(|code| code.product_code.clone()).collect()
        }),
        ("product-code.type", |image| {
            let codes = image.product_codes.iter();
            codes.map(|code| code.kind.clone()).collect()
        }),
        ("public-ssm-parameter-name", |_| vec![]),
        ("ramdisk-id", |image| maybe(image.ramdisk_id.as_ref())),
        ("root-device-name", |image| {
            maybe(image.root_device_name.as_ref())
        }),
        ("root-device-type", |image| {
            vec![image.root_device_type.clone()]
        }),
        ("scan-result.critical-fix-available-since", |_| vec![]),
        ("scan-result.finding-scan-date", |_| vec![]),
        ("scan-result.high-fix-available-since", |_| vec![]),
        ("scan-result.highest-finding-severity-label", |_| vec![]),
        ("scan-result.informational-fix-available-since", |_| vec![]),
        ("scan-result.low-fix-available-since", |_| vec![]),
        ("scan-result.medium-fix-available-since", |_| vec![]),
        ("source-image-id", |image| {
            maybe(image.source_image_id.as_ref())
        }),
        ("source-image-region", |image| {
            maybe(image.source_image_region.as_ref())
        }),
        ("source-instance-id", |_| vec![]),
        ("sriov-net-support", |_| vec![]),
        ("state", |image| vec![image.image_state.as_str().to_owned()]),
        ("state-reason-code", |image| {
            maybe(image.state_reason.as_ref().map(|reason| &reason.code))
        }),
        ("state-reason-message", |image| {
            maybe(image.state_reason.as_ref().map(|reason| &reason.message))
        }),
        ("virtualization-type", |image| {
            vec![image.virtualization_type.clone()]
        }),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}
