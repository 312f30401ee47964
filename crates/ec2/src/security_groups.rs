//! Security groups and their rules.
//!
//! A rule may be said in three ways: as `IpPermissions.N`, as the flat parameters of before 2010
//! (libcloud and Hybridfox still send them), and, when it is revoked, by its id.

use serde::{Deserialize, Serialize};
use types::{AccountId, SecurityGroupId, SecurityGroupRuleId, VpcId};

use crate::{Action, Filter, Tag, TagSpecification};

/// Makes a group, in the caller's default VPC unless told otherwise.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateSecurityGroup {
    pub group_name: String,
    pub group_description: String,
    pub vpc_id: Option<VpcId>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSecurityGroupOutput {
    #[serde(rename = "return")]
    pub done: bool,
    pub group_id: SecurityGroupId,
    pub tag_set: Vec<Tag>,
    pub security_group_arn: String,
}

impl Action for CreateSecurityGroup {
    const NAME: &'static str = "CreateSecurityGroup";
    type Output = CreateSecurityGroupOutput;
}

/// Lists groups with their rules.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSecurityGroups {
    #[serde(default, rename = "GroupId")]
    pub group_ids: Vec<SecurityGroupId>,
    #[serde(default, rename = "GroupName")]
    pub group_names: Vec<String>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
    pub max_results: Option<u32>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeSecurityGroupsOutput {
    pub security_group_info: Vec<SecurityGroup>,
    pub next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroup {
    pub owner_id: AccountId,
    pub group_id: SecurityGroupId,
    pub group_name: String,
    pub group_description: String,
    pub vpc_id: VpcId,
    pub ip_permissions: Vec<IpPermissionShown>,
    pub ip_permissions_egress: Vec<IpPermissionShown>,
    pub tag_set: Vec<Tag>,
    pub security_group_arn: String,
}

impl Action for DescribeSecurityGroups {
    const NAME: &'static str = "DescribeSecurityGroups";
    type Output = DescribeSecurityGroupsOutput;
}

/// Removes a group that nothing uses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteSecurityGroup {
    pub group_id: Option<SecurityGroupId>,
    pub group_name: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteSecurityGroupOutput {
    #[serde(rename = "return")]
    pub done: bool,
    pub group_id: SecurityGroupId,
}

impl Action for DeleteSecurityGroup {
    const NAME: &'static str = "DeleteSecurityGroup";
    type Output = DeleteSecurityGroupOutput;
}

/// Rules as they are asked for: one protocol and port range, any number of other ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpPermission {
    pub ip_protocol: String,
    pub from_port: Option<i32>,
    pub to_port: Option<i32>,
    #[serde(default)]
    pub groups: Vec<UserIdGroupPair>,
    #[serde(default)]
    pub ip_ranges: Vec<IpRange>,
    #[serde(default)]
    pub ipv6_ranges: Vec<Ipv6Range>,
    #[serde(default)]
    pub prefix_list_ids: Vec<PrefixList>,
}

