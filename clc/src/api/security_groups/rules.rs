//! Rules of a group: admitted and taken back. All rules of a request, or none.
//!
//! A change grows the version of the network documents that show the group, in the same transaction.

use ec2::{
    Code,
    security_groups::{
        AuthorizeOutput, AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupIngress,
        ReferencedSecurityGroup, RevokeOutput, RevokeSecurityGroupEgress,
        RevokeSecurityGroupIngress, RevokedSecurityGroupRule, RulesAsk, SecurityGroupRule,
    },
};
use types::SecurityGroupRuleId;

use super::{
    permissions::{self, Doing, Wanted},
    which,
};
use crate::{
    Caller, Clc,
    api::{
        change,
        errors::{Error, Result},
        tags,
    },
    rows::{self, security_groups::Rule},
};

/// Rules of one group in one direction: more make a launch slow on every node.
const RULES_MAX: usize = 200;

/// Admits what comes in.
pub async fn authorize_ingress(
    clc: &Clc,
    caller: &Caller,
    ask: AuthorizeSecurityGroupIngress,
) -> Result<AuthorizeOutput> {
    authorize(clc, caller, ask.into_ask(), false).await
}

/// Admits what goes out.
pub async fn authorize_egress(
    clc: &Clc,
    caller: &Caller,
    ask: AuthorizeSecurityGroupEgress,
) -> Result<AuthorizeOutput> {
    authorize(clc, caller, ask.into_ask(), true).await
}

/// Takes back what was admitted to come in.
pub async fn revoke_ingress(
    clc: &Clc,
    caller: &Caller,
    ask: RevokeSecurityGroupIngress,
) -> Result<RevokeOutput> {
    revoke(clc, caller, ask.into_ask(), false).await
}

/// Takes back what was admitted to go out.
pub async fn revoke_egress(
    clc: &Clc,
    caller: &Caller,
    ask: RevokeSecurityGroupEgress,
) -> Result<RevokeOutput> {
    revoke(clc, caller, ask.into_ask(), true).await
}

/// All rules of a request, or none: one that is there already refuses the others.
async fn authorize(
    clc: &Clc,
    caller: &Caller,
    ask: RulesAsk,
    is_egress: bool,
) -> Result<AuthorizeOutput> {
    let tags = tags::of_new(&ask.tag_specifications, "security-group-rule")?;
    let (by, now, put) = (caller.clone(), clc.now(), tags.clone());
    let ids: Vec<_> = (0..=RULES_MAX)
        .map(|_| clc.mint(SecurityGroupRuleId::mint))
        .collect();

    let (group, made) = change(clc, caller, move |tx| {
        let group = which(tx, &by, ask.group_id.as_ref(), ask.group_name.as_deref())?;
        let wanted = permissions::wanted(tx, &by, &group, &ask, is_egress, Doing::Authorize)?;
        let there = rows::security_groups::rules(tx, &group.id)?;
        let count = there
            .iter()
            .filter(|rule| rule.permission.is_egress == is_egress)
            .count();
        if count + wanted.len() > RULES_MAX {
            let message =
                format!("A security group has {RULES_MAX} rules in each direction at most");
            return Err(Error::new(
                Code::RulesPerSecurityGroupLimitExceeded,
                message,
            ));
        }
        let mut made: Vec<Rule> = Vec::new();
        for (
            Wanted {
                permission,
                description,
            },
            id,
        ) in wanted.into_iter().zip(ids)
        {
            if there
                .iter()
                .chain(&made)
                .any(|rule| rule.permission == permission)
            {
                let message = format!(
                    "the specified rule \"{}\" already exists",
                    permissions::said(&permission)
                );
                return Err(Error::new(Code::InvalidPermissionDuplicate, message));
            }
            let rule = Rule {
                id,
                group: group.id.clone(),
                permission,
                description,
                created_at: now,
            };
            rows::security_groups::insert_rule(tx, &rule)?;
            tags::put_all(tx, &by, rule.id.as_str(), "security-group-rule", &put)?;
            made.push(rule);
        }
        rows::network::bump_vpc(tx, &group.vpc)?;
        Ok((group, made))
    })
    .await?;
    clc.wakes.network.wake();

    let shown = |rule: Rule| SecurityGroupRule {
        security_group_rule_id: rule.id,
        group_id: rule.group,
        group_owner_id: caller.account().clone(),
        is_egress,
        ip_protocol: rule.permission.protocol,
        from_port: rule.permission.from_port,
        to_port: rule.permission.to_port,
        cidr_ipv4: permissions::cidr(&rule.permission.peer),
        referenced_group_info: permissions::peer_group(&rule.permission.peer).map(|peer| {
            ReferencedSecurityGroup {
                group_id: peer,
                user_id: caller.account().clone(),
                vpc_id: group.vpc.clone(),
            }
        }),
        description: rule.description,
        tag_set: tags::shown(tags.clone()),
    };
    Ok(AuthorizeOutput {
        done: true,
        security_group_rule_set: made.into_iter().map(shown).collect(),
    })
}

/// All rules of a request, or none: one that is not there refuses the others.
async fn revoke(
    clc: &Clc,
    caller: &Caller,
    ask: RulesAsk,
    is_egress: bool,
) -> Result<RevokeOutput> {
    let by = caller.clone();
    let gone = change(clc, caller, move |tx| {
        let group = which(tx, &by, ask.group_id.as_ref(), ask.group_name.as_deref())?;
        let mut there = rows::security_groups::rules(tx, &group.id)?;
        there.retain(|rule| rule.permission.is_egress == is_egress);

        let mut gone: Vec<Rule> = Vec::new();
        for id in &ask.security_group_rule_ids {
            let rule = there.iter().find(|rule| rule.id == *id);
            gone.push(rule.cloned().ok_or_else(|| ec2::Error::not_found(id))?);
        }
        if ask.security_group_rule_ids.is_empty() {
            let wanted = permissions::wanted(tx, &by, &group, &ask, is_egress, Doing::Revoke)?;
            for Wanted { permission, .. } in wanted {
                let rule = there.iter().find(|rule| rule.permission == permission);
                gone.push(rule.cloned().ok_or_else(|| no_such_rule(&permission))?);
            }
        }
        for rule in &gone {
            rows::security_groups::delete_rule(tx, &rule.id)?;
        }
        rows::network::bump_vpc(tx, &group.vpc)?;
        Ok(gone)
    })
    .await?;
    clc.wakes.network.wake();

    let shown = |rule: Rule| RevokedSecurityGroupRule {
        security_group_rule_id: rule.id,
        group_id: rule.group,
        is_egress,
        ip_protocol: rule.permission.protocol,
        from_port: rule.permission.from_port,
        to_port: rule.permission.to_port,
        cidr_ipv4: permissions::cidr(&rule.permission.peer),
        referenced_group_id: permissions::peer_group(&rule.permission.peer),
        description: rule.description,
    };
    Ok(RevokeOutput {
        done: true,
        revoked_security_group_rule_set: gone.into_iter().map(shown).collect(),
    })
}

fn no_such_rule(permission: &rows::security_groups::Permission) -> Error {
    let message = format!(
        "The specified rule does not exist in this security group: {}",
        permissions::said(permission)
    );
    Error::new(Code::InvalidPermissionNotFound, message)
}
