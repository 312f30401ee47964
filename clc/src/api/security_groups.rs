//! Security groups: made, listed, removed. Their rules are in `rules`.
//!
//! A group belongs to a VPC, the account's default one unless told otherwise.

mod permissions;
mod rules;

use ec2::{
    Code, Tag,
    security_groups::{
        CreateSecurityGroup, CreateSecurityGroupOutput, DeleteSecurityGroup,
        DeleteSecurityGroupOutput, DescribeSecurityGroups, DescribeSecurityGroupsOutput,
        SecurityGroup,
    },
};
use store::Tx;
use types::{Arn, SecurityGroupId, SecurityGroupRuleId, id::Id};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
    paging::{Page, by_time},
    tags,
};
use crate::{
    Caller, Clc,
    default_vpc::DEFAULT_GROUP,
    rows::{
        self,
        security_groups::{Rule, SecurityGroup as Row},
    },
};
pub use rules::{authorize_egress, authorize_ingress, revoke_egress, revoke_ingress};

/// Groups of one account. Each is a set on every node that shows it.
const GROUPS_MAX: usize = 500;

/// Makes a group. Everything may leave it, nothing may come in.
pub async fn create_security_group(
    clc: &Clc,
    caller: &Caller,
    ask: CreateSecurityGroup,
) -> Result<CreateSecurityGroupOutput> {
    naming::printable("GroupName", &ask.group_name)?;
    naming::printable("GroupDescription", &ask.group_description)?;
    if ask.group_name.starts_with("sg-") {
        let reason = "A group name may not start with sg-";
        return Err(ec2::Error::invalid("GroupName", &ask.group_name, reason).into());
    }
    if ask.group_name == DEFAULT_GROUP {
        return Err(Error::new(
            Code::InvalidGroupReserved,
            "The group name 'default' is reserved",
        ));
    }
    let tags = tags::of_new(&ask.tag_specifications, "security-group")?;

    let id = clc.mint(SecurityGroupId::mint);
    let rule = clc.mint(SecurityGroupRuleId::mint);
    let (by, now, group_id, put) = (caller.clone(), clc.now(), id.clone(), tags.clone());
    change(clc, caller, move |tx| {
        let vpc = match ask.vpc_id {
            Some(id) => rows::network::find_vpc(tx, &id)?
                .filter(|vpc| vpc.account == *by.account())
                .ok_or_else(|| ec2::Error::not_found(&id))?,
            None => rows::network::default_vpc(tx, by.account())?.ok_or_else(|| {
                Error::new(
                    Code::Id("VPCIdNotSpecified"),
                    "No default VPC for this user",
                )
            })?,
        };
        if rows::security_groups::find_by_name(tx, &vpc.id, &ask.group_name)?.is_some() {
            let message = format!(
                "The security group '{}' already exists for VPC '{}'",
                ask.group_name, vpc.id
            );
            return Err(Error::new(Code::InvalidGroupDuplicate, message));
        }
        if rows::security_groups::list(tx, by.account())?.len() >= GROUPS_MAX {
            let message = format!("An account has {GROUPS_MAX} security groups at most");
            return Err(Error::new(Code::SecurityGroupLimitExceeded, message));
        }
        let group = Row {
            id: group_id,
            account: by.account().clone(),
            vpc: vpc.id,
            name: ask.group_name,
            description: ask.group_description,
            short: rows::short_ids::next(tx)?,
            created_at: now,
        };
        rows::security_groups::insert(tx, &group)?;
        rows::security_groups::insert_rule(tx, &permissions::everything_out(&group, rule))?;
        tags::put_all(tx, &by, group.id.as_str(), "security-group", &put)
    })
    .await?;

    Ok(CreateSecurityGroupOutput {
        done: true,
        security_group_arn: arn(clc, caller, &id),
        group_id: id,
        tag_set: tags::shown(tags),
    })
}

fn arn(clc: &Clc, caller: &Caller, id: &SecurityGroupId) -> String {
    Arn::ec2(
        clc.region.as_str(),
        caller.account(),
        "security-group",
        id.as_str(),
    )
    .to_string()
}

