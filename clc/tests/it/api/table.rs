//! Every action of EC2 is either ours or refused by name.

use clc::{api::table, edge::Service};

use super::{OURS, World, all, one, root, user};

/// Every action of EC2, from botocore.
const ACTIONS: &str = include_str!("../../../../crates/ec2/tests/model/actions.txt");

#[test]
fn every_action_of_ec2_is_served_or_refused_by_name_and_never_both() {
    let served = table::served(Service::Ec2);
    let nothing = ec2::nothing::NOTHING.iter().map(|nothing| nothing.action);
    let mut both: Vec<&str> = served
        .iter()
        .copied()
        .chain(table::refused::ACTIONS)
        .chain(nothing)
        .collect();
    both.sort_unstable();
    let known: Vec<&str> = ACTIONS.lines().collect();
    assert_eq!(both, known);
    assert!(
        table::refused::ACTIONS.is_sorted(),
        "it is searched by halves"
    );
    assert!(
        known
            .iter()
            .all(|action| table::knows(Service::Ec2, action))
    );
    assert!(!table::knows(Service::Ec2, "DescribeEverything"));
    assert!(!table::knows(Service::Sts, "RunInstances"));
}

#[tokio::test]
async fn what_we_have_not_is_a_400_that_says_so() {
    let world = World::new().await;
    let refusal = world
        .refused("Action=CreatePlacementGroup&Version=2016-11-15")
        .await;
    assert_eq!(
        (refusal.code, refusal.status),
        ("UnsupportedOperation", 400)
    );
    let refusal = world
        .refused("Action=DescribeEverything&Version=2016-11-15")
        .await;
    assert_eq!((refusal.code, refusal.status), ("InvalidAction", 400));
    let sts = world
        .ask_of(Service::Sts, &root(OURS), "Action=RunInstances")
        .await;
    assert_eq!(sts.unwrap_err().code, "InvalidAction");
}

#[tokio::test]
async fn a_list_of_what_there_is_none_of_is_empty_and_misses_what_is_named() {
    let world = World::new().await;
    for nothing in &ec2::nothing::NOTHING {
        let answer = world.ok(&format!("Action={}", nothing.action)).await;
        assert!(
            answer.contains(&format!("<{}/>", nothing.element)),
            "{answer}"
        );
        if let Some((parameter, code)) = nothing.id {
            let named = format!("Action={}&{parameter}.1=x-1", nothing.action);
            assert_eq!(world.code(&named).await, code);
        }
        let nobody = world
            .ask(&user(&[]), &format!("Action={}", nothing.action))
            .await;
        assert_eq!(nobody.unwrap_err().code, "UnauthorizedOperation");
    }
}

#[tokio::test]
async fn everybody_may_ask_who_they_are_and_only_sts_answers_so() {
    let world = World::new().await;
    let query = "Action=GetCallerIdentity&Version=2011-06-15";
    let answer = world.ask_of(Service::Sts, &user(&[]), query).await.unwrap();
    assert_eq!(one(&answer, "Account"), OURS);
    assert_eq!(one(&answer, "Arn"), format!("arn:aws:iam::{OURS}:user/ann"));
    assert!(answer.contains("<GetCallerIdentityResult><UserId>AIDAEXAMPLE</UserId>"));
    assert!(answer.contains("xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\""));
    assert!(answer.contains("</GetCallerIdentityResult><ResponseMetadata><RequestId>"));
}

