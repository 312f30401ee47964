//! Whether a caller may do something: policies, access lists and ownership, judged by
//! `iam::decide`. Pure.
//!
//! An access list is a policy of its resource: what it grants to the caller becomes one statement.

mod delivery;
mod policy;

use std::sync::atomic::{AtomicBool, Ordering};

use iam::{Context, Decision, Denied, Policies, Policy, Principal, Request, Statement};
use s3::{
    Acl, Action, BucketName, Code, Key, Result, VersionId, acl::Permission,
    documents::tagging::Tags,
};
use types::{AccountId, Arn};

use crate::{
    directory::{Caller, Directory},
    engine::facts::{Bucket, Object},
};

pub use delivery::{LOG_SERVICE, may_deliver_log};
pub use policy::{BucketPolicy, PoliciesRead};

/// What an owner may do whatever its own policy says.
const POLICY_ACTIONS: [&str; 3] = [
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
    "s3:DeleteBucketPolicy",
];

/// Something that a caller wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// By whom.
    pub caller: &'a Caller,
    /// What.
    pub action: Action,
    /// What conditions of policies may look at.
    pub context: &'a Context,
    /// Who is who, for policies that call accounts by name.
    pub people: &'a Directory,
    /// Where it is noted that nothing but an access list allowed it, if somebody wants to know.
    pub list_needed: Option<&'a AtomicBool>,
}

/// What is asked of, and what its bucket says about it.
struct Target<'a> {
    resource: Arn,
    owner: &'a AccountId,
    /// `None` for the account itself.
    bucket: Option<&'a Bucket>,
    /// Whose list grants what.
    list: Option<(&'a Acl, Permission)>,
    /// Tags of the object, which conditions may look at.
    tags: Option<&'a Tags>,
}

