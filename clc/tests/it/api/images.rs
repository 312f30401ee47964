//! Images, registered from bundles that a user made.

use image::{
    bundle::{Label, Order, PartSink, bundle},
    keys::{BundleKey, CloudKey},
    manifest::{Architecture, Kind},
};

use control::{CallError, Code};
use daemon::reconcile::Reconcile;

use super::{OURS, THEIRS, World, all, enc, one, root, user};

pub(super) const REGISTER: &str = "Action=RegisterImage&ImageLocation=b/f/tiny.manifest.xml";

struct Parts(Vec<(String, Vec<u8>)>);

impl PartSink for Parts {
    fn put(&mut self, file_name: &str, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.push((file_name.to_owned(), bytes));
        Ok(())
    }
}

/// Bundles a small image as `user` and puts it at `b/f/`; gives the manifest.
pub(super) fn upload(world: &World, user: &str, kind: Kind, kernel: Option<&str>) -> String {
    let pem = include_str!("../testdata/cloud-key.pem");
    let cloud = CloudKey::from_pem(pem).unwrap().certificate();
    let key = BundleKey::mint();
    let order = Order {
        name: "tiny",
        size_bytes: 4096,
        key: &key,
    };
    let label = Label {
        kind,
        architecture: Architecture::X86_64,
        user: user.parse().unwrap(),
        kernel_id: kernel.map(str::to_owned),
        ramdisk_id: None,
        block_device_mapping: Vec::new(),
        cloud_key: key.wrap(&cloud).unwrap(),
        user_key: Default::default(),
    };
    let mut parts = Parts(Vec::new());
    let bundled = bundle(order, &mut &[0_u8; 4096][..], &mut parts, &mut |_| {}).unwrap();
    let manifest = bundled.manifest(order, label);
    for (name, bytes) in &parts.0 {
        world.objects.put("b", &format!("f/{name}"), bytes);
    }
    let xml = manifest.to_xml(None).unwrap();
    world
        .objects
        .put("b", "f/tiny.manifest.xml", xml.as_bytes());
    xml
}

#[tokio::test]
async fn a_bundle_becomes_an_image_with_all_that_a_node_will_need() {
    let world = World::new().await;
    let xml = upload(&world, OURS, Kind::Machine, None);
    let id = one(
        &world
            .ok(&format!("{REGISTER}&Name=tiny&Description=small"))
            .await,
        "imageId",
    );
    assert!(id.starts_with("emi-"));

    let listed = world
        .ok(&format!("Action=DescribeImages&ImageId.1={id}"))
        .await;
    assert_eq!(one(&listed, "imageLocation"), "b/f/tiny.manifest.xml");
    assert_eq!(one(&listed, "imageState"), "available");
    assert_eq!(one(&listed, "imageOwnerId"), OURS);
    assert_eq!(
        (one(&listed, "architecture"), one(&listed, "imageType")),
        ("x86_64".to_owned(), "machine".to_owned())
    );
    assert_eq!(
        (one(&listed, "name"), one(&listed, "rootDeviceType")),
        ("tiny".to_owned(), "instance-store".to_owned())
    );

    let image: types::ImageId = id.parse().unwrap();
    let read = world.clc.db.read(move |tx| {
        let manifest = clc::rows::images::manifest(tx, &image)?.unwrap();
        Ok::<_, store::Error>((clc::rows::images::find(tx, &image)?.unwrap(), manifest))
    });
    let (row, kept) = read.await.unwrap();
    assert_eq!(row.size_bytes, 4096);
    assert_eq!((kept.bucket.as_str(), kept.prefix.as_str()), ("b", "f/"));
    assert_eq!(kept.bytes, xml.as_bytes());
    assert_eq!(kept.part_sizes.len(), 1);
}

#[tokio::test]
async fn an_amazon_id_names_the_same_image() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let id = one(&world.ok(REGISTER).await, "imageId");
    let amazons = id.replacen("emi-", "ami-", 1);
    assert_eq!(
        one(
            &world
                .ok(&format!("Action=DescribeImages&ImageId.1={amazons}"))
                .await,
            "imageId"
        ),
        id
    );
}

