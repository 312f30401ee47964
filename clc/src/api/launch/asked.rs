//! What a RunInstances asks for, with everything checked that needs no looking up.
//!
//! The interface may be described beside the launch or as `NetworkInterface.1`; here it is one.

use std::net::Ipv4Addr;

use ec2::{
    Code,
    instances::{
        AddressingType, HttpTokens, MetadataOptionsAsk, NetworkInterfaceAsk, RunInstances,
        ShutdownBehavior, Switch,
    },
};
use types::{ImageId, SecurityGroupId, SubnetId, vm_type::DEFAULT_VM_TYPE};

use super::LAUNCH_MAX;
use crate::api::{
    errors::{Error, Result},
    tags,
};

/// Bytes of user data before base64, as in EC2: clients and guests count on it.
pub(super) const USER_DATA_MAX: usize = 16_384;
/// Hops that a metadata token's answer may be allowed, as in EC2.
const HOP_LIMIT_MAX: u32 = 64;

/// A launch, checked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) image_id: ImageId,
    pub(super) min_count: u32,
    pub(super) max_count: u32,
    pub(super) instance_type: String,
    pub(super) key_name: Option<String>,
    pub(super) group_ids: Vec<SecurityGroupId>,
    pub(super) group_names: Vec<String>,
    pub(super) user_data: Option<Vec<u8>>,
    pub(super) zone: Option<String>,
    pub(super) subnet_id: Option<SubnetId>,
    pub(super) private_address: Option<Ipv4Addr>,
    /// Whether a public address is asked for, or asked not to be; the subnet says otherwise.
    pub(super) wants_public: Option<bool>,
    pub(super) kernel_id: Option<ImageId>,
    pub(super) ramdisk_id: Option<ImageId>,
    pub(super) api_termination_off: bool,
    pub(super) shutdown_behavior: &'static str,
    pub(super) tokens_required: bool,
    pub(super) hop_limit: u32,
    pub(super) metadata_tags: bool,
    pub(super) client_token: Option<String>,
    pub(super) tags: Vec<(String, String)>,
}

impl Asked {
    /// Checks a request by itself.
    pub(super) fn of(ask: RunInstances) -> Result<Self> {
        check_counts(&ask)?;
        refuse_volumes(&ask)?;
        refuse_tenancy(&ask)?;
        refuse_absent(&ask)?;
        let user_data = user_data(&ask)?;
        let tags = instance_tags(&ask)?;
        let interface = one_interface(&ask)?;
        let metadata = Metadata::of(ask.metadata_options.as_ref())?;
        Ok(Self {
            image_id: ask.image_id,
            min_count: ask.min_count,
            max_count: ask.max_count,
            instance_type: ask
                .instance_type
                .unwrap_or_else(|| DEFAULT_VM_TYPE.to_owned()),
            key_name: ask.key_name,
            group_ids: interface.group_ids,
            group_names: ask.security_groups,
            user_data,
            zone: ask
                .placement
                .and_then(|placement| placement.availability_zone),
            subnet_id: interface.subnet_id,
            private_address: interface.private_address,
            wants_public: interface.wants_public,
            kernel_id: ask.kernel_id,
            ramdisk_id: ask.ramdisk_id,
            api_termination_off: ask.disable_api_termination.unwrap_or(false),
            shutdown_behavior: match ask.instance_initiated_shutdown_behavior {
                Some(ShutdownBehavior::Terminate) => "terminate",
                Some(ShutdownBehavior::Stop) | None => "stop",
            },
            tokens_required: metadata.tokens_required,
            hop_limit: metadata.hop_limit,
            metadata_tags: metadata.shows_tags,
            client_token: ask.client_token,
            tags,
        })
    }
}

fn check_counts(ask: &RunInstances) -> Result<()> {
    let (min, max) = (ask.min_count, ask.max_count);
    if min == 0 {
        return Err(ec2::Error::invalid("MinCount", min, "Expected at least 1").into());
    }
    if max < min {
        let message = format!("MaxCount ({max}) is less than MinCount ({min})");
        return Err(Error::new(Code::InvalidParameterCombination, message));
    }
    if max > LAUNCH_MAX {
        let message = format!("One request launches {LAUNCH_MAX} instances at most");
        return Err(Error::new(Code::InstanceLimitExceeded, message));
    }
    Ok(())
}

/// Local disks come with the type; a volume that was silently not there would lose what is written.
fn refuse_volumes(ask: &RunInstances) -> Result<()> {
    if ask
        .block_device_mappings
        .iter()
        .any(|mapping| mapping.ebs.is_some())
    {
        let message = "Volumes cannot be attached at launch yet";
        return Err(Error::new(Code::UnsupportedOperation, message));
    }
    Ok(())
}

fn refuse_tenancy(ask: &RunInstances) -> Result<()> {
    let tenancy = ask
        .placement
        .as_ref()
        .and_then(|placement| placement.tenancy.as_deref());
    match tenancy {
        None | Some("default") => Ok(()),
        Some(other) => {
            Err(ec2::Error::invalid("Placement.Tenancy", other, "Expected default").into())
        }
    }
}

