//! AWS's own signer as the oracle: whatever it signs, we believe; whatever is then changed, we do
//! not. And our signer's requests pass our verifier.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
        SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4::SigningParams,
};
use proptest::prelude::*;
use sigv4::{Refused, Rules, sign as ours};

use crate::Ask;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const NOW: &str = "20261123T030159Z";
const NOW_SECS: u64 = 1_795_402_919;

#[derive(Debug, Clone, Copy)]
struct How {
    service: &'static str,
    presigned: bool,
    with_token: bool,
}

/// Signs with aws-sigv4 and gives the request as it would arrive.
fn signed(how: How, method: &'static str, path: &str, query: &str, body: &str) -> Ask {
    let mut settings = SigningSettings::default();
    settings.expires_in = how.presigned.then(|| Duration::from_secs(600));
    if how.presigned {
        settings.signature_location = SignatureLocation::QueryParams;
    }
    if how.service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let token = how.with_token.then(|| "token/with+signs=".to_owned());
    let identity = Credentials::new("AKIDEXAMPLE", SECRET, token, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("undefined-4711")
        .name(how.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_SECS))
        .settings(settings)
        .build()
        .unwrap()
        .into();

    let uri = format!("http://cloud.example:8773{path}?{query}");
    let headers = [
        ("content-type", "text/plain;  charset=utf-8"),
        ("x-custom", " a   b "),
    ];
    let sent = if how.presigned {
        &headers[..0]
    } else {
        &headers[..]
    };
    let payload = if how.presigned && how.service == "s3" {
        SignableBody::UnsignedPayload
    } else {
        SignableBody::Bytes(body.as_bytes())
    };
    let ask = SignableRequest::new(method, &uri, sent.iter().copied(), payload).unwrap();
    let (instructions, _) = sign(ask, &params).unwrap().into_parts();

    let mut request = http::Request::builder().method(method).uri(&uri);
    for (name, value) in sent {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);

    let mut out = Ask::new(
        method,
        request.uri().path(),
        request.uri().query().unwrap_or(""),
    );
    for (name, value) in request.headers() {
        out = out.header(name.as_str(), value.to_str().unwrap());
    }
    if !request.headers().contains_key("host") {
        out = out.header("host", "cloud.example:8773");
    }
    let kept = if how.service == "s3" { "" } else { body };
    out.body(kept)
}

fn rules(how: How) -> Rules {
    if how.service == "s3" {
        Rules::S3
    } else {
        Rules::QUERY
    }
}

prop_compose! {
    fn any_how()(
        service in prop::sample::select(vec!["s3", "ec2", "sts", "iam"]),
        presigned: bool,
        with_token: bool,
    ) -> How {
        How { service, presigned, with_token }
    }
}

/// Without dot segments: the oracle folds them, we take the path as it came.
fn any_path() -> impl Strategy<Value = String> {
    "(/[a-zA-Z0-9_~-][a-zA-Z0-9._~-]{0,8}(%20|%2B|%C3%A4)?){0,4}/?"
        .prop_map(|path| if path.is_empty() { "/".into() } else { path })
}

fn any_query() -> impl Strategy<Value = String> {
    "([A-Z][A-Za-z.0-9]{1,10}=[a-zA-Z0-9_.~-]{0,8}(%20|%2F|%3D|%2B)?&){0,6}Z=1"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_the_oracle_signs_stands(
        how in any_how(), path in any_path(), query in any_query(), body in "[ -~]{0,64}",
    ) {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let body = if how.presigned { String::new() } else { body };
        let verified = signed(how, method, &path, &query, &body).verify(SECRET, &rules(how), NOW);
        prop_assert!(verified.is_ok(), "{how:?} {path} {query}: {verified:?}");
        let token = verified.unwrap().session_token;
        prop_assert_eq!(token.as_deref(), how.with_token.then_some("token/with+signs="));
    }

    #[test]
    fn what_is_changed_afterwards_falls(
        how in any_how(), path in any_path(), query in any_query(), what in 0usize..4,
    ) {
        let mut ask = signed(how, "GET", &path, &query, "");
        match what {
            0 => ask.path.push('x'),
            1 => ask.query.push_str("&A=b"),
            2 => ask.method = "DELETE",
            _ => ask.headers.iter_mut().find(|(n, _)| n == "host").unwrap().1.push('0'),
        }
        let refused = ask.verify(SECRET, &rules(how), NOW);
        prop_assert!(matches!(refused, Err(Refused::Mismatch(_))), "{refused:?}");
    }

    #[test]
    fn what_we_sign_stands_and_is_what_the_oracle_signs(
        service in prop::sample::select(vec!["s3", "ec2"]),
        path in any_path(), query in any_query(), presigned: bool,
    ) {
        let key = ours::Key { access_key: "AKIDEXAMPLE", secret: SECRET, session_token: None };
        let target = ours::Target { region: "undefined-4711", service };
        let now_ms = NOW_SECS as i64 * 1000;
        let host = "cloud.example:8773";
        let uri = if presigned {
            let ask = ours::Presign { method: "GET", host, path: &path, query: &query, headers: &[], expires_secs: 600 };
            ours::v4_presign(ask, key, target, now_ms)
        } else {
            format!("{path}?{query}")
        };
        let request = http::Request::get(uri).header("host", host).body(()).unwrap();
        let mut head = request.into_parts().0;
        if !presigned {
            ours::v4_header(&mut head, key, target, &sigv4::sha256_hex(b""), now_ms).unwrap();
        }
        let mut ask = Ask::new("GET", head.uri.path(), head.uri.query().unwrap());
        for (name, value) in &head.headers {
            ask = ask.header(name.as_str(), value.to_str().unwrap());
        }
        let rules = if service == "s3" { Rules::S3 } else { Rules::QUERY };
        prop_assert!(ask.verify(SECRET, &rules, NOW).is_ok());

        if presigned {
            let how = How { service, presigned: true, with_token: false };
            let theirs = signed(how, "GET", &path, &query, "");
            prop_assert_eq!(signature(&theirs.query), signature(&ask.query));
        }
    }

    #[test]
    fn no_header_makes_it_panic(text in "\\PC{0,80}", query in "\\PC{0,80}", form in "\\PC{0,80}") {
        for rules in [Rules::S3, Rules::QUERY] {
            for prefix in ["", "AWS ", "AWS4-HMAC-SHA256 Credential="] {
                let value = format!("{prefix}{text}");
                let headers = http::HeaderValue::from_str(&value).ok();
                let mut map = http::HeaderMap::new();
                headers.map(|value| map.insert("authorization", value));
                let received = sigv4::Received {
                    method: "GET", path: &text, query: &query, headers: &map, host_bucket: None,
                };
                if let Ok(Some(claim)) = sigv4::Claim::read(&received, &form, &rules) {
                    let _ = claim.verify(&received, &form, "secret", &rules, 0);
                }
            }
        }
    }
}

fn signature(query: &str) -> Option<String> {
    let found = sigv4::pairs(query).find(|(name, _)| *name == "X-Amz-Signature");
    found.map(|(_, value)| value.to_owned())
}
