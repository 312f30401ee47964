//! Every shape against botocore's model of EC2: what we do not read of a request is written down,
//! and what we answer exists in the model, at that place, with that type.
//!
//! `model/ec2.json` is made by `model/trim.py`. When the list of unread members changes on purpose,
//! run with `UPDATE_GOLDENS=1` and read the difference.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

#[path = "model/samples.rs"]
mod samples;

use std::{collections::BTreeMap, fs, path::Path};

use ec2::{
    Action, account_attributes::*, addresses::*, bundle_tasks::*, image_attributes::*, images::*,
    instance_types::*, instances::*, key_pairs::*, network_interfaces::*, nothing::NOTHING,
    regions::*, security_groups::*, tags::*, volumes::*, vpcs::*, zones::*,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Model {
    operations: BTreeMap<String, Operation>,
    nothing: BTreeMap<String, Vec<String>>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
struct Operation {
    input: String,
    output: Option<String>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    members: BTreeMap<String, Member>,
    member: Option<Member>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    shape: String,
    location_name: Option<String>,
    query_name: Option<String>,
}

impl Member {
    /// As botocore's EC2Serializer names it.
    fn name_in_query(&self, name: &str) -> String {
        let capital = |text: &str| text[..1].to_uppercase() + &text[1..];
        match (&self.query_name, &self.location_name) {
            (Some(query), _) => query.clone(),
            (None, Some(location)) => capital(location),
            (None, None) => name.to_owned(),
        }
    }

    fn name_in_xml<'a>(&'a self, name: &'a str) -> &'a str {
        self.location_name.as_deref().unwrap_or(name)
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model"))
}

fn model() -> Model {
    let text = fs::read_to_string(folder().join("ec2.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Ids parse, so each of them needs a value of its own kind.
fn text_for(name: &str) -> &'static str {
    let ids = [
        ("SecurityGroupRuleId", "sgr-00000001"),
        ("SecurityGroupId", "sg-00000001"),
        ("GroupId", "sg-00000001"),
        ("InstanceId", "i-00000001"),
        ("ImageId", "emi-00000001"),
        ("SourceImageId", "emi-00000001"),
        ("KernelId", "eki-00000001"),
        ("RamdiskId", "eri-00000001"),
        ("VolumeId", "vol-00000001"),
        ("BundleId", "bun-00000001"),
        ("SnapshotId", "snap-00000001"),
        ("VpcId", "vpc-00000001"),
        ("SubnetId", "subnet-00000001"),
        ("KeyPairId", "key-00000001"),
        ("AllocationId", "eipalloc-00000001"),
        ("NetworkInterfaceId", "eni-00000001"),
        ("PrivateIpAddress", "172.31.0.10"),
        ("UserData", "aGk="),
        ("KeyType", "rsa"),
        ("KeyFormat", "pem"),
        ("Attribute", "instanceType"),
        ("InstanceInitiatedShutdownBehavior", "stop"),
        ("HttpTokens", "required"),
        ("HttpEndpoint", "enabled"),
        ("InstanceMetadataTags", "enabled"),
    ];
    ids.into_iter()
        .find(|(id, _)| *id == name)
        .map_or("x", |(_, text)| text)
}

/// All parameters that an action could have, two of each list.
fn every_parameter(
    model: &Model,
    shape: &str,
    path: &str,
    depth: usize,
    out: &mut Vec<(String, String)>,
) {
    let here = &model.shapes[shape];
    let leaf = path
        .rsplit('.')
        .find(|segment| segment.parse::<u32>().is_err())
        .unwrap_or(path);
    let value = match here.kind.as_str() {
        "structure" => {
            assert!(depth < 8, "{path} is recursive");
            for (name, member) in &here.members {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", member.name_in_query(name));
                every_parameter(model, &member.shape, &path, depth + 1, out);
            }
            return;
        }
        "list" => {
            for index in 1..=2 {
                let member = here.member.as_ref().expect("a list has members");
                every_parameter(
                    model,
                    &member.shape,
                    &format!("{path}.{index}"),
                    depth + 1,
                    out,
                );
            }
            return;
        }
        "boolean" => "true",
        "string" if shape == "VpcAttributeName" => "enableDnsSupport",
        "string" if shape == "ImageAttributeName" => "description",
        "string" if shape == "OperationType" => "add",
        "integer" | "long" | "double" | "float" => "1",
        "timestamp" => "2026-11-23T03:01:59Z",
        "blob" => "aGk=",
        _ => text_for(leaf),
    };
    out.push((path.to_owned(), value.to_owned()));
}

fn unread<A: Action>(model: &Model, out: &mut String) {
    let mut pairs = Vec::new();
    every_parameter(model, &model.operations[A::NAME].input, "", 0, &mut pairs);
    let parameters = wire::Parameters::from_pairs(pairs).unwrap();
    let decoded = wire::query::decode::<A>(&parameters)
        .unwrap_or_else(|error| panic!("{}: {error}", A::NAME));

    let mut names = decoded.unclaimed;
    // The dispatcher reads it, for all actions.
    names.retain(|name| name != "DryRun");
    // The first of a list stands for both.
    names.retain(|name| !name.split('.').any(|segment| segment == "2"));
    names.sort();
    for name in names {
        out.push_str(&format!("{} {name}\n", A::NAME));
    }
}

macro_rules! for_all_actions {
    ($do:ident, $($arguments:expr),*) => {
        $do::<AuthorizeSecurityGroupEgress>($($arguments),*);
        $do::<AuthorizeSecurityGroupIngress>($($arguments),*);
        $do::<BundleInstance>($($arguments),*);
        $do::<CancelBundleTask>($($arguments),*);
        $do::<CopyImage>($($arguments),*);
        $do::<CreateKeyPair>($($arguments),*);
        $do::<CreateSecurityGroup>($($arguments),*);
        $do::<CreateTags>($($arguments),*);
        $do::<CreateVolume>($($arguments),*);
        $do::<DeleteKeyPair>($($arguments),*);
        $do::<DeleteSecurityGroup>($($arguments),*);
        $do::<DeleteTags>($($arguments),*);
        $do::<DeleteVolume>($($arguments),*);
        $do::<DeregisterImage>($($arguments),*);
        $do::<DescribeAccountAttributes>($($arguments),*);
        $do::<DescribeAddresses>($($arguments),*);
        $do::<DescribeAvailabilityZones>($($arguments),*);
        $do::<DescribeBundleTasks>($($arguments),*);
        $do::<DescribeImageAttribute>($($arguments),*);
        $do::<DescribeImages>($($arguments),*);
        $do::<DescribeInstanceAttribute>($($arguments),*);
        $do::<DescribeInstanceStatus>($($arguments),*);
        $do::<DescribeInstanceTypes>($($arguments),*);
        $do::<DescribeInstances>($($arguments),*);
        $do::<DescribeKeyPairs>($($arguments),*);
        $do::<DescribeNetworkInterfaces>($($arguments),*);
        $do::<DescribeRegions>($($arguments),*);
        $do::<DescribeSecurityGroups>($($arguments),*);
        $do::<DescribeSubnets>($($arguments),*);
        $do::<DescribeTags>($($arguments),*);
        $do::<DescribeVolumeStatus>($($arguments),*);
        $do::<DescribeVolumes>($($arguments),*);
        $do::<DescribeVpcAttribute>($($arguments),*);
        $do::<DescribeVpcs>($($arguments),*);
        $do::<DisableImageDeprecation>($($arguments),*);
        $do::<EnableImageDeprecation>($($arguments),*);
        $do::<GetConsoleOutput>($($arguments),*);
        $do::<ImportKeyPair>($($arguments),*);
        $do::<ModifyImageAttribute>($($arguments),*);
        $do::<ModifyInstanceAttribute>($($arguments),*);
        $do::<RebootInstances>($($arguments),*);
        $do::<RegisterImage>($($arguments),*);
        $do::<ResetImageAttribute>($($arguments),*);
        $do::<RevokeSecurityGroupEgress>($($arguments),*);
        $do::<RevokeSecurityGroupIngress>($($arguments),*);
        $do::<RunInstances>($($arguments),*);
        $do::<TerminateInstances>($($arguments),*);
    };
}

#[test]
fn what_is_not_read_of_a_request_is_written_down() {
    let model = model();
    let mut unread_members = String::new();
    for_all_actions!(unread, &model, &mut unread_members);

    let golden = folder().join("unread.txt");
    #[allow(clippy::disallowed_methods, reason = "the one switch of a golden test")]
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&golden, &unread_members).unwrap();
    }
    let written = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(
        written, unread_members,
        "run with UPDATE_GOLDENS=1 if this is meant"
    );
}

/// Lists that are never filled here: no IPv6, no prefix lists.
const ALWAYS_EMPTY: [&str; 2] = ["/ipv6Ranges", "/prefixListIds"];
/// What Eucalyptus answers and AWS does not.
const NOT_AMAZONS: [&str; 1] = ["CreateSecurityGroup/return"];

/// What is wrong with a value at a place of the model.
fn check(model: &Model, shape: &str, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let here = &model.shapes[shape];
    match (here.kind.as_str(), value) {
        (_, Value::Null) => wrong.push(format!("{path} is absent: a sample must show all")),
        (_, Value::Array(items))
            if items.is_empty() && ALWAYS_EMPTY.iter().any(|end| path.ends_with(end)) => {}
        (_, Value::Array(items)) if items.is_empty() => {
            wrong.push(format!("{path} is empty: a sample must show all"))
        }
        ("structure", Value::Object(fields)) => {
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                let member = here
                    .members
                    .iter()
                    .find(|(own, member)| member.name_in_xml(own) == name);
                match member {
                    Some((_, member)) => check(model, &member.shape, value, &path, wrong),
                    None if NOT_AMAZONS.contains(&path.as_str()) => {}
                    None => wrong.push(format!("{path} is not in the model")),
                }
            }
        }
        ("list", Value::Array(items)) => {
            let member = here.member.as_ref().expect("a list has members");
            if member
                .location_name
                .as_deref()
                .is_some_and(|name| name != "item")
            {
                wrong.push(format!("{path} has no <item>s"));
            }
            for item in items {
                check(model, &member.shape, item, path, wrong);
            }
        }
        ("boolean", Value::Bool(_))
        | ("integer" | "long", Value::Number(_))
        | ("string", Value::String(_)) => {}
        ("timestamp", Value::String(text)) if text.ends_with('Z') && text.len() == 24 => {}
        (kind, value) => wrong.push(format!(
            "{path} is a {kind} in the model, and {value} in ours"
        )),
    }
}

fn answer<A: Action>(model: &Model, samples: &BTreeMap<&str, Value>, wrong: &mut Vec<String>) {
    let sample = samples
        .get(A::NAME)
        .unwrap_or_else(|| panic!("{} has no sample", A::NAME));
    match &model.operations[A::NAME].output {
        Some(shape) => check(model, shape, sample, A::NAME, wrong),
        None => assert_eq!(sample, &serde_json::json!({"return": true}), "{}", A::NAME),
    }
}

#[test]
fn what_is_answered_is_in_the_model_at_its_place_with_its_type() {
    let (model, samples, mut wrong) = (model(), samples::all(), Vec::new());
    for_all_actions!(answer, &model, &samples, &mut wrong);
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_action_of_the_trimmed_model_is_checked() {
    let model = model();
    let samples = samples::all();
    let missing: Vec<_> = model
        .operations
        .keys()
        .filter(|name| !samples.contains_key(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_list_of_nothing_has_the_element_of_the_model() {
    let model = model();
    let ours: Vec<&str> = NOTHING.iter().map(|nothing| nothing.action).collect();
    assert_eq!(ours, model.nothing.keys().collect::<Vec<_>>());
    for nothing in &NOTHING {
        assert_eq!(
            model.nothing[nothing.action],
            [nothing.element],
            "{}",
            nothing.action
        );
    }
}
