//! Tags.

use super::{World, all, enc, one};

async fn volume(world: &World) -> String {
    one(
        &world
            .ok("Action=CreateVolume&AvailabilityZone=mallee-1a&Size=1")
            .await,
        "volumeId",
    )
}

#[tokio::test]
async fn a_tag_is_put_over_shown_and_taken_off_by_its_value() {
    let world = World::new().await;
    let id = volume(&world).await;
    // libcloud counts from 0; euca2ools sends an empty value as one.
    world.ok(&format!("Action=CreateTags&ResourceId.0={id}&Tag.0.Key=Name&Tag.0.Value=a&Tag.1.Key=empty&Tag.1.Value=")).await;
    world
        .ok(&format!(
            "Action=CreateTags&ResourceId.1={id}&Tag.1.Key=Name&Tag.1.Value=b"
        ))
        .await;
    let listed = world.ok("Action=DescribeVolumes").await;
    assert!(listed.contains(
        "<tagSet><item><key>Name</key><value>b</value></item><item><key>empty</key><value></value></item></tagSet>"
    ) || listed.contains(
        "<tagSet><item><key>Name</key><value>b</value></item><item><key>empty</key><value/></item></tagSet>"
    ), "{listed}");

    world
        .ok(&format!(
            "Action=DeleteTags&ResourceId.1={id}&Tag.1.Key=Name&Tag.1.Value=a"
        ))
        .await;
    assert_eq!(world.count("tags").await, 2);
    world
        .ok(&format!(
            "Action=DeleteTags&ResourceId.1={id}&Tag.1.Key=Name&Tag.1.Value=b"
        ))
        .await;
    assert_eq!(world.count("tags").await, 1);
    world
        .ok(&format!("Action=DeleteTags&ResourceId.1={id}"))
        .await;
    assert_eq!(world.count("tags").await, 0);
}

#[tokio::test]
async fn tags_are_listed_with_what_they_are_on() {
    let world = World::new().await;
    let (id, instance) = (volume(&world).await, world.launch(1, "").await.remove(0));
    world
        .ok(&format!(
            "Action=CreateTags&ResourceId.1={id}&ResourceId.2={instance}&Tag.1.Key=k&Tag.1.Value=v"
        ))
        .await;
    let listed = world
        .ok("Action=DescribeTags&Filter.1.Name=resource-type&Filter.1.Value.1=volume")
        .await;
    assert_eq!(one(&listed, "resourceId"), id);
    assert_eq!(one(&listed, "resourceType"), "volume");
    assert_eq!(all(&world.ok("Action=DescribeTags").await, "key").len(), 2);
}

#[tokio::test]
async fn keys_values_and_numbers_of_tags_have_limits() {
    let world = World::new().await;
    let id = volume(&world).await;
    let tag = |key: &str, value: &str| {
        format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key={key}&Tag.1.Value={value}")
    };
    assert_eq!(
        world.code(&tag(&"k".repeat(129), "")).await,
        "InvalidParameterValue"
    );
    assert_eq!(
        world.code(&tag("k", &"v".repeat(257))).await,
        "InvalidParameterValue"
    );
    assert_eq!(
        world.code(&tag("aws:k", "v")).await,
        "InvalidParameterValue"
    );
    let many: String = (0..51).map(|n| format!("&Tag.{n}.Key=k{n}")).collect();
    assert_eq!(
        world
            .code(&format!("Action=CreateTags&ResourceId.1={id}{many}"))
            .await,
        "TagLimitExceeded"
    );
    let fifty: String = (0..50).map(|n| format!("&Tag.{n}.Key=k{n}")).collect();
    world
        .ok(&format!("Action=CreateTags&ResourceId.1={id}{fifty}"))
        .await;
    assert_eq!(world.code(&tag("one-more", "")).await, "TagLimitExceeded");
    assert_eq!(world.count("tags").await, 50);
}

#[tokio::test]
async fn a_thing_that_is_not_there_refuses_the_tags_of_all() {
    let world = World::new().await;
    let id = volume(&world).await;
    for (other, code) in [
        ("vol-0123456789abcdef0", "InvalidVolume.NotFound"),
        ("i-0123456789abcdef0", "InvalidInstanceID.NotFound"),
        ("vol-1", "InvalidVolumeID.Malformed"),
        ("nonsense", "InvalidID"),
    ] {
        let query = format!("Action=CreateTags&ResourceId.1={id}&ResourceId.2={other}&Tag.1.Key=k");
        assert_eq!(world.code(&query).await, code);
    }
    assert_eq!(world.count("tags").await, 0);
}

#[tokio::test]
async fn any_text_comes_back_as_it_went_in() {
    let world = World::new().await;
    let id = volume(&world).await;
    let value = "<&>\"'\u{1}\r\n\t é 😀";
    world
        .ok(&format!(
            "Action=CreateTags&ResourceId.1={id}&Tag.1.Key=k&Tag.1.Value={}",
            enc(value)
        ))
        .await;
    let listed = world.ok("Action=DescribeTags").await;
    assert_eq!(
        one(&listed, "value"),
        "&lt;&amp;&gt;&quot;'\u{fffd}&#13;\n\t é 😀"
    );
}
