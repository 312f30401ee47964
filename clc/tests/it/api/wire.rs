//! Requests as clients of the field send them, replayed: what they must find in the answer is there.

use super::{World, all, one};

/// What euca2ools 3.4 reads of an instance, and dies without.
#[tokio::test]
async fn euca2ools_finds_what_it_cannot_do_without() {
    let world = World::new().await;
    world.launch(1, "&Version=2015-10-01").await;
    let answer = world
        .ok("Action=DescribeInstances&Version=2015-10-01")
        .await;
    for name in [
        "reservationId",
        "ownerId",
        "launchTime",
        "instanceType",
        "amiLaunchIndex",
        "architecture",
    ] {
        assert!(answer.contains(&format!("<{name}>")), "{name}");
    }
    assert!(answer.contains("<groupSet><item><groupId>sg-"));
    assert!(
        !answer.contains("> <") && !answer.contains(">\n<"),
        "blanks between elements are text to it"
    );

    let groups = world
        .ok("Action=DescribeSecurityGroups&Version=2015-10-01")
        .await;
    assert_eq!(
        (
            all(&groups, "groupId")[0].starts_with("sg-"),
            all(&groups, "groupName")[0].as_str()
        ),
        (true, "default")
    );
    let zones = world
        .ok("Action=DescribeAvailabilityZones&Version=2015-10-01")
        .await;
    assert_eq!(
        (
            one(&zones, "zoneName").as_str(),
            one(&zones, "zoneState").as_str()
        ),
        ("mallee-1a", "available")
    );
}

/// Hybridfox 1.7 against Eucalyptus: version 2009-11-30 or 2010-08-31, flat parameters, no ids.
#[tokio::test]
async fn hybridfox_opens_a_port_launches_and_ends_an_instance() {
    let world = World::new().await;
    for version in ["2009-11-30", "2010-08-31"] {
        let v = format!("&Version={version}");
        let name = format!("fox{version}");
        world
            .ok(&format!(
                "Action=CreateSecurityGroup&GroupName={name}&GroupDescription=fox{v}"
            ))
            .await;
        world.ok(&format!(
            "Action=AuthorizeSecurityGroupIngress&GroupName={name}&IpProtocol=tcp&FromPort=22&ToPort=22&CidrIp=0.0.0.0%2F0{v}"
        )).await;
        let image = world.image().await;
        let launched = world.ok(&format!(
            "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&SecurityGroup.1={name}\
             &Placement.AvailabilityZone=mallee-1a&AddressingType=public&InstanceType=m1.small&UserData={v}"
        )).await;
        assert_eq!(all(&launched, "groupId")[0], name);
        let id = one(&launched, "instanceId");
        let images = world
            .ok(&format!("Action=DescribeImages&ImageId.1={image}{v}"))
            .await;
        assert_eq!(one(&images, "imageId"), image.to_string());
        world
            .ok(&format!("Action=GetConsoleOutput&InstanceId={id}{v}"))
            .await;
        world
            .ok(&format!("Action=TerminateInstances&InstanceId.1={id}{v}"))
            .await;
        for list in [
            "DescribeInstances",
            "DescribeKeyPairs",
            "DescribeVolumes",
            "DescribeAddresses",
        ] {
            world.ok(&format!("Action={list}{v}")).await;
        }
    }
}

/// libcloud counts from 0 and matches the namespace as text.
#[tokio::test]
async fn libcloud_tags_from_zero() {
    let world = World::new().await;
    let id = world.launch(1, "").await.remove(0);
    world
        .ok(&format!(
            "Action=CreateTags&ResourceId.0={id}&Tag.0.Key=Name&Tag.0.Value=node&Version=2016-11-15"
        ))
        .await;
    let answer = world
        .ok("Action=DescribeInstances&Version=2016-11-15")
        .await;
    assert!(answer.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>"));
    assert_eq!(one(&answer, "key"), "Name");
}
