//! One attribute of an instance at a time, read or changed. Terraform reads four of each on every
//! refresh, and takes the protection off before it ends one.

use ec2::{
    Code, Done, GroupIdentifier,
    common::Value,
    instances::{
        DescribeInstanceAttribute, DescribeInstanceAttributeOutput, EnclaveOptions,
        InstanceAttribute, ModifyInstanceAttribute, ShutdownBehavior,
    },
};
use store::Tx;
use types::{InstanceId, SecurityGroupId};
use wire::Blob;

use super::{
    change,
    errors::{Error, Result},
    instances::ROOT_DEVICE,
    launch::GROUPS_MAX,
    security_groups,
};
use crate::{Caller, Clc, rows};

/// Shows the attribute that is asked for, and no other.
pub async fn describe_instance_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeInstanceAttribute,
) -> Result<DescribeInstanceAttributeOutput> {
    let (account, id) = (caller.account().clone(), ask.instance_id);
    let (row, user_data, groups) = clc
        .db
        .read(move |tx| {
            let row = rows::instances::find(tx, &account, &id)?
                .ok_or_else(|| Error::from(ec2::Error::not_found(&id)))?;
            let user_data = rows::instances::user_data(tx, &id)?;
            let mut groups = Vec::new();
            if let Some(interface) = rows::network::interface_of(tx, &id)? {
                for group in rows::network::groups_of(tx, &interface.id)? {
                    groups.extend(rows::security_groups::find(tx, &account, &group)?);
                }
            }
            Ok::<_, Error>((row, user_data, groups))
        })
        .await?;

    let mut shown = DescribeInstanceAttributeOutput::of(row.id);
    match ask.attribute {
        InstanceAttribute::InstanceType => shown.instance_type = Some(Value { value: row.vm_type }),
        InstanceAttribute::Kernel => shown.kernel = Some(Value { value: row.kernel }),
        InstanceAttribute::Ramdisk => shown.ramdisk = Some(Value { value: row.ramdisk }),
        InstanceAttribute::UserData => {
            shown.user_data = Some(Value {
                value: user_data.map(Blob),
            })
        }
        InstanceAttribute::DisableApiTermination => {
            shown.disable_api_termination = Some(Value {
                value: row.api_termination_off,
            });
        }
        InstanceAttribute::DisableApiStop => shown.disable_api_stop = Some(Value { value: false }),
        InstanceAttribute::InstanceInitiatedShutdownBehavior => {
            let stops = row.shutdown_behavior == "stop";
            let value = if stops {
                ShutdownBehavior::Stop
            } else {
                ShutdownBehavior::Terminate
            };
            shown.instance_initiated_shutdown_behavior = Some(Value { value });
        }
        InstanceAttribute::RootDeviceName => {
            shown.root_device_name = Some(Value { value: ROOT_DEVICE })
        }
        InstanceAttribute::BlockDeviceMapping => shown.block_device_mapping = Some(Vec::new()),
        InstanceAttribute::ProductCodes => shown.product_codes = Some(Vec::new()),
        InstanceAttribute::SourceDestCheck => shown.source_dest_check = Some(Value { value: true }),
        InstanceAttribute::GroupSet => {
            let named = groups
                .iter()
                .map(|group| GroupIdentifier::new(&group.id, &group.name));
            shown.group_set = Some(named.collect());
        }
        InstanceAttribute::EbsOptimized => shown.ebs_optimized = Some(Value { value: false }),
        // EC2 shows nothing where it is not on.
        InstanceAttribute::SriovNetSupport => {}
        InstanceAttribute::EnaSupport => shown.ena_support = Some(Value { value: false }),
        InstanceAttribute::EnclaveOptions => {
            shown.enclave_options = Some(EnclaveOptions { enabled: false })
        }
    }
    Ok(shown)
}

