//! Whether a caller may do something: policies, access lists and ownership, judged by
//! `iam::decide`. Pure.
//!
//! An access list is a policy of its resource: what it grants to the caller becomes one statement.

use iam::{Context, Policies, Policy, Principal, Request, Statement};
use s3::{Acl, Action, BucketName, Code, Key, Result, VersionId, acl::Permission};
use types::{AccountId, Arn};

use crate::{
    directory::Caller,
    engine::facts::{Bucket, Object},
};

/// Something that a caller wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// By whom.
    pub caller: &'a Caller,
    /// What.
    pub action: Action,
    /// What conditions of policies may look at.
    pub context: &'a Context,
}

impl Wish<'_> {
    fn judge(
        &self,
        resource: &Arn,
        owner: &AccountId,
        list: Option<(&Acl, Permission)>,
    ) -> Result<()> {
        self.judge_as(self.action.policy_action(), resource, owner, list)
    }

    fn judge_as(
        &self,
        action: &str,
        resource: &Arn,
        owner: &AccountId,
        list: Option<(&Acl, Permission)>,
    ) -> Result<()> {
        let denied = || Err(Code::AccessDenied.into());
        let account = self.caller.account();
        if account == Some(&AccountId::system()) {
            // The cloud's own key fetches bundles for the nodes, whoever owns them, and does
            // nothing else.
            let fetches = matches!(self.action, Action::GetObject | Action::HeadObject);
            return if fetches { Ok(()) } else { denied() };
        }
        let Some(identity) = &self.caller.policies else {
            return denied();
        };

        let granted = list.and_then(|(acl, asked)| grant(acl, asked, account, action));
        let request = Request {
            principal: &self.caller.principal,
            action,
            resource: resource.as_str(),
            owner,
            context: self.context,
        };
        let policies = Policies {
            identity,
            resource: granted.as_slice(),
        };
        if iam::decide(&request, &policies).is_allow() {
            Ok(())
        } else {
            denied()
        }
    }

    /// On the caller's own account: ListBuckets, CreateBucket.
    pub fn on_account(&self, bucket: Option<&BucketName>) -> Result<()> {
        let Principal::Known { account, .. } = &self.caller.principal else {
            return Err(Code::AccessDenied.into());
        };
        self.judge(
            &Arn::s3(bucket.map_or("*", BucketName::as_str), None),
            account,
            None,
        )
    }

    /// On a bucket itself.
    pub fn on_bucket(&self, bucket: &Bucket) -> Result<()> {
        let asked = match self.action {
            Action::HeadBucket
            | Action::ListObjects
            | Action::ListObjectsV2
            | Action::ListObjectVersions
            | Action::ListMultipartUploads
            | Action::GetBucketLocation => Some(Permission::Read),
            Action::GetBucketAcl => Some(Permission::ReadAcp),
            Action::PutBucketAcl => Some(Permission::WriteAcp),
            _ => None,
        };
        let list = asked.map(|asked| (&bucket.acl, asked));
        self.judge(&Arn::s3(bucket.name.as_str(), None), &bucket.owner, list)
    }

    /// Writing or deleting under a key: the bucket's list decides, whosever the object is.
    pub fn on_key(&self, bucket: &Bucket, key: &Key) -> Result<()> {
        let list = Some((&bucket.acl, Permission::Write));
        self.judge(&resource_of(&bucket.name, key), &bucket.owner, list)
    }

    /// Deleting an object, or one version of it for good, which is another right.
    pub fn on_deletion(&self, bucket: &Bucket, key: &Key, of_version: bool) -> Result<()> {
        let action = if of_version {
            "s3:DeleteObjectVersion"
        } else {
            "s3:DeleteObject"
        };
        let list = Some((&bucket.acl, Permission::Write));
        self.judge_as(action, &resource_of(&bucket.name, key), &bucket.owner, list)
    }

    /// Reading an object or its list, or writing its list: the object's own list decides. Naming a
    /// version is another right than asking for the newest.
    pub fn on_object(&self, object: &Object, of_version: bool) -> Result<()> {
        let asked = match self.action {
            Action::GetObjectAcl => Permission::ReadAcp,
            Action::PutObjectAcl => Permission::WriteAcp,
            _ => Permission::Read,
        };
        let resource = resource_of(&object.bucket, &object.key);
        let action = self.action.policy_action_of(of_version);
        self.judge_as(action, &resource, &object.owner, Some((&object.acl, asked)))
    }

    /// What an absent object is answered with: only who may list the bucket learns that it is not
    /// there (GetObject reference, "Permissions").
    pub fn on_absent(&self, bucket: &Bucket, key: &Key, version: Option<&VersionId>) -> s3::Error {
        let is_system = self.caller.account() == Some(&AccountId::system());
        let listing = Self {
            action: Action::ListObjects,
            ..*self
        };
        match listing.on_bucket(bucket) {
            Err(denied) if !is_system => denied,
            _ => match version {
                None => s3::Error::from(Code::NoSuchKey).with("Key", key.as_str()),
                Some(version) => s3::Error::from(Code::NoSuchVersion)
                    .with("Key", key.as_str())
                    .with("VersionId", version.as_str()),
            },
        }
    }
}

fn resource_of(bucket: &BucketName, key: &Key) -> Arn {
    Arn::s3(bucket.as_str(), Some(key.as_str()))
}

