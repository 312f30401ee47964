//! What holds for every action that is served, told of each by name: one that is new here fails until
//! it has its line.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use clc::{api::table, edge::Service};
use image::manifest::Kind;

use super::{
    OURS, World, bundle_tasks, enc,
    images::{REGISTER, upload},
    key_pairs, one, user,
};

/// Those that describe and take no filters: one thing's attribute, or the account's own.
const WITHOUT_FILTERS: [&str; 4] = [
    "DescribeAccountAttributes",
    "DescribeImageAttribute",
    "DescribeInstanceAttribute",
    "DescribeVpcAttribute",
];
/// Lists that come whole, as in EC2's model: they take no NextToken.
const WITHOUT_PAGES: [&str; 5] = [
    "DescribeAddresses",
    "DescribeAvailabilityZones",
    "DescribeBundleTasks",
    "DescribeKeyPairs",
    "DescribeRegions",
];

fn lists() -> impl Iterator<Item = &'static str> {
    let served = table::served(Service::Ec2).into_iter();
    let describes = served.filter(|action| action.starts_with("Describe"));
    describes.filter(|action| !WITHOUT_FILTERS.contains(action))
}

#[tokio::test]
async fn an_unknown_filter_is_refused_by_every_list() {
    let world = World::new().await;
    for action in lists() {
        let query = format!("Action={action}&Filter.1.Name=colour&Filter.1.Value.1=red");
        let code = world.code(&query).await;
        assert_eq!(code, "InvalidParameterValue", "{action}");
        let whole = world.ok(&format!("Action={action}")).await;
        assert!(whole.contains(&format!("<{action}Response")), "{action}");
    }
}

#[tokio::test]
async fn every_long_list_comes_in_pages_and_takes_no_token_that_it_did_not_give() {
    let world = World::new().await;
    for action in lists().filter(|action| !WITHOUT_PAGES.contains(action)) {
        let page = format!("Action={action}&MaxResults=5");
        world.ok(&page).await;
        let code = world.code(&format!("{page}&NextToken=x")).await;
        assert_eq!(code, "InvalidNextToken", "{action}");
    }
    for action in WITHOUT_FILTERS.iter().chain(&WITHOUT_PAGES) {
        assert!(table::knows(Service::Ec2, action), "{action}");
    }
}