/// What would be another instance without it is refused, not left out. A spot request is not: it
/// gets what it asked for, at the price of any other.
fn refuse_absent(ask: &RunInstances) -> Result<()> {
    let hibernates = ask.hibernation_options.as_ref();
    let encloses = ask.enclave_options.as_ref();
    let asked = [
        (ask.launch_template.is_some(), "Launch templates"),
        (ask.iam_instance_profile.is_some(), "Instance profiles"),
        (
            hibernates.is_some_and(|options| options.configured == Some(true)),
            "Hibernating instances",
        ),
        (
            encloses.is_some_and(|options| options.enabled == Some(true)),
            "Enclaves",
        ),
        (
            ask.ipv6_address_count.is_some_and(|count| count > 0),
            "IPv6 addresses",
        ),
    ];
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => {
            let message = format!("{what} are not supported by this cloud");
            Err(Error::new(Code::UnsupportedOperation, message))
        }
        None => Ok(()),
    }
}

/// The user data, none where it is empty.
fn user_data(ask: &RunInstances) -> Result<Option<Vec<u8>>> {
    let bytes = ask.user_data.as_ref().map(|blob| blob.0.clone());
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    if bytes
        .as_ref()
        .is_some_and(|bytes| bytes.len() > USER_DATA_MAX)
    {
        let message = format!("User data is limited to {USER_DATA_MAX} bytes");
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    Ok(bytes)
}

/// The tags of the instances. Those for the volumes that a launch makes in EC2 are checked as well:
/// it makes none here.
fn instance_tags(ask: &RunInstances) -> Result<Vec<(String, String)>> {
    let kinds = [
        "instance",
        "volume",
        "network-interface",
        "spot-instances-request",
    ];
    let tags = tags::at_creation(&ask.tag_specifications, &kinds)?;
    let of_instances = tags.into_iter().filter(|(kind, _)| kind == "instance");
    Ok(of_instances.flat_map(|(_, tags)| tags).collect())
}

/// How the metadata service is to answer.
struct Metadata {
    tokens_required: bool,
    hop_limit: u32,
    shows_tags: bool,
}

impl Metadata {
    fn of(options: Option<&MetadataOptionsAsk>) -> Result<Self> {
        let hop_limit = options
            .and_then(|options| options.http_put_response_hop_limit)
            .unwrap_or(1);
        if !(1..=HOP_LIMIT_MAX).contains(&hop_limit) {
            let reason = format!("Expected 1 to {HOP_LIMIT_MAX}");
            let name = "MetadataOptions.HttpPutResponseHopLimit";
            return Err(ec2::Error::invalid(name, hop_limit, &reason).into());
        }
        let is = |look: fn(&MetadataOptionsAsk) -> bool| options.is_some_and(look);
        if is(|options| options.http_endpoint == Some(Switch::Disabled)) {
            let message =
                "The metadata service cannot be switched off: guests get their keys from it";
            return Err(Error::new(Code::UnsupportedOperation, message));
        }
        Ok(Self {
            tokens_required: is(|options| options.http_tokens == Some(HttpTokens::Required)),
            hop_limit,
            shows_tags: is(|options| options.instance_metadata_tags == Some(Switch::Enabled)),
        })
    }
}

struct Interface {
    group_ids: Vec<SecurityGroupId>,
    subnet_id: Option<SubnetId>,
    private_address: Option<Ipv4Addr>,
    wants_public: Option<bool>,
}

/// The interface of a launch, from either place that may describe it, but not from both.
fn one_interface(ask: &RunInstances) -> Result<Interface> {
    let combination = |message: &str| Err(Error::new(Code::InvalidParameterCombination, message));
    let by_type = ask
        .addressing_type
        .map(|kind| kind == AddressingType::Public);
    let interface = match ask.network_interfaces.as_slice() {
        [] => Interface {
            group_ids: ask.security_group_ids.clone(),
            subnet_id: ask.subnet_id.clone(),
            private_address: ask.private_ip_address,
            wants_public: by_type,
        },
        [one] => {
            let has_both = ask.subnet_id.is_some()
                || ask.private_ip_address.is_some()
                || !ask.security_group_ids.is_empty()
                || !ask.security_groups.is_empty();
            if has_both {
                return combination(
                    "Network interfaces and an instance-level subnet, address or security groups may not be specified on the same request",
                );
            }
            of_interface(one, by_type)?
        }
        _ => return combination("An instance has one network interface"),
    };
    if interface.private_address.is_some() && ask.max_count > 1 {
        return combination("A private address can be given to one instance only");
    }
    Ok(interface)
}

fn of_interface(one: &NetworkInterfaceAsk, by_type: Option<bool>) -> Result<Interface> {
    if one.device_index.is_some_and(|index| index != 0) {
        let message = "The only network interface must have the device index 0";
        return Err(Error::new(Code::InvalidParameterCombination, message));
    }
    if let Some(id) = &one.network_interface_id {
        let message = format!(
            "The networkInterface ID '{}' does not exist",
            id.escape_debug()
        );
        return Err(Error::new(
            Code::Id("InvalidNetworkInterfaceID.NotFound"),
            message,
        ));
    }
    let addresses = &one.private_ip_addresses;
    if addresses.len() > 1 {
        let message = "An interface has one private address";
        return Err(Error::new(Code::UnsupportedOperation, message));
    }
    let listed = addresses.first().map(|address| address.private_ip_address);
    Ok(Interface {
        group_ids: one.security_group_ids.clone(),
        subnet_id: one.subnet_id.clone(),
        private_address: one.private_ip_address.or(listed),
        wants_public: one.associate_public_ip_address.or(by_type),
    })
}
