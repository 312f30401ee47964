//! A bucket's policy, read from the text that its owner put.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use iam::Policy;
use s3::{BucketName, Code, Error, Result};
use types::AccountId;

/// Policies that are kept read. Each may be 20 KiB of text, and a few times that when it is read.
const READ_MAX: usize = 128;

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

/// Policies that were read, by their text: requests come by the thousand, policies by the day. It is
/// good for one set of identities, so a clone begins empty.
#[derive(Debug, Default)]
pub struct PoliciesRead(Mutex<HashMap<String, BucketPolicy>>);

impl Clone for PoliciesRead {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PoliciesRead {
    /// A policy with the accounts that are called by name.
    pub fn read(
        &self,
        text: &str,
        find: &dyn Fn(&str) -> Option<AccountId>,
    ) -> Result<BucketPolicy> {
        // A policy is put there whole: a panic leaves nothing half-done.
        let held = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held().get(text) {
            return Ok(known.clone());
        }
        let read = BucketPolicy(BucketPolicy::parse(text)?.0.resolved(find));
        let mut known = held();
        if known.len() >= READ_MAX {
            known.clear();
        }
        known.insert(text.to_owned(), read.clone());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(account: &str) -> String {
        format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{{"CanonicalUser":"{account}"}},"Action":"s3:*","Resource":"*"}}}}"#
        )
    }

    #[test]
    fn a_policy_is_read_once_among_the_same_people_and_few_are_kept() {
        let read = PoliciesRead::default();
        let looks = std::cell::Cell::new(0);
        let find = |_: &str| {
            looks.set(looks.get() + 1);
            None
        };
        for _ in 0..3 {
            read.read(&about("ruth"), &find).unwrap();
        }
        assert_eq!(looks.get(), 1);
        // Among other people the name may be another account.
        read.clone().read(&about("ruth"), &find).unwrap();
        assert_eq!(looks.get(), 2);
        for number in 0..READ_MAX * 3 {
            read.read(&about(&number.to_string()), &find).unwrap();
            assert!(read.0.lock().unwrap().len() <= READ_MAX);
        }
        assert!(read.read("{}", &find).is_err());
    }

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