/// A group as the other end of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserIdGroupPair {
    pub group_id: Option<SecurityGroupId>,
    pub group_name: Option<String>,
    pub user_id: Option<String>,
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpRange {
    pub cidr_ip: String,
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6Range {
    pub cidr_ipv6: String,
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrefixList {
    pub prefix_list_id: String,
    pub description: Option<String>,
}

/// Defines an action on the rules of a group; all four have the same parameters.
macro_rules! rule_action {
    ($(#[$doc:meta])* $name:ident -> $output:ty) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $name {
            pub group_id: Option<SecurityGroupId>,
            pub group_name: Option<String>,
            #[serde(default)]
            pub ip_permissions: Vec<IpPermission>,
            #[serde(default, rename = "SecurityGroupRuleId")]
            pub security_group_rule_ids: Vec<SecurityGroupRuleId>,
            #[serde(default, rename = "TagSpecification")]
            pub tag_specifications: Vec<TagSpecification>,
            pub ip_protocol: Option<String>,
            pub from_port: Option<i32>,
            pub to_port: Option<i32>,
            pub cidr_ip: Option<String>,
            pub source_security_group_name: Option<String>,
            pub source_security_group_owner_id: Option<String>,
        }

        impl $name {
            /// The same as what all four have.
            pub fn into_ask(self) -> RulesAsk {
                RulesAsk {
                    group_id: self.group_id,
                    group_name: self.group_name,
                    ip_permissions: self.ip_permissions,
                    security_group_rule_ids: self.security_group_rule_ids,
                    tag_specifications: self.tag_specifications,
                    flat: FlatPermission {
                        ip_protocol: self.ip_protocol,
                        from_port: self.from_port,
                        to_port: self.to_port,
                        cidr_ip: self.cidr_ip,
                        source_security_group_name: self.source_security_group_name,
                        source_security_group_owner_id: self.source_security_group_owner_id,
                    },
                }
            }
        }

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            type Output = $output;
        }
    };
}

/// What the four actions on rules ask.
#[derive(Debug)]
pub struct RulesAsk {
    pub group_id: Option<SecurityGroupId>,
    pub group_name: Option<String>,
    pub ip_permissions: Vec<IpPermission>,
    pub security_group_rule_ids: Vec<SecurityGroupRuleId>,
    pub tag_specifications: Vec<TagSpecification>,
    pub flat: FlatPermission,
}

/// One rule in the parameters of before 2010.
#[derive(Debug, Default)]
pub struct FlatPermission {
    pub ip_protocol: Option<String>,
    pub from_port: Option<i32>,
    pub to_port: Option<i32>,
    pub cidr_ip: Option<String>,
    pub source_security_group_name: Option<String>,
    pub source_security_group_owner_id: Option<String>,
}

rule_action! {
    /// Admits what comes in.
    AuthorizeSecurityGroupIngress -> AuthorizeOutput
}
rule_action! {
    /// Admits what goes out.
    AuthorizeSecurityGroupEgress -> AuthorizeOutput
}
rule_action! {
    /// Takes back what was admitted to come in.
    RevokeSecurityGroupIngress -> RevokeOutput
}
rule_action! {
    /// Takes back what was admitted to go out.
    RevokeSecurityGroupEgress -> RevokeOutput
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeOutput {
    #[serde(rename = "return")]
    pub done: bool,
    pub security_group_rule_set: Vec<SecurityGroupRule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeOutput {
    #[serde(rename = "return")]
    pub done: bool,
    pub revoked_security_group_rule_set: Vec<RevokedSecurityGroupRule>,
}

/// One rule by itself.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupRule {
    pub security_group_rule_id: SecurityGroupRuleId,
    pub group_id: SecurityGroupId,
    pub group_owner_id: AccountId,
    pub is_egress: bool,
    pub ip_protocol: String,
    pub from_port: i32,
    pub to_port: i32,
    pub cidr_ipv4: Option<String>,
    pub referenced_group_info: Option<ReferencedSecurityGroup>,
    pub description: Option<String>,
    pub tag_set: Vec<Tag>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferencedSecurityGroup {
    pub group_id: SecurityGroupId,
    pub user_id: AccountId,
    pub vpc_id: VpcId,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedSecurityGroupRule {
    pub security_group_rule_id: SecurityGroupRuleId,
    pub group_id: SecurityGroupId,
    pub is_egress: bool,
    pub ip_protocol: String,
    pub from_port: i32,
    pub to_port: i32,
    pub cidr_ipv4: Option<String>,
    pub referenced_group_id: Option<SecurityGroupId>,
    pub description: Option<String>,
}

/// Rules as they are shown: those of one protocol and port range together. `-1` shows no ports.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPermissionShown {
    pub ip_protocol: String,
    pub from_port: Option<i32>,
    pub to_port: Option<i32>,
    pub groups: Vec<UserIdGroupPairShown>,
    pub ip_ranges: Vec<IpRangeShown>,
    pub ipv6_ranges: Vec<IpRangeShown>,
    pub prefix_list_ids: Vec<IpRangeShown>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdGroupPairShown {
    pub user_id: AccountId,
    pub group_id: SecurityGroupId,
    pub group_name: Option<String>,
    pub description: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRangeShown {
    pub cidr_ip: String,
    pub description: Option<String>,
}
