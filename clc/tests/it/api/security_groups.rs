//! Security groups and their rules.

use super::{OURS, World, all, one, root};

const SSH: &str =
    "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22";

async fn group(world: &World, name: &str) -> String {
    let made = world
        .ok(&format!(
            "Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d"
        ))
        .await;
    one(&made, "groupId")
}

async fn shown(world: &World, id: &str) -> String {
    world
        .ok(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"))
        .await
}

#[tokio::test]
async fn every_account_has_the_group_default_whose_members_trust_one_another() {
    let world = World::new().await;
    let listed = world.ok("Action=DescribeSecurityGroups").await;
    assert_eq!(all(&listed, "groupName")[0], "default");
    assert!(listed.contains(&format!("<groups><item><userId>{OURS}</userId>")));
    assert!(listed.contains("<ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><groups/><ipRanges><item><cidrIp>0.0.0.0/0"));
    assert_eq!(
        world
            .code("Action=DeleteSecurityGroup&GroupName=default")
            .await,
        "CannotDelete"
    );
    let again = "Action=CreateSecurityGroup&GroupName=default&GroupDescription=d";
    assert_eq!(world.code(again).await, "InvalidGroup.Reserved");
}

#[tokio::test]
async fn a_new_group_lets_everything_out_and_nothing_in() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    let listed = shown(&world, &id).await;
    assert!(
        listed.contains("<ipPermissions/><ipPermissionsEgress><item><ipProtocol>-1</ipProtocol>")
    );
    let again = world
        .code("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d")
        .await;
    assert_eq!(again, "InvalidGroup.Duplicate");
    let theirs = root(super::THEIRS);
    let same_name = world
        .ask(
            &theirs,
            "Action=CreateSecurityGroup&GroupName=web&GroupDescription=d",
        )
        .await;
    assert!(same_name.is_ok(), "names are an account's own");
}

#[tokio::test]
async fn a_rule_is_admitted_once_shown_and_taken_back_once() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    let rule = format!(
        "&GroupId={id}&{SSH}&IpPermissions.1.IpRanges.1.CidrIp=10.1.2.3/8&IpPermissions.1.IpRanges.1.Description=lab"
    );
    let admitted = world
        .ok(&format!("Action=AuthorizeSecurityGroupIngress{rule}"))
        .await;
    assert!(one(&admitted, "securityGroupRuleId").starts_with("sgr-"));
    assert_eq!(one(&admitted, "cidrIpv4"), "10.0.0.0/8");
    assert!(shown(&world, &id).await.contains(
        "<ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort><groups/>\
         <ipRanges><item><cidrIp>10.0.0.0/8</cidrIp><description>lab</description></item></ipRanges>"
    ));
    let again = world
        .code(&format!("Action=AuthorizeSecurityGroupIngress{rule}"))
        .await;
    assert_eq!(again, "InvalidPermission.Duplicate");
    world
        .ok(&format!("Action=RevokeSecurityGroupIngress{rule}"))
        .await;
    let again = world
        .code(&format!("Action=RevokeSecurityGroupIngress{rule}"))
        .await;
    assert_eq!(again, "InvalidPermission.NotFound");
    assert!(shown(&world, &id).await.contains("<ipPermissions/>"));
}

#[tokio::test]
async fn a_request_with_one_rule_that_is_there_adds_none_of_the_others() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    let cidrs = |list: &[&str]| -> String {
        let ranges = list.iter().enumerate();
        ranges
            .map(|(n, cidr)| format!("&IpPermissions.1.IpRanges.{n}.CidrIp={cidr}"))
            .collect()
    };
    let add = |list: &[&str]| {
        format!(
            "Action=AuthorizeSecurityGroupIngress&GroupId={id}&{SSH}{}",
            cidrs(list)
        )
    };
    world.ok(&add(&["10.0.0.0/8"])).await;
    assert_eq!(
        world.code(&add(&["11.0.0.0/8", "10.0.0.0/8"])).await,
        "InvalidPermission.Duplicate"
    );
    assert_eq!(
        world.code(&add(&["12.0.0.0/8", "12.0.0.0/8"])).await,
        "InvalidPermission.Duplicate"
    );
    assert_eq!(
        all(&shown(&world, &id).await, "cidrIp"),
        ["10.0.0.0/8", "0.0.0.0/0"]
    );
}

#[tokio::test]
async fn the_flat_parameters_of_before_2010_admit_and_revoke() {
    let world = World::new().await;
    group(&world, "web").await;
    for action in [
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
    ] {
        let by_range = "GroupName=web&IpProtocol=tcp&FromPort=80&ToPort=80&CidrIp=0.0.0.0/0";
        world
            .ok(&format!("Action={action}&Version=2009-11-30&{by_range}"))
            .await;
        let by_group = format!(
            "GroupName=web&SourceSecurityGroupName=default&SourceSecurityGroupOwnerId={OURS}"
        );
        world
            .ok(&format!("Action={action}&Version=2009-11-30&{by_group}"))
            .await;
    }
    let other =
        "GroupName=web&SourceSecurityGroupName=default&SourceSecurityGroupOwnerId=999999999999";
    assert_eq!(
        world
            .code(&format!("Action=AuthorizeSecurityGroupIngress&{other}"))
            .await,
        "InvalidGroup.NotFound"
    );
}

