//! One answer of each action with everything in it, as JSON: serde_json shows what is absent as null.

use std::collections::BTreeMap;

use ec2::{
    Action, Done, GroupIdentifier, Tag,
    account_attributes::*,
    addresses::*,
    bundle_tasks::*,
    common::{StateReason, Value},
    image_attributes::*,
    images::*,
    instance_types::*,
    instances::*,
    key_pairs::*,
    network_interfaces::*,
    regions::*,
    security_groups::*,
    tags::*,
    volumes::*,
    vpcs::*,
    zones::*,
};
use serde_json::Value as Json;
use types::{AccountId, Gib, ImageKind, ImageState, InstanceState, Timestamp, VolumeState, Zone};
use wire::{Blob, IsoTime};

fn id<I: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> I {
    text.parse().unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn account() -> AccountId {
    id("123456789012")
}

fn time() -> IsoTime {
    IsoTime(Timestamp(1_795_402_919_000))
}

fn zone() -> Zone {
    id("mallee-1a")
}

fn volume_status() -> VolumeStatusItem {
    VolumeStatusItem {
        volume_id: id("vol-00000001"),
        availability_zone: zone(),
        volume_status: VolumeStatusInfo {
            status: "impaired",
            details: vec![VolumeStatusDetails {
                name: "io-enabled",
                status: "failed",
            }],
        },
        events_set: vec![VolumeStatusEvent {
            event_type: "volume-state:error",
            description: text("The pool has 10 GiB free"),
            event_id: text("evol-00000001"),
            not_before: time(),
        }],
        actions_set: vec![VolumeStatusAction {
            code: "delete-volume",
            description: "Delete the volume",
            event_type: "volume-state:error",
            event_id: text("evol-00000001"),
        }],
    }
}

fn tags() -> Vec<Tag> {
    vec![Tag {
        key: text("Name"),
        value: text("web"),
    }]
}

fn groups() -> Vec<GroupIdentifier> {
    vec![GroupIdentifier::new(&id("sg-00000001"), "default")]
}

fn reason() -> StateReason {
    StateReason {
        code: text("Client.UserInitiatedShutdown"),
        message: text("asked"),
    }
}

/// Everything by the name of its action.
pub(crate) fn all() -> BTreeMap<&'static str, Json> {
    let mut samples = BTreeMap::new();
    let all = &mut samples;

    let task = || BundleTaskOutput {
        bundle_instance_task: bundle_task(),
    };
    add::<BundleInstance>(all, task());
    add::<CancelBundleTask>(all, task());
    add::<DescribeBundleTasks>(
        all,
        DescribeBundleTasksOutput {
            bundle_instance_tasks_set: vec![bundle_task()],
        },
    );
    add::<DescribeRegions>(
        all,
        DescribeRegionsOutput {
            region_info: vec![region()],
        },
    );
    add::<DescribeAvailabilityZones>(
        all,
        DescribeAvailabilityZonesOutput {
            availability_zone_info: vec![availability_zone()],
        },
    );
    add::<CreateKeyPair>(
        all,
        CreateKeyPairOutput {
            key_name: text("k"),
            key_fingerprint: text("00:11"),
            key_material: text("PEM"),
            key_pair_id: id("key-00000001"),
            tag_set: tags(),
        },
    );
    add::<ImportKeyPair>(
        all,
        ImportKeyPairOutput {
            key_name: text("k"),
            key_fingerprint: text("00:11"),
            key_pair_id: id("key-00000001"),
            tag_set: tags(),
        },
    );
    add::<DescribeKeyPairs>(
        all,
        DescribeKeyPairsOutput {
            key_set: vec![key_pair()],
        },
    );
    add::<DeleteKeyPair>(
        all,
        DeleteKeyPairOutput {
            done: true,
            key_pair_id: Some(id("key-00000001")),
        },
    );

    add::<CreateSecurityGroup>(
        all,
        CreateSecurityGroupOutput {
            done: true,
            group_id: id("sg-00000001"),
            tag_set: tags(),
            security_group_arn: text("arn"),
        },
    );
    add::<DescribeSecurityGroups>(
        all,
        DescribeSecurityGroupsOutput {
            security_group_info: vec![security_group()],
            next_token: Some(text("t")),
        },
    );
    add::<DeleteSecurityGroup>(
        all,
        DeleteSecurityGroupOutput {
            done: true,
            group_id: id("sg-00000001"),
        },
    );
    add::<AuthorizeSecurityGroupIngress>(all, authorized());
    add::<AuthorizeSecurityGroupEgress>(all, authorized());
    add::<RevokeSecurityGroupIngress>(all, revoked());
    add::<RevokeSecurityGroupEgress>(all, revoked());

    add::<RegisterImage>(
        all,
        RegisterImageOutput {
            image_id: id("emi-00000001"),
        },
    );
    add::<DescribeImages>(
        all,
        DescribeImagesOutput {
            images_set: vec![image()],
            next_token: Some(text("t")),
        },
    );
    add::<DeregisterImage>(all, Done::YES);
    add::<CopyImage>(
        all,
        RegisterImageOutput {
            image_id: id("emi-00000002"),
        },
    );
    add::<EnableImageDeprecation>(all, Done::YES);
    add::<DisableImageDeprecation>(all, Done::YES);
    add::<DescribeImageAttribute>(all, image_attributes());
    add::<ModifyImageAttribute>(all, Done::YES);
    add::<ResetImageAttribute>(all, Done::YES);

    add::<RunInstances>(all, reservation());
    add::<DescribeInstances>(
        all,
        DescribeInstancesOutput {
            reservation_set: vec![reservation()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeInstanceStatus>(
        all,
        DescribeInstanceStatusOutput {
            instance_status_set: vec![instance_status()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeInstanceAttribute>(all, attributes());
    add::<DescribeInstanceTypes>(
        all,
        DescribeInstanceTypesOutput::Amazon(InstanceTypes {
            instance_type_set: vec![instance_type()],
            next_token: Some(text("t")),
        }),
    );
    add::<ModifyInstanceAttribute>(all, Done::YES);
    add::<RebootInstances>(all, Done::YES);
    add::<TerminateInstances>(
        all,
        TerminateInstancesOutput {
            instances_set: vec![InstanceStateChange {
                instance_id: id("i-00000001"),
                current_state: InstanceState::ShuttingDown.into(),
                previous_state: InstanceState::Running.into(),
            }],
        },
    );
    add::<GetConsoleOutput>(
        all,
        GetConsoleOutputOutput {
            instance_id: id("i-00000001"),
            timestamp: time(),
            output: text("aGk="),
        },
    );

    add::<CreateVolume>(all, volume());
    add::<DescribeVolumes>(
        all,
        DescribeVolumesOutput {
            volume_set: vec![volume()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeVolumeStatus>(
        all,
        DescribeVolumeStatusOutput {
            volume_status_set: vec![volume_status()],
            next_token: Some(text("t")),
        },
    );
    add::<DeleteVolume>(all, Done::YES);

    add::<CreateTags>(all, Done::YES);
    add::<DeleteTags>(all, Done::YES);
    let tag = TagDescription {
        resource_id: text("i-00000001"),
        resource_type: text("instance"),
        key: text("Name"),
        value: text("web"),
    };
    add::<DescribeTags>(
        all,
        DescribeTagsOutput {
            tag_set: vec![tag],
            next_token: Some(text("t")),
        },
    );

    add::<DescribeVpcs>(
        all,
        DescribeVpcsOutput {
            vpc_set: vec![vpc()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeVpcAttribute>(
        all,
        DescribeVpcAttributeOutput {
            vpc_id: id("vpc-00000001"),
            enable_dns_support: Some(Value { value: true }),
            enable_dns_hostnames: Some(Value { value: true }),
            enable_network_address_usage_metrics: Some(Value { value: false }),
        },
    );
    add::<DescribeSubnets>(
        all,
        DescribeSubnetsOutput {
            subnet_set: vec![subnet()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeNetworkInterfaces>(
        all,
        DescribeNetworkInterfacesOutput {
            network_interface_set: vec![network_interface()],
            next_token: Some(text("t")),
        },
    );
    add::<DescribeAddresses>(
        all,
        DescribeAddressesOutput {
            addresses_set: vec![Address {
                public_ip: text("10.0.0.1"),
                allocation_id: id("eipalloc-00000001"),
                domain: text("vpc"),
            }],
        },
    );
    add::<DescribeAccountAttributes>(
        all,
        DescribeAccountAttributesOutput {
            account_attribute_set: vec![AccountAttribute {
                attribute_name: text("default-vpc"),
                attribute_value_set: vec![AccountAttributeValue {
                    attribute_value: text("vpc-00000001"),
                }],
            }],
        },
    );
    samples
}

#[allow(clippy::needless_pass_by_value, reason = "a sample is made for this")]
fn add<A: Action>(all: &mut BTreeMap<&'static str, Json>, output: A::Output) {
    all.insert(A::NAME, serde_json::to_value(&output).unwrap());
}

fn region() -> Region {
    Region {
        region_name: text("mallee-1"),
        region_endpoint: text("localhost:8773"),
        opt_in_status: text("opt-in-not-required"),
    }
}

fn availability_zone() -> AvailabilityZone {
    AvailabilityZone {
        zone_name: text("mallee-1a"),
        zone_state: text("available"),
        region_name: Some(text("mallee-1")),
        zone_id: Some(text("mallee-1a")),
        group_name: Some(text("mallee-1")),
        network_border_group: Some(text("mallee-1")),
        zone_type: Some(text("availability-zone")),
        opt_in_status: Some(text("opt-in-not-required")),
        message_set: vec![AvailabilityZoneMessage {
            message: text("all is well"),
        }],
    }
}

fn key_pair() -> KeyPair {
    KeyPair {
        key_name: text("k"),
        key_fingerprint: text("00:11"),
        key_pair_id: id("key-00000001"),
        key_type: KeyType::Rsa,
        public_key: Some(text("ssh-rsa AAAA")),
        create_time: time(),
        tag_set: tags(),
    }
}

fn security_group() -> SecurityGroup {
    SecurityGroup {
        owner_id: account(),
        group_id: id("sg-00000001"),
        group_name: text("default"),
        group_description: text("default group"),
        vpc_id: id("vpc-00000001"),
        ip_permissions: vec![permission()],
        ip_permissions_egress: vec![permission()],
        tag_set: tags(),
        security_group_arn: text("arn"),
    }
}

fn permission() -> IpPermissionShown {
    IpPermissionShown {
        ip_protocol: text("tcp"),
        from_port: Some(22),
        to_port: Some(22),
        groups: vec![UserIdGroupPairShown {
            user_id: account(),
            group_id: id("sg-00000002"),
            group_name: Some(text("web")),
            description: Some(text("d")),
        }],
        ip_ranges: vec![IpRangeShown {
            cidr_ip: text("0.0.0.0/0"),
            description: Some(text("d")),
        }],
        ipv6_ranges: vec![],
        prefix_list_ids: vec![],
    }
}

fn authorized() -> AuthorizeOutput {
    AuthorizeOutput {
        done: true,
        security_group_rule_set: vec![SecurityGroupRule {
            security_group_rule_id: id("sgr-00000001"),
            group_id: id("sg-00000001"),
            group_owner_id: account(),
            is_egress: false,
            ip_protocol: text("tcp"),
            from_port: 22,
            to_port: 22,
            cidr_ipv4: Some(text("0.0.0.0/0")),
            referenced_group_info: Some(ReferencedSecurityGroup {
                group_id: id("sg-00000002"),
                user_id: account(),
                vpc_id: id("vpc-00000001"),
            }),
            description: Some(text("d")),
            tag_set: tags(),
        }],
    }
}

fn revoked() -> RevokeOutput {
    RevokeOutput {
        done: true,
        revoked_security_group_rule_set: vec![RevokedSecurityGroupRule {
            security_group_rule_id: id("sgr-00000001"),
            group_id: id("sg-00000001"),
            is_egress: false,
            ip_protocol: text("tcp"),
            from_port: 22,
            to_port: 22,
            cidr_ipv4: Some(text("0.0.0.0/0")),
            referenced_group_id: Some(id("sg-00000002")),
            description: Some(text("d")),
        }],
    }
}

fn product_codes() -> Vec<ProductCode> {
    vec![ProductCode {
        product_code: text("p"),
        kind: text("marketplace"),
    }]
}

fn image_attributes() -> DescribeImageAttributeOutput {
    DescribeImageAttributeOutput {
        image_id: id("emi-00000001"),
        description: Some(Value {
            value: Some(text("d")),
        }),
        kernel: Some(Value {
            value: Some(id("eki-00000001")),
        }),
        ramdisk: Some(Value {
            value: Some(id("eri-00000001")),
        }),
        launch_permission: Some(vec![LaunchPermission {
            user_id: Some(account()),
            group: Some(text("all")),
        }]),
        product_codes: Some(product_codes()),
        block_device_mapping: Some(vec![image_device()]),
        boot_mode: Some(Value {
            value: "legacy-bios",
        }),
        deregistration_protection: Some(Value { value: "disabled" }),
    }
}

fn image_device() -> ImageBlockDevice {
    ImageBlockDevice {
        device_name: text("/dev/sdb"),
        virtual_name: Some(text("ephemeral0")),
    }
}

fn image() -> Image {
    Image {
        image_id: id("emi-00000001"),
        image_location: text("b/i.manifest.xml"),
        image_state: ImageState::Available,
        image_owner_id: account(),
        image_owner_alias: Some(text("admin")),
        creation_date: time(),
        is_public: false,
        product_codes: product_codes(),
        architecture: text("x86_64"),
        image_type: ImageKind::Machine,
        kernel_id: Some(id("eki-00000001")),
        ramdisk_id: Some(id("eri-00000001")),
        platform: Some(text("windows")),
        platform_details: text("Windows"),
        usage_operation: text("RunInstances"),
        state_reason: Some(reason()),
        name: text("i"),
        description: Some(text("d")),
        root_device_type: text("instance-store"),
        root_device_name: Some(text("/dev/sda1")),
        block_device_mapping: vec![image_device()],
        virtualization_type: text("hvm"),
        hypervisor: text("kvm"),
        boot_mode: text("legacy-bios"),
        source_image_id: Some(id("emi-00000002")),
        source_image_region: Some(id("mallee-1")),
        deprecation_time: Some(time()),
        tag_set: tags(),
    }
}

fn association() -> Association {
    Association {
        public_ip: id("10.0.0.1"),
        public_dns_name: text("euca-10-0-0-1.eucalyptus"),
        ip_owner_id: text("amazon"),
    }
}

fn private_addresses() -> Vec<PrivateAddress> {
    vec![PrivateAddress {
        private_ip_address: id("172.31.0.10"),
        private_dns_name: text("ip-172-31-0-10"),
        primary: true,
        association: Some(association()),
    }]
}

fn network_interface() -> NetworkInterface {
    NetworkInterface {
        network_interface_id: id("eni-00000001"),
        subnet_id: id("subnet-00000001"),
        vpc_id: id("vpc-00000001"),
        availability_zone: zone(),
        description: text("Primary network interface"),
        owner_id: account(),
        requester_managed: false,
        status: text("in-use"),
        mac_address: id("d0:0d:00:00:00:01"),
        private_ip_address: id("172.31.0.10"),
        private_dns_name: text("ip-172-31-0-10"),
        source_dest_check: true,
        interface_type: text("interface"),
        group_set: groups(),
        attachment: NetworkInterfaceAttachment {
            attachment_id: id("eni-attach-00000001"),
            instance_id: id("i-00000001"),
            instance_owner_id: account(),
            device_index: 0,
            status: text("attached"),
            attach_time: time(),
            delete_on_termination: true,
        },
        association: Some(association()),
        private_ip_addresses_set: private_addresses(),
        tag_set: tags(),
    }
}

fn block_devices() -> Vec<InstanceBlockDevice> {
    vec![InstanceBlockDevice {
        device_name: text("/dev/vdb"),
        ebs: EbsInstanceBlockDevice {
            volume_id: id("vol-00000001"),
            status: text("attached"),
            attach_time: time(),
            delete_on_termination: true,
        },
    }]
}

fn reservation() -> Reservation {
    Reservation {
        reservation_id: id("r-00000001"),
        owner_id: account(),
        group_set: groups(),
        instances_set: vec![instance()],
    }
}

fn instance() -> Instance {
    Instance {
        instance_id: id("i-00000001"),
        image_id: id("emi-00000001"),
        instance_state: InstanceState::Running.into(),
        private_dns_name: text("ip-172-31-0-10"),
        dns_name: text("10.0.0.1"),
        reason: text("User initiated"),
        key_name: Some(text("k")),
        ami_launch_index: 0,
        product_codes: product_codes(),
        instance_type: text("m1.small"),
        launch_time: time(),
        placement: Placement {
            availability_zone: zone(),
            group_name: "",
            tenancy: "default",
        },
        kernel_id: Some(id("eki-00000001")),
        ramdisk_id: Some(id("eri-00000001")),
        monitoring: Monitoring { state: "disabled" },
        subnet_id: Some(id("subnet-00000001")),
        vpc_id: Some(id("vpc-00000001")),
        private_ip_address: Some(id("172.31.0.10")),
        ip_address: Some(id("10.0.0.1")),
        source_dest_check: Some(true),
        group_set: groups(),
        state_reason: Some(reason()),
        architecture: text("x86_64"),
        root_device_type: "instance-store",
        root_device_name: "/dev/vda",
        block_device_mapping: block_devices(),
        virtualization_type: "hvm",
        client_token: text("t"),
        tag_set: tags(),
        hypervisor: "kvm",
        network_interface_set: vec![InstanceNetworkInterface {
            network_interface_id: id("eni-00000001"),
            subnet_id: id("subnet-00000001"),
            vpc_id: id("vpc-00000001"),
            description: text("Primary network interface"),
            owner_id: account(),
            status: text("in-use"),
            mac_address: id("d0:0d:00:00:00:01"),
            private_ip_address: id("172.31.0.10"),
            private_dns_name: text("ip-172-31-0-10"),
            source_dest_check: true,
            interface_type: text("interface"),
            group_set: groups(),
            attachment: InstanceNetworkInterfaceAttachment {
                attachment_id: id("eni-attach-00000001"),
                device_index: 0,
                status: text("attached"),
                attach_time: time(),
                delete_on_termination: true,
            },
            association: Some(association()),
            private_ip_addresses_set: private_addresses(),
        }],
        ebs_optimized: false,
        metadata_options: MetadataOptions {
            state: "applied",
            http_tokens: HttpTokens::Optional,
            http_put_response_hop_limit: 1,
            http_endpoint: Switch::Enabled,
            instance_metadata_tags: Switch::Disabled,
        },
    }
}

fn instance_status() -> InstanceStatus {
    let summary = InstanceStatusSummary {
        status: "impaired",
        details: vec![InstanceStatusDetails {
            name: "reachability",
            status: "failed",
            impaired_since: Some(time()),
        }],
    };
    InstanceStatus {
        instance_id: id("i-00000001"),
        availability_zone: zone(),
        instance_state: InstanceState::Running.into(),
        events_set: vec![InstanceStatusEvent {
            code: text("instance-stop"),
            description: text("d"),
        }],
        system_status: summary.clone(),
        instance_status: summary,
    }
}

fn attributes() -> DescribeInstanceAttributeOutput {
    DescribeInstanceAttributeOutput {
        instance_id: id("i-00000001"),
        instance_type: Some(Value {
            value: text("m1.small"),
        }),
        kernel: Some(Value {
            value: Some(id("eki-00000001")),
        }),
        ramdisk: Some(Value {
            value: Some(id("eri-00000001")),
        }),
        user_data: Some(Value {
            value: Some(Blob(b"hi".to_vec())),
        }),
        disable_api_termination: Some(Value { value: false }),
        disable_api_stop: Some(Value { value: false }),
        instance_initiated_shutdown_behavior: Some(Value {
            value: ShutdownBehavior::Stop,
        }),
        root_device_name: Some(Value { value: "/dev/vda" }),
        block_device_mapping: Some(block_devices()),
        product_codes: Some(product_codes()),
        source_dest_check: Some(Value { value: true }),
        group_set: Some(groups()),
        ebs_optimized: Some(Value { value: false }),
        sriov_net_support: Some(Value { value: "simple" }),
        ena_support: Some(Value { value: false }),
        enclave_options: Some(EnclaveOptions { enabled: false }),
    }
}

fn instance_type() -> InstanceType {
    InstanceType {
        instance_type: text("m1.small"),
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
            default_vcpus: 1,
            default_cores: 1,
            default_threads_per_core: 1,
        },
        memory_info: MemoryInfo { size_in_mib: 256 },
        instance_storage_supported: true,
        instance_storage_info: InstanceStorageInfo {
            total_size_in_gb: 5,
            nvme_support: "unsupported",
        },
        ebs_info: EbsInfo {
            ebs_optimized_support: "unsupported",
            encryption_support: "unsupported",
            nvme_support: "unsupported",
        },
        network_info: NetworkInfo {
            network_performance: "Low",
            maximum_network_interfaces: 2,
            ipv4_addresses_per_interface: 1,
            ipv6_addresses_per_interface: 0,
            ipv6_supported: false,
            ena_support: "unsupported",
            efa_supported: false,
        },
        placement_group_info: PlacementGroupInfo {
            supported_strategies: vec!["spread"],
        },
        hibernation_supported: false,
        burstable_performance_supported: false,
        dedicated_hosts_supported: false,
        auto_recovery_supported: false,
        supported_boot_modes: vec!["legacy-bios"],
    }
}

fn volume() -> Volume {
    Volume {
        volume_id: id("vol-00000001"),
        size: Gib(1),
        snapshot_id: Some(id("snap-00000001")),
        availability_zone: zone(),
        status: VolumeState::InUse,
        create_time: time(),
        volume_type: text("standard"),
        iops: Some(100),
        encrypted: false,
        multi_attach_enabled: false,
        attachment_set: vec![VolumeAttachment {
            volume_id: id("vol-00000001"),
            instance_id: id("i-00000001"),
            device: text("/dev/vdb"),
            status: text("attached"),
            attach_time: time(),
            delete_on_termination: false,
        }],
        tag_set: tags(),
    }
}

fn bundle_task() -> BundleTask {
    BundleTask {
        bundle_id: id("bun-00000001"),
        instance_id: id("i-00000001"),
        state: text("failed"),
        progress: text("42%"),
        start_time: time(),
        update_time: time(),
        storage: StorageShown {
            s3: S3StorageShown {
                bucket: text("images"),
                prefix: text("mine/web"),
            },
        },
        error: Some(BundleTaskError {
            code: text("Server.InternalError"),
            message: text("the store is full"),
        }),
    }
}

fn vpc() -> Vpc {
    Vpc {
        vpc_id: id("vpc-00000001"),
        owner_id: account(),
        state: text("available"),
        cidr_block: text("172.31.0.0/16"),
        cidr_block_association_set: vec![CidrBlockAssociation {
            association_id: text("vpc-cidr-assoc-00000001"),
            cidr_block: text("172.31.0.0/16"),
            cidr_block_state: CidrBlockState {
                state: text("associated"),
            },
        }],
        dhcp_options_id: text("default"),
        instance_tenancy: text("default"),
        is_default: true,
        tag_set: tags(),
    }
}

fn subnet() -> Subnet {
    Subnet {
        subnet_id: id("subnet-00000001"),
        subnet_arn: text("arn"),
        owner_id: account(),
        state: text("available"),
        vpc_id: id("vpc-00000001"),
        cidr_block: text("172.31.0.0/20"),
        available_ip_address_count: 4091,
        availability_zone: zone(),
        default_for_az: true,
        map_public_ip_on_launch: true,
        assign_ipv6_address_on_creation: false,
        tag_set: tags(),
    }
}