/// Which group a request means: an id, or a name in the default VPC. Policies decide about ids, so
/// that a group which was named is judged here.
fn which(
    tx: &Tx,
    caller: &Caller,
    id: Option<&SecurityGroupId>,
    name: Option<&str>,
) -> Result<Row> {
    if let Some(id) = id {
        let found = rows::security_groups::find(tx, caller.account(), id)?;
        return found.ok_or_else(|| ec2::Error::not_found(id).into());
    }
    let Some(name) = name else {
        return Err(ec2::Error::missing("GroupId").into());
    };
    let vpc = rows::network::default_vpc(tx, caller.account())?;
    let found = match vpc {
        Some(vpc) => rows::security_groups::find_by_name(tx, &vpc.id, name)?,
        None => None,
    };
    let group = found.ok_or_else(|| {
        let message = format!("The security group '{name}' does not exist");
        Error::new(Code::Id(SecurityGroupId::NOT_FOUND), message)
    })?;
    caller.may_touch("security-group", group.id.as_str())?;
    Ok(group)
}

/// Removes a group that no instance and no other group's rule uses.
pub async fn delete_security_group(
    clc: &Clc,
    caller: &Caller,
    ask: DeleteSecurityGroup,
) -> Result<DeleteSecurityGroupOutput> {
    let by = caller.clone();
    let group_id = change(clc, caller, move |tx| {
        let group = which(tx, &by, ask.group_id.as_ref(), ask.group_name.as_deref())?;
        if group.name == DEFAULT_GROUP {
            let message = format!(
                "the specified group: \"{}\" name: \"default\" cannot be deleted by a user",
                group.id
            );
            return Err(Error::new(Code::CannotDelete, message));
        }
        let is_member = !rows::network::members_of(tx, &group.id)?.is_empty();
        if is_member || rows::security_groups::find_referrer(tx, &group.id)?.is_some() {
            return Err(in_use(&by, &group));
        }
        rows::security_groups::delete(tx, &group.id)?;
        Ok(group.id)
    })
    .await?;
    Ok(DeleteSecurityGroupOutput {
        done: true,
        group_id,
    })
}

/// Terraform waits on DependencyViolation; clients of before VPCs knew InvalidGroup.InUse.
fn in_use(caller: &Caller, group: &Row) -> Error {
    let is_old = super::is_before(caller.api_version(), "2011-01-01");
    let code = if is_old {
        Code::InvalidGroupInUse
    } else {
        Code::DependencyViolation
    };
    Error::new(
        code,
        format!("resource {} has a dependent object", group.id),
    )
}

