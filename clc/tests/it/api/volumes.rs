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