/// A request that would succeed, for each action, in this world.
async fn good_requests(world: &World) -> BTreeMap<&'static str, String> {
    upload(world, OURS, Kind::Machine, None);
    let image = one(&world.ok(REGISTER).await, "imageId");
    let instance = bundle_tasks::running(world).await;
    let policy = || bundle_tasks::policy(world, "mine/");
    let bundle = bundle_tasks::ask(&instance, "mine/one", policy());
    let other = bundle_tasks::running(world).await;
    let task = bundle_tasks::ask(&other, "mine/two", policy());
    let task = one(&world.ok(&task).await, "bundleId");
    let volume = "Action=CreateVolume&AvailabilityZone=mallee-1a&Size=1";
    let volume = one(&world.ok(volume).await, "volumeId");
    let group = "Action=CreateSecurityGroup&GroupName=web&GroupDescription=d";
    let group = one(&world.ok(group).await, "groupId");
    world.ok("Action=CreateKeyPair&KeyName=k").await;
    let rule = |direction: &str| {
        format!(
            "GroupId={group}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort={direction}\
             &IpPermissions.1.ToPort={direction}&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8"
        )
    };
    for (action, port) in [
        ("AuthorizeSecurityGroupIngress", "22"),
        ("AuthorizeSecurityGroupEgress", "23"),
    ] {
        world.ok(&format!("Action={action}&{}", rule(port))).await;
    }
    let vpcs = world.ok("Action=DescribeVpcs").await;
    let vpc = one(&vpcs, "vpcId");
    let public_key = enc(&STANDARD.encode(key_pairs::PUBLIC));
    let tag = format!("ResourceId.1={instance}&Tag.1.Key=k&Tag.1.Value=v");
    BTreeMap::from([
        ("AuthorizeSecurityGroupEgress", rule("80")),
        ("AuthorizeSecurityGroupIngress", rule("80")),
        (
            "BundleInstance",
            bundle.replace("Action=BundleInstance&", ""),
        ),
        ("CancelBundleTask", format!("BundleId={task}")),
        (
            "CopyImage",
            format!("SourceRegion=mallee-1&SourceImageId={image}&Name=copy"),
        ),
        ("CreateKeyPair", "KeyName=other".to_owned()),
        (
            "CreateSecurityGroup",
            "GroupName=other&GroupDescription=d".to_owned(),
        ),
        ("CreateTags", tag.clone()),
        (
            "CreateVolume",
            "AvailabilityZone=mallee-1a&Size=1".to_owned(),
        ),
        ("DeleteKeyPair", "KeyName=k".to_owned()),
        ("DeleteSecurityGroup", format!("GroupId={group}")),
        ("DeleteTags", tag),
        ("DeleteVolume", format!("VolumeId={volume}")),
        ("DeregisterImage", format!("ImageId={image}")),
        ("DescribeAccountAttributes", String::new()),
        ("DescribeAddresses", String::new()),
        ("DescribeAvailabilityZones", String::new()),
        ("DescribeBundleTasks", String::new()),
        (
            "DescribeImageAttribute",
            format!("ImageId={image}&Attribute=launchPermission"),
        ),
        ("DescribeImages", String::new()),
        (
            "DescribeInstanceAttribute",
            format!("InstanceId={instance}&Attribute=userData"),
        ),
        ("DescribeInstanceStatus", String::new()),
        ("DescribeInstanceTypes", String::new()),
        ("DescribeInstances", String::new()),
        ("DescribeKeyPairs", String::new()),
        ("DescribeNetworkInterfaces", String::new()),
        ("DescribeRegions", String::new()),
        ("DescribeSecurityGroups", String::new()),
        ("DescribeSubnets", String::new()),
        ("DescribeTags", String::new()),
        ("DescribeVolumeStatus", String::new()),
        ("DescribeVolumes", String::new()),
        (
            "DescribeVpcAttribute",
            format!("VpcId={vpc}&Attribute=enableDnsSupport"),
        ),
        ("DescribeVpcs", String::new()),
        ("DisableImageDeprecation", format!("ImageId={image}")),
        (
            "EnableImageDeprecation",
            format!("ImageId={image}&DeprecateAt=2027-06-01T00:00:00Z"),
        ),
        ("GetConsoleOutput", format!("InstanceId={instance}")),
        (
            "ImportKeyPair",
            format!("KeyName=theirs&PublicKeyMaterial={public_key}"),
        ),
        (
            "ModifyImageAttribute",
            format!("ImageId={image}&LaunchPermission.Add.1.Group=all"),
        ),
        (
            "ModifyInstanceAttribute",
            format!("InstanceId={instance}&DisableApiTermination.Value=true"),
        ),
        ("RebootInstances", format!("InstanceId.1={instance}")),
        (
            "RegisterImage",
            format!(
                "{}&Name=again",
                REGISTER.replace("Action=RegisterImage&", "")
            ),
        ),
        (
            "ResetImageAttribute",
            format!("ImageId={image}&Attribute=launchPermission"),
        ),
        ("RevokeSecurityGroupEgress", rule("23")),
        ("RevokeSecurityGroupIngress", rule("22")),
        (
            "RunInstances",
            format!("ImageId={image}&MinCount=1&MaxCount=1"),
        ),
        ("TerminateInstances", format!("InstanceId.1={instance}")),
    ])
}

/// All that is recorded, as text.
async fn everything(world: &World) -> String {
    let read = |tx: &store::Tx| {
        let mut names =
            tx.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?;
        let names: Vec<String> = names
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut text = String::new();
        for name in names {
            let mut rows = tx.prepare(&format!("SELECT * FROM \"{name}\""))?;
            let columns = rows.column_count();
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    text.push_str(&format!("{name}: {:?}\n", row.get_ref(column)?));
                }
            }
        }
        Ok::<_, store::Error>(text)
    };
    world.clc.db.read(read).await.unwrap()
}

#[tokio::test]
async fn a_dry_run_of_any_action_says_so_and_changes_nothing_and_is_no_way_around_a_policy() {
    let world = World::new().await;
    world.cluster.set_room(10);
    let requests = good_requests(&world).await;
    let served = table::served(Service::Ec2);
    let known: Vec<&str> = requests.keys().copied().collect();
    assert_eq!(known, served, "each action has a line");

    let before = everything(&world).await;
    let held = world.cluster.held();
    for (action, parameters) in &requests {
        let query = format!("Action={action}&{parameters}&DryRun=true");
        let refusal = world.refused(&query).await;
        let said = (refusal.code, refusal.status);
        assert_eq!(
            said,
            ("DryRunOperation", 412),
            "{query}: {}",
            refusal.message
        );
        let forbidden = world.ask(&user(&[]), &query).await.unwrap_err();
        assert_eq!(forbidden.code, "UnauthorizedOperation", "{query}");
    }
    assert_eq!(world.cluster.held(), held);
    assert_eq!(everything(&world).await, before);
}
