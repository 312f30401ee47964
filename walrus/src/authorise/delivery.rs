//! Whether the log of one bucket may be written into another: by the list of the other, which may
//! grant it to the group LogDelivery, or by its policy, which may grant it to the service.

use iam::{Context, Decision, Denied, Policies, Policy, Principal, Request, Statement};
use s3::{
    BucketName, Code, Key, Result,
    acl::{Grantee, People as _, Permission},
};
use types::Arn;

use super::resource_of;
use crate::{directory::Directory, engine::facts::Bucket};

/// What policies call whoever writes access logs.
pub const LOG_SERVICE: &str = "logging.s3.amazonaws.com";
const ACTION: &str = "s3:PutObject";

/// Judges one object of a log, below the prefix that its bucket's logging names.
///
/// Policies that were written for radosgw allow the prefix itself, and name the account by its
/// canonical id: what they mean to allow is clear.
pub fn may_deliver_log(
    source: &BucketName,
    target: &Bucket,
    (prefix, key): (&str, &Key),
    people: &Directory,
) -> Result<()> {
    let mut resource = Vec::new();
    if list_grants(target) {
        let all = Statement::allow(None, &[ACTION], &["*"]);
        resource.push(Policy::of(vec![all]));
    }
    if let Some(text) = &target.settings.policy {
        resource.push(people.read_policy(text)?.0);
    }
    let context = Context::new()
        .with("aws:SourceArn", Arn::s3(source.as_str(), None).as_str())
        .with("aws:SourceAccount", target.owner.as_str())
        .with("aws:SourceAccount", people.person(&target.owner).id)
        .with("aws:SecureTransport", "true");
    let policies = Policies {
        identity: &[],
        resource: &resource,
    };
    let judged = |resource: &Arn| {
        let request = Request {
            principal: &Principal::Service(LOG_SERVICE),
            action: ACTION,
            resource: resource.as_str(),
            owner: &target.owner,
            context: &context,
        };
        iam::decide(&request, &policies)
    };
    let place = || Arn::s3(target.name.as_str(), Some(prefix));
    match judged(&resource_of(&target.name, key)) {
        Decision::Allow => Ok(()),
        Decision::Deny(Denied::Implicit) if judged(&place()).is_allow() => Ok(()),
        Decision::Deny(_) => Err(Code::AccessDenied.into()),
    }
}

fn list_grants(target: &Bucket) -> bool {
    let writes = [Permission::Write, Permission::FullControl];
    !target.settings.lists_are_off()
        && target.acl.0.iter().any(|grant| {
            grant.grantee == Grantee::LogDelivery && writes.contains(&grant.permission)
        })
}

#[cfg(test)]
mod tests {
    use control::cloud::{Account, IdentityChange};
    use s3::{acl::Canned, documents::ownership::Ownership};
    use types::{AccountId, Timestamp};

    use super::*;

    fn target(acl: &str, policy: Option<&str>) -> Bucket {
        let owner: AccountId = "111111111111".parse().unwrap();
        Bucket {
            name: BucketName::parse("logs").unwrap(),
            id: String::new(),
            created: Timestamp(0),
            location: None,
            acl: Canned::parse(acl).unwrap().resolve(&owner, &owner),
            owner,
            settings: s3::settings::Settings {
                policy: policy.map(str::to_owned),
                ..Default::default()
            },
        }
    }

    fn may(target: &Bucket) -> bool {
        let source = BucketName::parse("photos").unwrap();
        let key = Key::parse("p/2026").unwrap();
        may_deliver_log(&source, target, ("p/", &key), &people()).is_ok()
    }

    const CANONICAL_ID: &str = "abcd";

    fn people() -> Directory {
        let mut people = Directory::default();
        let owner = IdentityChange::Account(Account {
            account: "111111111111".parse().unwrap(),
            name: "alice".into(),
            canonical_id: CANONICAL_ID.into(),
            deleted: false,
        });
        people.apply(vec![owner], true);
        people
    }

    fn policy(effect: &str, who: &str, source: &str) -> String {
        policy_on("p/*", "111111111111", (effect, who, source))
    }

    fn policy_on(keys: &str, account: &str, (effect, who, source): (&str, &str, &str)) -> String {
        format!(
            r#"{{"Statement":[{{"Effect":"{effect}","Principal":{who},"Action":"s3:PutObject",
            "Resource":"arn:aws:s3:::logs/{keys}","Condition":{{
            "ArnLike":{{"aws:SourceArn":"arn:aws:s3:::{source}"}},
            "StringEquals":{{"aws:SourceAccount":"{account}"}}}}}}]}}"#
        )
    }

    #[test]
    fn a_policy_may_name_the_prefix_alone_and_the_account_by_its_canonical_id() {
        let service = r#"{"Service":"logging.s3.amazonaws.com"}"#;
        let may = |keys: &str, account: &str| {
            let policy = policy_on(keys, account, ("Allow", service, "photos"));
            may(&target("private", Some(&policy)))
        };
        assert!(may("p/", CANONICAL_ID) && may("p/*", CANONICAL_ID) && may("p/", "111111111111"));
        assert!(!may("p/", "222222222222") && !may("p", CANONICAL_ID) && !may("", CANONICAL_ID));
        let denied = policy_on("p/2026", CANONICAL_ID, ("Deny", service, "photos"));
        assert!(!super::tests::may(&target(
            "log-delivery-write",
            Some(&denied)
        )));
    }

    #[test]
    fn a_list_or_a_policy_lets_logs_in_and_a_policy_may_refuse_them() {
        let service = r#"{"Service":"logging.s3.amazonaws.com"}"#;
        assert!(!may(&target("private", None)));
        assert!(may(&target("log-delivery-write", None)));
        assert!(may(&target(
            "private",
            Some(&policy("Allow", service, "photos"))
        )));
        assert!(!may(&target(
            "private",
            Some(&policy("Allow", service, "other"))
        )));
        let root = r#"{"AWS":"111111111111"}"#;
        assert!(!may(&target(
            "private",
            Some(&policy("Allow", root, "photos"))
        )));
        let deny = policy("Deny", r#""*""#, "photos");
        assert!(!may(&target("log-delivery-write", Some(&deny))));
        let mut enforced = target("log-delivery-write", None);
        enforced.settings.ownership = Some(Ownership::BucketOwnerEnforced);
        assert!(!may(&enforced), "lists say nothing there");
    }
}