#[tokio::test]
async fn a_kernel_is_said_by_its_manifest_or_by_true() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Kernel, Some("true"));
    let kernel = one(&world.ok(&format!("{REGISTER}&Name=a")).await, "imageId");
    assert!(kernel.starts_with("eki-"));
    upload(&world, OURS, Kind::Machine, None);
    let ramdisk = one(
        &world.ok(&format!("{REGISTER}&Name=b&RamdiskId=true")).await,
        "imageId",
    );
    assert!(ramdisk.starts_with("eri-"));
    for (more, code) in [
        ("KernelId=eki-00000001", "InvalidAMIID.NotFound"),
        (
            "KernelId=true&RamdiskId=true",
            "InvalidParameterCombination",
        ),
        (&format!("KernelId={ramdisk}"), "InvalidParameterValue"),
        (
            &format!("RamdiskId={ramdisk}"),
            "InvalidParameterCombination",
        ),
        ("KernelId=yes", "InvalidAMIID.Malformed"),
    ] {
        let query = format!("{REGISTER}&Name=c&{more}");
        assert_eq!(world.code(&query).await, code, "{more}");
    }

    // What its manifest says is what it boots with, unless the request says otherwise.
    upload(&world, OURS, Kind::Machine, Some(&kernel));
    let query = format!("{REGISTER}&Name=c&RamdiskId={ramdisk}");
    let image = one(&world.ok(&query).await, "imageId");
    let listed = world
        .ok(&format!("Action=DescribeImages&ImageId.1={image}"))
        .await;
    assert_eq!(
        (one(&listed, "kernelId"), one(&listed, "ramdiskId")),
        (kernel.clone(), ramdisk.clone())
    );
    let launched = world
        .ok(&format!(
            "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1"
        ))
        .await;
    assert_eq!(one(&launched, "kernelId"), kernel);
    assert_eq!(one(&launched, "ramdiskId"), ramdisk);
    for (more, code) in [
        (format!("KernelId={ramdisk}"), "InvalidParameterValue"),
        (format!("RamdiskId={kernel}"), "InvalidParameterValue"),
        ("KernelId=eki-00000001".to_owned(), "InvalidAMIID.NotFound"),
    ] {
        let query = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&{more}");
        assert_eq!(world.code(&query).await, code, "{more}");
    }
    let no_machine = format!("Action=RunInstances&ImageId={kernel}&MinCount=1&MaxCount=1");
    assert_eq!(world.code(&no_machine).await, "InvalidParameterValue");
}

#[tokio::test]
async fn users_register_kernels_only_where_the_property_lets_them() {
    let theirs = root(THEIRS);
    for (users_may, kind) in [
        (false, Kind::Kernel),
        (false, Kind::Ramdisk),
        (true, Kind::Kernel),
        (true, Kind::Ramdisk),
    ] {
        let mut config = clc::config::Config::default();
        config.images.users_may_register_kernels = users_may;
        let world = World::with(config).await;
        world.objects.share("b");
        upload(&world, THEIRS, kind, None);
        let answer = world.ask(&theirs, REGISTER).await;
        match answer {
            Ok(answer) => assert!(users_may, "{answer}"),
            Err(refusal) => {
                assert!(!users_may, "{refusal:?}");
                assert_eq!(refusal.code, "UnauthorizedOperation");
                assert!(refusal.message.contains("users_may_register_kernels"));
            }
        }
        upload(&world, THEIRS, Kind::Machine, None);
        let machine = world.ask(&theirs, &format!("{REGISTER}&Name=m")).await;
        assert!(machine.is_ok(), "{machine:?}");
    }
}

