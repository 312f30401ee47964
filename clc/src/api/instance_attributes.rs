//! One attribute of an instance at a time. Terraform reads four of each on every refresh.

use ec2::{
    GroupIdentifier,
    common::Value,
    instances::{
        DescribeInstanceAttribute, DescribeInstanceAttributeOutput, EnclaveOptions,
        InstanceAttribute, ShutdownBehavior,
    },
};
use wire::Blob;

use super::{
    errors::{Error, Result},
    instances::ROOT_DEVICE,
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
