//! Requests as they are written, and what they are read as.

use super::*;
use crate::{Code, address::Domains};

fn parse(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Request> {
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    Request::parse(&parts, &Domains::default())
}

fn check(method: &str, target: &str, expect: Action) {
    assert_eq!(
        parse(method, target, &[]).unwrap().action,
        expect,
        "{method} {target}"
    );
}

#[test]
fn requests_find_their_operation() {
    check("GET", "/", Action::ListBuckets);
    check("GET", "/bucket?max-keys=0", Action::ListObjects);
    check(
        "GET",
        "/bucket/?list-type=2&prefix=a",
        Action::ListObjectsV2,
    );
    check("GET", "/bucket/?location", Action::GetBucketLocation);
    check("POST", "/bucket?delete", Action::DeleteObjects);
    check("GET", "/bucket?policy", Action::GetBucketPolicy);
    check("PUT", "/bucket/key", Action::PutObject);
    check(
        "PUT",
        "/bucket/key?partNumber=1&uploadId=x",
        Action::UploadPart,
    );
    check("GET", "/bucket/key?tagging", Action::GetObjectTagging);
    check("POST", "/bucket/key?uploads", Action::CreateMultipartUpload);
    check(
        "HEAD",
        "/services/objectstorage/bucket/key",
        Action::HeadObject,
    );
}

#[test]
fn what_radosgw_adds_is_understood_and_wrong_words_are_refused() {
    check("GET", "/?usage", Action::GetAccountUsage);
    check("GET", "/bucket?usage", Action::ListObjects);
    check("GET", "/bucket?allow-unordered=true", Action::ListObjects);
    check(
        "GET",
        "/bucket?list-type=2&allow-unordered&delimiter=",
        Action::ListObjectsV2,
    );
    check(
        "GET",
        "/bucket?allow-unordered=false&delimiter=/",
        Action::ListObjects,
    );
    for (target, expect) in [
        ("", false),
        ("?read-stats", true),
        ("?read-stats=true", true),
    ] {
        let head = parse("HEAD", &format!("/bucket{target}"), &[]).unwrap();
        let Operation::HeadBucket { read_stats, .. } = head.operation else {
            panic!("it is a HEAD");
        };
        assert_eq!(read_stats, expect, "{target}");
    }
    for (method, target, code) in [
        (
            "GET",
            "/bucket?allow-unordered=true&delimiter=/",
            Code::InvalidArgument,
        ),
        (
            "GET",
            "/bucket?list-type=2&allow-unordered&delimiter=/",
            Code::InvalidArgument,
        ),
        (
            "GET",
            "/bucket?allow-unordered=perhaps",
            Code::InvalidArgument,
        ),
        ("HEAD", "/bucket?read-stats=perhaps", Code::InvalidArgument),
        ("GET", "/?usage&start-date=2026-01-01", Code::NotImplemented),
        ("GET", "/?usage&end-date=2026-01-01", Code::NotImplemented),
        ("POST", "/?usage", Code::MethodNotAllowed),
    ] {
        let error = parse(method, target, &[]).unwrap_err();
        assert_eq!(error.code, code, "{method} {target}");
    }
}

#[test]
fn a_qualified_name_says_whose_the_bucket_is_and_is_never_created() {
    let (own, other) = (
        "111111111111".parse().unwrap(),
        "222222222222".parse().unwrap(),
    );
    let request = parse("GET", "/111111111111:bucket/key", &[]).unwrap();
    assert!(request.whose.admits(&own) && !request.whose.admits(&other));
    let request = parse("DELETE", "/bucket", &[]).unwrap();
    assert!(request.whose.admits(&other));

    let from = [("x-amz-copy-source", "222222222222%3Aorigin/key")];
    let copy = parse("PUT", "/bucket/key", &from).unwrap();
    assert!(copy.whose.admits(&own));
    let source = copy.operation.source().unwrap();
    assert!(source.whose.admits(&other) && !source.whose.admits(&own));

    for target in ["/111111111111:bucket", "/:bucket", "/%3Abucket/"] {
        let error = parse("PUT", target, &[]).unwrap_err();
        assert_eq!(error.code, Code::InvalidBucketName, "{target}");
    }
}

#[test]
fn a_method_that_a_thing_does_not_take_is_named() {
    for (method, target) in [
        ("POST", "/"),
        ("PATCH", "/bucket/key"),
        ("DELETE", "/bucket?acl"),
    ] {
        let error = parse(method, target, &[]).unwrap_err();
        assert_eq!(error.code, Code::MethodNotAllowed, "{method} {target}");
    }
}

#[test]
fn pages_are_limited_and_tokens_go_round() {
    let Operation::ListObjects { list, .. } =
        parse("GET", "/bucket?max-keys=99999&delimiter=", &[])
            .unwrap()
            .operation
    else {
        panic!("it is a list");
    };
    assert_eq!((list.max_keys, list.delimiter), (1000, None));

    let target = format!(
        "/bucket?list-type=2&start-after=z&continuation-token={}",
        token_of("a/é")
    );
    let Operation::ListObjects { list, .. } = parse("GET", &target, &[]).unwrap().operation else {
        panic!("it is a list");
    };
    assert_eq!(list.after(), "a/é");
    assert!(parse("GET", "/bucket?list-type=2&continuation-token=%21", &[]).is_err());
}

#[test]
fn part_numbers_have_their_range() {
    for bad in ["0", "10001", "x", ""] {
        let target = format!("/bucket/key?uploadId=u&partNumber={bad}");
        assert_eq!(
            parse("PUT", &target, &[]).unwrap_err().code,
            Code::InvalidArgument
        );
    }
}

#[test]
fn a_version_is_named_where_there_can_be_one() {
    let Operation::GetObject { at, .. } = parse("GET", "/bucket/key?versionId=abc", &[])
        .unwrap()
        .operation
    else {
        panic!("it is a GET");
    };
    assert_eq!(at.version.unwrap().as_str(), "abc");
    for wrong in [
        ("GET", "/bucket/key?versionId="),
        ("PUT", "/bucket/key?versionId=abc"),
    ] {
        let error = parse(wrong.0, wrong.1, &[]).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{wrong:?}");
    }
    assert!(parse("GET", "/bucket?versions&version-id-marker=x", &[]).is_err());
}

proptest::proptest! {
    #[test]
    fn no_request_panics(target in "/[ -~]{0,60}", source in "[ -~]{0,30}", method in "GET|PUT|POST") {
        if target.parse::<http::Uri>().is_ok() {
            let _ = parse(&method, &target, &[("x-amz-copy-source", &source), ("range", &source)]);
        }
    }
}
