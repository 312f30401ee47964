//! The judgement. A refusal anywhere wins. Otherwise, within one account, one side is enough: the
//! standing or policies of who asks, or the policy of the resource. Between accounts both must
//! allow. What nothing allows is denied.

use types::AccountId;

use crate::{
    Context, Effect, Policy, Principal, Standing,
    policy::{Names, Statement},
};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// By whom.
    pub principal: &'a Principal,
    /// `ec2:RunInstances`.
    pub action: &'a str,
    /// The resource's ARN, `*` for an action that has none.
    pub resource: &'a str,
    /// The account whose resource it is.
    pub owner: &'a AccountId,
    /// What conditions may look at.
    pub context: &'a Context,
}

/// The policies that have a say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Those of the principal, its groups and its account.
    pub identity: &'a [Policy],
    /// Those of the resource, its ACL among them.
    pub resource: &'a [Policy],
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Refuse.
    Deny(Denied),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// A statement says so; its name, if it has one.
    Explicit(Option<String>),
    /// Nothing allows it.
    Implicit,
}

impl Decision {
    /// Whether to go ahead.
    pub fn is_allow(&self) -> bool {
        *self == Self::Allow
    }
}

/// Judges a request.
pub fn decide(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    // Nobody bears no policies, whatever the caller looked up for it.
    let is_known = request.principal.account().is_some();
    let identity = if is_known {
        request.matching(policies.identity)
    } else {
        Vec::new()
    };
    let resource = request.matching(policies.resource);

    let refusal = identity
        .iter()
        .chain(&resource)
        .find(|(_, s)| s.effect() == Effect::Deny);
    if let Some((_, statement)) = refusal {
        return Decision::Deny(Denied::Explicit(statement.sid().map(str::to_owned)));
    }
    let identity_allows = is_administrator(request.principal) || !identity.is_empty();
    let resource_allows = resource
        .iter()
        .map(|(names, _)| *names)
        .max()
        .unwrap_or(Names::No);

    let is_allowed = match request.principal.account() {
        None => resource_allows == Names::Directly,
        Some(account) if account == request.owner => {
            identity_allows || resource_allows == Names::Directly
        }
        Some(_) => identity_allows && resource_allows != Names::No,
    };
    if is_allowed {
        Decision::Allow
    } else {
        Decision::Deny(Denied::Implicit)
    }
}

impl Request<'_> {
    fn matching<'p>(&self, policies: &'p [Policy]) -> Vec<(Names, &'p Statement)> {
        let names =
            |s: &Statement| s.names(self.principal, self.action, self.resource, self.context);
        let statements = policies.iter().flat_map(Policy::statements);
        statements
            .map(|s| (names(s), s))
            .filter(|(names, _)| *names != Names::No)
            .collect()
    }
}