/// What a request changes.
enum Change {
    TerminationOff(bool),
    ShutdownBehavior(&'static str),
    Groups(Vec<SecurityGroupId>),
    /// It is so already, for every instance.
    Nothing,
}

/// Changes an attribute that may change while the instance lives.
pub async fn modify_instance_attribute(
    clc: &Clc,
    caller: &Caller,
    ask: ModifyInstanceAttribute,
) -> Result<Done> {
    let id = ask.instance_id.clone();
    let wanted = wanted(ask)?;
    let by = caller.clone();
    change(clc, caller, move |tx| {
        let row = rows::instances::find(tx, by.account(), &id)?
            .ok_or_else(|| ec2::Error::not_found(&id))?;
        match wanted {
            Change::TerminationOff(is_off) => Ok(rows::instance_attributes::set_termination_off(
                tx, &row.id, is_off,
            )?),
            Change::ShutdownBehavior(word) => Ok(rows::instance_attributes::set_shutdown_behavior(
                tx, &row.id, word,
            )?),
            Change::Groups(groups) => set_groups(tx, &by, &row.id, &groups),
            Change::Nothing => Ok(()),
        }
    })
    .await?;
    clc.wakes.network.wake();
    clc.wakes.instances.wake();
    Ok(Done::YES)
}

/// The one attribute of a request, in either form.
fn wanted(ask: ModifyInstanceAttribute) -> Result<Change> {
    let mut changes = Vec::new();
    if let (Some(name), Some(value)) = (&ask.attribute, &ask.value) {
        changes.push(by_name(name, value)?);
    }
    if let Some(is_off) = ask.disable_api_termination.and_then(|asked| asked.value) {
        changes.push(Change::TerminationOff(is_off));
    }
    if let Some(word) = ask
        .instance_initiated_shutdown_behavior
        .and_then(|asked| asked.value)
    {
        changes.push(Change::ShutdownBehavior(behavior(&word)?));
    }
    if !ask.group_ids.is_empty() {
        changes.push(Change::Groups(ask.group_ids));
    }
    for (asked, is) in [
        (ask.disable_api_stop, false),
        (ask.source_dest_check, true),
        (ask.ebs_optimized, false),
    ] {
        if let Some(value) = asked.and_then(|asked| asked.value) {
            changes.push(if value == is {
                Change::Nothing
            } else {
                return Err(unsupported());
            });
        }
    }
    let texts = [ask.instance_type, ask.kernel, ask.ramdisk, ask.user_data];
    if texts.iter().any(Option::is_some) || !ask.block_device_mappings.is_empty() {
        return Err(unsupported());
    }
    match (changes.pop(), changes.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::new(
            Code::MissingParameter,
            "The request must name an attribute to change",
        )),
        (Some(_), false) => Err(Error::new(
            Code::InvalidParameterCombination,
            "Only one attribute can be changed at a time",
        )),
    }
}

fn by_name(name: &str, value: &str) -> Result<Change> {
    let flag = || match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::from(ec2::Error::invalid(
            "Value",
            value.escape_debug(),
            "Expected true or false",
        ))),
    };
    match name {
        "disableApiTermination" => Ok(Change::TerminationOff(flag()?)),
        "instanceInitiatedShutdownBehavior" => Ok(Change::ShutdownBehavior(behavior(value)?)),
        _ => Err(unsupported()),
    }
}

fn behavior(word: &str) -> Result<&'static str> {
    ["stop", "terminate"]
        .into_iter()
        .find(|known| *known == word)
        .ok_or_else(|| {
            let name = "InstanceInitiatedShutdownBehavior.Value";
            ec2::Error::invalid(name, word.escape_debug(), "Expected stop or terminate").into()
        })
}

fn unsupported() -> Error {
    let message = "This attribute cannot be changed: instances here cannot be stopped, and have one interface";
    Error::new(Code::UnsupportedOperation, message)
}

/// Puts an instance into other groups; its guest's metadata and its rules follow.
fn set_groups(tx: &Tx, caller: &Caller, id: &InstanceId, groups: &[SecurityGroupId]) -> Result<()> {
    let interface = rows::network::interface_of(tx, id)?.ok_or_else(|| {
        Error::new(
            Code::IncorrectState,
            format!("The instance '{id}' has no network interface any more"),
        )
    })?;
    let groups = security_groups::for_launch(tx, caller, &interface.vpc, groups, &[])?;
    if groups.len() > GROUPS_MAX {
        let message = format!("An instance has {GROUPS_MAX} security groups at most");
        return Err(Error::new(
            Code::SecurityGroupsPerInterfaceLimitExceeded,
            message,
        ));
    }
    let ids: Vec<_> = groups.into_iter().map(|group| group.id).collect();
    rows::instance_attributes::set_groups(tx, &interface.id, &ids)?;
    rows::network::bump_vpc(tx, &interface.vpc)?;
    Ok(rows::instances::touch(tx, id)?)
}
