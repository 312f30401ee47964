//! The POST policy that comes with a BundleInstance: the client's permission to store a bundle, made
//! and signed on the client's machine (`euca-bundle-instance`, `aws ec2 bundle-instance`).
//!
//! The form is S3's: an expiration and conditions on the fields of an upload. A node will store the
//! bundle by addresses that we sign in the name of the same access key, and only what the policy
//! would have let the client's own form store: that bucket, that beginning of the key, that ACL, not
//! later than the policy says. A condition that is not understood allows nothing.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;
use types::Timestamp;

/// Policies are a few hundred bytes.
const POLICY_BYTES_MAX: usize = 16 * 1024;
/// The ACLs that a bundle may get: each lets the cloud read it.
const ACLS: [&str; 3] = ["ec2-bundle-read", "aws-exec-read", "public-read"];
/// The largest object of a bundle: a part; a manifest is smaller.
const OBJECT_BYTES_MAX: u64 = image::manifest::PART_BYTES;

/// What a policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The ACL that objects are to be stored with.
    pub(crate) acl: String,
    /// Until when.
    pub(crate) until: Timestamp,
}

#[derive(Deserialize)]
struct Document {
    expiration: String,
    conditions: Vec<Value>,
}

/// What the policy allows of storing a bundle there, or why it does not.
pub(crate) fn allows(
    policy: &str,
    bucket: &str,
    prefix: &str,
    now: Timestamp,
) -> Result<Allowed, String> {
    if policy.len() > POLICY_BYTES_MAX {
        return Err(format!("it is longer than {POLICY_BYTES_MAX} bytes"));
    }
    let bytes = STANDARD
        .decode(policy.trim())
        .map_err(|_| "it is not base64")?;
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|error| format!("it is no policy: {error}"))?;
    let until: Timestamp = document
        .expiration
        .parse()
        .map_err(|_| "its expiration is no time like 2026-01-31T12:00:00Z")?;
    if until <= now {
        return Err(format!("it expired at {until}"));
    }

    let conditions: Vec<Condition> = document
        .conditions
        .iter()
        .map(Condition::read)
        .collect::<Result<_, _>>()?;
    let acl = conditions.iter().find_map(|condition| match condition {
        Condition::Is(field, value) if field == "acl" => Some(value.clone()),
        Condition::Is(..) | Condition::StartsWith(..) | Condition::Length(..) => None,
    });
    let acl = acl.unwrap_or_else(|| ACLS[0].to_owned());
    let acl_is_ours = ACLS.contains(&acl.as_str());
    if !acl_is_ours {
        return Err(format!("its ACL is none of {}", ACLS.join(", ")));
    }

    // All keys of the bundle begin with its prefix and a dot; the rest is ours.
    let fields = [("acl", acl.as_str()), ("bucket", bucket), ("key", prefix)];
    if let Some(broken) = conditions.iter().find(|one| !one.holds(&fields)) {
        return Err(format!("its condition does not hold: {broken}"));
    }
    for (field, _) in &fields[1..] {
        if !conditions.iter().any(|one| one.field() == Some(field)) {
            return Err(format!("it says nothing of the {field}"));
        }
    }
    Ok(Allowed { acl, until })
}

/// A condition on a field of the upload.
#[derive(Debug)]
enum Condition {
    /// The field has this value.
    Is(String, String),
    /// The field begins so.
    StartsWith(String, String),
    /// The object has so many bytes.
    Length(u64, u64),
}

