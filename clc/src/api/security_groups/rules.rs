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
use types::{SecurityGroupId, SecurityGroupRuleId, Timestamp};

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
    rows::{
        self,
        security_groups::{Permission, Rule, SecurityGroup},
    },
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
        let made = new_rules(&group.id, wanted, &there, ids, now)?;
        for rule in &made {
            rows::security_groups::insert_rule(tx, rule)?;
            tags::put_all(tx, &by, rule.id.as_str(), "security-group-rule", &put)?;
        }
        rows::network::bump_vpc(tx, &group.vpc)?;
        Ok((group, made))
    })
    .await?;
    clc.wakes.network.wake();

    let made = made.into_iter();
    Ok(AuthorizeOutput {
        done: true,
        security_group_rule_set: made
            .map(|rule| authorized(rule, &group, caller, &tags))
            .collect(),
    })
}

/// The rules that a group gets, beside those that it has.
fn new_rules(
    group: &SecurityGroupId,
    wanted: Vec<Wanted>,
    there: &[Rule],
    ids: Vec<SecurityGroupRuleId>,
    now: Timestamp,
) -> Result<Vec<Rule>> {
    within_limit(&wanted, there)?;
    let mut made: Vec<Rule> = Vec::new();
    for (wanted, id) in wanted.into_iter().zip(ids) {
        let mut known = there.iter().chain(&made);
        if known.any(|rule| rule.permission == wanted.permission) {
            return Err(duplicate(&wanted.permission));
        }
        made.push(Rule {
            id,
            group: group.clone(),
            permission: wanted.permission,
            description: wanted.description,
            created_at: now,
        });
    }
    Ok(made)
}

/// All that is wanted at once is of one direction.
fn within_limit(wanted: &[Wanted], there: &[Rule]) -> Result<()> {
    let Some(is_egress) = wanted.first().map(|wanted| wanted.permission.is_egress) else {
        return Ok(());
    };
    let same_way = there
        .iter()
        .filter(|rule| rule.permission.is_egress == is_egress);
    if same_way.count() + wanted.len() <= RULES_MAX {
        return Ok(());
    }
    let message = format!("A security group has {RULES_MAX} rules in each direction at most");
    Err(Error::new(
        Code::RulesPerSecurityGroupLimitExceeded,
        message,
    ))
}

fn duplicate(permission: &Permission) -> Error {
    let said = permissions::said(permission);
    let message = format!("the specified rule \"{said}\" already exists");
    Error::new(Code::InvalidPermissionDuplicate, message)
}

fn authorized(
    rule: Rule,
    group: &SecurityGroup,
    caller: &Caller,
    tags: &[(String, String)],
) -> SecurityGroupRule {
    let peer = permissions::peer_group(&rule.permission.peer);
    SecurityGroupRule {
        security_group_rule_id: rule.id,
        group_id: rule.group,
        group_owner_id: caller.account().clone(),
        is_egress: rule.permission.is_egress,
        ip_protocol: rule.permission.protocol,
        from_port: rule.permission.from_port,
        to_port: rule.permission.to_port,
        cidr_ipv4: permissions::cidr(&rule.permission.peer),
        referenced_group_info: peer.map(|peer| ReferencedSecurityGroup {
            group_id: peer,
            user_id: caller.account().clone(),
            vpc_id: group.vpc.clone(),
        }),
        description: rule.description,
        tag_set: tags::shown(tags.to_vec()),
    }
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

fn no_such_rule(permission: &Permission) -> Error {
    let message = format!(
        "The specified rule does not exist in this security group: {}",
        permissions::said(permission)
    );
    Error::new(Code::InvalidPermissionNotFound, message)
}
