use proptest::prelude::*;
use serde::Deserialize;
use types::InstanceId;

use super::*;
use crate::{Blob, IsoTime, Verbatim};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ask {
    #[serde(default, rename = "InstanceId")]
    instance_ids: Vec<InstanceId>,
    #[serde(default, rename = "Filter")]
    filters: Vec<Filter>,
    #[serde(default, rename = "Tag")]
    tags: Vec<Tag>,
    max_results: Option<u32>,
    force: Option<bool>,
    user_data: Option<Blob>,
    since: Option<IsoTime>,
    placement: Option<Placement>,
    mode: Option<Mode>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    name: String,
    #[serde(default, rename = "Value")]
    values: Verbatim<Vec<String>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: Verbatim<Option<String>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Placement {
    availability_zone: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Stop,
    Terminate,
}

fn read(text: &str) -> Result<Decoded<Ask>, Error> {
    decode(&Parameters::parse(text)?)
}

fn value(text: &str) -> Ask {
    read(text).unwrap().value
}

fn fails(text: &str, code: &str, message: &str) {
    let error = read(text).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, message));
}

#[test]
fn lists_come_in_numeric_order_with_gaps_and_may_start_at_zero() {
    let ids = value("InstanceId.10=i-0000000a&InstanceId.2=i-00000002&InstanceId.0=i-00000000")
        .instance_ids;
    let ids: Vec<_> = ids.iter().map(InstanceId::as_str).collect();
    assert_eq!(ids, ["i-00000000", "i-00000002", "i-0000000a"]);
}

#[test]
fn a_list_without_an_index_is_a_list_of_one() {
    assert_eq!(value("InstanceId=i-00000001").instance_ids.len(), 1);
}

#[test]
fn structures_nest_in_lists() {
    let filters = value("Filter.1.Name=tag%3AName&Filter.1.Value.2=b+c&Filter.1.Value.1=a").filters;
    assert_eq!(filters[0].name, "tag:Name");
    assert_eq!(filters[0].values.0, ["a", "b c"]);
}

#[test]
fn an_empty_value_is_an_absent_parameter() {
    let empties =
        "MaxResults=&Force=&UserData=&Since=&Placement.AvailabilityZone=&InstanceId.1=&Mode=";
    let decoded = read(empties).unwrap();
    assert_eq!(decoded.value, Ask::default());
    assert_eq!(decoded.unclaimed, [""; 0]);
}

#[test]
fn an_empty_tag_value_is_a_value_and_differs_from_none() {
    let tags = value("Tag.1.Key=a&Tag.1.Value=&Tag.2.Key=b").tags;
    assert_eq!(tags[0].value.0.as_deref(), Some(""));
    assert_eq!(tags[1].value.0, None);
    assert_eq!(
        value("Filter.1.Name=tag%3Aa&Filter.1.Value.1=").filters[0]
            .values
            .0,
        [""]
    );
}

#[test]
fn booleans_are_read_in_any_case_and_times_and_blobs_in_their_forms() {
    let ask =
        value("Force=TRUE&UserData=aGk%3D&Since=2026-11-23T03%3A01%3A59Z&Mode=stop&MaxResults=7");
    assert_eq!(
        (ask.force, ask.max_results, ask.mode),
        (Some(true), Some(7), Some(Mode::Stop))
    );
    assert_eq!(ask.user_data.unwrap().0, b"hi");
    assert_eq!(ask.since.unwrap().0.to_string(), "2026-11-23T03:01:59.000Z");
}

#[test]
fn an_error_names_the_whole_parameter() {
    fails(
        "Filter.1.Value.1=x",
        "MissingParameter",
        "The request must contain the parameter Filter.1.Name",
    );
    fails(
        "Tag.3.Key=&Tag.3.Value=x",
        "MissingParameter",
        "The request must contain the parameter Tag.3.Key",
    );
    fails(
        "InstanceId.1=i-00000001&InstanceId.2=vol-1",
        "InvalidInstanceID.Malformed",
        "Value (vol-1) for parameter InstanceId.2 is invalid. Invalid id: \"vol-1\" (expecting \"i-...\")",
    );
    fails(
        "MaxResults=many",
        "InvalidParameterValue",
        "Value (many) for parameter MaxResults is invalid. Expected an integer",
    );
    fails(
        "Force=perhaps",
        "InvalidParameterValue",
        "Value (perhaps) for parameter Force is invalid. Expected true or false",
    );
    fails(
        "Mode=sleep",
        "InvalidParameterValue",
        "Value (sleep) for parameter Mode is invalid. Expected one of: stop, terminate",
    );
    fails(
        "UserData=%25%25",
        "InvalidParameterValue",
        "Value (%%) for parameter UserData is invalid. Invalid BASE64 encoding",
    );
}

#[test]
fn a_parameter_given_twice_is_refused_however_its_index_is_written() {
    let once = "The parameter Force may only be specified once";
    fails("Force=true&Force=true", "InvalidParameterValue", once);
    let once = "The parameter InstanceId.01 may only be specified once";
    fails(
        "InstanceId.1=i-00000001&InstanceId.01=i-00000002",
        "InvalidParameterValue",
        once,
    );
}

#[test]
fn what_no_field_claims_is_reported() {
    let decoded =
        read("Force=true&Monitoring.Enabled=false&Tag.1.Key=a&Tag.1.Colour=red&Empty=").unwrap();
    assert_eq!(decoded.unclaimed, ["Monitoring.Enabled", "Tag.1.Colour"]);
}

#[test]
fn a_request_beyond_the_limits_is_malformed() {
    let deep = "a.".repeat(DEPTH_MAX) + "b=1";
    assert_eq!(read(&deep).unwrap_err().code(), "MalformedQueryString");
    let many = "x=1&".repeat(PARAMETERS_MAX + 1);
    assert_eq!(read(&many).unwrap_err().code(), "MalformedQueryString");
    assert_eq!(read("a=%ff").unwrap_err().code(), "MalformedQueryString");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9.=&%+]{0,200}") {
        let _ = read(&text);
        let _ = read(&format!("Filter.{text}&Tag.1.{text}&InstanceId.{text}"));
    }

    #[test]
    fn any_text_survives_a_tag_value(text in any::<String>()) {
        let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
        let ask = value(&format!("Tag.1.Key=k&Tag.1.Value={encoded}"));
        prop_assert_eq!(ask.tags[0].value.0.as_deref(), Some(text.as_str()));
    }
}
