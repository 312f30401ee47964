//! Hybridfox, the browser extension: POST forms signed by version 1, a date without a zone, two API
//! versions, and answers found by XPath in the namespace of exactly that version. The forms are those
//! of its `client.js` and `controller.js`.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};

use crate::cloud::{Cloud, check};

const VERSIONS: [&str; 2] = ["2009-11-30", "2010-08-31"];

/// `queryEC2Impl`: fields sorted without regard to case, names and values end to end under HMAC-SHA1.
fn request(cloud: &Cloud, version: &str, action: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let stamp = sigv4::stamp::extended_text(cloud.now_ms());
    let stamp = stamp.trim_end_matches('Z');
    let mut fields = vec![
        ("Action", action),
        ("AWSAccessKeyId", cloud.access_key()),
        ("SignatureVersion", "1"),
        ("Version", version),
        ("Timestamp", stamp),
    ];
    fields.extend(more);
    fields.sort_by_key(|(name, _)| name.to_lowercase());
    let to_sign: String = fields
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .collect();
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(cloud.secret().as_bytes()).unwrap();
    mac.update(to_sign.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());

    let mut body = String::new();
    for (name, value) in &fields {
        body.push_str(&format!("{name}={}&", sigv4::encode(value.as_bytes())));
    }
    body.push_str(&format!(
        "Signature={}",
        sigv4::encode(signature.as_bytes())
    ));
    format!(
        "POST /services/Eucalyptus/ HTTP/1.1\r\nHost: {}\r\nUser-Agent: Hybridfox/1.6-000106\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
         Accept-Language: en-us,en;q=0.5\r\nAccept-Encoding: gzip,deflate\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {}\r\n\
         Pragma: no-cache\r\nCache-Control: no-cache\r\n\r\n{body}",
        cloud.address,
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn each_view_finds_its_items_in_the_namespace_of_its_version() {
    let cloud = Cloud::start().await;
    for version in VERSIONS {
        for (action, path) in [
            ("DescribeImages", "imagesSet"),
            ("DescribeInstances", "reservationSet"),
            ("DescribeKeyPairs", "keySet"),
            ("DescribeSecurityGroups", "securityGroupInfo"),
            ("DescribeAvailabilityZones", "availabilityZoneInfo"),
            ("DescribeAddresses", "addressesSet"),
            ("DescribeVolumes", "volumeSet"),
            ("DescribeRegions", "regionInfo"),
        ] {
            let (status, answer) = cloud.send(&request(&cloud, version, action, &[])).await;
            assert_eq!(status, 200, "{version} {action}: {answer}");
            let root =
                format!("<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/{version}/\">");
            assert!(answer.contains(&root), "{version} {action}: {answer}");
            check(action, &answer, &["requestId", path]);
        }
    }
}

#[tokio::test]
async fn keys_and_groups_are_made_in_the_flat_form_of_the_time() {
    let cloud = Cloud::start().await;
    for version in VERSIONS {
        let name = format!("fox-{version}");
        let group = [
            ("GroupName", name.as_str()),
            ("GroupDescription", "made by a fox"),
        ];
        let rule = [
            ("GroupName", name.as_str()),
            ("IpProtocol", "tcp"),
            ("FromPort", "22"),
            ("ToPort", "22"),
            ("CidrIp", "0.0.0.0/0"),
        ];
        for (action, fields, expected) in [
            (
                "CreateKeyPair",
                &[("KeyName", name.as_str())][..],
                "keyMaterial",
            ),
            (
                "DeleteKeyPair",
                &[("KeyName", name.as_str())],
                "return=true",
            ),
            ("CreateSecurityGroup", &group, "return=true"),
            ("AuthorizeSecurityGroupIngress", &rule, "return=true"),
            ("RevokeSecurityGroupIngress", &rule, "return=true"),
            ("DeleteSecurityGroup", &group[..1], "return=true"),
        ] {
            let (status, answer) = cloud.send(&request(&cloud, version, action, fields)).await;
            assert_eq!(status, 200, "{version} {action}: {answer}");
            check(action, &answer, &[expected]);
        }
    }
}

#[tokio::test]
async fn errors_are_read_by_their_code_and_a_replayed_change_is_one() {
    let cloud = Cloud::start().await;
    let launch = [
        ("ImageId", "emi-1234abcd"),
        ("InstanceType", "m1.small"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SecurityGroup.1", "default"),
        ("AddressingType", "public"),
    ];
    let run = request(&cloud, VERSIONS[0], "RunInstances", &launch);
    let (status, answer) = cloud.send(&run).await;
    assert_eq!(status, 400, "{answer}");
    check(
        "RunInstances",
        &answer,
        &["Code=InvalidAMIID.NotFound", "Message", "RequestID"],
    );
    let (status, answer) = cloud.send(&run).await;
    assert_eq!(status, 401, "{answer}");
    check("replayed", &answer, &["Code=AuthFailure"]);

    let forged = String::from_utf8(request(&cloud, VERSIONS[1], "DescribeImages", &[])).unwrap();
    let (status, _) = cloud
        .send(
            forged
                .replace("DescribeImages", "DescribeImagez")
                .as_bytes(),
        )
        .await;
    assert_eq!(status, 401);
}