#[tokio::test]
async fn bundlers_get_the_certificate_of_the_cloud() {
    let world = World::new().await;
    let query = "Action=DescribeServiceCertificates&Version=eucalyptus&Format=pem&FingerprintDigest=SHA-256";
    let answer = world
        .ask_of(Service::Bootstrap, &user(&[]), query)
        .await
        .unwrap();
    assert_eq!(one(&answer, "certificateUsage"), "image-bundling");
    assert_eq!(one(&answer, "serviceType"), "compute");
    assert!(one(&answer, "certificate").starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(one(&answer, "certificateFingerprint").len(), 32 * 3 - 1);
}

#[tokio::test]
async fn an_answer_echoes_the_version_that_was_asked_in() {
    let world = World::new().await;
    for version in ["2016-11-15", "2009-11-30", "2015-10-01"] {
        let answer = world
            .ok(&format!("Action=DescribeRegions&Version={version}"))
            .await;
        assert!(answer.contains(&format!(
            "xmlns=\"http://ec2.amazonaws.com/doc/{version}/\""
        )));
    }
}

#[tokio::test]
async fn regions_and_zones_are_listed_and_filtered() {
    let world = World::new().await;
    let regions = world.ok("Action=DescribeRegions").await;
    assert_eq!(one(&regions, "regionName"), "mallee-1");
    assert!(!one(&regions, "regionEndpoint").contains("://"));
    assert_eq!(
        world
            .code("Action=DescribeRegions&RegionName.1=us-east-1")
            .await,
        "InvalidParameterValue"
    );

    let zones = world
        .ok("Action=DescribeAvailabilityZones&Filter.1.Name=state&Filter.1.Value.1=av*")
        .await;
    assert_eq!(all(&zones, "zoneName"), ["mallee-1a"]);
    assert_eq!(
        world
            .code("Action=DescribeAvailabilityZones&ZoneName.1=nowhere")
            .await,
        "InvalidZone.NotFound"
    );
}

#[tokio::test]
async fn the_room_in_a_zone_is_shown_to_the_clouds_own_account_only() {
    let world = World::new().await;
    let query = "Action=DescribeAvailabilityZones&ZoneName.1=verbose&Version=2009-11-30";
    let answer = world.ok(query).await;
    let names = all(&answer, "zoneName");
    assert_eq!(names[..3], ["mallee-1a", "|- vm types", "|- t1.micro"]);
    assert_eq!(all(&answer, "zoneState")[2], "0000 / 0000   1    256     5");
    let theirs = world.ask(&root(super::THEIRS), query).await.unwrap();
    assert_eq!(all(&theirs, "zoneName"), ["mallee-1a"]);
}

#[tokio::test]
async fn instance_types_are_answered_as_the_version_knows_them() {
    let world = World::new().await;
    let amazons = world
        .ok("Action=DescribeInstanceTypes&Version=2016-11-15&MaxResults=5")
        .await;
    assert!(amazons.contains("<instanceTypeSet><item><instanceType>t1.micro</instanceType>"));
    assert_eq!(all(&amazons, "sizeInMiB")[0], "256");
    let token = one(&amazons, "nextToken");
    let next = world
        .ok(&format!(
            "Action=DescribeInstanceTypes&MaxResults=5&NextToken={}",
            super::enc(&token)
        ))
        .await;
    assert_eq!(all(&next, "instanceType")[0], "m1.xlarge");

    let query =
        "Action=DescribeInstanceTypes&Version=2015-10-01&InstanceType.1=m1.small&Availability=true";
    let old = world.ok(query).await;
    assert!(old.contains(
        "<instanceTypeDetails><item><name>m1.small</name><cpu>1</cpu><memory>256</memory><disk>5</disk>\
         <networkInterfaces>2</networkInterfaces><availability><item><zoneName>mallee-1a</zoneName><max>0</max>\
         <available>0</available></item></availability></item></instanceTypeDetails>"
    ), "{old}");
    assert_eq!(
        world
            .code("Action=DescribeInstanceTypes&InstanceType.1=m9.huge")
            .await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn an_account_has_a_default_network() {
    let world = World::new().await;
    let vpcs = world
        .ok("Action=DescribeVpcs&Filter.1.Name=isDefault&Filter.1.Value.1=true")
        .await;
    let vpc = one(&vpcs, "vpcId");
    let subnets = world.ok(&format!(
        "Action=DescribeSubnets&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}&Filter.2.Name=default-for-az&Filter.2.Value.1=true"
    )).await;
    assert_eq!(one(&subnets, "availabilityZone"), "mallee-1a");
    assert_eq!(one(&subnets, "availableIpAddressCount"), "4091");
    let attributes = world
        .ok("Action=DescribeAccountAttributes&AttributeName.1=default-vpc")
        .await;
    assert_eq!(one(&attributes, "attributeValue"), vpc);
    let theirs = world
        .ask(
            &root(super::THEIRS),
            &format!("Action=DescribeVpcs&VpcId.1={vpc}"),
        )
        .await;
    assert_eq!(theirs.unwrap_err().code, "InvalidVpcID.NotFound");
    assert!(
        world
            .ok("Action=DescribeAddresses")
            .await
            .contains("<addressesSet/>")
    );
}
