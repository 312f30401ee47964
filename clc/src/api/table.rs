//! Every action on one page: its handler, and the things that a policy decides about. What EC2 has
//! and we have not is in [`refused`], by name.
//!
//! The macro makes one `match` on service and name: decode, authorise, call, encode.

pub mod refused;

use ec2::{
    Action, Code, account_attributes::*, addresses::*, bootstrap::*, bundle_tasks::*,
    image_attributes::*, images::*, instance_types::*, instances::*, key_pairs::*,
    network_interfaces::*, regions::*, security_groups::*, sts::*, tags::*, volumes::*, vpcs::*,
    zones::*,
};

use super::{
    Call, account_attributes, addresses, bootstrap, bundle_tasks,
    errors::{Error, Result},
    image_attributes, images, instance_attributes, instance_types, instances, key_pairs, launch,
    network_interfaces, nothing, regions, security_groups, sts, tags, volumes, vpcs, zones,
};
use crate::{Caller, Clc, edge::Service};

/// What a policy decides about: `ec2:ACTION` on each of these of the caller's account.
enum On {
    /// No thing in particular: `*`.
    All,
    /// Whatever nobody may refuse: who am I, where is the cloud's certificate.
    Nothing,
    /// Things by kind and id; `*` for one that is yet to be made.
    These(Vec<(&'static str, String)>),
}

fn all<A>(_: &A) -> On {
    On::All
}

fn nothing<A>(_: &A) -> On {
    On::Nothing
}

fn one(kind: &'static str, id: impl ToString) -> On {
    On::These(vec![(kind, id.to_string())])
}

fn new(kind: &'static str) -> On {
    one(kind, "*")
}

fn each<I: ToString>(kind: &'static str, ids: &[I]) -> On {
    On::These(ids.iter().map(|id| (kind, id.to_string())).collect())
}

/// A group by its id; one that is named is looked up later, and judged then.
fn group(id: Option<&types::SecurityGroupId>) -> On {
    id.map_or_else(|| new("security-group"), |id| one("security-group", id))
}

/// Things of any kind by id; what is none of ours is refused later, by name.
fn tagged(ids: &[String]) -> On {
    let kind = |id: &str| tags::kind_of(id).unwrap_or("resource");
    On::These(ids.iter().map(|id| (kind(id), id.clone())).collect())
}

/// A key pair by its name, as in EC2's own resource names.
fn key(name: Option<&String>) -> On {
    name.map_or_else(|| new("key-pair"), |name| one("key-pair", name))
}

/// A launch makes instances, and takes an image, a key, groups and a subnet to do so.
fn launched(ask: &RunInstances) -> On {
    let mut things = vec![
        ("instance", "*".to_owned()),
        ("image", ask.image_id.to_string()),
    ];
    let kernels = [&ask.kernel_id, &ask.ramdisk_id].into_iter().flatten();
    things.extend(kernels.map(|id| ("image", id.to_string())));
    things.extend(ask.key_name.iter().map(|name| ("key-pair", name.clone())));
    things.extend(ask.subnet_id.iter().map(|id| ("subnet", id.to_string())));
    let interfaces = &ask.network_interfaces;
    things.extend(
        interfaces
            .iter()
            .flat_map(|one| &one.subnet_id)
            .map(|id| ("subnet", id.to_string())),
    );
    let groups = interfaces
        .iter()
        .flat_map(|one| &one.security_group_ids)
        .chain(&ask.security_group_ids);
    things.extend(groups.map(|id| ("security-group", id.to_string())));
    On::These(things)
}

/// A copy makes an image, and takes one to do so.
fn copied(ask: &CopyImage) -> On {
    On::These(vec![
        ("image", "*".to_owned()),
        ("image", ask.source_image_id.to_string()),
    ])
}

macro_rules! actions {
    ($($service:ident $action:ident => $handler:path, $on:expr;)*) => {
        /// Whether a service has such an action, ours or refused.
        pub fn knows(service: Service, action: &str) -> bool {
            match (service, action) {
                $((Service::$service, $action::NAME) => true,)*
                _ => {
                    service == Service::Ec2
                        && (nothing::find(action).is_some() || refused::is_known(action))
                }
            }
        }

        /// The names of what we have of a service.
        pub fn served(service: Service) -> Vec<&'static str> {
            [$((Service::$service, $action::NAME)),*]
                .into_iter()
                .filter(|(own, _)| *own == service)
                .map(|(_, name)| name)
                .collect()
        }

        /// Runs one call.
        pub(super) async fn run(clc: &Clc, caller: &Caller, call: &Call) -> Result<String> {
            match (call.service, call.action.as_str()) {
                $((Service::$service, $action::NAME) => {
                    let ask = decode::<$action>(caller, call, $on)?;
                    let output = $handler(clc, caller, ask).await?;
                    encode(caller, call, &output)
                })*
                (service, action) => not_ours(caller, call, service, action),
            }
        }
    };
}

actions! {
    Ec2 AuthorizeSecurityGroupEgress  => security_groups::authorize_egress, |ask| group(ask.group_id.as_ref());
    Ec2 AuthorizeSecurityGroupIngress => security_groups::authorize_ingress, |ask| group(ask.group_id.as_ref());
    Ec2 BundleInstance                => bundle_tasks::bundle_instance, |ask| one("instance", &ask.instance_id);
    Ec2 CancelBundleTask              => bundle_tasks::cancel_bundle_task, |ask| one("bundle-task", &ask.bundle_id);
    Ec2 CopyImage                     => images::copy_image, copied;
    Ec2 CreateKeyPair                 => key_pairs::create_key_pair, |ask| one("key-pair", &ask.key_name);
    Ec2 CreateSecurityGroup           => security_groups::create_security_group, |_| new("security-group");
    Ec2 CreateTags                    => tags::create_tags, |ask| tagged(&ask.resource_ids);
    Ec2 CreateVolume                  => volumes::create_volume, |_| new("volume");
    Ec2 DeleteKeyPair                 => key_pairs::delete_key_pair, |ask| key(ask.key_name.as_ref());
    Ec2 DeleteSecurityGroup           => security_groups::delete_security_group, |ask| group(ask.group_id.as_ref());
    Ec2 DeleteTags                    => tags::delete_tags, |ask| tagged(&ask.resource_ids);
    Ec2 DeleteVolume                  => volumes::delete_volume, |ask| one("volume", &ask.volume_id);
    Ec2 DeregisterImage               => images::deregister_image, |ask| one("image", &ask.image_id);
    Ec2 DescribeAccountAttributes     => account_attributes::describe_account_attributes, all;
    Ec2 DescribeAddresses             => addresses::describe_addresses, all;
    Ec2 DescribeAvailabilityZones     => zones::describe_availability_zones, all;
    Ec2 DescribeBundleTasks           => bundle_tasks::describe_bundle_tasks, all;
    Ec2 DescribeImageAttribute        => image_attributes::describe_image_attribute, |ask| one("image", &ask.image_id);
    Ec2 DescribeImages                => images::describe_images, all;
    Ec2 DescribeInstanceAttribute     => instance_attributes::describe_instance_attribute, |ask| one("instance", &ask.instance_id);
    Ec2 DescribeInstanceStatus        => instances::describe_instance_status, all;
    Ec2 DescribeInstanceTypes         => instance_types::describe_instance_types, all;
    Ec2 DescribeInstances             => instances::describe_instances, all;
    Ec2 DescribeKeyPairs              => key_pairs::describe_key_pairs, all;
    Ec2 DescribeNetworkInterfaces     => network_interfaces::describe_network_interfaces, all;
    Ec2 DescribeRegions               => regions::describe_regions, all;
    Ec2 DescribeSecurityGroups        => security_groups::describe_security_groups, all;
    Ec2 DescribeSubnets               => vpcs::describe_subnets, all;
    Ec2 DescribeTags                  => tags::describe_tags, all;
    Ec2 DescribeVolumeStatus          => volumes::describe_volume_status, all;
    Ec2 DescribeVolumes               => volumes::describe_volumes, all;
    Ec2 DescribeVpcAttribute          => vpcs::describe_vpc_attribute, |ask| one("vpc", &ask.vpc_id);
    Ec2 DescribeVpcs                  => vpcs::describe_vpcs, all;
    Ec2 DisableImageDeprecation       => images::disable_image_deprecation, |ask| one("image", &ask.image_id);
    Ec2 EnableImageDeprecation        => images::enable_image_deprecation, |ask| one("image", &ask.image_id);
    Ec2 GetConsoleOutput              => instances::get_console_output, |ask| one("instance", &ask.instance_id);
    Ec2 ImportKeyPair                 => key_pairs::import_key_pair, |ask| one("key-pair", &ask.key_name);
    Ec2 ModifyImageAttribute          => image_attributes::modify_image_attribute, |ask| one("image", &ask.image_id);
    Ec2 ModifyInstanceAttribute       => instance_attributes::modify_instance_attribute, |ask| one("instance", &ask.instance_id);
    Ec2 RebootInstances               => instances::reboot_instances, |ask| each("instance", &ask.instance_ids);
    Ec2 RegisterImage                 => images::register_image, |_| new("image");
    Ec2 ResetImageAttribute           => image_attributes::reset_image_attribute, |ask| one("image", &ask.image_id);
    Ec2 RevokeSecurityGroupEgress     => security_groups::revoke_egress, |ask| group(ask.group_id.as_ref());
    Ec2 RevokeSecurityGroupIngress    => security_groups::revoke_ingress, |ask| group(ask.group_id.as_ref());
    Ec2 RunInstances                  => launch::run_instances, launched;
    Ec2 TerminateInstances            => instances::terminate_instances, |ask| each("instance", &ask.instance_ids);

    Sts GetCallerIdentity             => sts::get_caller_identity, nothing;

    Bootstrap DescribeServiceCertificates => bootstrap::describe_service_certificates, nothing;
}

/// An action without a handler: an empty list, or a refusal by name.
fn not_ours(caller: &Caller, call: &Call, service: Service, action: &str) -> Result<String> {
    let is_ec2 = service == Service::Ec2;
    if let Some(empty) = nothing::find(action).filter(|_| is_ec2) {
        caller.may("*")?;
        return encode(caller, call, &nothing::list(empty, &call.parameters)?);
    }
    let (code, what) = if is_ec2 && refused::is_known(action) {
        (Code::UnsupportedOperation, "not supported by this cloud")
    } else {
        (Code::InvalidAction, "not valid for this web service")
    };
    Err(Error::new(code, format!("The action {action} is {what}")))
}

/// Reads the request, and refuses what a policy does not allow before anything looks at it.
fn decode<A: Action>(caller: &Caller, call: &Call, on: impl Fn(&A) -> On) -> Result<A> {
    let decoded = wire::query::decode::<A>(&call.parameters)?;
    if !decoded.unclaimed.is_empty() {
        tracing::debug!(action = A::NAME, parameters = ?decoded.unclaimed, "ignored");
    }
    match on(&decoded.value) {
        On::Nothing => {}
        On::All => caller.may("*")?,
        On::These(things) => {
            for (kind, id) in things {
                caller.may_touch(kind, &id)?;
            }
        }
    }
    Ok(decoded.value)
}

fn encode(caller: &Caller, call: &Call, output: &impl serde::Serialize) -> Result<String> {
    let (action, id) = (&call.action, caller.request_id());
    let text = match call.service {
        Service::Ec2 | Service::Bootstrap => {
            wire::envelope::ec2_answer(action, caller.api_version(), id, output)
        }
        Service::Sts => wire::envelope::query_answer(action, NAMESPACE, id, output),
        Service::Iam => wire::envelope::query_answer(
            action,
            "https://iam.amazonaws.com/doc/2010-05-08/",
            id,
            output,
        ),
    };
    text.map_err(|error| ec2::Error::internal(error).into())
}