fn is_administrator(principal: &Principal) -> bool {
    matches!(
        principal,
        Principal::Known {
            standing: Standing::Administrator,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use types::Arn;

    use super::*;

    const OURS: &str = "111122223333";
    const THEIRS: &str = "444455556666";

    fn account(text: &str) -> AccountId {
        text.parse().unwrap()
    }

    fn user(of: &str) -> Principal {
        Principal::user(account(of), Arn::user(&account(of), "/", "ann"))
    }

    fn identity(effect: &str, action: &str, resource: &str) -> Policy {
        let text = json!({"Statement": [
            {"Sid": "s", "Effect": effect, "Action": action, "Resource": resource}
        ]});
        Policy::parse_identity(&text.to_string()).unwrap()
    }

    fn on_bucket(effect: &str, principal: serde_json::Value) -> Policy {
        let text = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": effect, "Principal": principal, "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::b/*",
        }]});
        Policy::parse_resource(&text.to_string()).unwrap()
    }

    fn get_object(principal: &Principal, identity: &[Policy], resource: &[Policy]) -> Decision {
        let request = Request {
            principal,
            action: "s3:GetObject",
            resource: "arn:aws:s3:::b/k",
            owner: &account(OURS),
            context: &Context::new(),
        };
        decide(&request, &Policies { identity, resource })
    }

    #[test]
    fn a_service_may_what_a_resource_gives_to_it_by_name_or_to_everyone() {
        let logging = Principal::Service("logging.s3.amazonaws.com");
        let policy = |who: serde_json::Value| on_bucket("Allow", who);
        let named = policy(json!({"Service": "logging.s3.amazonaws.com"}));
        let other = policy(json!({"Service": "cloudtrail.amazonaws.com"}));
        let allow_all = [identity("Allow", "*", "*")];
        assert!(get_object(&logging, &[], std::slice::from_ref(&named)).is_allow());
        assert!(!get_object(&logging, &[], &[other]).is_allow());
        assert!(!get_object(&logging, &allow_all, &[]).is_allow());
        assert!(get_object(&logging, &[], &[policy(json!("*"))]).is_allow());
        for who in [Principal::Anonymous, Principal::root(account(THEIRS))] {
            assert!(!get_object(&who, &[], std::slice::from_ref(&named)).is_allow());
        }
        let deny = on_bucket("Deny", json!("*"));
        assert!(!get_object(&logging, &[], &[named, deny]).is_allow());
    }

    #[test]
    fn an_administrator_may_do_all_within_the_account_and_nothing_outside() {
        let implicit = Decision::Deny(Denied::Implicit);
        assert_eq!(
            get_object(&Principal::root(account(OURS)), &[], &[]),
            Decision::Allow
        );
        assert_eq!(
            get_object(&Principal::root(account(THEIRS)), &[], &[]),
            implicit
        );
    }

    #[test]
    fn a_user_may_do_what_a_policy_allows() {
        assert!(!get_object(&user(OURS), &[], &[]).is_allow());
        let allow = identity("Allow", "s3:Get*", "arn:aws:s3:::b/*");
        assert!(get_object(&user(OURS), &[allow], &[]).is_allow());
        let other = identity("Allow", "s3:Get*", "arn:aws:s3:::c/*");
        assert!(!get_object(&user(OURS), &[other], &[]).is_allow());
    }

    #[test]
    fn a_refusal_wins_over_any_permission_even_an_administrators() {
        let deny = [identity("Deny", "*", "*"), identity("Allow", "*", "*")];
        let refused = Decision::Deny(Denied::Explicit(Some("s".into())));
        assert_eq!(get_object(&user(OURS), &deny, &[]), refused);
        let deny = [on_bucket("Deny", json!("*"))];
        assert!(!get_object(&Principal::root(account(OURS)), &[], &deny).is_allow());
    }

    #[test]
    fn between_accounts_both_sides_must_allow() {
        let both = identity("Allow", "s3:*", "*");
        for principal in [
            json!("*"),
            json!({"AWS": THEIRS}),
            json!({"AWS": format!("arn:aws:iam::{THEIRS}:user/ann")}),
        ] {
            let shared = [on_bucket("Allow", principal)];
            assert!(get_object(&user(THEIRS), std::slice::from_ref(&both), &shared).is_allow());
            assert!(!get_object(&user(THEIRS), &[], &shared).is_allow());
        }
        assert!(!get_object(&user(THEIRS), &[both], &[]).is_allow());
    }

    #[test]
    fn naming_the_account_leaves_the_choice_of_users_to_the_account() {
        let to_account = [on_bucket("Allow", json!({"AWS": OURS}))];
        assert!(!get_object(&user(OURS), &[], &to_account).is_allow());
        let to_ann = [on_bucket(
            "Allow",
            json!({"AWS": format!("arn:aws:iam::{OURS}:user/ann")}),
        )];
        assert!(get_object(&user(OURS), &[], &to_ann).is_allow());
    }

    #[test]
    fn nobody_may_do_only_what_everyone_may() {
        let allow_all = [identity("Allow", "*", "*")];
        assert!(!get_object(&Principal::Anonymous, &allow_all, &[]).is_allow());
        let to_account = [on_bucket("Allow", json!({"AWS": OURS}))];
        assert!(!get_object(&Principal::Anonymous, &[], &to_account).is_allow());
        let public = [on_bucket("Allow", json!("*"))];
        assert!(get_object(&Principal::Anonymous, &[], &public).is_allow());
    }

    #[test]
    fn not_action_not_resource_and_not_principal_mean_all_others() {
        let text = json!({"Statement": [
            {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::secret/*"}
        ]});
        let policy = Policy::parse_identity(&text.to_string()).unwrap();
        assert!(get_object(&user(OURS), &[policy], &[]).is_allow());

        let text = json!({"Statement": [{
            "Effect": "Deny", "NotPrincipal": {"AWS": OURS}, "Action": "*", "Resource": "*"
        }]});
        let only_us = [Policy::parse_resource(&text.to_string()).unwrap()];
        assert!(get_object(&Principal::root(account(OURS)), &[], &only_us).is_allow());
        assert!(!get_object(&Principal::root(account(THEIRS)), &[], &only_us).is_allow());
        assert!(!get_object(&Principal::Anonymous, &[], &only_us).is_allow());
    }

    #[test]
    fn an_acl_is_a_statement_too() {
        let acl = |grantee| {
            Policy::of(vec![Statement::allow(
                grantee,
                &["s3:GetObject"],
                &["arn:aws:s3:::b/k"],
            )])
        };
        assert!(get_object(&Principal::Anonymous, &[], &[acl(None)]).is_allow());
        assert!(
            get_object(
                &Principal::root(account(THEIRS)),
                &[],
                &[acl(Some(account(THEIRS)))]
            )
            .is_allow()
        );
        assert!(!get_object(&Principal::Anonymous, &[], &[acl(Some(account(THEIRS)))]).is_allow());
    }

    #[test]
    fn a_users_own_folder_by_a_variable() {
        let policy = identity("Allow", "s3:GetObject", "arn:aws:s3:::b/${aws:username}/*");
        let decide_for = |key: &str, name: &str| {
            let resource = format!("arn:aws:s3:::b/{key}");
            let principal = user(OURS);
            let request = Request {
                principal: &principal,
                action: "s3:GetObject",
                resource: &resource,
                owner: &account(OURS),
                context: &Context::new().with("aws:username", name),
            };
            let policies = Policies {
                identity: std::slice::from_ref(&policy),
                resource: &[],
            };
            decide(&request, &policies).is_allow()
        };
        assert!(decide_for("ann/notes", "ann"));
        assert!(!decide_for("bob/notes", "ann"));
        assert!(!decide_for("bob/notes", "*"));
    }

    prop_compose! {
        fn any_policy()(
            effect in prop::sample::select(vec!["Allow", "Deny"]),
            action in prop::sample::select(vec!["*", "s3:*", "s3:Get*", "s3:PutObject", "ec2:*"]),
            resource in prop::sample::select(vec!["*", "arn:aws:s3:::b/*", "arn:aws:s3:::c/*"]),
        ) -> Policy {
            identity(effect, action, resource)
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_one_refusal_is_enough(
            policies in prop::collection::vec(any_policy(), 0..6), of in prop::sample::select(vec![OURS, THEIRS]),
        ) {
            let principal = user(of);
            let decision = get_object(&principal, &policies, &[]);
            let mut reversed = policies.clone();
            reversed.reverse();
            prop_assert_eq!(&decision, &get_object(&principal, &reversed, &[]));

            let mut refused = policies.clone();
            refused.push(identity("Deny", "s3:GetObject", "arn:aws:s3:::b/k"));
            prop_assert!(!get_object(&principal, &refused, &[]).is_allow());

            let permissions: Vec<Policy> = policies
                .into_iter()
                .filter(|p| p.statements()[0].effect() == Effect::Deny)
                .collect();
            prop_assert!(!get_object(&principal, &permissions, &[]).is_allow());
        }

        #[test]
        fn nobody_reaches_another_account_by_policies_of_their_own(
            policies in prop::collection::vec(any_policy(), 0..6),
        ) {
            prop_assert!(!get_object(&user(THEIRS), &policies, &[]).is_allow());
            prop_assert!(!get_object(&Principal::root(account(THEIRS)), &policies, &[]).is_allow());
            prop_assert!(!get_object(&Principal::Anonymous, &policies, &[]).is_allow());
        }
    }
}
