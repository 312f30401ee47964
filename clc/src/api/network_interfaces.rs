//! Network interfaces: every instance has one, from its launch until it is gone.

use ec2::{
    GroupIdentifier, Tag,
    network_interfaces::{
        Association, DescribeNetworkInterfaces, DescribeNetworkInterfacesOutput,
        InstanceNetworkInterface, InstanceNetworkInterfaceAttachment, NetworkInterface,
        NetworkInterfaceAttachment, PrivateAddress,
    },
};

use super::{
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
    paging::Page,
    tags,
};
use crate::{Caller, Clc, rows, rows::network::InterfaceRow, wish};

/// What an interface that nobody made by hand is called.
const DESCRIPTION: &str = "Primary network interface";

impl Filterable for NetworkInterface {
    const FIELDS: &'static [Field<Self>] = &[
        ("addresses.private-ip-address", |interface| {
            vec![interface.private_ip_address.to_string()]
        }),
        ("association.public-ip", |interface| {
            public(interface.association.as_ref())
        }),
        ("attachment.attachment-id", |interface| {
            vec![interface.attachment.attachment_id.to_string()]
        }),
        ("attachment.device-index", |interface| {
            vec![interface.attachment.device_index.to_string()]
        }),
        ("attachment.instance-id", |interface| {
            vec![interface.attachment.instance_id.to_string()]
        }),
        ("attachment.instance-owner-id", |interface| {
            vec![interface.owner_id.to_string()]
        }),
        ("attachment.status", |interface| {
            vec![interface.attachment.status.clone()]
        }),
        ("availability-zone", |interface| {
            vec![interface.availability_zone.to_string()]
        }),
        ("description", |interface| {
            vec![interface.description.clone()]
        }),
        ("group-id", |interface| {
            interface
                .group_set
                .iter()
                .map(|group| group.group_id.clone())
                .collect()
        }),
        ("group-name", |interface| {
            interface
                .group_set
                .iter()
                .map(|group| group.group_name.clone())
                .collect()
        }),
        ("interface-type", |interface| {
            vec![interface.interface_type.clone()]
        }),
        ("mac-address", |interface| {
            vec![interface.mac_address.to_string()]
        }),
        ("network-interface-id", |interface| {
            vec![interface.network_interface_id.to_string()]
        }),
        ("owner-id", |interface| vec![interface.owner_id.to_string()]),
        ("private-dns-name", |interface| {
            vec![interface.private_dns_name.clone()]
        }),
        ("private-ip-address", |interface| {
            vec![interface.private_ip_address.to_string()]
        }),
        ("requester-managed", |_| vec!["false".to_owned()]),
        ("source-dest-check", |interface| {
            vec![interface.source_dest_check.to_string()]
        }),
        ("status", |interface| vec![interface.status.clone()]),
        ("subnet-id", |interface| {
            vec![interface.subnet_id.to_string()]
        }),
        ("vpc-id", |interface| vec![interface.vpc_id.to_string()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

fn public(association: Option<&Association>) -> Vec<String> {
    association
        .iter()
        .map(|association| association.public_ip.to_string())
        .collect()
}

/// Lists interfaces.
pub async fn describe_network_interfaces(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeNetworkInterfaces,
) -> Result<DescribeNetworkInterfacesOutput> {
    let filters = Filters::of(ask.filters)?;
    let page = Page::of(
        ask.max_results,
        ask.next_token,
        !ask.network_interface_ids.is_empty(),
    )?;
    let account = caller.account().clone();
    let (interfaces, groups, mut members, mut tags) = clc
        .db
        .read(move |tx| {
            Ok::<_, Error>((
                rows::network::interfaces_of_account(tx, &account)?,
                rows::security_groups::list(tx, &account)?,
                rows::security_groups::by_interface(tx, &account)?,
                rows::tags::by_resource(tx, &account, "network-interface")?,
            ))
        })
        .await?;

    let domain = domain(clc);
    let picked = naming::pick(interfaces, &ask.network_interface_ids, |interface| {
        &interface.id
    })?;
    let shown = picked.into_iter().map(|interface| {
        let own = members.remove(&interface.id).unwrap_or_default();
        let named = groups.iter().filter(|group| own.contains(&group.id));
        let group_set = named
            .map(|group| GroupIdentifier::new(&group.id, &group.name))
            .collect();
        let inside = of_instance(&interface, group_set, &domain);
        NetworkInterface {
            network_interface_id: inside.network_interface_id,
            subnet_id: inside.subnet_id,
            vpc_id: inside.vpc_id,
            availability_zone: interface.zone,
            description: inside.description,
            owner_id: inside.owner_id.clone(),
            requester_managed: false,
            status: inside.status,
            mac_address: inside.mac_address,
            private_ip_address: inside.private_ip_address,
            private_dns_name: inside.private_dns_name,
            source_dest_check: inside.source_dest_check,
            interface_type: inside.interface_type,
            group_set: inside.group_set,
            attachment: NetworkInterfaceAttachment {
                attachment_id: inside.attachment.attachment_id,
                instance_id: interface.instance,
                instance_owner_id: inside.owner_id,
                device_index: inside.attachment.device_index,
                status: inside.attachment.status,
                attach_time: inside.attachment.attach_time,
                delete_on_termination: inside.attachment.delete_on_termination,
            },
            association: inside.association,
            private_ip_addresses_set: inside.private_ip_addresses_set,
            tag_set: tags::shown(tags.remove(interface.id.as_str()).unwrap_or_default()),
        }
    });
    let admitted = shown.filter(|interface| filters.admit(interface)).collect();
    let (network_interface_set, next_token) = page.cut(admitted, |interface| {
        interface.network_interface_id.to_string()
    });
    Ok(DescribeNetworkInterfacesOutput {
        network_interface_set,
        next_token,
    })
}

/// The domain of private names.
pub(super) fn domain(clc: &Clc) -> String {
    match clc.config.network.domain.as_str() {
        "" => format!("{}.internal", clc.region),
        domain => domain.to_owned(),
    }
}

/// An interface as its instance shows it.
pub(super) fn of_instance(
    interface: &InterfaceRow,
    group_set: Vec<GroupIdentifier>,
    domain: &str,
) -> InstanceNetworkInterface {
    let private_dns_name = wish::private_name(interface, domain);
    let association = interface.public_address.map(|public_ip| Association {
        public_ip,
        public_dns_name: wish::public_name(interface),
        ip_owner_id: "amazon".to_owned(),
    });
    InstanceNetworkInterface {
        network_interface_id: interface.id.clone(),
        subnet_id: interface.subnet.clone(),
        vpc_id: interface.vpc.clone(),
        description: DESCRIPTION.to_owned(),
        owner_id: interface.account.clone(),
        status: "in-use".to_owned(),
        mac_address: interface.mac,
        private_ip_address: interface.private_address,
        private_dns_name: private_dns_name.clone(),
        source_dest_check: true,
        interface_type: "interface".to_owned(),
        group_set,
        attachment: InstanceNetworkInterfaceAttachment {
            attachment_id: interface.attachment.clone(),
            device_index: 0,
            status: "attached".to_owned(),
            attach_time: interface.created_at.into(),
            delete_on_termination: true,
        },
        private_ip_addresses_set: vec![PrivateAddress {
            private_ip_address: interface.private_address,
            private_dns_name,
            primary: true,
            association: association.clone(),
        }],
        association,
    }
}
