//! Whether the log of one bucket may be written into another: by the list of the other, which may
//! grant it to the group LogDelivery, or by its policy, which may grant it to the service.

use iam::{Context, Policies, Policy, Principal, Request, Statement};
use s3::{
    BucketName, Code, Key, Result,
    acl::{Grantee, Permission},
};
use types::Arn;

use super::resource_of;
use crate::{directory::Directory, engine::facts::Bucket};

/// What policies call whoever writes access logs.
pub const LOG_SERVICE: &str = "logging.s3.amazonaws.com";
const ACTION: &str = "s3:PutObject";

/// Judges one object of a log.
pub fn may_deliver_log(
    source: &BucketName,
    target: &Bucket,
    key: &Key,
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
        .with("aws:SecureTransport", "true");
    let object = resource_of(&target.name, key);
    let request = Request {
        principal: &Principal::Service(LOG_SERVICE),
        action: ACTION,
        resource: object.as_str(),
        owner: &target.owner,
        context: &context,
    };
    let policies = Policies {
        identity: &[],
        resource: &resource,
    };
    match iam::decide(&request, &policies).is_allow() {
        true => Ok(()),
        false => Err(Code::AccessDenied.into()),
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
        may_deliver_log(&source, target, &key, &Directory::default()).is_ok()
    }

    fn policy(effect: &str, who: &str, source: &str) -> String {
        format!(
            r#"{{"Statement":[{{"Effect":"{effect}","Principal":{who},"Action":"s3:PutObject",
            "Resource":"arn:aws:s3:::logs/p/*","Condition":{{
            "ArnLike":{{"aws:SourceArn":"arn:aws:s3:::{source}"}},
            "StringEquals":{{"aws:SourceAccount":"111111111111"}}}}}}]}}"#
        )
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