#[tokio::test]
async fn a_manifest_of_somebody_else_is_refused() {
    let world = World::new().await;
    upload(&world, THEIRS, Kind::Machine, None);
    assert_eq!(world.code(REGISTER).await, "AuthFailure");
    let theirs = world.ask(&root(THEIRS), REGISTER).await.unwrap_err();
    assert_eq!(
        theirs.code, "InvalidManifest",
        "they may not read our bucket"
    );
    assert!(
        theirs
            .message
            .contains("you may not read b/f/tiny.manifest.xml"),
        "{}",
        theirs.message
    );
}

#[tokio::test]
async fn j2_j3_what_is_wrong_with_a_bundle_is_said_and_nothing_is_registered() {
    let world = World::new().await;
    assert!(
        world
            .refused(REGISTER)
            .await
            .message
            .contains("b/f/tiny.manifest.xml does not exist")
    );
    let xml = upload(&world, OURS, Kind::Machine, None);
    let cases: Vec<(String, &str)> = vec![
        (xml[..xml.len() / 2].to_owned(), "cannot be read"),
        (String::new(), "manifest"),
        (
            xml.replace("tiny.part.0", "../../etc/passwd.part.0"),
            "part 0",
        ),
        (xml.replace("tiny.part.0", "/etc/passwd.part.0"), "part 0"),
        (xml.replace("tiny.part.0", "other/tiny.part.0"), "part 0"),
        (
            xml.replace("tiny.part.0", "tiny&#0;.part.0"),
            "cannot be read",
        ),
        (xml.replace("tiny.part.0", &"t".repeat(4096)), "part 0"),
        (xml.replace("count=\"1\"", "count=\"2\""), "another count"),
        (
            twice(&xml).replacen("tiny.part.0", "more.part.0", 1),
            "another count",
        ),
        (twice(&xml), "part 1"),
        (twice(&xml).replace("count=\"1\"", "count=\"2\""), "part 1"),
        (xml.replace("SHA1", "CRC32"), "SHA-1"),
        ("not XML at all".to_owned(), "cannot be read"),
        (xml.replace("<filename>", "<filename>x"), "NoSuchKey"),
        (larger(&xml), "bytes of parts"),
        (wrong_key(&xml), "another cloud"),
    ];
    for (text, says) in cases {
        world
            .objects
            .put("b", "f/tiny.manifest.xml", text.as_bytes());
        let refusal = world.refused(REGISTER).await;
        assert_eq!(refusal.code, "InvalidManifest", "{says}");
        assert!(
            refusal.message.contains(says),
            "{says}: {}",
            refusal.message
        );
    }
    world
        .objects
        .put("b", "f/tiny.manifest.xml", xml.as_bytes());
    world.objects.remove("b", "f/tiny.part.00");
    world.objects.remove("b", "f/tiny.part.0");
    assert!(world.refused(REGISTER).await.message.contains("NoSuchKey"));
    assert_eq!(world.count("images").await, 0);
}

/// The same bundle, with its part twice.
fn twice(xml: &str) -> String {
    let (head, rest) = xml.split_once("<part ").unwrap();
    let (part, tail) = rest.split_once("</part>").unwrap();
    let again = part.replace("index=\"0\"", "index=\"1\"");
    format!("{head}<part {part}</part><part {again}</part>{tail}")
}

/// The same bundle, one block longer than its parts.
fn larger(xml: &str) -> String {
    let said = one(xml, "bundled_size");
    let more: u64 = said.parse::<u64>().unwrap() + 16;
    xml.replace(
        &format!("<bundled_size>{said}<"),
        &format!("<bundled_size>{more}<"),
    )
}

fn wrong_key(xml: &str) -> String {
    let (before, rest) = xml.split_once("<ec2_encrypted_key").unwrap();
    let (head, tail) = rest.split_once('>').unwrap();
    let (key, tail) = tail.split_once('<').unwrap();
    format!(
        "{before}<ec2_encrypted_key{head}>{}<{tail}",
        "0".repeat(key.len())
    )
}