impl Condition {
    fn read(value: &Value) -> Result<Self, String> {
        let unknown = || format!("a condition is not understood: {value}");
        let name = |text: &str| text.trim_start_matches('$').to_ascii_lowercase();
        match value {
            Value::Object(map) if map.len() == 1 => {
                let (field, value) = map.iter().next().ok_or_else(unknown)?;
                let value = value.as_str().ok_or_else(unknown)?;
                Ok(Self::Is(name(field), value.to_owned()))
            }
            Value::Array(items) => match items.as_slice() {
                [
                    Value::String(verb),
                    Value::String(field),
                    Value::String(value),
                ] => match verb.to_ascii_lowercase().as_str() {
                    "eq" => Ok(Self::Is(name(field), value.clone())),
                    "starts-with" => Ok(Self::StartsWith(name(field), value.clone())),
                    _ => Err(unknown()),
                },
                [Value::String(verb), least, most] if verb == "content-length-range" => {
                    let number = |value: &Value| {
                        let text = value.as_str().and_then(|text| text.parse().ok());
                        value.as_u64().or(text).ok_or_else(unknown)
                    };
                    Ok(Self::Length(number(least)?, number(most)?))
                }
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Is(field, _) | Self::StartsWith(field, _) => Some(field),
            Self::Length(..) => None,
        }
    }

    /// Whether each upload of the bundle fulfils it. A key is known by its beginning only.
    fn holds(&self, fields: &[(&str, &str)]) -> bool {
        let of = |field: &str| fields.iter().find(|(name, _)| *name == field);
        match self {
            Self::Is(field, value) => {
                field != "key" && of(field).is_some_and(|(_, ours)| ours == value)
            }
            Self::StartsWith(field, start) => {
                of(field).is_some_and(|(_, ours)| ours.starts_with(start))
            }
            Self::Length(least, most) => *least <= 1 && *most >= OBJECT_BYTES_MAX,
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(field, value) => write!(f, "{field} is {}", value.escape_debug()),
            Self::StartsWith(field, start) => {
                write!(f, "{field} starts with {}", start.escape_debug())
            }
            Self::Length(least, most) => write!(f, "{least} to {most} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn judged(document: &str) -> Result<Allowed, String> {
        allows(&STANDARD.encode(document), "images", "mine/web", NOW)
    }

    fn with(conditions: &str) -> Result<Allowed, String> {
        judged(&format!(
            r#"{{"expiration": "2026-12-01T00:00:00Z", "conditions": [{conditions}]}}"#
        ))
    }

    #[test]
    fn the_policy_that_euca2ools_makes_allows_the_bundle() {
        let allowed = with(
            r#"{"acl": "ec2-bundle-read"}, {"bucket": "images"}, ["starts-with", "$key", "mine/web"]"#,
        )
        .unwrap();
        assert_eq!(allowed.acl, "ec2-bundle-read");
        assert_eq!(allowed.until.to_string(), "2026-12-01T00:00:00.000Z");
        let other = with(
            r#"["eq", "$acl", "aws-exec-read"], ["eq", "$bucket", "images"], ["starts-with", "$key", ""], ["content-length-range", 0, "20000000"]"#,
        );
        assert_eq!(other.unwrap().acl, "aws-exec-read");
    }

    #[test]
    fn a_policy_for_something_else_allows_nothing_and_says_why() {
        let key = r#"["starts-with", "$key", "mine/"]"#;
        let bucket = r#"{"bucket": "images"}"#;
        for (conditions, why) in [
            (
                format!(r#"{{"bucket": "others"}}, {key}"#),
                "bucket is others",
            ),
            (
                format!(r#"{bucket}, ["starts-with", "$key", "yours"]"#),
                "key starts with yours",
            ),
            (
                format!(r#"{bucket}, {{"key": "mine/web"}}"#),
                "key is mine/web",
            ),
            (key.to_owned(), "nothing of the bucket"),
            (bucket.to_owned(), "nothing of the key"),
            (
                format!(r#"{bucket}, {key}, {{"acl": "private"}}"#),
                "its ACL",
            ),
            (
                format!(r#"{bucket}, {key}, {{"x-amz-meta-a": "b"}}"#),
                "x-amz-meta-a is b",
            ),
            (
                format!(r#"{bucket}, {key}, ["content-length-range", 0, 1000]"#),
                "0 to 1000 bytes",
            ),
            (
                format!(r#"{bucket}, {key}, ["matches", "$key", "x"]"#),
                "not understood",
            ),
            (format!("{bucket}, {key}, 7"), "not understood"),
        ] {
            let error = with(&conditions).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_no_policy_or_is_over_is_refused() {
        let over = r#"{"expiration": "2025-12-01T00:00:00Z", "conditions": []}"#;
        for (document, why) in [(over, "expired"), ("{}", "no policy"), ("", "no policy")] {
            assert!(judged(document).unwrap_err().contains(why), "{document}");
        }
        assert!(
            allows("%", "images", "x", NOW)
                .unwrap_err()
                .contains("base64")
        );
        let long = "e30=".repeat(10_000);
        assert!(
            allows(&long, "images", "x", NOW)
                .unwrap_err()
                .contains("longer")
        );
    }
}
