//! Images, registered from bundles that a user made.

use image::{
    bundle::{Order, PartSink, bundle},
    keys::CloudKey,
    manifest::{Architecture, Kind},
};

use super::{OURS, THEIRS, World, all, one, root};

const REGISTER: &str = "Action=RegisterImage&ImageLocation=b/f/tiny.manifest.xml";

struct Parts(Vec<(String, Vec<u8>)>);

impl PartSink for Parts {
    fn put(&mut self, file_name: &str, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.push((file_name.to_owned(), bytes));
        Ok(())
    }
}

/// Bundles a small image as `user` and puts it at `b/f/`; gives the manifest.
fn upload(world: &World, user: &str, kind: Kind, kernel: Option<&str>) -> String {
    let pem = include_str!("../testdata/cloud-key.pem");
    let cloud = CloudKey::from_pem(pem).unwrap().certificate();
    let order = Order {
        name: "tiny",
        size_bytes: 4096,
        kind,
        architecture: Architecture::X86_64,
        user: user.parse().unwrap(),
        kernel_id: kernel.map(str::to_owned),
        ramdisk_id: None,
        block_device_mapping: Vec::new(),
        cloud: &cloud,
        user_certificate: None,
    };
    let mut parts = Parts(Vec::new());
    let manifest = bundle(&order, &mut &[0_u8; 4096][..], &mut parts, &mut |_| {}).unwrap();
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
    assert!(one(&world.ok(&format!("{REGISTER}&Name=a")).await, "imageId").starts_with("eki-"));
    upload(&world, OURS, Kind::Machine, None);
    assert!(
        one(
            &world.ok(&format!("{REGISTER}&Name=b&RamdiskId=true")).await,
            "imageId"
        )
        .starts_with("eri-")
    );
    let missing = world
        .code(&format!("{REGISTER}&Name=c&KernelId=eki-00000001"))
        .await;
    assert_eq!(missing, "InvalidAMIID.NotFound");
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
async fn what_is_wrong_with_a_bundle_is_said_and_nothing_is_registered() {
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
    let none = world
        .ok(&format!("Action=DescribeImages&Owner.1={THEIRS}"))
        .await;
    assert!(none.contains("<imagesSet/>"));
}