#[tokio::test]
async fn a_location_must_be_one() {
    let world = World::new().await;
    assert_eq!(
        world.code("Action=RegisterImage&Name=n").await,
        "MissingParameter"
    );
    for location in ["b", "b/", "/b"] {
        let query = format!("Action=RegisterImage&ImageLocation={location}");
        assert_eq!(
            world.code(&query).await,
            "InvalidParameterValue",
            "{location}"
        );
    }
    let of_snapshot =
        "Action=RegisterImage&Name=n&BlockDeviceMapping.1.Ebs.SnapshotId=snap-00000001";
    assert_eq!(world.code(of_snapshot).await, "UnsupportedOperation");
}

#[tokio::test]
async fn a_name_is_used_once_and_free_again_after() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let id = one(&world.ok(&format!("{REGISTER}&Name=n")).await, "imageId");
    assert_eq!(
        world.code(&format!("{REGISTER}&Name=n")).await,
        "InvalidAMIName.Duplicate"
    );
    world
        .ok(&format!("Action=DeregisterImage&ImageId={id}"))
        .await;
    assert_eq!(
        world
            .code(&format!("Action=DeregisterImage&ImageId={id}"))
            .await,
        "InvalidAMIID.Unavailable"
    );
    let launch = format!("Action=RunInstances&ImageId={id}&MinCount=1&MaxCount=1");
    assert_eq!(world.code(&launch).await, "InvalidAMIID.Unavailable");
    world.ok(&format!("{REGISTER}&Name=n")).await;
    assert_eq!(
        all(&world.ok("Action=DescribeImages").await, "imageId").len(),
        1
    );
}

#[tokio::test]
async fn what_is_said_of_an_image_is_kept_or_refused() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let devices = "BlockDeviceMapping.1.DeviceName=sda1&BlockDeviceMapping.1.VirtualName=ami\
        &BlockDeviceMapping.2.DeviceName=/dev/sdb&BlockDeviceMapping.2.VirtualName=ephemeral0\
        &BlockDeviceMapping.3.DeviceName=/dev/sdc&BlockDeviceMapping.3.NoDevice=";
    let query = format!(
        "{REGISTER}&Name=n&Architecture=i386&VirtualizationType=paravirtual&Platform=Windows\
         &RootDeviceName=/dev/sda1&BootMode=legacy-bios&EnaSupport=true&{devices}\
         &TagSpecification.1.ResourceType=image&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=v"
    );
    world.ok(&query).await;
    let listed = world.ok("Action=DescribeImages").await;
    for (element, text) in [
        ("architecture", "i386"),
        ("virtualizationType", "hvm"),
        ("rootDeviceName", "/dev/sda1"),
        ("deviceName", "/dev/sdb"),
        ("virtualName", "ephemeral0"),
        ("platform", "Windows"),
        ("bootMode", "legacy-bios"),
        ("key", "k"),
    ] {
        assert_eq!(one(&listed, element), text);
    }
    for (more, code) in [
        ("Architecture=vax", "InvalidParameterValue"),
        ("VirtualizationType=xen", "InvalidParameterValue"),
        ("RootDeviceName=/dev/../etc", "InvalidParameterValue"),
        ("BootMode=uefi", "UnsupportedOperation"),
        ("TpmSupport=v2.0", "UnsupportedOperation"),
        ("ImdsSupport=v2.0", "UnsupportedOperation"),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdb&BlockDeviceMapping.1.VirtualName=ephemeral1",
            "InvalidBlockDeviceMapping",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdb&BlockDeviceMapping.1.Ebs.VolumeSize=1",
            "UnsupportedOperation",
        ),
        ("BlockDeviceMapping.1.VirtualName=swap", "MissingParameter"),
        (
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=k",
            "InvalidParameterValue",
        ),
    ] {
        let refused = world.code(&format!("{REGISTER}&Name=m&{more}")).await;
        assert_eq!(refused, code, "{more}");
    }
    assert_eq!(world.count("images").await, 1);
}

