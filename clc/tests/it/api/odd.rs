//! Odd input of every kind to every action: an answer or a refusal, never a defect.

use clc::{api::table, edge::Service};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{OURS, World, enc, root};

const SEED: u64 = 20_261_123;
/// Requests for each action.
const TRIES: usize = 60;

/// Every parameter that some action reads, and some that none does.
const NAMES: [&str; 50] = [
    "AddressingType",
    "DisableApiTermination.Value",
    "GroupId.2",
    "Attribute",
    "AvailabilityZone",
    "BlockDeviceMapping.1.Ebs.VolumeSize",
    "CidrIp",
    "ClientToken",
    "DisableApiTermination",
    "DryRun",
    "Filter.1.Name",
    "Filter.1.Value.1",
    "FromPort",
    "GroupDescription",
    "GroupId",
    "GroupId.1",
    "GroupName",
    "GroupName.1",
    "ImageId",
    "ImageId.1",
    "ImageLocation",
    "InstanceId",
    "InstanceId.1",
    "InstanceType",
    "InstanceType.1",
    "IpPermissions.1.Groups.1.GroupName",
    "IpPermissions.1.IpProtocol",
    "IpPermissions.1.IpRanges.1.CidrIp",
    "IpProtocol",
    "KernelId",
    "KeyName",
    "KeyName.1",
    "MaxCount",
    "MaxResults",
    "MinCount",
    "Name",
    "NetworkInterface.1.DeviceIndex",
    "NextToken",
    "Owner.1",
    "PublicKeyMaterial",
    "ResourceId.1",
    "SecurityGroup.1",
    "Size",
    "Tag.1.Key",
    "Tag.1.Value",
    "TagSpecification.1.Tag.1.Key",
    "ToPort",
    "UserData",
    "VolumeId",
    "Zzz.1.2.3",
];

/// Values between sense and nonsense.
fn values(world: &[String]) -> Vec<String> {
    let odd = [
        "",
        "0",
        "1",
        "-1",
        "99999999999999999999",
        "true",
        "x",
        "*",
        "\\",
        "\u{0}",
        "é😀",
        "\r\n",
        "<&>",
        "' OR 1=1 --",
        "../../etc/passwd",
        "0.0.0.0/0",
        "256.0.0.0/8",
        "tcp",
        "icmp",
        "i-00000001",
        "i-",
        "default",
        "mallee-1a",
        "m1.small",
        "b/k",
        "instance-state-name",
        "tag:x",
        "ssh-rsa AAAA",
        "AAAA",
        "YWZ0ZXI6",
    ];
    let long = "a".repeat(70_000);
    odd.into_iter()
        .map(str::to_owned)
        .chain([long])
        .chain(world.iter().cloned())
        .collect()
}

#[tokio::test]
async fn no_input_breaks_any_action() {
    let world = World::new().await;
    let mut known = world.launch(2, "&ClientToken=one").await;
    known.push(world.image().await.to_string());
    let values = values(&known);
    let mut rng = StdRng::seed_from_u64(SEED);

    for action in table::served(Service::Ec2) {
        for _ in 0..TRIES {
            let mut names = NAMES.to_vec();
            let mut query = format!("Action={action}");
            for _ in 0..rng.random_range(0..7) {
                let name = names.swap_remove(rng.random_range(0..names.len()));
                let value = &values[rng.random_range(0..values.len())];
                query.push_str(&format!("&{name}={}", enc(value)));
            }
            if let Err(refusal) = world.ask(&root(OURS), &query).await {
                assert!(refusal.status < 500, "{query}: {refusal:?}");
                assert!(!refusal.message.is_empty(), "{query}");
            }
        }
    }
}