impl Filterable for SecurityGroup {
    const FIELDS: &'static [Field<Self>] = &[
        ("description", |group| vec![group.group_description.clone()]),
        ("egress.ip-permission.cidr", |group| {
            permissions::cidrs(&group.ip_permissions_egress)
        }),
        ("egress.ip-permission.from-port", |group| {
            permissions::from_ports(&group.ip_permissions_egress)
        }),
        ("egress.ip-permission.group-id", |group| {
            permissions::group_ids(&group.ip_permissions_egress)
        }),
        ("egress.ip-permission.protocol", |group| {
            permissions::protocols(&group.ip_permissions_egress)
        }),
        ("egress.ip-permission.to-port", |group| {
            permissions::to_ports(&group.ip_permissions_egress)
        }),
        ("group-id", |group| vec![group.group_id.to_string()]),
        ("group-name", |group| vec![group.group_name.clone()]),
        ("ip-permission.cidr", |group| {
            permissions::cidrs(&group.ip_permissions)
        }),
        ("ip-permission.from-port", |group| {
            permissions::from_ports(&group.ip_permissions)
        }),
        ("ip-permission.group-id", |group| {
            permissions::group_ids(&group.ip_permissions)
        }),
        ("ip-permission.group-name", |group| {
            permissions::group_names(&group.ip_permissions)
        }),
        ("ip-permission.protocol", |group| {
            permissions::protocols(&group.ip_permissions)
        }),
        ("ip-permission.to-port", |group| {
            permissions::to_ports(&group.ip_permissions)
        }),
        ("ip-permission.user-id", |group| {
            permissions::user_ids(&group.ip_permissions)
        }),
        ("owner-id", |group| vec![group.owner_id.to_string()]),
        ("vpc-id", |group| vec![group.vpc_id.to_string()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists groups with their rules, oldest first.
pub async fn describe_security_groups(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeSecurityGroups,
) -> Result<DescribeSecurityGroupsOutput> {
    let filters = Filters::of(ask.filters)?;
    let has_ids = !ask.group_ids.is_empty() || !ask.group_names.is_empty();
    let page = Page::of(ask.max_results, ask.next_token, has_ids)?;

    let account = caller.account().clone();
    let (groups, rules, mut tags) = clc
        .db
        .read(move |tx| {
            let groups = rows::security_groups::list(tx, &account)?;
            let rules = rows::security_groups::rules_of_account(tx, &account)?;
            let tags = rows::tags::by_resource(tx, &account, "security-group")?;
            Ok::<_, Error>((groups, rules, tags))
        })
        .await?;
    naming::all_found(&ask.group_ids, |id| {
        groups.iter().any(|group| group.id == *id)
    })?;
    for name in &ask.group_names {
        if !groups.iter().any(|group| group.name == *name) {
            let message = format!("The security group '{name}' does not exist");
            return Err(Error::new(Code::Id(SecurityGroupId::NOT_FOUND), message));
        }
    }

    let names = groups
        .iter()
        .map(|group| (group.id.clone(), group.name.clone()))
        .collect();
    let asked = |group: &Row| {
        !has_ids || ask.group_ids.contains(&group.id) || ask.group_names.contains(&group.name)
    };
    let listed = groups.into_iter().filter(asked).map(|group| {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.group == group.id).collect();
        let shown = SecurityGroup {
            ip_permissions: permissions::shown(&rules, false, caller.account(), &names),
            ip_permissions_egress: permissions::shown(&rules, true, caller.account(), &names),
            tag_set: tags::shown(tags.remove(group.id.as_str()).unwrap_or_default()),
            security_group_arn: arn(clc, caller, &group.id),
            owner_id: group.account,
            group_id: group.id,
            group_name: group.name,
            group_description: group.description,
            vpc_id: group.vpc,
        };
        (group.created_at, shown)
    });
    let admitted = listed.filter(|(_, group)| filters.admit(group)).collect();
    let (groups, next_token) = page.cut(admitted, |(at, group)| {
        by_time(*at, group.group_id.as_str())
    });
    let security_group_info = groups.into_iter().map(|(_, group)| group).collect();
    Ok(DescribeSecurityGroupsOutput {
        security_group_info,
        next_token,
    })
}

/// The group of an id or, from clients of before VPCs, of a name: for a launch.
pub(super) fn for_launch(
    tx: &Tx,
    caller: &Caller,
    vpc: &types::VpcId,
    ids: &[SecurityGroupId],
    names: &[String],
) -> Result<Vec<Row>> {
    let mut groups: Vec<Row> = Vec::new();
    for id in ids {
        let found = rows::security_groups::find(tx, caller.account(), id)?;
        groups.push(found.ok_or_else(|| ec2::Error::not_found(id))?);
    }
    for name in names {
        // Old tools put an id where a name belongs.
        let by_id = name
            .parse()
            .ok()
            .map(|id| rows::security_groups::find(tx, caller.account(), &id));
        let found = match rows::security_groups::find_by_name(tx, vpc, name)? {
            Some(group) => Some(group),
            None => by_id.transpose()?.flatten(),
        };
        groups.push(found.ok_or_else(|| {
            let message = format!("The security group '{name}' does not exist in VPC '{vpc}'");
            Error::new(Code::Id(SecurityGroupId::NOT_FOUND), message)
        })?);
    }
    if groups.is_empty() {
        let default = rows::security_groups::find_by_name(tx, vpc, DEFAULT_GROUP)?;
        groups.extend(default);
    }
    for group in &groups {
        caller.may_touch("security-group", group.id.as_str())?;
    }
    if let Some(group) = groups.iter().find(|group| group.vpc != *vpc) {
        let message = format!(
            "The security group '{}' does not exist in VPC '{vpc}'",
            group.id
        );
        return Err(Error::new(Code::Id(SecurityGroupId::NOT_FOUND), message));
    }
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    groups.dedup_by(|a, b| a.id == b.id);
    Ok(groups)
}