#[tokio::test]
async fn every_filter_of_ec2_is_known_and_those_that_say_something_find_it() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    world
        .ok(&format!(
            "{REGISTER}&Name=found&Description=d&RootDeviceName=/dev/sda\
             &BlockDeviceMapping.1.DeviceName=/dev/sdb&BlockDeviceMapping.1.VirtualName=swap"
        ))
        .await;
    let id = one(&world.ok("Action=DescribeImages").await, "imageId");
    for (name, value) in [
        ("architecture", "x86_64"),
        ("block-device-mapping.device-name", "/dev/sdb"),
        ("boot-mode", "legacy-bios"),
        ("creation-date", "2026-*"),
        ("description", "d"),
        ("ena-support", "false"),
        ("hypervisor", "kvm"),
        ("image-id", &id),
        ("image-type", "machine"),
        ("is-public", "false"),
        ("manifest-location", "b/f/*"),
        ("name", "f?und"),
        ("owner-alias", "amazon"),
        ("owner-alias", "eucalyptus"),
        ("owner-id", OURS),
        ("root-device-name", "/dev/sda"),
        ("root-device-type", "instance-store"),
        ("state", "available"),
        ("virtualization-type", "hvm"),
    ] {
        let query = |value: &str| {
            let value = enc(value);
            format!("Action=DescribeImages&Filter.1.Name={name}&Filter.1.Value.1={value}")
        };
        let found = all(&world.ok(&query(value)).await, "imageId");
        assert_eq!(found, [id.as_str()], "{name}");
        let none = all(&world.ok(&query("nothing")).await, "imageId");
        assert_eq!(none, [""; 0], "{name}");
    }
    // All that botocore's model names, and those that nothing here has.
    let listed = include_str!("../testdata/image-filters.txt");
    for name in listed.lines() {
        let query =
            format!("Action=DescribeImages&Filter.1.Name={name}&Filter.1.Value.1=no-such-value");
        assert!(world.ok(&query).await.contains("<imagesSet/>"), "{name}");
    }
    let odd = "Action=DescribeImages&Filter.1.Name=nmae&Filter.1.Value.1=x";
    assert_eq!(world.code(odd).await, "InvalidParameterValue");
}

#[tokio::test]
async fn images_come_in_pages() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.image().await.to_string());
    }
    let first = world.ok("Action=DescribeImages&MaxResults=5").await;
    let token = enc(&one(&first, "nextToken"));
    let second = world
        .ok(&format!(
            "Action=DescribeImages&MaxResults=5&NextToken={token}"
        ))
        .await;
    let mut listed = [all(&first, "imageId"), all(&second, "imageId")].concat();
    assert_eq!(listed.len(), 7);
    made.sort();
    listed.sort();
    assert_eq!(listed, made);
    assert!(!second.contains("<nextToken>"));
}

#[tokio::test]
async fn a_deprecated_image_is_its_owners_to_see_and_anyones_to_launch() {
    let world = World::new().await;
    let id = world.image().await;
    let permit = "LaunchPermission.Add.1.Group=all";
    world
        .ok(&format!(
            "Action=ModifyImageAttribute&ImageId={id}&{permit}"
        ))
        .await;
    let deprecate =
        |at: &str| format!("Action=EnableImageDeprecation&ImageId={id}&DeprecateAt={at}");
    assert_eq!(
        world.code(&deprecate("2020-01-01T00:00:00Z")).await,
        "InvalidParameterValue"
    );
    world.ok(&deprecate("2026-11-23T04:00:00Z")).await;
    let theirs = root(THEIRS);
    let list = "Action=DescribeImages";
    assert!(world.ask(&theirs, list).await.unwrap().contains("<item>"));
    world.clock.jump(3_600_000);
    assert!(!world.ask(&theirs, list).await.unwrap().contains("<item>"));
    for query in [
        "Action=DescribeImages&IncludeDeprecated=true".to_owned(),
        format!("Action=DescribeImages&ImageId.1={id}"),
        format!("Action=RunInstances&ImageId={id}&MinCount=1&MaxCount=1"),
    ] {
        let answer = world.ask(&theirs, &query).await.unwrap();
        assert!(answer.contains("<item>"), "{query}");
    }
    let own = world.ok(list).await;
    assert_eq!(one(&own, "deprecationTime"), "2026-11-23T04:00:00.000Z");
    world
        .ok(&format!("Action=DisableImageDeprecation&ImageId={id}"))
        .await;
    assert!(world.ask(&theirs, list).await.unwrap().contains("<item>"));
    let not_theirs = world.ask(&theirs, &deprecate("2027-01-01T00:00:00Z")).await;
    assert_eq!(not_theirs.unwrap_err().code, "AuthFailure");
}