/// The list's statement about this caller, if it grants what is asked.
fn grant(acl: &Acl, asked: Permission, who: Option<&AccountId>, action: &str) -> Option<Policy> {
    if !acl.allows(who, asked) {
        return None;
    }
    // What groups are granted holds for each of their members; what an account is granted is its
    // administrator's to hand on.
    let by_group = s3::Acl(
        acl.0
            .iter()
            .filter(|grant| grant.grantee.group_uri().is_some())
            .cloned()
            .collect(),
    );
    let to = who.filter(|_| !by_group.allows(who, asked)).cloned();
    Some(Policy::of(vec![Statement::allow(to, &[action], &["*"])]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3::{acl::Canned, headers::Attributes};
    use std::sync::Arc;
    use types::Timestamp;

    fn account(digit: char) -> AccountId {
        digit.to_string().repeat(12).parse().unwrap()
    }

    fn bucket(acl: &str) -> Bucket {
        Bucket {
            name: BucketName::parse("bucket").unwrap(),
            id: String::new(),
            owner: account('1'),
            created: Timestamp(0),
            location: None,
            settings: s3::settings::Settings::default(),
            acl: Canned::parse(acl)
                .unwrap()
                .resolve(&account('1'), &account('1')),
        }
    }

    fn object(owner: char, acl: &str) -> Object {
        Object {
            bucket: BucketName::parse("bucket").unwrap(),
            key: Key::parse("key").unwrap(),
            version: VersionId::null(),
            order: 0,
            etag: String::new(),
            size: 0,
            modified: Timestamp(0),
            owner: account(owner),
            acl: Canned::parse(acl)
                .unwrap()
                .resolve(&account(owner), &account('1')),
            attributes: Attributes::default(),
            checksum: None,
            body: crate::engine::Body::Inline,
            upload_id: None,
        }
    }

    fn root(digit: char) -> Caller {
        Caller {
            principal: Principal::root(account(digit)),
            ..Caller::anonymous()
        }
    }

    fn member(digit: char, policies: &[&str]) -> Caller {
        let arn = Arn::user(&account(digit), "/", "ann");
        let policies = policies
            .iter()
            .map(|text| Policy::parse_identity(text).unwrap());
        Caller {
            principal: Principal::user(account(digit), arn),
            policies: Some(policies.collect::<Vec<_>>().into()),
        }
    }

    fn may(caller: &Caller, action: Action, ask: impl Fn(&Wish<'_>) -> Result<()>) -> bool {
        ask(&Wish {
            caller,
            action,
            context: &Context::new(),
        })
        .is_ok()
    }

    #[test]
    fn lists_open_buckets_and_objects_as_far_as_they_say() {
        let (own, other, nobody) = (root('1'), root('2'), Caller::anonymous());
        let lists = |caller: &Caller, acl: &str| {
            may(caller, Action::ListObjects, |wish| {
                wish.on_bucket(&bucket(acl))
            })
        };
        assert!(lists(&own, "private") && !lists(&other, "private") && !lists(&nobody, "private"));
        assert!(lists(&other, "public-read") && lists(&nobody, "public-read"));
        assert!(lists(&other, "authenticated-read") && !lists(&nobody, "authenticated-read"));

        let key = Key::parse("key").unwrap();
        let puts = |caller: &Caller, acl: &str| {
            may(caller, Action::PutObject, |wish| {
                wish.on_key(&bucket(acl), &key)
            })
        };
        assert!(puts(&own, "public-read") && !puts(&other, "public-read"));
        assert!(puts(&nobody, "public-read-write"));

        let gets = |caller: &Caller, acl: &str| {
            may(caller, Action::GetObject, |wish| {
                wish.on_object(&object('2', acl), false)
            })
        };
        assert!(
            gets(&other, "private") && !gets(&own, "private"),
            "the bucket's owner is not asked"
        );
        assert!(gets(&own, "bucket-owner-read") && gets(&nobody, "public-read"));
    }

    #[test]
    fn a_user_may_what_policies_say_and_no_list_widens_it_but_a_public_one() {
        let nothing = member('1', &[]);
        let reader = member(
            '1',
            &[
                r#"{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::bucket/*"}}"#,
            ],
        );
        let barred = member(
            '1',
            &[r#"{"Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}"#],
        );
        let gets = |caller: &Caller, acl: &str| {
            may(caller, Action::GetObject, |wish| {
                wish.on_object(&object('1', acl), false)
            })
        };
        assert!(!gets(&nothing, "private") && gets(&reader, "private"));
        assert!(gets(&nothing, "public-read") && !gets(&barred, "public-read"));

        let lists =
            |caller: &Caller| may(caller, Action::ListBuckets, |wish| wish.on_account(None));
        assert!(!lists(&reader) && lists(&root('1')) && !lists(&Caller::anonymous()));
    }

    #[test]
    fn the_cloud_itself_reads_objects_and_does_nothing_else() {
        let system = Caller {
            principal: Principal::root(AccountId::system()),
            policies: Some(Arc::new([])),
        };
        assert!(may(&system, Action::GetObject, |wish| wish
            .on_object(&object('2', "private"), false)));
        assert!(!may(&system, Action::GetObjectAcl, |wish| wish
            .on_object(&object('2', "private"), false)));
        assert!(!may(&system, Action::ListObjects, |wish| wish
            .on_bucket(&bucket("public-read"))));
        assert!(!may(&system, Action::CreateBucket, |wish| wish.on_account(None)));
    }

    #[test]
    fn only_who_may_list_learns_that_a_key_is_absent() {
        let key = Key::parse("key").unwrap();
        let absent = |caller: &Caller, acl: &str| {
            let wish = Wish {
                caller,
                action: Action::GetObject,
                context: &Context::new(),
            };
            wish.on_absent(&bucket(acl), &key, None).code
        };
        assert_eq!(absent(&root('1'), "private"), Code::NoSuchKey);
        assert_eq!(absent(&root('2'), "private"), Code::AccessDenied);
        assert_eq!(absent(&Caller::anonymous(), "public-read"), Code::NoSuchKey);
    }
}
