//! euca2ools 3.4: POST forms signed by version 4 over every header but two, any region, and one form
//! signed by version 2. The bodies are what the commands put on the wire.

use sigv4::sign::{Key, Target};

use crate::cloud::{Cloud, check};

const COMPUTE: &str = "/services/compute/";
const VERSION: &str = "Version=2015-10-01";

/// The request of `requestbuilder`: these headers, in this order, all signed but the first and the
/// user agent; the region is `undefined-PID` where the configuration names none.
fn request(cloud: &Cloud, path: &str, service: &str, body: &str) -> Vec<u8> {
    let host = cloud.address.to_string();
    let signed = [
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let mut head = http::Request::post(path).header("host", &host);
    for (name, value) in signed {
        head = head.header(name, value);
    }
    let head = head.header("content-length", body.len()).body(()).unwrap();
    let mut head = head.into_parts().0;
    let key = Key {
        access_key: cloud.access_key(),
        secret: cloud.secret(),
        session_token: None,
    };
    let target = Target {
        region: "undefined-4711",
        service,
    };
    let digest = sigv4::sha256_hex(body.as_bytes());
    sigv4::sign::v4_header(&mut head, key, target, &digest, cloud.now_ms()).unwrap();

    let mut text = format!("POST {path} HTTP/1.1\r\nConnection: close\r\n");
    text.push_str("User-Agent: euca2ools/3.4-devel (CPython 2.7; Linux) requestbuilder/0.7.1\r\n");
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// Command, body without its version, and what the command reads of the answer.
type Row = (&'static str, &'static str, &'static [&'static str]);

async fn replay(cloud: &Cloud, rows: &[Row]) {
    for (command, body, expected) in rows {
        let body = format!("{body}&{VERSION}");
        let (status, answer) = cloud.send(&request(cloud, COMPUTE, "ec2", &body)).await;
        assert_eq!(status, 200, "{command}: {answer}");
        let action = body.split(['=', '&']).nth(1).unwrap();
        let root = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{action}Response \
             xmlns=\"http://ec2.amazonaws.com/doc/2015-10-01/\"><requestId>"
        );
        assert!(answer.starts_with(&root), "{command}: {answer}");
        check(command, &answer, expected);
    }
}