#[tokio::test]
async fn a_deregistered_image_goes_with_its_last_instance() {
    let world = World::new().await;
    let image = world.image().await;
    let launch = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1");
    let instance = one(&world.ok(&launch).await, "instanceId");
    world
        .ok(&format!("Action=DeregisterImage&ImageId={image}"))
        .await;
    world.keep_images().await;
    assert!(
        world
            .ok("Action=DescribeImages")
            .await
            .contains("<imagesSet/>")
    );
    assert_eq!(world.code(&launch).await, "InvalidAMIID.Unavailable");
    let attribute = format!("Action=DescribeImageAttribute&ImageId={image}&Attribute=description");
    assert_eq!(world.code(&attribute).await, "InvalidAMIID.Unavailable");

    // The instance is what it was; its node still finds what it needs to fetch the image again.
    let shown = world.ok("Action=DescribeInstances").await;
    assert_eq!(one(&shown, "imageId"), image.to_string());
    world.run(&instance).await;
    let rebooted = format!("Action=RebootInstances&InstanceId.1={instance}");
    world.ok(&rebooted).await;
    let node = "node-00000001".parse().unwrap();
    let (id, of) = (image.clone(), instance.parse().unwrap());
    let around = world.clc.surroundings();
    let needed = world.clc.db.read(move |tx| {
        let row = clc::rows::instances::load(tx, &of)?.unwrap();
        let wish = clc::wish::of_instance(tx, &around, &row)?.unwrap();
        let manifest = clc::rows::images::manifest(tx, &id)?;
        let needs = clc::rows::instances::needs_image(tx, &node, &id)?;
        Ok::<_, store::Error>((wish.spec.image.id, manifest.is_some(), needs))
    });
    assert_eq!(needed.await.unwrap(), (image.clone(), true, true));

    // Terminated, and forgotten after its hour.
    world.forget(&instance).await;
    world.keep_images().await;
    assert_eq!(world.count("images").await, 0);
    assert_eq!(world.count("image_manifests").await, 0);
    assert_eq!(world.code(&launch).await, "InvalidAMIID.NotFound");
}

