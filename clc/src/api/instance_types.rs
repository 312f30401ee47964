//! Instance types, in the two answers that clients know.

use ec2::instance_types::{
    DescribeInstanceTypes, DescribeInstanceTypesOutput, EbsInfo, InstanceStorageInfo, InstanceType,
    InstanceTypeAvailability, InstanceTypeDetail, InstanceTypeDetails, InstanceTypes, MemoryInfo,
    NetworkInfo, PlacementGroupInfo, ProcessorInfo, VCpuInfo,
};
use types::VmType;

use super::{
    capacity,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    is_before,
    paging::Page,
};
use crate::{Caller, Clc, rows};

/// AWS had no such action before: older clients are Eucalyptus's.
const AMAZONS_SINCE: &str = "2016-11-15";

impl Filterable for VmType {
    const FIELDS: &'static [Field<Self>] = &[
        ("bare-metal", |_| vec!["false".to_owned()]),
        ("current-generation", |_| vec!["true".to_owned()]),
        ("free-tier-eligible", |_| vec!["false".to_owned()]),
        ("hypervisor", |_| vec!["kvm".to_owned()]),
        ("instance-storage-supported", |_| vec!["true".to_owned()]),
        ("instance-type", |vm_type| vec![vm_type.name.clone()]),
        ("memory-info.size-in-mib", |vm_type| {
            vec![vm_type.memory.0.to_string()]
        }),
        ("network-info.maximum-network-interfaces", |vm_type| {
            vec![vm_type.network_interfaces.to_string()]
        }),
        ("processor-info.supported-architecture", |_| {
            vec!["x86_64".to_owned()]
        }),
        ("supported-root-device-type", |_| {
            vec!["instance-store".to_owned()]
        }),
        ("supported-usage-class", |_| vec!["on-demand".to_owned()]),
        ("supported-virtualization-type", |_| vec!["hvm".to_owned()]),
        ("vcpu-info.default-vcpus", |vm_type| {
            vec![vm_type.vcpus.to_string()]
        }),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

/// The type of that name.
pub(super) fn find(name: &str) -> Result<VmType> {
    VmType::defaults()
        .into_iter()
        .find(|vm_type| vm_type.name == name)
        .ok_or_else(|| {
            let reason = "There is no such instance type; DescribeInstanceTypes lists them";
            ec2::Error::invalid("InstanceType", name.escape_debug(), reason).into()
        })
}

/// Lists the types, smallest first.
pub async fn describe_instance_types(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeInstanceTypes,
) -> Result<DescribeInstanceTypesOutput> {
    let filters = Filters::of(ask.filters)?;
    for name in &ask.instance_types {
        find(name)?;
    }
    let asked = |name: &String| ask.instance_types.is_empty() || ask.instance_types.contains(name);
    let mut types = VmType::defaults();
    types.retain(|vm_type| asked(&vm_type.name) && filters.admit(vm_type));

    if is_before(caller.api_version(), AMAZONS_SINCE) {
        let shows_room = ask.availability.unwrap_or(false);
        return details(clc, types, shows_room).await;
    }
    let page = Page::of(
        ask.max_results,
        ask.next_token,
        !ask.instance_types.is_empty(),
    )?;
    // Their order is the table's; a page needs keys that grow.
    let keyed = types.into_iter().enumerate().collect();
    let (types, next_token) = page.cut(keyed, |(place, _): &(usize, VmType)| format!("{place:04}"));
    let instance_type_set = types
        .into_iter()
        .map(|(_, vm_type)| amazons(vm_type))
        .collect();
    Ok(DescribeInstanceTypesOutput::Amazon(InstanceTypes {
        instance_type_set,
        next_token,
    }))
}

async fn details(
    clc: &Clc,
    types: Vec<VmType>,
    shows_room: bool,
) -> Result<DescribeInstanceTypesOutput> {
    let zones = if shows_room {
        clc.db
            .read(|tx| Ok::<_, Error>(rows::cloud::zones(tx)?))
            .await?
    } else {
        Vec::new()
    };
    let detail = |vm_type: VmType| InstanceTypeDetail {
        availability: zones
            .iter()
            .map(|zone| {
                let capacity::Room { free, max } = capacity::room(clc, zone, &vm_type);
                InstanceTypeAvailability {
                    zone_name: zone.to_string(),
                    max,
                    available: free,
                }
            })
            .collect(),
        name: vm_type.name,
        cpu: vm_type.vcpus,
        memory: vm_type.memory.0,
        disk: vm_type.disk.0,
        network_interfaces: vm_type.network_interfaces,
    };
    let instance_type_details = types.into_iter().map(detail).collect();
    Ok(DescribeInstanceTypesOutput::Eucalyptus(
        InstanceTypeDetails {
            instance_type_details,
        },
    ))
}

fn amazons(vm_type: VmType) -> InstanceType {
    InstanceType {
        current_generation: true,
        free_tier_eligible: false,
        supported_usage_classes: vec!["on-demand"],
        supported_root_device_types: vec!["instance-store"],
        supported_virtualization_types: vec!["hvm"],
        bare_metal: false,
        hypervisor: "kvm",
        processor_info: ProcessorInfo {
            supported_architectures: vec!["x86_64"],
        },
        v_cpu_info: VCpuInfo {
            default_vcpus: vm_type.vcpus,
            default_cores: vm_type.vcpus,
            default_threads_per_core: 1,
        },
        memory_info: MemoryInfo {
            size_in_mib: vm_type.memory.0,
        },
        instance_storage_supported: true,
        instance_storage_info: InstanceStorageInfo {
            total_size_in_gb: vm_type.disk.0,
            nvme_support: "unsupported",
        },
        ebs_info: EbsInfo {
            ebs_optimized_support: "unsupported",
            encryption_support: "unsupported",
            nvme_support: "unsupported",
        },
        network_info: NetworkInfo {
            network_performance: "As the host's",
            maximum_network_interfaces: vm_type.network_interfaces,
            ipv4_addresses_per_interface: 1,
            ipv6_addresses_per_interface: 0,
            ipv6_supported: false,
            ena_support: "unsupported",
            efa_supported: false,
        },
        placement_group_info: PlacementGroupInfo {
            supported_strategies: Vec::new(),
        },
        hibernation_supported: false,
        burstable_performance_supported: false,
        dedicated_hosts_supported: false,
        auto_recovery_supported: false,
        supported_boot_modes: vec!["legacy-bios"],
        instance_type: vm_type.name,
    }
}
