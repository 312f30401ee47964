//! RunInstances.

use std::sync::{Arc, atomic::Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use clc::config::Config;

use super::{OURS, World, all, enc, one, root};

async fn ask(world: &World, more: &str) -> String {
    let image = world.image().await;
    format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1{more}")
}

#[tokio::test]
async fn a_launch_is_pending_with_its_addresses_at_once() {
    let world = World::new().await;
    let answer = world
        .ok(&ask(&world, "&UserData=aGk%3D&InstanceType=m1.small").await)
        .await;
    assert!(answer.contains("<instanceState><code>0</code><name>pending</name></instanceState>"));
    assert!(one(&answer, "ipAddress").starts_with("10.9.0.1"));
    let private = all(&answer, "privateIpAddress")[0].clone();
    assert!(private.starts_with("172.31."));
    assert_eq!(
        all(&answer, "privateDnsName")[0],
        format!("ip-{}.mallee-1.internal", private.replace('.', "-"))
    );
    assert_eq!(one(&answer, "instanceType"), "m1.small");
    assert_eq!(all(&answer, "groupName")[0], "default");
    assert_eq!(all(&answer, "availabilityZone")[0], "mallee-1a");

    let described = world.ok("Action=DescribeInstances").await;
    let body = |text: &str, open: &str| text[text.find(open).unwrap()..].to_owned();
    let instances = "<instancesSet>";
    let end = "</instancesSet>";
    let cut = |text: &str| body(text, instances).split(end).next().unwrap().to_owned();
    assert_eq!(cut(&answer), cut(&described), "read your writes");
    assert_eq!(world.cluster.held(), 1);
}

#[tokio::test]
async fn counts_are_met_between_the_least_and_the_most() {
    let world = World::new().await;
    let image = world.image().await;
    let run = |min: u32, max: u32| {
        format!("Action=RunInstances&ImageId={image}&MinCount={min}&MaxCount={max}")
    };
    let six = world.ok(&run(1, 6)).await;
    assert_eq!(all(&six, "amiLaunchIndex"), ["0", "1", "2", "3", "4", "5"]);
    let two_of_four = world.ok(&run(1, 4)).await;
    assert_eq!(all(&two_of_four, "instanceId").len(), 2);

    let refusal = world.refused(&run(1, 1)).await;
    assert_eq!(
        (refusal.code, refusal.status),
        ("InsufficientInstanceCapacity", 400)
    );
    assert_eq!(world.count("instances").await, 8);
    assert_eq!(world.count("reservations").await, 2);
    for (min, max, code) in [
        (0, 1, "InvalidParameterValue"),
        (2, 1, "InvalidParameterCombination"),
        (1, 1001, "InstanceLimitExceeded"),
    ] {
        assert_eq!(world.code(&run(min, max)).await, code);
    }
    assert_eq!(
        world
            .code(&format!("Action=RunInstances&ImageId={image}&MaxCount=1"))
            .await,
        "MissingParameter"
    );
}

#[tokio::test]
async fn whatever_is_named_must_be_there_and_nothing_is_held_if_not() {
    let world = World::new().await;
    let image = world.image().await;
    let big = world.image_of(OURS, 6 << 30).await;
    let key = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1");
    let long = enc(&STANDARD.encode(vec![b'x'; 16_385]));
    for (query, code) in [
        (
            "Action=RunInstances&ImageId=emi-0123456789abcdef0&MinCount=1&MaxCount=1".to_owned(),
            "InvalidAMIID.NotFound",
        ),
        (
            "Action=RunInstances&ImageId=emi-xyz&MinCount=1&MaxCount=1".to_owned(),
            "InvalidAMIID.Malformed",
        ),
        (
            format!(
                "Action=RunInstances&ImageId={big}&MinCount=1&MaxCount=1&InstanceType=m1.small"
            ),
            "InvalidParameterCombination",
        ),
        (format!("{key}&KeyName=nokey"), "InvalidKeyPair.NotFound"),
        (
            format!("{key}&SecurityGroup.1=nogroup"),
            "InvalidGroup.NotFound",
        ),
        (
            format!("{key}&SecurityGroupId.1=sg-0123456789abcdef0"),
            "InvalidGroup.NotFound",
        ),
        (
            format!("{key}&SecurityGroupId.1=sg-1"),
            "InvalidGroupId.Malformed",
        ),
        (
            format!("{key}&InstanceType=m9.huge"),
            "InvalidParameterValue",
        ),
        (
            format!("{key}&Placement.AvailabilityZone=nowhere"),
            "InvalidZone.NotFound",
        ),
        (
            format!("{key}&SubnetId=subnet-0123456789abcdef0"),
            "InvalidSubnetID.NotFound",
        ),
        (
            format!("{key}&KernelId=eki-0123456789abcdef0"),
            "InvalidAMIID.NotFound",
        ),
        (format!("{key}&UserData={long}"), "InvalidParameterValue"),
        (format!("{key}&UserData=%25%25"), "InvalidParameterValue"),
        (
            format!("{key}&PrivateIpAddress=10.0.0.1"),
            "InvalidParameterValue",
        ),
        (
            format!(
                "{key}&BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=1"
            ),
            "UnsupportedOperation",
        ),
        (
            format!("{key}&NetworkInterface.1.DeviceIndex=1"),
            "InvalidParameterCombination",
        ),
        (
            format!("{key}&TagSpecification.1.ResourceType=castle&TagSpecification.1.Tag.1.Key=k"),
            "InvalidParameterValue",
        ),
        (
            format!("{key}&LaunchTemplate.LaunchTemplateName=web"),
            "UnsupportedOperation",
        ),
        (
            format!("{key}&IamInstanceProfile.Name=web"),
            "UnsupportedOperation",
        ),
        (
            format!("{key}&HibernationOptions.Configured=true"),
            "UnsupportedOperation",
        ),
        (
            format!("{key}&EnclaveOptions.Enabled=true"),
            "UnsupportedOperation",
        ),
        (format!("{key}&Ipv6AddressCount=1"), "UnsupportedOperation"),
        (
            format!("{key}&ClientToken={}", "t".repeat(65)),
            "InvalidParameterValue",
        ),
    ] {
        assert_eq!(world.code(&query).await, code, "{query}");
        world.give_back().await;
        assert_eq!(world.cluster.held(), 0, "{query}");
    }
    assert_eq!(world.count("reservations").await, 0);
    let exactly = enc(&STANDARD.encode(vec![b'x'; 16_384]));
    world.ok(&format!("{key}&UserData={exactly}")).await;
}

#[tokio::test]
async fn a_token_launches_once_and_only_what_it_launched() {
    let world = World::new().await;
    let query = ask(&world, "&ClientToken=t").await;
    let first = world.ok(&query).await;
    let again = world.ok(&format!("{query}&Version=2016-11-15")).await;
    assert_eq!(one(&first, "reservationId"), one(&again, "reservationId"));
    assert_eq!(one(&first, "clientToken"), "t");
    assert_eq!(
        world.code(&format!("{query}&InstanceType=c1.medium")).await,
        "IdempotentParameterMismatch"
    );
    assert_eq!(world.cluster.held(), 1);

    let image = world.image_of(super::THEIRS, 1).await;
    let theirs = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&ClientToken=t");
    let other = world.ask(&root(super::THEIRS), &theirs).await.unwrap();
    assert_ne!(
        one(&first, "reservationId"),
        one(&other, "reservationId"),
        "tokens are an account's own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_one_token_launch_once_and_give_back_all_other_room() {
    let world = Arc::new(World::new().await);
    let query = ask(&world, "&ClientToken=t").await;
    let mut asks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (world, query) = (world.clone(), query.clone());
        asks.spawn(async move { world.ok(&query).await });
    }
    let answers = asks.join_all().await;
    let mut reservations: Vec<String> = answers
        .iter()
        .map(|answer| one(answer, "reservationId"))
        .collect();
    reservations.dedup();
    assert_eq!(reservations.len(), 1);
    world.give_back().await;
    assert_eq!(
        (world.count("instances").await, world.cluster.held()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_launch_that_cannot_be_recorded_gives_its_room_back() {
    let world = World::new().await;
    world.cluster.set_room(100);
    let image = world.image().await;
    let run = |count: u32| {
        format!("Action=RunInstances&ImageId={image}&MinCount={count}&MaxCount={count}")
    };
    assert_eq!(
        world.code(&run(11)).await,
        "InsufficientAddressCapacity",
        "the pool has ten"
    );
    world.give_back().await;
    assert_eq!(world.cluster.held(), 0);
    assert_eq!(
        (
            world.count("instances").await,
            world.count("interfaces").await
        ),
        (0, 0)
    );
    world.ok(&run(10)).await;
    assert_eq!(world.code(&run(1)).await, "InsufficientAddressCapacity");
    world
        .ok(&format!("{}&AddressingType=private", run(1)))
        .await;
}

#[tokio::test]
async fn a_hold_whose_answer_was_lost_is_given_back_even_if_the_cluster_is_silent_for_a_while() {
    let world = World::new().await;
    let query = ask(&world, "").await;
    world.cluster.answers_are_lost.store(true, Ordering::SeqCst);
    assert_eq!(world.code(&query).await, "Unavailable");
    assert_eq!(world.cluster.held(), 1, "it was given, and nobody knows");
    world.give_back().await;
    assert_eq!(
        world.cluster.held(),
        1,
        "nor is it known whether it is given back"
    );

    world
        .cluster
        .answers_are_lost
        .store(false, Ordering::SeqCst);
    world.give_back().await;
    assert_eq!(world.cluster.held(), 0);
    // What the cluster itself refused stands nowhere.
    world.cluster.set_room(0);
    assert_eq!(world.code(&query).await, "InsufficientInstanceCapacity");
    assert_eq!(world.clc.releases.due(0), []);
}

#[tokio::test]
async fn a_token_answers_with_what_it_launched_long_after_that_is_forgotten() {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let world = World::new().await;
    let query = ask(&world, "&ClientToken=t").await;
    let first = world.ok(&query).await;
    let id = one(&first, "instanceId");
    world.end(&id).await;
    let forget = async |after_ms: i64| {
        world.clock.jump(after_ms);
        world.expire().await;
    };
    forget(HOUR_MS + 1).await;
    let gone = format!("Action=DescribeInstances&InstanceId.1={id}");
    assert_eq!(world.code(&gone).await, "InvalidInstanceID.NotFound");
    let listed = world.ok("Action=DescribeInstances").await;
    assert!(listed.contains("<reservationSet/>"), "{listed}");

    for after_ms in [0, 23 * HOUR_MS] {
        forget(after_ms).await;
        let again = world.ok(&query).await;
        assert_eq!(one(&again, "reservationId"), one(&first, "reservationId"));
        assert_eq!(one(&again, "instanceId"), id);
        assert!(again.contains("<name>terminated</name>"), "{again}");
        let other = format!("{query}&InstanceType=c1.medium");
        assert_eq!(world.code(&other).await, "IdempotentParameterMismatch");
    }
    // Then all of it goes, and the token is as good as new.
    forget(2 * HOUR_MS).await;
    for table in ["instances", "reservations", "client_tokens"] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
    assert_ne!(one(&world.ok(&query).await, "instanceId"), id);
}

#[tokio::test]
async fn a_launch_without_a_token_is_forgotten_whole() {
    let world = World::new().await;
    let id = one(&world.ok(&ask(&world, "").await).await, "instanceId");
    world.end(&id).await;
    world.clock.jump(60 * 60 * 1000 + 1);
    world.expire().await;
    assert_eq!(world.count("instances").await, 0);
    assert_eq!(world.count("reservations").await, 0);
}

#[tokio::test]
async fn a_cloud_without_public_addresses_gives_none() {
    let mut config = Config::default();
    config.network.public_cidr = Some("10.9.0.0/24".parse().unwrap());
    let world = World::with(config).await;
    let answer = world.ok(&ask(&world, "").await).await;
    assert!(!answer.contains("<ipAddress>") && answer.contains("<dnsName></dnsName>"));
}

#[tokio::test]
async fn the_interface_may_be_described_on_its_own_as_ansible_does() {
    let world = World::new().await;
    let subnet = one(&world.ok("Action=DescribeSubnets").await, "subnetId");
    let group = one(
        &world
            .ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d")
            .await,
        "groupId",
    );
    let interface = format!(
        "&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId={subnet}&NetworkInterface.1.SecurityGroupId.1={group}\
         &NetworkInterface.1.AssociatePublicIpAddress=false&NetworkInterface.1.PrivateIpAddress=172.31.0.77"
    );
    let answer = world.ok(&ask(&world, &interface).await).await;
    assert_eq!(all(&answer, "groupId")[0], group);
    assert_eq!(all(&answer, "privateIpAddress")[0], "172.31.0.77");
    assert!(!answer.contains("<ipAddress>"));
    assert_eq!(
        world.code(&ask(&world, &interface).await).await,
        "InvalidIPAddress.InUse"
    );
    let both = format!("{interface}&SecurityGroup.1=web");
    assert_eq!(
        world.code(&ask(&world, &both).await).await,
        "InvalidParameterCombination"
    );
}

#[tokio::test]
async fn tags_and_what_terraform_sends_are_taken_in_one_go() {
    let world = World::new().await;
    let query = ask(
        &world,
        "&ClientToken=terraform-1&CreditSpecification.CpuCredits=standard&DisableApiTermination=false&EbsOptimized=false\
         &HibernationOptions.Configured=false&Monitoring.Enabled=false&Placement.AvailabilityZone=&InstanceType=m1.small\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=web\
         &TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=Name&TagSpecification.2.Tag.1.Value=web\
         &MetadataOptions.HttpTokens=required&MetadataOptions.HttpPutResponseHopLimit=2&UserData=aGk%3D",
    )
    .await;
    let answer = world.ok(&query).await;
    assert!(answer.contains("<tagSet><item><key>Name</key><value>web</value></item></tagSet>"));
    assert!(answer.contains(
        "<httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>"
    ));
    assert_eq!(world.count("tags").await, 1);
}

#[tokio::test]
async fn old_clients_find_a_groups_name_where_its_id_is_now() {
    let world = World::new().await;
    // As Hybridfox sends it.
    let query = ask(
        &world,
        "&Version=2009-11-30&SecurityGroup.1=default&InstanceType=m1.small&AddressingType=public",
    )
    .await;
    let answer = world.ok(&query).await;
    assert!(answer.contains("<groupSet><item><groupId>default</groupId><groupName>default</groupName></item></groupSet><instancesSet>"));
    assert!(answer.contains("xmlns=\"http://ec2.amazonaws.com/doc/2009-11-30/\""));
}

#[tokio::test]
async fn the_limit_of_an_account_counts_all_that_would_start() {
    let world = World::new().await;
    let image = world.image().await;
    world.launch(1, "").await;
    fill(&world, clc::api::launch::INSTANCES_MAX - 2).await;
    let run = |max: u32| format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount={max}");
    assert_eq!(world.code(&run(2)).await, "InstanceLimitExceeded");
    world.give_back().await;
    assert_eq!(world.cluster.held(), 1, "the room is given back");
    world.ok(&run(1)).await;
}

/// Copies the one instance that is there so many times.
async fn fill(world: &World, copies: u64) {
    let write = world.clc.db.write(move |tx| {
        let one = clc::rows::instances::list_all(tx)?.remove(0);
        for _ in 0..copies {
            let copy = clc::rows::instances::Instance {
                id: types::InstanceId::mint(&mut rand::rng()),
                ..one.clone()
            };
            clc::rows::instances::insert(tx, &copy, &Default::default())?;
        }
        Ok::<_, store::Error>(())
    });
    write.await.unwrap();
}