impl Wish<'_> {
    fn judge(&self, action: &str, target: &Target<'_>) -> Result<()> {
        match self.decide(action, target) {
            Decision::Allow => Ok(()),
            Decision::Deny(_) => Err(Code::AccessDenied.into()),
        }
    }

    fn decide(&self, action: &str, target: &Target<'_>) -> Decision {
        let never = Decision::Deny(Denied::Explicit(None));
        let account = self.caller.account();
        if account == Some(&AccountId::system()) {
            // The cloud's own key fetches bundles for the nodes, whoever owns them, and does
            // nothing else.
            let fetches = matches!(self.action, Action::GetObject | Action::HeadObject);
            return if fetches { Decision::Allow } else { never };
        }
        let Some(identity) = &self.caller.policies else {
            return never;
        };

        let mut resource = Vec::new();
        if let Some((acl, asked)) = target.list {
            let acl = target
                .bucket
                .map_or_else(|| acl.clone(), |bucket| effective(acl, bucket));
            resource.extend(grant(&acl, asked, account, action));
        }
        let granted = !resource.is_empty();
        let policy = target
            .bucket
            .and_then(|bucket| self.policy_of(bucket, action, target.owner));
        let context = match (&policy, target.tags) {
            (Some(policy), Some(tags)) if policy.looks_at("s3:existingobjecttag/") => {
                &with_tags(self.context, tags)
            }
            _ => self.context,
        };
        resource.extend(policy);
        let request = Request {
            principal: &self.caller.principal,
            action,
            resource: target.resource.as_str(),
            owner: target.owner,
            context,
        };
        let policies = Policies {
            identity,
            resource: &resource,
        };
        let decision = iam::decide(&request, &policies);
        if decision.is_allow()
            && let Some(noted) = self.list_needed.filter(|_| granted)
        {
            let resource = &resource[1..];
            let alone = iam::decide(&request, &Policies { identity, resource });
            noted.fetch_or(!alone.is_allow(), Ordering::Relaxed);
        }
        decision
    }

    /// What the bucket's policy has to say about this caller and a thing of that owner.
    fn policy_of(&self, bucket: &Bucket, action: &str, owner: &AccountId) -> Option<Policy> {
        let text = bucket.settings.policy.as_ref()?;
        // An owner must always be able to mend a policy that locks everybody out.
        if POLICY_ACTIONS.contains(&action) && self.caller.principal == root(&bucket.owner) {
            return None;
        }
        let Ok(BucketPolicy(policy)) = self.people.read_policy(text) else {
            tracing::error!(bucket = %bucket.name, "its policy cannot be read: it refuses everything");
            return Some(Policy::of(vec![Statement::deny_all()]));
        };
        let block = bucket.settings.public_access_block.unwrap_or_default();
        let outside = self.caller.account() != Some(&bucket.owner);
        let restricted = block.restrict_buckets && policy.is_public() && outside;
        // What somebody else owns in the bucket is not the bucket's to give away.
        if restricted || *owner != bucket.owner {
            return Some(policy.refusals());
        }
        Some(policy)
    }

    /// On the caller's own account: ListBuckets, CreateBucket.
    pub fn on_account(&self, bucket: Option<&BucketName>) -> Result<()> {
        let Principal::Known { account, .. } = &self.caller.principal else {
            return Err(Code::AccessDenied.into());
        };
        let target = Target {
            resource: Arn::s3(bucket.map_or("*", BucketName::as_str), None),
            owner: account,
            bucket: None,
            list: None,
            tags: None,
        };
        self.judge(self.action.policy_action(), &target)
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
        let target = Target {
            resource: Arn::s3(bucket.name.as_str(), None),
            owner: &bucket.owner,
            bucket: Some(bucket),
            list: asked.map(|asked| (&bucket.acl, asked)),
            tags: None,
        };
        self.judge(self.action.policy_action(), &target)
    }

    /// Writing or deleting under a key: the bucket's list decides, whosever the object is.
    pub fn on_key(&self, bucket: &Bucket, key: &Key) -> Result<()> {
        self.on_key_as(
            self.action.policy_action(),
            bucket,
            key,
            Some(Permission::Write),
        )
    }

    fn on_key_as(
        &self,
        action: &str,
        bucket: &Bucket,
        key: &Key,
        asked: Option<Permission>,
    ) -> Result<()> {
        self.judge(action, &target_of_key(bucket, key, asked))
    }

    /// Deleting an object, or one version of it for good, which is another right.
    pub fn on_deletion(&self, bucket: &Bucket, key: &Key, of_version: bool) -> Result<()> {
        let action = if of_version {
            "s3:DeleteObjectVersion"
        } else {
            "s3:DeleteObject"
        };
        self.on_key_as(action, bucket, key, Some(Permission::Write))
    }

    /// Deleting or releasing what is kept under governance.
    pub fn on_bypass(&self, bucket: &Bucket, key: &Key) -> Result<()> {
        self.on_key_as("s3:BypassGovernanceRetention", bucket, key, None)
    }

    /// Besides writing an object: its tags, its lock, its access list are rights of their own.
    pub fn on_extra(&self, extra: Extra, bucket: &Bucket, key: &Key) -> Result<()> {
        self.on_key_as(extra.policy_action(), bucket, key, Some(Permission::Write))
    }

    /// Besides writing an object: choosing its access list is a right of its own (PutObject reference,
    /// "Permissions"). A stranger who gives the bucket's owner everything, and nobody else anything,
    /// needs none but the one to write, if nothing denies it: so the user guide has owners ask
    /// strangers for it ("Policy examples for ACLs").
    pub fn on_list(&self, acl: &Acl, bucket: &Bucket, key: &Key) -> Result<()> {
        let writer = self.caller.account();
        let is_stranger = writer != Some(&bucket.owner);
        let target = target_of_key(bucket, key, Some(Permission::Write));
        match self.decide(Action::PutObjectAcl.policy_action(), &target) {
            Decision::Allow => Ok(()),
            Decision::Deny(Denied::Implicit)
                if is_stranger && acl.favours_only(&bucket.owner, writer) =>
            {
                Ok(())
            }
            Decision::Deny(_) => Err(Code::AccessDenied.into()),
        }
    }

    /// Reading an object or its list, or writing its list: the object's own list decides. Naming a
    /// version is another right than asking for the newest.
    pub fn on_object(&self, bucket: &Bucket, object: &Object, of_version: bool) -> Result<()> {
        let asked = match self.action {
            Action::GetObject | Action::HeadObject | Action::GetObjectAttributes => {
                Some(Permission::Read)
            }
            Action::GetObjectAcl => Some(Permission::ReadAcp),
            Action::PutObjectAcl => Some(Permission::WriteAcp),
            _ => None,
        };
        let owner = if bucket.settings.lists_are_off() {
            &bucket.owner
        } else {
            &object.owner
        };
        let target = Target {
            resource: resource_of(&object.bucket, &object.key),
            owner,
            bucket: Some(bucket),
            list: asked.map(|asked| (&object.acl, asked)),
            tags: Some(&object.tags),
        };
        self.judge(self.action.policy_action_of(of_version), &target)
    }

    /// What an absent object is answered with: only who may list the bucket learns that it is not
    /// there (GetObject reference, "Permissions").
    pub fn on_absent(&self, bucket: &Bucket, key: &Key, version: Option<&VersionId>) -> s3::Error {
        let is_system = self.caller.account() == Some(&AccountId::system());
        // As if the key were asked for by a list.
        let context = self.context.clone().with("s3:prefix", key.as_str());
        let listing = Wish {
            caller: self.caller,
            action: Action::ListObjects,
            context: &context,
            people: self.people,
            list_needed: None,
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

/// What a writer asks for besides writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Tags.
    Tags,
    /// A retention.
    Retention,
    /// A legal hold.
    LegalHold,
}

impl Extra {
    const fn policy_action(self) -> &'static str {
        match self {
            Self::Tags => "s3:PutObjectTagging",
            Self::Retention => "s3:PutObjectRetention",
            Self::LegalHold => "s3:PutObjectLegalHold",
        }
    }
}

