//! What old clients sign, and how: euca2ools 3.4, Hybridfox, libcloud, s3cmd, boto's presigned
//! addresses. The forms are those of `facts/euca2ools-wire.md` (b) and of the clients' sources.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sigv4::{Refused, Rules, Version, encode, sign::Key};

use crate::Ask;

const SECRET: &str = "secret";
const NOW: &str = "2026-11-23T03:01:59Z";
const DATE: &str = "Mon, 23 Nov 2026 03:01:59 -0000";
const HOST: &str = "192.0.2.1:8773";

fn sha1_signature(text: &str) -> String {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn s3(method: &'static str, path: &str, query: &str, signed: &str) -> Result<(), Refused> {
    let signature = sha1_signature(signed);
    Ask::new(method, path, query)
        .header("host", HOST)
        .header("date", DATE)
        .header("authorization", &format!("AWS AKID:{signature}"))
        .verify(SECRET, &Rules::S3, NOW)
        .map(|verified| assert_eq!(verified.version, Version::Two))
}

#[test]
fn euca2ools_leaves_the_endpoints_path_out_of_its_version_2_resource() {
    for prefix in ["", "/services/objectstorage", "/services/Walrus"] {
        let signed = format!("PUT\n\n\n{DATE}\n/bucket/a%20b.part.00");
        s3(
            "PUT",
            &format!("{prefix}/bucket/a%20b.part.00"),
            "",
            &signed,
        )
        .unwrap();
        let signed = format!("GET\n\n\n{DATE}\n/bucket?acl");
        s3(
            "GET",
            &format!("{prefix}/bucket"),
            "acl&max-keys=0",
            &signed,
        )
        .unwrap();
        let signed = format!("GET\n\n\n{DATE}\n/");
        s3("GET", &format!("{prefix}/"), "", &signed).unwrap();
    }
    let signed = format!("GET\n\n\n{DATE}\n/services/objectstorage/b/k");
    s3("GET", "/services/objectstorage/b/k", "", &signed).unwrap();
}

#[test]
fn a_sub_resource_that_was_not_signed_is_refused() {
    let signed = format!("GET\n\n\n{DATE}\n/bucket");
    for query in [
        "acl",
        "policy",
        "uploads",
        "response-content-type=text%2Fhtml",
        "%61cl",
        "ac%6C=",
    ] {
        assert!(s3("GET", "/bucket", query, &signed).is_err(), "{query}");
    }
    s3("GET", "/bucket", "prefix=a&max-keys=0", &signed).unwrap();
}

#[test]
fn a_sub_resource_is_signed_by_its_decoded_name() {
    let signed = format!("GET\n\n\n{DATE}\n/bucket?acl");
    s3("GET", "/bucket", "%61cl", &signed).unwrap();
    let signed = format!("GET\n\n\n{DATE}\n/bucket?%61cl");
    assert!(s3("GET", "/bucket", "%61cl", &signed).is_err());
}

#[test]
fn the_fields_of_a_version_2_address_count_however_their_names_are_written() {
    let signature = encode(sha1_signature("GET\n\n\n1795406519\n/bucket/key").as_bytes());
    let ask = |query: String| {
        Ask::new("GET", "/bucket/key", &query)
            .header("host", HOST)
            .verify(SECRET, &Rules::S3, NOW)
    };
    let fields = format!("AWSAccessKeyId=AKID&%53ignature={signature}&Expires=1795406519");
    ask(fields.clone()).unwrap();
    let twice = ask(format!("{fields}&%45xpires=1795406520")).unwrap_err();
    assert_eq!(twice, Refused::Duplicated("Expires".into()));
    let header = Ask::new("GET", "/bucket", "%53ignature=x")
        .header("date", DATE)
        .header("authorization", "AWS AKID:x")
        .verify(SECRET, &Rules::S3, NOW);
    assert!(matches!(header, Err(Refused::TwoSignatures)));
}

#[test]
fn a_bucket_that_the_host_names_is_part_of_what_is_signed() {
    let get = |path: &str, resource: &str| {
        let signature = sha1_signature(&format!("GET\n\n\n{DATE}\n{resource}"));
        let ask = Ask::new("GET", path, "")
            .header("host", "theirs.s3.example.com")
            .header("date", DATE)
            .header("authorization", &format!("AWS AKID:{signature}"));
        let host_bucket = Some("theirs");
        Ask { host_bucket, ..ask }.verify(SECRET, &Rules::S3, NOW)
    };
    get("/mine/key", "/theirs/mine/key").unwrap();
    get("/", "/theirs/").unwrap();
    get("/services/objectstorage/key", "/theirs/key").unwrap();
    // Signed for the bucket in the path, sent to the bucket in the host.
    for (path, resource) in [
        ("/mine/key", "/mine/key"),
        ("/mine", "/mine/"),
        ("/", "/"),
        ("/services/objectstorage/mine/key", "/mine/key"),
    ] {
        assert!(get(path, resource).is_err(), "{path} {resource}");
    }
}

#[test]
fn boto_ends_a_buckets_resource_with_a_slash_that_it_does_not_send() {
    for prefix in ["", "/services/objectstorage"] {
        let signed = format!("GET\n\n\n{DATE}\n/bucket/?acl");
        s3("GET", &format!("{prefix}/bucket"), "acl", &signed).unwrap();
        let signed = format!("GET\n\n\n{DATE}\n/bucket/key/");
        assert!(s3("GET", &format!("{prefix}/bucket/key"), "", &signed).is_err());
    }
}

#[test]
fn version_2_headers_are_part_of_the_string() {
    let signed = format!("PUT\n\ntext/plain\n{DATE}\nx-amz-acl:aws-exec-read\n/b/k");
    let put = |acl: &str| {
        Ask::new("PUT", "/services/objectstorage/b/k", "")
            .header("host", HOST)
            .header("date", DATE)
            .header("content-type", "text/plain")
            .header("x-amz-acl", acl)
            .header(
                "authorization",
                &format!("AWS AKID:{}", sha1_signature(&signed)),
            )
            .verify(SECRET, &Rules::S3, NOW)
    };
    put("aws-exec-read").unwrap();
    put("public-read").unwrap_err();
}

#[test]
fn botos_version_2_address_is_read_until_it_ends() {
    let signature = encode(sha1_signature("GET\n\n\n1795406519\n/bucket/key").as_bytes());
    let query = format!("AWSAccessKeyId=AKID&Signature={signature}&Expires=1795406519");
    let ask = Ask::new("GET", "/bucket/key", &query).header("host", HOST);
    assert!(ask.verify(SECRET, &Rules::S3, NOW).unwrap().presigned);
    let late = ask
        .verify(SECRET, &Rules::S3, "2026-11-23T04:02:00Z")
        .unwrap_err();
    assert!(matches!(late, Refused::Expired { .. }));
}

#[test]
fn euca2ools_version_4_encodes_the_path_of_s3_twice() {
    let canonical = |path: &str| {
        format!(
            "PUT\n{path}\n\nhost:{HOST}\nx-amz-content-sha256:{EMPTY}\n\
             x-amz-date:20261123T030159Z\n\nhost;x-amz-content-sha256;x-amz-date\n{EMPTY}"
        )
    };
    for path in [
        "/services/objectstorage/b/name%2520with%2520space.part.00",
        "/services/objectstorage/b/name%20with%20space.part.00",
    ] {
        let scope = sigv4::v4::Scope {
            day: "20261123".into(),
            region: "undefined-4711".into(),
            service: "s3".into(),
        };
        let text =
            sigv4::v4::string_to_sign("20261123T030159Z", &scope, canonical(path).as_bytes());
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&scope.signing_key(SECRET)).unwrap();
        mac.update(text.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        Ask::new(
            "PUT",
            "/services/objectstorage/b/name%20with%20space.part.00",
            "",
        )
        .header("host", HOST)
        .header("x-amz-content-sha256", EMPTY)
        .header("x-amz-date", "20261123T030159Z")
        .header(
            "authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential=AKID/{}, \
                     SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
                scope.text()
            ),
        )
        .verify(SECRET, &Rules::S3, NOW)
        .unwrap();
    }
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn install_image(body: &str) -> Ask {
    Ask::new("POST", "/services/compute/", "")
        .header("host", HOST)
        .body(body)
}

fn register_image() -> String {
    let key = Key {
        access_key: "AKID",
        secret: SECRET,
        session_token: None,
    };
    let fields = [
        ("Action", "RegisterImage"),
        ("Version", "2015-10-01"),
        ("ImageLocation", "bucket/image.manifest.xml"),
        ("Name", "a name ~ with *signs*"),
    ];
    sigv4::sign::v2_query(
        "POST",
        HOST,
        "/services/compute/",
        &fields,
        key,
        1_795_402_919_000,
    )
}

#[test]
fn euca_install_image_signs_its_form_by_version_2() {
    let verified = install_image(&register_image())
        .verify(SECRET, &Rules::QUERY, NOW)
        .unwrap();
    assert_eq!(
        (verified.version, verified.access_key.as_str()),
        (Version::Two, "AKID")
    );
}

#[test]
fn a_version_2_form_is_refused_if_anything_is_missing_added_doubled_or_old() {
    let refused = |body: &str| {
        install_image(body)
            .verify(SECRET, &Rules::QUERY, NOW)
            .unwrap_err()
    };
    let body = register_image();
    assert!(matches!(
        refused(&body.replace("image.man", "other.man")),
        Refused::Mismatch(_)
    ));
    assert!(matches!(
        refused(&format!("{body}&Extra=1")),
        Refused::Mismatch(_)
    ));
    let twice = format!("{body}&Action=TerminateInstances");
    assert_eq!(refused(&twice), Refused::Duplicated("Action".into()));
    let undated = body.replace("Timestamp=2026-11-23T03%3A01%3A59Z&", "");
    assert_eq!(refused(&undated), Refused::Missing("Timestamp"));
    let both = format!("{body}&Expires=2026-11-23T03%3A01%3A59Z");
    assert!(matches!(refused(&both), Refused::Malformed(_)));
    let md5 = body.replace("HmacSHA256", "HmacMD5");
    assert!(matches!(refused(&md5), Refused::Unsupported(_)));
    let late = install_image(&body).verify(SECRET, &Rules::QUERY, "2026-11-23T03:07:00Z");
    assert!(matches!(late, Err(Refused::Skewed { .. })));
}

#[test]
fn a_version_2_query_lives_no_longer_than_fifteen_minutes() {
    let signed = |expires: &str| {
        let expires = encode(expires.as_bytes());
        let fields = format!(
            "AWSAccessKeyId=AKID&Action=RebootInstances&Expires={expires}\
             &SignatureMethod=HmacSHA1&SignatureVersion=2"
        );
        let text = format!("GET\n{HOST}\n/\n{fields}");
        let signature = encode(sha1_signature(&text).as_bytes());
        Ask::new("GET", "/", &format!("{fields}&Signature={signature}"))
            .header("host", HOST)
            .verify(SECRET, &Rules::QUERY, NOW)
    };
    signed("2026-11-23T03:16:59Z").unwrap();
    let long = signed("2026-11-23T03:17:00Z").unwrap_err();
    assert_eq!(long, Refused::BadExpires { max_secs: 900 });
}

#[test]
fn libcloud_signs_a_version_2_get_without_the_port() {
    let fields = "AWSAccessKeyId=AKID&Action=DescribeInstances&SignatureMethod=HmacSHA256\
        &SignatureVersion=2&Timestamp=2026-11-23T03%3A01%3A59Z&Version=2016-11-15";
    let text = format!("GET\n192.0.2.1\n/services/compute\n{fields}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = encode(STANDARD.encode(mac.finalize().into_bytes()).as_bytes());
    Ask::new(
        "GET",
        "/services/compute",
        &format!("{fields}&Signature={signature}"),
    )
    .header("host", HOST)
    .verify(SECRET, &Rules::QUERY, NOW)
    .unwrap();
}

#[test]
fn hybridfox_signs_by_version_1_and_names_no_zone_in_its_date() {
    let fields = [
        ("Action", "DescribeImages"),
        ("AWSAccessKeyId", "AKID"),
        ("Owner.1", "self"),
        ("SignatureVersion", "1"),
        ("Timestamp", "2026-11-23T03:01:59"),
        ("Version", "2010-08-31"),
    ];
    let text: String = fields
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .collect();
    let mut body: String = fields
        .iter()
        .map(|(name, value)| format!("{name}={}&", encode(value.as_bytes())))
        .collect();
    body.push_str(&format!(
        "Signature={}",
        encode(sha1_signature(&text).as_bytes())
    ));
    let verified = Ask::new("POST", "/services/Eucalyptus/", "")
        .header("host", HOST)
        .body(&body)
        .verify(SECRET, &Rules::QUERY, NOW)
        .unwrap();
    assert_eq!(verified.version, Version::One);
}

#[test]
fn version_2_can_be_switched_off() {
    let rules = Rules {
        version_2: false,
        ..Rules::QUERY
    };
    let refused = install_image(&register_image())
        .verify(SECRET, &rules, NOW)
        .unwrap_err();
    assert!(matches!(refused, Refused::Unsupported(_)));
}

#[test]
fn our_own_version_2_header_stands() {
    let request = http::Request::get("/b/k")
        .header("host", HOST)
        .header("date", DATE);
    let mut head = request.body(()).unwrap().into_parts().0;
    let key = Key {
        access_key: "AKID",
        secret: SECRET,
        session_token: Some("token"),
    };
    sigv4::sign::v2_s3_header(&mut head, "/b/k", key).unwrap();
    let mut ask = Ask::new("GET", "/b/k", "");
    for (name, value) in &head.headers {
        ask = ask.header(name.as_str(), value.to_str().unwrap());
    }
    let verified = ask.verify(SECRET, &Rules::S3, NOW).unwrap();
    assert_eq!(verified.session_token.as_deref(), Some("token"));
}