#[tokio::test]
async fn what_describes_is_answered_in_the_elements_that_the_commands_read() {
    let cloud = Cloud::start().await;
    replay(
        &cloud,
        &[
            ("euca-describe-regions", "Action=DescribeRegions", &["regionInfo", "regionName=mallee-1", "regionEndpoint"]),
            (
                "euca-describe-availability-zones",
                "Action=DescribeAvailabilityZones",
                &["availabilityZoneInfo", "zoneName=mallee-1a", "zoneState"],
            ),
            (
                "euca-describe-availability-zones verbose",
                "Action=DescribeAvailabilityZones&ZoneName.1=verbose",
                &["availabilityZoneInfo", "zoneName=|- vm types"],
            ),
            (
                "euca-describe-instance-types --show-capacity",
                "Action=DescribeInstanceTypes&Availability=true",
                &["instanceTypeDetails", "name=m1.small", "cpu", "memory", "disk", "availability", "zoneName"],
            ),
            ("euca-describe-images", "Action=DescribeImages&Owner.1=self", &["imagesSet"]),
            ("euca-describe-images", "Action=DescribeImages&ExecutableBy.1=self", &["imagesSet"]),
            ("euca-describe-instances", "Action=DescribeInstances", &["reservationSet"]),
            (
                "euca-describe-instances --filter",
                "Action=DescribeInstances&Filter.1.Name=tag%3AName&Filter.1.Value.1=a&Filter.1.Value.2=b",
                &["reservationSet"],
            ),
            (
                "euca-describe-instance-status --include-all-instances",
                "Action=DescribeInstanceStatus&IncludeAllInstances=true",
                &["instanceStatusSet"],
            ),
            ("euca-describe-volumes", "Action=DescribeVolumes", &["volumeSet"]),
            ("euca-describe-addresses", "Action=DescribeAddresses", &["addressesSet"]),
            ("euca-describe-tags", "Action=DescribeTags", &["tagSet"]),
            ("euca-describe-vpcs", "Action=DescribeVpcs", &["vpcSet", "vpcId", "isDefault=true"]),
            ("euca-describe-subnets", "Action=DescribeSubnets", &["subnetSet", "subnetId", "availabilityZone=mallee-1a"]),
            ("euca-describe-network-interfaces", "Action=DescribeNetworkInterfaces", &["networkInterfaceSet"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn key_pairs_live_from_creation_to_deletion() {
    let cloud = Cloud::start().await;
    let public = "PublicKeyMaterial=c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUlNZnltRlV1MzFBcUtCTWV2VnQ1Yk1pYXNaUFI0Mk5mNHhGSm5oU2ZJWWYgdGVzdA%3D%3D";
    let import = format!("Action=ImportKeyPair&KeyName=mine&{public}");
    replay(
        &cloud,
        &[
            (
                "euca-create-keypair",
                "Action=CreateKeyPair&KeyName=made",
                &["keyName=made", "keyFingerprint", "keyMaterial"],
            ),
            (
                "euca-import-keypair",
                Box::leak(import.into_boxed_str()),
                &["keyName=mine", "keyFingerprint"],
            ),
            (
                "euca-describe-keypairs",
                "Action=DescribeKeyPairs&KeyName.1=made&KeyName.2=mine",
                &["keySet", "keyName=made", "keyName=mine"],
            ),
            (
                "euca-delete-keypair",
                "Action=DeleteKeyPair&KeyName=made",
                &["return=true"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn groups_are_made_opened_closed_and_deleted_by_name() {
    let cloud = Cloud::start().await;
    let rule = "GroupName=web&IpPermissions.1.FromPort=22&IpPermissions.1.IpProtocol=tcp\
        &IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0&IpPermissions.1.ToPort=22";
    let authorize: &str =
        Box::leak(format!("Action=AuthorizeSecurityGroupIngress&{rule}").into_boxed_str());
    let revoke: &str =
        Box::leak(format!("Action=RevokeSecurityGroupIngress&{rule}").into_boxed_str());
    replay(
        &cloud,
        &[
            (
                "euca-create-group",
                "Action=CreateSecurityGroup&GroupDescription=a+web+server&GroupName=web",
                &["groupId", "return=true"],
            ),
            ("euca-authorize", authorize, &["return=true"]),
            (
                "euca-describe-groups",
                "Action=DescribeSecurityGroups",
                &[
                    "securityGroupInfo",
                    "groupName=default",
                    "groupName=web",
                    "groupDescription=a web server",
                    "cidrIp=0.0.0.0/0",
                    "fromPort=22",
                    "ipPermissionsEgress",
                ],
            ),
            ("euca-revoke", revoke, &["return=true"]),
            (
                "euca-delete-group",
                "Action=DeleteSecurityGroup&GroupName=web",
                &["return=true"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_other_services_answer_in_their_own_form_under_their_own_paths() {
    let cloud = Cloud::start().await;
    let who = "Action=GetCallerIdentity&Version=2011-06-15";
    for path in ["/services/Tokens/", "/services/Tokens"] {
        let (status, answer) = cloud.send(&request(&cloud, path, "sts", who)).await;
        assert_eq!(status, 200, "{answer}");
        let account = format!("Account={}", cloud.credentials.account_id);
        check(
            "euare-getcallerid",
            &answer,
            &["GetCallerIdentityResult", &account, "Arn", "UserId"],
        );
    }
    let certificates = "Action=DescribeServiceCertificates&FingerprintDigest=SHA-256&Format=pem&Version=eucalyptus";
    for path in ["/services/Empyrean/", "/services/Empyrean"] {
        let (status, answer) = cloud
            .send(&request(&cloud, path, "bootstrap", certificates))
            .await;
        assert_eq!(status, 200, "{answer}");
        let expected = [
            "serviceCertificates",
            "certificateUsage=image-bundling",
            "serviceType=compute",
        ];
        check("euca-bundle-image", &answer, &expected);
        let pem = cloud
            .credentials
            .cloud_certificate_pem
            .lines()
            .nth(1)
            .unwrap();
        assert!(answer.contains(pem), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_code_that_the_commands_print() {
    let cloud = Cloud::start().await;
    for (command, body, expected) in [
        (
            "euca-run-instances",
            "Action=RunInstances&ImageId=emi-1234abcd&MaxCount=1&MinCount=1",
            "InvalidAMIID.NotFound",
        ),
        (
            "euca-run-instances",
            "Action=RunInstances&ImageId=emi-12&MaxCount=1&MinCount=1",
            "InvalidAMIID.Malformed",
        ),
        (
            "euca-terminate-instances",
            "Action=TerminateInstances&InstanceId.1=i-1234abcd",
            "InvalidInstanceID.NotFound",
        ),
        (
            "euca-get-console-output",
            "Action=GetConsoleOutput&InstanceId=i-1234abcd",
            "InvalidInstanceID.NotFound",
        ),
        (
            "euca-describe-groups nosuch",
            "Action=DescribeSecurityGroups&GroupName.1=nosuch",
            "InvalidGroup.NotFound",
        ),
        (
            "euca-create-vpc",
            "Action=CreateVpc&CidrBlock=10.0.0.0%2F16",
            "UnsupportedOperation",
        ),
        ("euform-none", "Action=NoSuchAction", "InvalidAction"),
        (
            "euca-create-keypair",
            "Action=CreateKeyPair",
            "MissingParameter",
        ),
    ] {
        let body = format!("{body}&{VERSION}");
        let (status, answer) = cloud.send(&request(&cloud, COMPUTE, "ec2", &body)).await;
        assert_eq!(status, 400, "{command}: {answer}");
        let error = format!("<Response><Errors><Error><Code>{expected}</Code><Message>");
        assert!(answer.contains(&error), "{command}: {answer}");
        check(command, &answer, &["RequestID"]);
    }
}

#[tokio::test]
async fn euca_install_image_registers_by_version_2_once() {
    let cloud = Cloud::start().await;
    let key = Key {
        access_key: cloud.access_key(),
        secret: cloud.secret(),
        session_token: None,
    };
    let host = cloud.address.to_string();
    let fields = [
        ("Action", "RegisterImage"),
        ("Version", "2015-10-01"),
        ("ImageLocation", "bucket/image.manifest.xml"),
        ("Name", "image"),
        ("Architecture", "x86_64"),
        ("VirtualizationType", "hvm"),
    ];
    let body = sigv4::sign::v2_query("POST", &host, COMPUTE, &fields, key, cloud.now_ms());
    let request = format!(
        "POST {COMPUTE} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n\
         Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // No object store here: that it is asked for is proof enough of having been believed.
    let (_, answer) = cloud.send(request.as_bytes()).await;
    assert!(!answer.contains("AuthFailure"), "{answer}");
    let (status, answer) = cloud.send(request.as_bytes()).await;
    assert_eq!(status, 401, "{answer}");
    check("replayed", &answer, &["Code=AuthFailure"]);
}
