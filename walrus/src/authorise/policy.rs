//! A bucket's policy, read from the text that its owner put.

use iam::Policy;
use s3::{BucketName, Code, Error, Result};

/// A policy that says whom it is about.
#[derive(Debug, Clone)]
pub struct BucketPolicy(pub(super) Policy);

impl BucketPolicy {
    /// Reads it, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let policy = Policy::parse_resource(text);
        policy
            .map(Self)
            .map_err(|error| Error::new(Code::MalformedPolicy, error.to_string()))
    }

    /// Whether it gives something to everyone.
    pub fn is_public(&self) -> bool {
        self.0.is_public()
    }

    /// Whether it gives to everyone but some.
    pub fn gives_to_all_but(&self) -> bool {
        self.0.gives_to_all_but()
    }

    /// Whether all that it names may be the bucket or in it. A region or an account in the middle
    /// of an ARN is no mistake, `*` means the bucket.
    pub fn is_about(&self, bucket: &BucketName) -> bool {
        self.0.resources().all(|resource| {
            let name = resource.strip_prefix("arn:aws:s3:").map(|rest| {
                let rest = rest.splitn(3, ':').last().unwrap_or_default();
                rest.split('/').next().unwrap_or_default().to_owned()
            });
            match name {
                None => resource == "*",
                Some(name) => iam::Pattern::new(name).matches(bucket.as_str()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_about_its_own_bucket() {
        let about = |resource: &str| {
            let text = format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"{resource}"}}}}"#
            );
            let name = BucketName::parse("photos").unwrap();
            BucketPolicy::parse(&text).unwrap().is_about(&name)
        };
        for good in [
            "*",
            "arn:aws:s3:::photos",
            "arn:aws:s3:::photos/*",
            "arn:aws:s3:::*",
        ] {
            assert!(about(good), "{good}");
        }
        for bad in [
            "arn:aws:s3:::other",
            "arn:aws:s3:::photo",
            "arn:aws:ec2:::photos",
            "photos",
        ] {
            assert!(!about(bad), "{bad}");
        }
        assert_eq!(
            BucketPolicy::parse("{}").unwrap_err().code,
            Code::MalformedPolicy
        );
    }
}
