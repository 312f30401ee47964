//! The policy document of a browser upload: JSON with an expiration and conditions on the fields of
//! the form (S3 API reference, "POST Policy"). Every field must be spoken of, so that whoever
//! has a signed policy can write nothing that its signer did not think of.

use std::ops::RangeInclusive;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::Value;
use types::Timestamp;

use super::Form;
use crate::{Code, Error, Result};

/// Fields that no condition need speak of, besides those that begin with [`IGNORED`] or
/// [`CHECKSUM`].
const FREE: [&str; 5] = [
    "policy",
    "signature",
    "awsaccesskeyid",
    "x-amz-signature",
    super::FILE,
];
const IGNORED: &str = "x-ignore-";
/// Who signs a policy cannot know the bytes yet, and a checksum only makes an upload harder.
const CHECKSUM: &str = "x-amz-checksum-";

/// A policy that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostPolicy {
    expires: Timestamp,
    conditions: Vec<Condition>,
    bytes: RangeInclusive<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    verb: Verb,
    field: String,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Eq,
    StartsWith,
}

#[derive(Deserialize)]
struct Document {
    expiration: String,
    conditions: Vec<Value>,
}

impl PostPolicy {
    /// Reads the field `policy`: base64 of JSON.
    pub fn parse(text: &str) -> Result<Self> {
        let text: String = text.split_ascii_whitespace().collect();
        let json = BASE64.decode(text);
        let json = json.map_err(|_| invalid("it is not Base64"))?;
        let document = serde_json::from_slice::<Document>(&json);
        let document = document.map_err(|error| invalid(&error.to_string()))?;

        let mut policy = Self {
            expires: expiration(&document.expiration)?,
            conditions: Vec::new(),
            bytes: 0..=u64::MAX,
        };
        for condition in &document.conditions {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<()> {
        match condition {
            Value::Object(map) => {
                let mut pairs = map.iter();
                let (Some((field, Value::String(value))), None) = (pairs.next(), pairs.next())
                else {
                    let why = "Invalid Simple-Condition: Simple-Conditions must have exactly one \
                               property specified.";
                    return Err(invalid(why));
                };
                self.push(Verb::Eq, field, value);
            }
            Value::Array(items) => match items.as_slice() {
                [Value::String(verb), first, second] => match verb.to_ascii_lowercase().as_str() {
                    "eq" => self.push_named(Verb::Eq, first, second)?,
                    "starts-with" => self.push_named(Verb::StartsWith, first, second)?,
                    "content-length-range" => {
                        let (least, most) = (number(first)?, number(second)?);
                        let (start, end) = (self.bytes.start(), self.bytes.end());
                        self.bytes = least.max(*start)..=most.min(*end);
                    }
                    _ => return Err(invalid(&format!("unknown operation {verb}"))),
                },
                _ => return Err(invalid("a condition has an operation and two arguments")),
            },
            _ => return Err(invalid("a condition is an object or a list")),
        }
        Ok(())
    }

    fn push_named(&mut self, verb: Verb, field: &Value, value: &Value) -> Result<()> {
        let field = field.as_str().and_then(|field| field.strip_prefix('$'));
        let (Some(field), Some(value)) = (field, value.as_str()) else {
            return Err(invalid("a condition names a field by $ and a text"));
        };
        self.push(verb, field, value);
        Ok(())
    }

    fn push(&mut self, verb: Verb, field: &str, value: &str) {
        self.conditions.push(Condition {
            verb,
            field: field.to_ascii_lowercase(),
            value: value.to_owned(),
        });
    }

    /// Judges a form that is [`Form::filled`]; answers how many bytes its file may have.
    pub fn judge(&self, form: &Form, now: Timestamp) -> Result<RangeInclusive<u64>> {
        let denied = |why: String| {
            let why = format!("Invalid according to Policy: {why}");
            Err(Error::new(Code::AccessDenied, why))
        };
        if self.expires <= now {
            return denied("Policy expired.".to_owned());
        }
        let broken = self.conditions.iter().find(|one| !one.holds(form));
        if let Some(broken) = broken {
            return denied(format!("Policy Condition failed: {broken}"));
        }
        let is_free = |name: &str| {
            FREE.contains(&name) || [IGNORED, CHECKSUM].iter().any(|p| name.starts_with(p))
        };
        let extra =
            form.fields.iter().map(|(name, _)| name).find(|name| {
                !is_free(name) && !self.conditions.iter().any(|one| one.field == **name)
            });
        match extra {
            Some(extra) => denied(format!("Extra input fields: {extra}")),
            None => Ok(self.bytes.clone()),
        }
    }
}

impl Condition {
    fn holds(&self, form: &Form) -> bool {
        let Some(value) = form.get(&self.field) else {
            return false;
        };
        match self.verb {
            Verb::Eq => value == self.value,
            // A list of types is as good as each of them.
            Verb::StartsWith if self.field == "content-type" => value
                .split(',')
                .all(|one| one.trim_start().starts_with(&self.value)),
            Verb::StartsWith => value.starts_with(&self.value),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.verb {
            Verb::Eq => "eq",
            Verb::StartsWith => "starts-with",
        };
        let text = serde_json::json!([verb, format!("${}", self.field), self.value]);
        write!(f, "{text}")
    }
}

fn invalid(why: &str) -> Error {
    let why = format!("Invalid Policy: {why}");
    Error::new(Code::InvalidPolicyDocument, why)
}

/// `2026-12-01T12:00:00.000Z` and nothing else.
fn expiration(text: &str) -> Result<Timestamp> {
    let is_form = text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z');
    let time = text.parse::<Timestamp>().ok().filter(|_| is_form);
    time.ok_or_else(|| invalid(&format!("Invalid 'expiration' value: '{text}'")))
}

fn number(value: &Value) -> Result<u64> {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    let number = value.as_u64().or_else(text);
    number.ok_or_else(|| invalid("content-length-range takes two numbers of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BucketName;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn policy(conditions: &str) -> Result<PostPolicy> {
        let text =
            format!(r#"{{"expiration":"2026-12-01T00:00:00Z","conditions":[{conditions}]}}"#);
        PostPolicy::parse(&BASE64.encode(text))
    }

    fn judge(conditions: &str, fields: &[(&str, &str)]) -> Result<RangeInclusive<u64>> {
        let mut form = Form::default();
        for (name, value) in fields {
            form.push(name, (*value).to_owned()).unwrap();
        }
        let form = form.filled(&BucketName::parse("photos").unwrap(), Some("cat.png"));
        policy(conditions)?.judge(&form, NOW)
    }

    const BUCKET: &str = r#"{"bucket":"photos"},["starts-with","$key","in/"]"#;

    #[test]
    fn conditions_hold_of_the_fields_as_they_will_be_used() {
        let good = [
            ("key", "in/${filename}"),
            ("policy", "p"),
            ("x-ignore-a", "b"),
        ];
        assert_eq!(judge(BUCKET, &good).unwrap(), 0..=u64::MAX);
        let range =
            format!(r#"{BUCKET},["content-length-range",1,"99"],["content-length-range",0,50]"#);
        assert_eq!(judge(&range, &good).unwrap(), 1..=50);
        let named = format!(r#"{BUCKET},["eQ","$Content-Type","a/b"],{{"ACL":"private"}}"#);
        let all = [("key", "in/a"), ("Content-Type", "a/b"), ("acl", "private")];
        assert!(judge(&named, &all).is_ok());
        let types = format!(r#"{BUCKET},["starts-with","$Content-Type","image/"]"#);
        let of = |kind| judge(&types, &[("key", "in/a"), ("content-type", kind)]);
        assert!(of("image/a, image/b").is_ok() && of("image/a,text/b").is_err());
        let checked = [("key", "in/a"), ("x-amz-checksum-crc32", "AAAAAA==")];
        assert!(judge(BUCKET, &checked).is_ok());
    }

    #[test]
    fn what_euca2ools_signs_lets_a_bundle_in() {
        let conditions =
            r#"{"acl":"ec2-bundle-read"},{"bucket":"photos"},["starts-with","$key","web"]"#;
        let fields = [
            ("Policy", "p"),
            ("AWSAccessKeyId", "AKID"),
            ("key", "web.part.00"),
            ("Signature", "s"),
            ("acl", "ec2-bundle-read"),
        ];
        assert!(judge(conditions, &fields).is_ok());
    }

    #[test]
    fn what_a_policy_does_not_say_is_denied_with_the_reason() {
        let denied = |conditions: &str, fields: &[(&str, &str)], why: &str| {
            let error = judge(conditions, fields).unwrap_err();
            assert_eq!(error.code, Code::AccessDenied);
            assert!(error.message.contains(why), "{}", error.message);
        };
        let key = ("key", "in/a");
        denied(
            BUCKET,
            &[("key", "out/a")],
            "[\"starts-with\",\"$key\",\"in/\"]",
        );
        denied(
            BUCKET,
            &[key, ("acl", "public-read")],
            "Extra input fields: acl",
        );
        denied(
            r#"["eq","$key","in/a"]"#,
            &[key],
            "Extra input fields: bucket",
        );
        denied(
            r#"{"bucket":"other"},["starts-with","$key",""]"#,
            &[key],
            "$bucket",
        );
        let absent = format!(r#"{BUCKET},["starts-with","$x-amz-meta-a",""]"#);
        denied(&absent, &[key], "$x-amz-meta-a");
    }

    #[test]
    fn a_policy_has_its_time() {
        let form = Form::default().filled(&BucketName::parse("photos").unwrap(), None);
        let later: Timestamp = "2026-12-01T00:00:01Z".parse().unwrap();
        let open = policy(r#"{"bucket":"photos"}"#).unwrap();
        assert!(open.judge(&form, NOW).is_ok());
        let error = open.judge(&form, later).unwrap_err();
        assert!(error.message.contains("expired"));
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for bad in [
            "{}",
            "7",
            r#"{"a":"b","c":"d"}"#,
            r#"{"a":1}"#,
            r#"["matches","$key","x"]"#,
            r#"["eq","key","x"]"#,
            r#"["content-length-range",0]"#,
            r#"["content-length-range",-1,0]"#,
        ] {
            assert_eq!(
                policy(bad).unwrap_err().code,
                Code::InvalidPolicyDocument,
                "{bad}"
            );
        }
        for bad in [
            "{}",
            "",
            "[",
            r#"{"expiration":"2026-12-01T00:00:00Z"}"#,
            r#"{"EXPIRATION":"2026-12-01T00:00:00Z","conditions":[]}"#,
            r#"{"expiration":"2026-12-01 00:00:00+00:00","conditions":[]}"#,
        ] {
            assert!(PostPolicy::parse(&BASE64.encode(bad)).is_err(), "{bad}");
        }
        assert!(PostPolicy::parse("%").is_err());
    }
}