#[tokio::test]
async fn a_copy_has_parts_of_its_own_and_outlives_what_it_was_made_of() {
    let world = World::new().await;
    let xml = upload(&world, OURS, Kind::Machine, None);
    let query = format!("{REGISTER}&Name=first&Description=d");
    let first = one(&world.ok(&query).await, "imageId");
    let copy = format!("Action=CopyImage&SourceRegion=mallee-1&SourceImageId={first}");
    let query = format!("{copy}&Name=second&ClientToken=t&CopyImageTags=true");
    world
        .ok(&format!(
            "Action=CreateTags&ResourceId.1={first}&Tag.1.Key=k&Tag.1.Value=v"
        ))
        .await;
    let second = one(&world.ok(&query).await, "imageId");
    assert_ne!(first, second);
    assert_eq!(one(&world.ok(&query).await, "imageId"), second, "once");

    let describe = format!("Action=DescribeImages&ImageId.1={second}");
    assert_eq!(one(&world.ok(&describe).await, "imageState"), "pending");
    let launch = format!("Action=RunInstances&ImageId={second}&MinCount=1&MaxCount=1");
    assert_eq!(world.code(&launch).await, "InvalidAMIID.Unavailable");
    world.keep_images().await;
    let listed = world.ok(&describe).await;
    for (element, text) in [
        ("imageState", "available"),
        ("name", "second"),
        ("description", "d"),
        ("sourceImageId", &first),
        ("sourceImageRegion", "mallee-1"),
        ("key", "k"),
    ] {
        assert_eq!(one(&listed, element), text);
    }

    // The bundle goes, and the image: the copy still has a manifest and all parts.
    world
        .ok(&format!("Action=DeregisterImage&ImageId={first}"))
        .await;
    world.keep_images().await;
    for object in ["f/tiny.part.00", "f/tiny.part.0", "f/tiny.manifest.xml"] {
        world.objects.remove("b", object);
    }
    world.ok(&launch).await;
    let id: types::ImageId = second.parse().unwrap();
    let kept = world
        .clc
        .db
        .read(move |tx| clc::rows::images::manifest(tx, &id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&kept.bucket, kept.prefix.as_str()), (&second, ""));
    assert_eq!(kept.bytes, xml.as_bytes());
    assert_eq!(world.objects.count(&second), kept.part_sizes.len());

    // A copy of the copy, which now is all that there is.
    let third = format!("Action=CopyImage&SourceRegion=mallee-1&SourceImageId={second}&Name=third");
    let third = one(&world.ok(&third).await, "imageId");
    world
        .ok(&format!("Action=DeregisterImage&ImageId={third}"))
        .await;
    world.keep_images().await;
    assert_eq!(world.objects.count(&third), 0);
    assert!(world.objects.count(&second) > 0);
}

#[tokio::test]
async fn a_copy_that_cannot_be_made_says_why() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let first = one(&world.ok(REGISTER).await, "imageId");
    let copy = format!("Action=CopyImage&SourceRegion=mallee-1&SourceImageId={first}&Name=second");
    let second = one(&world.ok(&copy).await, "imageId");
    for part in ["f/tiny.part.00", "f/tiny.part.0"] {
        world.objects.remove("b", part);
    }
    world.keep_images().await;
    let listed = world
        .ok(&format!("Action=DescribeImages&ImageId.1={second}"))
        .await;
    assert_eq!(one(&listed, "imageState"), "failed");
    assert!(one(&listed, "message").contains("tiny.part"));
    let launch = format!("Action=RunInstances&ImageId={second}&MinCount=1&MaxCount=1");
    assert_eq!(world.code(&launch).await, "InvalidAMIID.Unavailable");
    world
        .ok(&format!("Action=DeregisterImage&ImageId={second}"))
        .await;
    world.keep_images().await;
    assert_eq!(world.count("images").await, 1);
}

#[tokio::test]
async fn a_copy_that_waits_says_for_what_and_not_for_ever() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let first = one(&world.ok(REGISTER).await, "imageId");
    let copy = format!("Action=CopyImage&SourceRegion=mallee-1&SourceImageId={first}&Name=second");
    let second = one(&world.ok(&copy).await, "imageId");
    let describe = format!("Action=DescribeImages&ImageId.1={second}");
    let away = CallError::new(Code::Unreachable, "walrus is away");
    *world.objects.refusal.lock().unwrap() = Some(away);

    // A limit's time that we were away does not count.
    let limit_ms = 1000 * i64::try_from(world.clc.config.limits.image_copy_s).unwrap();
    world.clock.jump(limit_ms);
    let mut task = ::clc::tasks::keep_images::KeepImages::new(world.clc.clone());
    task.pass().await.unwrap();
    let waits = world.ok(&describe).await;
    assert_eq!(one(&waits, "imageState"), "pending");
    assert!(one(&waits, "message").contains("not copied yet: walrus is away"));
    world.clock.jump(limit_ms);
    task.pass().await.unwrap();
    let failed = world.ok(&describe).await;
    assert_eq!(one(&failed, "imageState"), "failed");
    assert!(one(&failed, "message").contains("cannot be copied: walrus is away"));
}

