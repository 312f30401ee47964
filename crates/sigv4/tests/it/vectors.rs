//! The worked examples of AWS's documentation.

use sigv4::{Refused, Rules};

use crate::Ask;

const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const IAM_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn list_users(signature: &str) -> Ask {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
    );
    Ask::new("GET", "/", "Action=ListUsers&Version=2010-05-08")
        .header("host", "iam.amazonaws.com")
        .header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .header("x-amz-date", "20150830T123600Z")
        .header("authorization", &authorization)
}

const LIST_USERS: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

#[test]
fn the_documented_list_users_is_who_it_says() {
    let verified = list_users(LIST_USERS).verify(IAM_SECRET, &Rules::QUERY, "20150830T123700Z");
    let verified = verified.unwrap();
    assert_eq!(verified.access_key, "AKIDEXAMPLE");
    assert_eq!(verified.service.as_deref(), Some("iam"));
}

#[test]
fn a_wrong_signature_says_what_was_expected() {
    let wrong = "0".repeat(64);
    let refused = list_users(&wrong).verify(IAM_SECRET, &Rules::QUERY, "20150830T123700Z");
    let Err(Refused::Mismatch(expected)) = refused else {
        panic!("{refused:?}")
    };
    let canonical = String::from_utf8(expected.canonical_request.unwrap()).unwrap();
    assert!(canonical.starts_with("GET\n/\nAction=ListUsers&Version=2010-05-08\n"));
    let to_sign = String::from_utf8(expected.string_to_sign).unwrap();
    assert!(to_sign.ends_with("f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"));
}

#[test]
fn a_stale_or_early_request_is_skewed() {
    for now in ["20150830T124101Z", "20150830T123059Z"] {
        let refused = list_users(LIST_USERS)
            .verify(IAM_SECRET, &Rules::QUERY, now)
            .unwrap_err();
        assert!(
            matches!(refused, Refused::Skewed { .. }),
            "{now} {refused:?}"
        );
    }
}

fn s3_get() -> Ask {
    Ask::new("GET", "/test.txt", "").header("host", "examplebucket.s3.amazonaws.com")
}

#[test]
fn the_documented_get_object_stands() {
    s3_get()
        .header("range", "bytes=0-9")
        .header("x-amz-content-sha256", EMPTY)
        .header("x-amz-date", "20130524T000000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        )
        .verify(S3_SECRET, &Rules::S3, "20130524T001000Z")
        .unwrap();
}

fn presigned() -> Ask {
    let mut ask = s3_get();
    ask.query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524\
        %2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400\
        &X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        .into();
    ask
}

#[test]
fn the_documented_presigned_get_lives_a_day() {
    let verified = presigned()
        .verify(S3_SECRET, &Rules::S3, "20130524T235959Z")
        .unwrap();
    assert!(verified.presigned);
    let refused = presigned()
        .verify(S3_SECRET, &Rules::S3, "20130525T000000Z")
        .unwrap_err();
    assert!(matches!(refused, Refused::Expired { .. }));
}

#[test]
fn a_presigned_request_may_promise_its_payload_in_a_header_that_nobody_signed() {
    for word in [
        "UNSIGNED-PAYLOAD",
        EMPTY,
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ] {
        let ask = presigned().header("x-amz-content-sha256", word);
        let verified = ask
            .verify(S3_SECRET, &Rules::S3, "20130524T000100Z")
            .unwrap();
        assert_eq!(verified.is_chunked(), word.starts_with("STREAMING"));
    }
    let ask = presigned().header("x-amz-content-sha256", "nonsense");
    let refused = ask
        .verify(S3_SECRET, &Rules::S3, "20130524T000100Z")
        .unwrap_err();
    assert_eq!(refused, Refused::BadPayloadHash("nonsense".into()));
}

#[test]
fn a_presigned_request_is_bound_by_seven_days_by_its_headers_and_by_single_fields() {
    let with = |change: &dyn Fn(&mut Ask)| {
        let mut ask = presigned();
        change(&mut ask);
        ask.verify(S3_SECRET, &Rules::S3, "20130524T000100Z")
            .unwrap_err()
    };
    let longer = with(&|ask| ask.query = ask.query.replace("86400", "604801"));
    assert!(matches!(longer, Refused::BadExpires { .. }));
    let negative = with(&|ask| ask.query = ask.query.replace("86400", "-1"));
    assert!(matches!(negative, Refused::BadExpires { .. }));
    let no_time = with(&|ask| ask.query = ask.query.replace("86400", "0"));
    assert!(matches!(no_time, Refused::Expired { .. }));
    let forever = with(&|ask| ask.query = ask.query.replace("&X-Amz-Expires=86400", ""));
    assert_eq!(forever, Refused::Missing("X-Amz-Expires"));
    let acl = with(&|ask| ask.headers.push(("x-amz-acl".into(), "public-read".into())));
    assert_eq!(acl, Refused::Unsigned("x-amz-acl".into()));
    let twice = with(&|ask| ask.query.push_str("&X-Amz-Expires=9"));
    assert_eq!(twice, Refused::Duplicated("x-amz-expires".into()));
    let both = with(&|ask| ask.headers.push(("authorization".into(), "AWS a:b".into())));
    assert_eq!(both, Refused::TwoSignatures);
}

#[test]
fn the_documented_version_2_header_of_s3_stands() {
    Ask::new("GET", "/johnsmith/photos/puppy.jpg", "")
        .header("host", "s3.amazonaws.com")
        .header("date", "Tue, 27 Mar 2007 19:36:42 +0000")
        .header(
            "authorization",
            "AWS AKIAIOSFODNN7EXAMPLE:bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
        )
        .verify(S3_SECRET, &Rules::S3, "2007-03-27T19:40:00Z")
        .unwrap();
}

#[test]
fn the_documented_version_2_query_stands() {
    let query = "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Action=DescribeJobFlows\
        &SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2011-10-03T15%3A19%3A30\
        &Version=2009-03-31&Signature=i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf%2FMj6vPxyYIs%3D";
    let ask = Ask::new("GET", "/", query).header("host", "elasticmapreduce.amazonaws.com");
    let verified = ask
        .verify(S3_SECRET, &Rules::QUERY, "2011-10-03T15:20:00Z")
        .unwrap();
    assert_eq!(verified.access_key, "AKIAIOSFODNN7EXAMPLE");
}
