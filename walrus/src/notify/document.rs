//! An event as S3 writes it ("Event message structure" of the user guide): JSON. Pure.

use s3::acl::People as _;
use serde_json::{Value, json};

use crate::{answer::HOST_ID, directory::Directory, engine::facts::Event};

/// A message of events.
pub fn records(events: &[Event], region: &str, people: &Directory) -> String {
    let records: Vec<Value> = events
        .iter()
        .map(|event| record(event, region, people))
        .collect();
    json!({ "Records": records }).to_string()
}

/// The message that says that a configuration was set.
pub fn test(event: &Event) -> String {
    json!({
        "Service": "Amazon S3",
        "Event": event.name,
        "Time": event.at.to_string(),
        "Bucket": event.bucket.as_str(),
        "RequestId": event.cause.request_id,
        "HostId": HOST_ID,
    })
    .to_string()
}

fn record(event: &Event, region: &str, people: &Directory) -> Value {
    let name = event.name.strip_prefix("s3:").unwrap_or(&event.name);
    let address = event.cause.address.map(|address| address.to_string());
    let owner = people.person(&event.owner).id;
    json!({
        "eventVersion": version(name),
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": event.at.to_string(),
        "eventName": name,
        "userIdentity": { "principalId": event.cause.who },
        "requestParameters": { "sourceIPAddress": address.unwrap_or_default() },
        "responseElements": {
            "x-amz-request-id": event.cause.request_id,
            "x-amz-id-2": HOST_ID,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": event.rule,
            "bucket": {
                "name": event.bucket.as_str(),
                "ownerIdentity": { "principalId": owner },
                "arn": types::Arn::s3(event.bucket.as_str(), None).as_str(),
            },
            "object": object(event),
        },
    })
}

/// Groups of events came to S3 one after the other, each with a version of its own.
fn version(name: &str) -> &'static str {
    match name.split(':').next() {
        Some("ObjectCreated" | "ObjectRemoved") => "2.1",
        _ => "2.3",
    }
}

/// What is not known is not there.
fn object(event: &Event) -> Value {
    let key = event.key.as_ref().map(s3::Key::as_str).unwrap_or_default();
    let mut object = json!({
        "key": s3::query::encode_key(key).replace("%20", "+"),
        "sequencer": format!("{:016X}", event.id),
    });
    let more = [
        ("size", event.size.map(Value::from)),
        ("eTag", event.etag.clone().map(Value::from)),
        (
            "versionId",
            event
                .version
                .as_ref()
                .map(|version| version.as_str().into()),
        ),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;
    use crate::engine::events::Cause;

    fn event() -> Event {
        Event {
            id: 0xabc,
            to: "hook".into(),
            rule: "images".into(),
            name: "s3:ObjectCreated:Put".into(),
            at: Timestamp(1_795_402_919_000),
            bucket: s3::BucketName::parse("photos").unwrap(),
            owner: "111111111111".parse().unwrap(),
            key: Some(s3::Key::parse("a/red flower.jpg").unwrap()),
            size: Some(1024),
            etag: Some("d41d8cd9".into()),
            version: None,
            cause: Cause {
                who: "AWS:111111111111".into(),
                address: Some([192, 0, 2, 3].into()),
                request_id: "R1".into(),
                ..Cause::clone(&Cause::service("", Timestamp(0)))
            },
        }
    }

    #[test]
    fn a_record_has_what_readers_of_s3_look_for() {
        let text = records(&[event()], "mallee-1", &Directory::default());
        let read: Value = serde_json::from_str(&text).unwrap();
        let record = &read["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["eventVersion"], "2.1");
        assert_eq!(record["eventTime"], "2026-11-23T03:01:59.000Z");
        assert_eq!(record["awsRegion"], "mallee-1");
        assert_eq!(record["requestParameters"]["sourceIPAddress"], "192.0.2.3");
        assert_eq!(record["userIdentity"]["principalId"], "AWS:111111111111");
        assert_eq!(record["s3"]["configurationId"], "images");
        assert_eq!(record["s3"]["bucket"]["arn"], "arn:aws:s3:::photos");
        let object = &record["s3"]["object"];
        assert_eq!(object["key"], "a/red+flower.jpg");
        assert_eq!(object["size"], 1024);
        assert_eq!(object["sequencer"], "0000000000000ABC");
        assert!(object.get("versionId").is_none());
    }

    #[test]
    fn a_test_event_has_a_shape_of_its_own() {
        let test_event = Event {
            name: "s3:TestEvent".into(),
            key: None,
            ..event()
        };
        let read: Value = serde_json::from_str(&test(&test_event)).unwrap();
        assert_eq!(read["Event"], "s3:TestEvent");
        assert_eq!(read["Bucket"], "photos");
        assert!(read.get("Records").is_none());
    }
}
