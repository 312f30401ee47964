//! Attributes of images: who may launch them, what is said of them.

use image::manifest::Kind;

use super::{
    OURS, THEIRS, World, all, enc,
    images::{REGISTER, upload},
    one, root,
};

fn modify(id: &str, more: &str) -> String {
    format!("Action=ModifyImageAttribute&ImageId={id}&{more}")
}

fn describe(id: &str, attribute: &str) -> String {
    format!("Action=DescribeImageAttribute&ImageId={id}&Attribute={attribute}")
}

#[tokio::test]
async fn a_private_image_does_not_exist_for_others_until_it_is_shared() {
    let world = World::new().await;
    let (id, theirs) = (world.image().await.to_string(), root(THEIRS));
    let launch = format!("Action=RunInstances&ImageId={id}&MinCount=1&MaxCount=1");
    let by_id = format!("Action=DescribeImages&ImageId.1={id}");
    let dashed = format!("{}-{}-{}", &THEIRS[..4], &THEIRS[4..8], &THEIRS[8..]);
    for (share, take_back) in [
        (
            format!("LaunchPermission.Add.1.UserId={THEIRS}"),
            format!("LaunchPermission.Remove.1.UserId={THEIRS}"),
        ),
        (
            "LaunchPermission.Add.1.Group=all".to_owned(),
            "LaunchPermission.Remove.1.Group=all".to_owned(),
        ),
        (
            format!("Attribute=launchPermission&OperationType=add&UserId.1={dashed}"),
            format!("Attribute=launchPermission&OperationType=remove&UserId.1={THEIRS}"),
        ),
        (
            "Attribute=launchPermission&OperationType=add&UserGroup.1=all".to_owned(),
            "OperationType=remove&UserGroup.1=all".to_owned(),
        ),
    ] {
        for query in [&launch, &by_id] {
            let hidden = world.ask(&theirs, query).await.unwrap_err();
            assert_eq!(hidden.code, "InvalidAMIID.NotFound", "before {share}");
        }
        // Twice: what is so already is no error.
        for _ in 0..2 {
            world.ok(&modify(&id, &share)).await;
        }
        world.ask(&theirs, &launch).await.unwrap();
        let shown = world.ask(&theirs, &by_id).await.unwrap();
        assert_eq!(one(&shown, "imageOwnerId"), OURS);
        let is_public = share.contains("all").to_string();
        assert_eq!(one(&shown, "isPublic"), is_public);
        for _ in 0..2 {
            world.ok(&modify(&id, &take_back)).await;
        }
    }
    assert!(world.ask(&theirs, &by_id).await.is_err());
}

#[tokio::test]
async fn executable_by_tells_the_shared_the_public_and_the_own_apart() {
    let world = World::new().await;
    let own = world.image_of(THEIRS, 1 << 20).await.to_string();
    let (shared, public) = (
        world.image().await.to_string(),
        world.image().await.to_string(),
    );
    let hidden = world.image().await.to_string();
    world
        .ok(&modify(
            &shared,
            &format!("LaunchPermission.Add.1.UserId={THEIRS}"),
        ))
        .await;
    world
        .ok(&modify(&public, "LaunchPermission.Add.1.Group=all"))
        .await;
    let theirs = root(THEIRS);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    for (query, expected) in [
        (String::new(), vec![&own, &shared, &public]),
        ("&ExecutableBy.1=self".to_owned(), vec![&own, &shared]),
        (format!("&ExecutableBy.1={THEIRS}"), vec![&own, &shared]),
        ("&ExecutableBy.1=all".to_owned(), vec![&public]),
        ("&Owner.1=self".to_owned(), vec![&own]),
        (format!("&Owner.1={OURS}"), vec![&shared, &public]),
        ("&Owner.1=amazon".to_owned(), vec![&shared, &public]),
        (
            "&ExecutableBy.1=all&ExecutableBy.2=self".to_owned(),
            vec![&own, &shared, &public],
        ),
        (format!("&ExecutableBy.1={OURS}"), vec![&shared, &public]),
    ] {
        let answer = world
            .ask(&theirs, &format!("Action=DescribeImages{query}"))
            .await
            .unwrap();
        let expected = sorted(expected.into_iter().cloned().collect());
        assert_eq!(sorted(all(&answer, "imageId")), expected, "{query}");
    }
    let to_them = world
        .ok(&format!("Action=DescribeImages&ExecutableBy.1={THEIRS}"))
        .await;
    assert_eq!(all(&to_them, "imageId"), [shared], "the owner sees to whom");
    assert!(world.ok("Action=DescribeImages").await.contains(&hidden));
}

