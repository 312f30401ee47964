//! Volumes.

use super::{World, all, one};

const ASK: &str = "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5";

#[tokio::test]
async fn a_volume_is_creating_until_its_zone_has_it_and_then_deleting() {
    let world = World::new().await;
    let made = world.ok(&format!("{ASK}&VolumeType=gp2&TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=k")).await;
    let id = one(&made, "volumeId");
    assert_eq!(
        (one(&made, "status"), one(&made, "size")),
        ("creating".to_owned(), "5".to_owned())
    );
    assert!(made.contains("<attachmentSet/>") && made.contains("<key>k</key>"));
    settle(&world, &id, types::VolumeState::Available).await;
    world
        .ok(&format!("Action=DeleteVolume&VolumeId={id}"))
        .await;
    assert_eq!(
        one(&world.ok("Action=DescribeVolumes").await, "status"),
        "deleting"
    );
    settle(&world, &id, types::VolumeState::Deleted).await;
    assert!(
        world
            .ok("Action=DescribeVolumes")
            .await
            .contains("<volumeSet/>")
    );
    assert_eq!(
        world
            .code(&format!("Action=DescribeVolumes&VolumeId.1={id}"))
            .await,
        "InvalidVolume.NotFound"
    );
    assert_eq!(world.count("tags").await, 0);
}

async fn settle(world: &World, id: &str, state: types::VolumeState) {
    let (id, now) = (id.parse().unwrap(), world.clc.now());
    let write = world
        .clc
        .db
        .write(move |tx| clc::rows::volumes::set_state(tx, &id, state, None, now));
    write.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("Action=CreateVolume&Size=5", "MissingParameter"),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a",
            "MissingParameter",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=nowhere&Size=5",
            "InvalidZone.NotFound",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=0",
            "InvalidParameterValue",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=16385",
            "InvalidParameterValue",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=-1",
            "InvalidParameterValue",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5&VolumeType=fast",
            "UnknownVolumeType",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5&Encrypted=true",
            "UnsupportedOperation",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5&KmsKeyId=alias/k",
            "UnsupportedOperation",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5&MultiAttachEnabled=true",
            "UnsupportedOperation",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=5&TagSpecification.1.ResourceType=volume\
             &TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.2.Key=k",
            "InvalidParameterValue",
        ),
        (
            "Action=CreateVolume&AvailabilityZone=mallee-1a&SnapshotId=snap-00000001",
            "InvalidSnapshot.NotFound",
        ),
        (
            "Action=DeleteVolume&VolumeId=vol-00000001",
            "InvalidVolume.NotFound",
        ),
    ] {
        assert_eq!(world.code(query).await, code, "{query}");
    }
    assert_eq!(world.count("volumes").await, 0);
}

#[tokio::test]
async fn a_token_makes_one_volume_however_often_it_is_sent() {
    let world = World::new().await;
    let first = one(&world.ok(&format!("{ASK}&ClientToken=t")).await, "volumeId");
    let again = one(&world.ok(&format!("{ASK}&ClientToken=t")).await, "volumeId");
    assert_eq!(first, again);
    let other = "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=6&ClientToken=t";
    assert_eq!(world.code(other).await, "IdempotentParameterMismatch");
    assert_eq!(
        all(&world.ok("Action=DescribeVolumes").await, "volumeId"),
        [first]
    );
}

#[tokio::test]
async fn a_token_answers_first_whatever_has_changed_since() {
    const MINUTE_MS: i64 = 60 * 1000;
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
    let world = World::new().await;
    let ask = format!("{ASK}&ClientToken=t");
    let first = one(&world.ok(&ask).await, "volumeId");
    assert_eq!(
        world.code(&format!("{ask}&DryRun=true")).await,
        "DryRunOperation"
    );

    let elsewhere = ask.replace("mallee-1a", "nowhere");
    assert_eq!(world.code(&elsewhere).await, "IdempotentParameterMismatch");

    settle(&world, &first, types::VolumeState::Deleted).await;
    world.clock.jump(DAY_MS - MINUTE_MS);
    world.expire().await;
    let again = world.ok(&ask).await;
    assert_eq!(
        (one(&again, "volumeId"), one(&again, "status")),
        (first, "deleted".to_owned())
    );
    world.clock.jump(DAY_MS);
    world.expire().await;
    assert_eq!(
        world.count("volumes").await + world.count("client_tokens").await,
        0
    );
}

#[tokio::test]
async fn a_volume_may_be_given_up_before_it_is_made() {
    let world = World::new().await;
    let id = one(&world.ok(ASK).await, "volumeId");
    let delete = format!("Action=DeleteVolume&VolumeId={id}");
    world.ok(&delete).await;
    assert_eq!(
        one(&world.ok("Action=DescribeVolumes").await, "status"),
        "deleting"
    );
    assert_eq!(world.code(&delete).await, "IncorrectState");
}

#[tokio::test]
async fn what_is_wrong_with_a_volume_is_told_with_its_time_and_what_to_do() {
    let world = World::new().await;
    let well = one(&world.ok(ASK).await, "volumeId");
    let ill = one(&world.ok(ASK).await, "volumeId");
    settle(&world, &well, types::VolumeState::Available).await;
    let (id, now) = (ill.parse().unwrap(), world.clc.now());
    let fail = world.clc.db.write(move |tx| {
        let (error, why) = (types::VolumeState::Error, "the pool has <1> GiB free");
        clc::rows::volumes::set_state(tx, &id, error, Some(why), now)
    });
    fail.await.unwrap();

    let all_of_them = world.ok("Action=DescribeVolumeStatus").await;
    let (mut told, mut both) = (all(&all_of_them, "volumeId"), [well.clone(), ill.clone()]);
    // Of volumes of one millisecond the ids decide, which are drawn.
    told.sort();
    both.sort();
    assert_eq!(told, both);
    let impaired = world
        .ok("Action=DescribeVolumeStatus&Filter.1.Name=volume-status.status&Filter.1.Value.1=impaired")
        .await;
    assert_eq!(one(&impaired, "volumeId"), ill);
    assert!(
        impaired.contains("the pool has &lt;1&gt; GiB free"),
        "{impaired}"
    );
    assert!(
        impaired.contains("<code>delete-volume</code>"),
        "{impaired}"
    );
    let named = format!("Action=DescribeVolumeStatus&VolumeId.1={well}");
    assert!(world.ok(&named).await.contains("<eventsSet/>"));
    assert_eq!(
        world
            .code("Action=DescribeVolumeStatus&VolumeId.1=vol-00000001")
            .await,
        "InvalidVolume.NotFound"
    );

    // Given up, it is in error no more.
    world
        .ok(&format!("Action=DeleteVolume&VolumeId={ill}"))
        .await;
    let after = world.ok("Action=DescribeVolumeStatus").await;
    assert!(!after.contains("GiB free"), "{after}");
}