#[tokio::test]
async fn a_group_and_a_range_in_one_permission_are_both_admitted() {
    let world = World::new().await;
    let (web, db) = (group(&world, "web").await, group(&world, "db").await);
    // As euca-authorize -o web sends it: the world is added although only the group was asked for.
    let answer = world.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={db}&{SSH}&IpPermissions.1.Groups.1.GroupName=web\
         &IpPermissions.1.Groups.1.UserId={OURS}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
    )).await;
    assert_eq!(all(&answer, "securityGroupRuleId").len(), 2);
    let in_use = world
        .code(&format!("Action=DeleteSecurityGroup&GroupId={web}"))
        .await;
    assert_eq!(in_use, "DependencyViolation");
    let in_use = world
        .code("Action=DeleteSecurityGroup&Version=2009-11-30&GroupName=web")
        .await;
    assert_eq!(in_use, "InvalidGroup.InUse");
    world
        .ok(&format!("Action=DeleteSecurityGroup&GroupId={db}"))
        .await;
    world
        .ok(&format!("Action=DeleteSecurityGroup&GroupId={web}"))
        .await;
    assert_eq!(
        world
            .code(&format!("Action=DeleteSecurityGroup&GroupId={web}"))
            .await,
        "InvalidGroup.NotFound"
    );
}

#[tokio::test]
async fn everything_is_revoked_whatever_ports_are_named_with_it_and_ipv6_is_never_there() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    // Terraform's first call after CreateSecurityGroup, and its second, for the rule of IPv6.
    let all_out =
        "IpPermissions.1.IpProtocol=-1&IpPermissions.1.FromPort=0&IpPermissions.1.ToPort=0";
    let v4 = format!(
        "Action=RevokeSecurityGroupEgress&GroupId={id}&{all_out}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
    );
    world.ok(&v4).await;
    let v6 = format!(
        "Action=RevokeSecurityGroupEgress&GroupId={id}&{all_out}&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0"
    );
    assert_eq!(world.code(&v6).await, "InvalidPermission.NotFound");
    for way in ["Egress", "Ingress"] {
        let made = v6.replace(
            "RevokeSecurityGroupEgress",
            &format!("AuthorizeSecurityGroup{way}"),
        );
        assert_eq!(world.code(&made).await, "InvalidParameterValue", "{way}");
    }
    assert!(shown(&world, &id).await.contains("<ipPermissionsEgress/>"));
}

#[tokio::test]
async fn a_rule_is_revoked_by_its_id() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    let made = world.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={id}&{SSH}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
    )).await;
    let rule = one(&made, "securityGroupRuleId");
    world
        .ok(&format!(
            "Action=RevokeSecurityGroupIngress&GroupId={id}&SecurityGroupRuleId.1={rule}"
        ))
        .await;
    let again =
        format!("Action=RevokeSecurityGroupIngress&GroupId={id}&SecurityGroupRuleId.1={rule}");
    assert_eq!(
        world.code(&again).await,
        "InvalidSecurityGroupRuleId.NotFound"
    );
}

#[tokio::test]
async fn a_group_that_an_instance_is_in_stays() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    world.launch(1, &format!("&SecurityGroupId.1={id}")).await;
    assert_eq!(
        world
            .code(&format!("Action=DeleteSecurityGroup&GroupId={id}"))
            .await,
        "DependencyViolation"
    );
}

#[tokio::test]
async fn groups_are_filtered_by_what_they_admit() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    group(&world, "db").await;
    world.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={id}&{SSH}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
    )).await;
    for (name, value) in [
        ("ip-permission.from-port", "22"),
        ("ip-permission.cidr", "0.0.0.0/0"),
        ("group-name", "w?b"),
    ] {
        let query =
            format!("Action=DescribeSecurityGroups&Filter.1.Name={name}&Filter.1.Value.1={value}");
        assert_eq!(
            all(&world.ok(&query).await, "groupId"),
            [id.as_str()],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_rule_change_grows_the_version_of_the_networks_that_show_it() {
    let world = World::new().await;
    let id = group(&world, "web").await;
    world.launch(1, &format!("&SecurityGroupId.1={id}")).await;
    let version = async || {
        let zone = "mallee-1a".parse().unwrap();
        world
            .clc
            .db
            .read(move |tx| clc::rows::network::version(tx, &zone))
            .await
            .unwrap()
    };
    let before = version().await;
    world.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={id}&{SSH}&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
    )).await;
    assert!(version().await > before);
}