#[tokio::test]
async fn each_attribute_is_shown_to_the_owner_alone() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Kernel, Some("true"));
    let kernel = one(&world.ok(&format!("{REGISTER}&Name=k")).await, "imageId");
    upload(&world, OURS, Kind::Machine, None);
    let query = format!(
        "{REGISTER}&Name=n&Description=d&KernelId={kernel}\
         &BlockDeviceMapping.1.DeviceName=sdb&BlockDeviceMapping.1.VirtualName=swap"
    );
    let id = one(&world.ok(&query).await, "imageId");
    world
        .ok(&modify(
            &id,
            &format!("LaunchPermission.Add.1.Group=all&LaunchPermission.Add.2.UserId={THEIRS}"),
        ))
        .await;
    world.ok(&modify(&id, "ProductCode.1=774F4FF8")).await;
    for (attribute, holds) in [
        (
            "description",
            "<description><value>d</value></description>".to_owned(),
        ),
        (
            "kernel",
            format!("<kernel><value>{kernel}</value></kernel>"),
        ),
        ("ramdisk", "<ramdisk/>".to_owned()),
        (
            "launchPermission",
            format!(
                "<launchPermission><item><group>all</group></item><item><userId>{THEIRS}</userId></item></launchPermission>"
            ),
        ),
        (
            "productCodes",
            "<productCode>774F4FF8</productCode>".to_owned(),
        ),
        (
            "blockDeviceMapping",
            "<virtualName>swap</virtualName>".to_owned(),
        ),
        ("bootMode", "<value>legacy-bios</value>".to_owned()),
        ("sriovNetSupport", id.clone()),
        ("tpmSupport", id.clone()),
    ] {
        let answer = world.ok(&describe(&id, attribute)).await;
        assert!(answer.contains(&holds), "{attribute}: {answer}");
        let theirs = world.ask(&root(THEIRS), &describe(&id, attribute)).await;
        assert_eq!(theirs.unwrap_err().code, "AuthFailure");
    }
    assert_eq!(
        world.code(&describe(&id, "colour")).await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn what_changes_is_changed_in_either_form_and_the_rest_is_refused() {
    let world = World::new().await;
    let id = world.image().await.to_string();
    let description =
        async |world: &World| one(&world.ok(&describe(&id, "description")).await, "value");
    world.ok(&modify(&id, "Description.Value=new")).await;
    assert_eq!(description(&world).await, "new");
    world
        .ok(&modify(&id, "Attribute=description&Value=old+form"))
        .await;
    assert_eq!(description(&world).await, "old form");
    world
        .ok(&modify(&id, "ProductCode.1=a&ProductCode.2=b"))
        .await;
    world
        .ok(&modify(&id, "Attribute=productCodes&ProductCode.1=b"))
        .await;
    let codes = world.ok(&describe(&id, "productCodes")).await;
    assert_eq!(all(&codes, "productCode"), ["a", "b"]);

    let newline = enc("a\nb");
    for (more, code) in [
        ("", "MissingParameter"),
        (
            "Attribute=kernel&Value=eki-00000001",
            "UnsupportedOperation",
        ),
        ("ImdsSupport.Value=v2.0", "UnsupportedOperation"),
        (
            "LaunchPermission.Add.1.OrganizationArn=arn:aws:x",
            "UnsupportedOperation",
        ),
        (
            "LaunchPermission.Add.1.UserId=bob",
            "InvalidAMIAttributeItemValue",
        ),
        (
            "LaunchPermission.Add.1.UserId=999999999999",
            "InvalidAMIAttributeItemValue",
        ),
        (
            "LaunchPermission.Add.1.Group=everyone",
            "InvalidAMIAttributeItemValue",
        ),
        (
            "Attribute=launchPermission&UserId.1=111122223333",
            "MissingParameter",
        ),
        (
            "Description.Value=d&LaunchPermission.Add.1.Group=all",
            "InvalidParameterCombination",
        ),
        (
            &format!("Description.Value={newline}"),
            "InvalidParameterValue",
        ),
        (
            "LaunchPermission.Add.1.Group=all&DryRun=true",
            "DryRunOperation",
        ),
    ] {
        assert_eq!(world.code(&modify(&id, more)).await, code, "{more}");
    }
    let listed = world.ok("Action=DescribeImages").await;
    assert_eq!(one(&listed, "isPublic"), "false");
}

#[tokio::test]
async fn a_reset_leaves_an_image_to_its_owner_alone() {
    let world = World::new().await;
    let id = world.image().await.to_string();
    let both = format!("LaunchPermission.Add.1.Group=all&LaunchPermission.Add.2.UserId={THEIRS}");
    world.ok(&modify(&id, &both)).await;
    let reset =
        |attribute: &str| format!("Action=ResetImageAttribute&ImageId={id}&Attribute={attribute}");
    let theirs = root(THEIRS);
    let refused = world.ask(&theirs, &reset("launchPermission")).await;
    assert_eq!(refused.unwrap_err().code, "AuthFailure");
    assert_eq!(
        world.code(&reset("description")).await,
        "InvalidParameterValue"
    );
    world.ok(&reset("launchPermission")).await;
    let answer = world.ok(&describe(&id, "launchPermission")).await;
    assert!(answer.contains("<launchPermission/>"), "{answer}");
    let listed = world.ask(&theirs, "Action=DescribeImages").await.unwrap();
    assert!(listed.contains("<imagesSet/>"));
}

#[tokio::test]
async fn who_may_launch_an_image_may_do_nothing_else_to_it() {
    let world = World::new().await;
    let id = world.image().await.to_string();
    world
        .ok(&modify(&id, "LaunchPermission.Add.1.Group=all"))
        .await;
    let theirs = root(THEIRS);
    for (query, code) in [
        (
            modify(&id, "LaunchPermission.Remove.1.Group=all"),
            "AuthFailure",
        ),
        (modify(&id, "Description.Value=mine"), "AuthFailure"),
        (
            format!("Action=DeregisterImage&ImageId={id}"),
            "AuthFailure",
        ),
        (
            format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key=k"),
            "InvalidAMIID.NotFound",
        ),
    ] {
        assert_eq!(
            world.ask(&theirs, &query).await.unwrap_err().code,
            code,
            "{query}"
        );
    }
}