fn root(account: &AccountId) -> Principal {
    Principal::root(account.clone())
}

fn resource_of(bucket: &BucketName, key: &Key) -> Arn {
    Arn::s3(bucket.as_str(), Some(key.as_str()))
}

fn target_of_key<'a>(bucket: &'a Bucket, key: &Key, asked: Option<Permission>) -> Target<'a> {
    Target {
        resource: resource_of(&bucket.name, key),
        owner: &bucket.owner,
        bucket: Some(bucket),
        list: asked.map(|asked| (&bucket.acl, asked)),
        tags: None,
    }
}

fn with_tags(context: &Context, tags: &Tags) -> Context {
    tags.pairs()
        .fold(context.clone(), |context, (name, value)| {
            context.with(&format!("s3:ExistingObjectTag/{name}"), value)
        })
}

/// A list as far as its bucket lets it count.
fn effective(acl: &Acl, bucket: &Bucket) -> Acl {
    let block = bucket.settings.public_access_block.unwrap_or_default();
    if bucket.settings.lists_are_off() {
        return Acl::default();
    }
    if block.ignore_acls && acl.is_public() {
        return acl.without_groups();
    }
    acl.clone()
}

/// The list's statement about this caller, if it grants what is asked.
fn grant(acl: &Acl, asked: Permission, who: Option<&AccountId>, action: &str) -> Option<Policy> {
    if !acl.allows(who, asked) {
        return None;
    }
    // What groups are granted holds for each of their members; what an account is granted is its
    // administrator's to hand on.
    let by_group = acl.only_groups();
    let to = who.filter(|_| !by_group.allows(who, asked)).cloned();
    Some(Policy::of(vec![Statement::allow(to, &[action], &["*"])]))
}

#[cfg(test)]
mod tests;