#[tokio::test]
async fn a_copy_that_is_made_after_all_tells_of_no_trouble_and_a_conflict_ends_it_at_once() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let first = one(&world.ok(REGISTER).await, "imageId");
    for (code, then) in [(Code::NotReady, "available"), (Code::Conflict, "failed")] {
        let copy =
            format!("Action=CopyImage&SourceRegion=mallee-1&SourceImageId={first}&Name={then}");
        let made = one(&world.ok(&copy).await, "imageId");
        *world.objects.refusal.lock().unwrap() = Some(CallError::new(code, "not now"));
        world.keep_images().await;
        *world.objects.refusal.lock().unwrap() = None;
        world.keep_images().await;
        let listed = world
            .ok(&format!("Action=DescribeImages&ImageId.1={made}"))
            .await;
        assert_eq!(one(&listed, "imageState"), then);
        assert_eq!(listed.contains("stateReason"), then == "failed");
    }
}

#[tokio::test]
async fn a_copy_is_refused_where_it_means_something_else_or_is_not_allowed() {
    let world = World::new().await;
    upload(&world, OURS, Kind::Machine, None);
    let id = one(&world.ok(REGISTER).await, "imageId");
    let copy = format!("Action=CopyImage&SourceImageId={id}");
    for (more, code) in [
        ("", "MissingParameter"),
        ("SourceRegion=us-east-1&Name=n", "InvalidParameterValue"),
        ("SourceRegion=mallee-1", "InvalidAMIName.Duplicate"),
        (
            "SourceRegion=mallee-1&Name=n&Encrypted=true",
            "UnsupportedOperation",
        ),
        (
            "SourceRegion=mallee-1&Name=n&DryRun=true",
            "DryRunOperation",
        ),
    ] {
        assert_eq!(world.code(&format!("{copy}&{more}")).await, code, "{more}");
    }
    // Who may launch it, and cannot read the bundle, may not take it away.
    let theirs = root(THEIRS);
    let query = format!("{copy}&SourceRegion=mallee-1&Name=n");
    let unseen = world.ask(&theirs, &query).await.unwrap_err();
    assert_eq!(unseen.code, "InvalidAMIID.NotFound");
    world
        .ok(&format!(
            "Action=ModifyImageAttribute&ImageId={id}&LaunchPermission.Add.1.UserId={THEIRS}"
        ))
        .await;
    let unread = world.ask(&theirs, &query).await.unwrap_err();
    assert_eq!(unread.code, "InvalidManifest");
    assert!(
        unread.message.contains("AccessDenied"),
        "{}",
        unread.message
    );
    let may_not = user(&[]);
    let nobody = world.ask(&may_not, &query).await.unwrap_err();
    assert_eq!(nobody.code, "UnauthorizedOperation");
    assert_eq!(world.count("images").await, 1);
}

#[tokio::test]
async fn euca2ools_asks_twice_and_finds_its_own_images_both_times() {
    let world = World::new().await;
    let id = world.image().await.to_string();
    for query in [
        "Owner.1=self",
        "ExecutableBy.1=self",
        &format!("Owner.1={OURS}"),
        "",
    ] {
        let listed = world
            .ok(&format!("Action=DescribeImages&Version=2015-10-01&{query}"))
            .await;
        assert_eq!(all(&listed, "imageId"), [id.as_str()], "{query}");
    }
    for nobodys in [THEIRS, "aws-marketplace"] {
        let none = world
            .ok(&format!("Action=DescribeImages&Owner.1={nobodys}"))
            .await;
        assert!(none.contains("<imagesSet/>"));
    }
    for cloud in ["amazon", "eucalyptus"] {
        let listed = world
            .ok(&format!("Action=DescribeImages&Owner.1={cloud}"))
            .await;
        assert_eq!(one(&listed, "imageOwnerAlias"), "amazon");
    }
    for odd in ["Owner.1=root", "ExecutableBy.1=everyone"] {
        let code = world.code(&format!("Action=DescribeImages&{odd}")).await;
        assert_eq!(code, "InvalidUserID.Malformed");
    }
}
