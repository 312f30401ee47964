//! Network interfaces, as a thing of their own and as an instance shows them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use types::{
    AccountId, InstanceId, MacAddr, NetworkAttachmentId, NetworkInterfaceId, SubnetId, VpcId, Zone,
};
use wire::IsoTime;

use crate::{Action, Filter, GroupIdentifier, Tag};

/// Lists network interfaces.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNetworkInterfaces {
    #[serde(default, rename = "NetworkInterfaceId")]
    pub network_interface_ids: Vec<NetworkInterfaceId>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfacesOutput {
    pub network_interface_set: Vec<NetworkInterface>,
    pub next_token: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    pub network_interface_id: NetworkInterfaceId,
    pub subnet_id: SubnetId,
    pub vpc_id: VpcId,
    pub availability_zone: Zone,
    pub description: String,
    pub owner_id: AccountId,
    pub requester_managed: bool,
    pub status: String,
    pub mac_address: MacAddr,
    pub private_ip_address: Ipv4Addr,
    pub private_dns_name: String,
    pub source_dest_check: bool,
    pub interface_type: String,
    pub group_set: Vec<GroupIdentifier>,
    pub attachment: NetworkInterfaceAttachment,
    pub association: Option<Association>,
    pub private_ip_addresses_set: Vec<PrivateAddress>,
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAttachment {
    pub attachment_id: NetworkAttachmentId,
    pub instance_id: InstanceId,
    pub instance_owner_id: AccountId,
    pub device_index: u32,
    pub status: String,
    pub attach_time: IsoTime,
    pub delete_on_termination: bool,
}

/// A public address in front of a private one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Association {
    pub public_ip: Ipv4Addr,
    pub public_dns_name: String,
    /// `amazon` for an address of the pool that nobody allocated: clients compare it.
    pub ip_owner_id: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateAddress {
    pub private_ip_address: Ipv4Addr,
    pub private_dns_name: String,
    pub primary: bool,
    pub association: Option<Association>,
}

impl Action for DescribeNetworkInterfaces {
    const NAME: &'static str = "DescribeNetworkInterfaces";
    type Output = DescribeNetworkInterfacesOutput;
}

/// The same interface inside an instance.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterface {
    pub network_interface_id: NetworkInterfaceId,
    pub subnet_id: SubnetId,
    pub vpc_id: VpcId,
    pub description: String,
    pub owner_id: AccountId,
    pub status: String,
    pub mac_address: MacAddr,
    pub private_ip_address: Ipv4Addr,
    pub private_dns_name: String,
    pub source_dest_check: bool,
    pub interface_type: String,
    pub group_set: Vec<GroupIdentifier>,
    pub attachment: InstanceNetworkInterfaceAttachment,
    pub association: Option<Association>,
    pub private_ip_addresses_set: Vec<PrivateAddress>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceNetworkInterfaceAttachment {
    pub attachment_id: NetworkAttachmentId,
    pub device_index: u32,
    pub status: String,
    pub attach_time: IsoTime,
    pub delete_on_termination: bool,
}
