//! Policy documents. Reading is strict where a mistake would widen a right or lose a refusal
//! (unknown elements, effects, operators, actions that match nothing) and lenient where clients
//! differ (one value or a list, no `Version`).
//!
//! The grammar: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>.

use std::sync::Arc;

use serde_json::{Map, Value};
use types::AccountId;

use crate::{Context, Pattern, Principal, Standing, condition::Condition};

/// The longest document, S3's limit for a bucket's policy.
pub const DOCUMENT_MAX_BYTES: usize = 20 * 1024;

const VERSIONS: [&str; 3] = ["2012-10-17", "2008-10-17", "2011-04-01"];
const ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Principal",
    "NotPrincipal",
    "Condition",
];

/// Facts that say who or from where: a condition on one of them keeps a grant from being public.
const NARROWING: [&str; 9] = [
    "aws:SourceIp",
    "aws:SourceArn",
    "aws:SourceAccount",
    "aws:SourceVpc",
    "aws:SourceVpce",
    "aws:PrincipalArn",
    "aws:PrincipalAccount",
    "aws:userid",
    "aws:username",
];

/// A document that is no policy. The text says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedPolicy(String);

impl MalformedPolicy {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What a statement does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Gives.
    Allow,
    /// Refuses, whatever else gives.
    Deny,
}

/// A policy, read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    statements: Arc<Vec<Statement>>,
}

/// One statement of a policy.
#[derive(Debug, Clone)]
pub struct Statement {
    sid: Option<String>,
    effect: Effect,
    who: Who,
    actions: Listed,
    resources: Listed,
    conditions: Vec<Condition>,
}

/// A list, or all but a list.
#[derive(Debug, Clone)]
struct Listed {
    patterns: Vec<Pattern>,
    is_exception: bool,
}

#[derive(Debug, Clone)]
enum Who {
    /// The principal that the policy is attached to.
    Bearer,
    These(Vec<Named>),
    AllBut(Vec<Named>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Everyone,
    Account(AccountId),
    Arn(String),
    /// An account by its name, as Eucalyptus has it, or by its canonical id, as S3 has it. Who keeps
    /// the accounts must resolve it; until then it is nobody.
    Alias(String),
    /// A part of the cloud that works in somebody's name.
    Service(String),
    /// An identity provider: it parses, and nobody here is one.
    Nobody,
}

/// How closely a statement names a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Names {
    No,
    /// Its account: the account decides further, by policies of its own.
    Account,
    /// The principal itself, or everyone.
    Directly,
}

impl Policy {
    /// Reads a policy that is attached to a user, a group or an account.
    pub fn parse_identity(text: &str) -> Result<Self, MalformedPolicy> {
        Self::parse(text, false)
    }

    /// Reads a policy that is attached to a resource, a bucket say.
    pub fn parse_resource(text: &str) -> Result<Self, MalformedPolicy> {
        Self::parse(text, true)
    }

    /// A policy of statements made by hand: what an ACL says, for instance.
    pub fn of(statements: Vec<Statement>) -> Self {
        Self {
            statements: Arc::new(statements),
        }
    }

    /// The same with accounts that were named by name or canonical id put in by their numbers.
    #[must_use]
    pub fn resolved(mut self, find: &dyn Fn(&str) -> Option<AccountId>) -> Self {
        for statement in Arc::make_mut(&mut self.statements) {
            let (Who::These(named) | Who::AllBut(named)) = &mut statement.who else {
                continue;
            };
            for one in named {
                if let Named::Alias(alias) = one
                    && let Some(account) = find(alias)
                {
                    *one = Named::Account(account);
                }
            }
        }
        self
    }

    /// Only what it refuses.
    #[must_use]
    pub fn refusals(&self) -> Self {
        let refusals = self.statements.iter().filter(|s| s.effect == Effect::Deny);
        Self::of(refusals.cloned().collect())
    }

    /// Whether it gives something to everyone, whoever and wherever they are (S3 user guide, "The
    /// meaning of public").
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }

    /// Whether it gives something to everyone but some.
    pub fn gives_to_all_but(&self) -> bool {
        let all_but = |s: &Statement| matches!(s.who, Who::AllBut(_)) && s.effect == Effect::Allow;
        self.statements.iter().any(all_but)
    }

    /// Every pattern of a resource that it names.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        let patterns = self.statements.iter().flat_map(|s| &s.resources.patterns);
        patterns.map(Pattern::as_str)
    }

    /// Whether any condition looks at a fact whose name begins so; names are in lower case.
    pub fn looks_at(&self, start: &str) -> bool {
        let conditions = self.statements.iter().flat_map(|s| &s.conditions);
        conditions
            .into_iter()
            .any(|condition| condition.fact().to_ascii_lowercase().starts_with(start))
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }

    fn parse(text: &str, on_resource: bool) -> Result<Self, MalformedPolicy> {
        if text.len() > DOCUMENT_MAX_BYTES {
            let text = format!("the document is longer than {DOCUMENT_MAX_BYTES} bytes");
            return Err(MalformedPolicy::new(text));
        }
        let document: Value = serde_json::from_str(text)
            .map_err(|error| MalformedPolicy::new(format!("the document is no JSON: {error}")))?;
        let document = document
            .as_object()
            .ok_or(MalformedPolicy::new("the document is no object"))?;
        refuse_unknown(document, &["Version", "Id", "Statement"])?;
        if let Some(version) = document.get("Version")
            && !version
                .as_str()
                .is_some_and(|version| VERSIONS.contains(&version))
        {
            return Err(MalformedPolicy::new("the Version is unknown"));
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => return Err(MalformedPolicy::new("the document has no Statement")),
        };
        let statements: Result<Vec<Statement>, _> = statements
            .into_iter()
            .map(|value| Statement::parse(value, on_resource))
            .collect();
        statements.map(Self::of)
    }
}

impl Statement {
    /// Gives everyone (`account: None`) or an account some actions on some resources.
    pub fn allow(account: Option<AccountId>, actions: &[&str], resources: &[&str]) -> Self {
        let listed = |texts: &[&str]| Listed {
            patterns: texts.iter().map(|text| Pattern::new(*text)).collect(),
            is_exception: false,
        };
        Self {
            sid: None,
            effect: Effect::Allow,
            who: Who::These(vec![account.map_or(Named::Everyone, Named::Account)]),
            actions: listed(actions),
            resources: listed(resources),
            conditions: Vec::new(),
        }
    }

    /// Refuses everything to everyone.
    pub fn deny_all() -> Self {
        Self {
            effect: Effect::Deny,
            ..Self::allow(None, &["*"], &["*"])
        }
    }

    /// Gives or refuses.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    fn is_public(&self) -> bool {
        let everyone = match &self.who {
            Who::Bearer => false,
            Who::These(named) => named.contains(&Named::Everyone),
            Who::AllBut(_) => true,
        };
        let narrows = |condition: &Condition| {
            NARROWING
                .iter()
                .any(|fact| condition.fact().eq_ignore_ascii_case(fact))
        };
        self.effect == Effect::Allow && everyone && !self.conditions.iter().any(narrows)
    }

    /// The name that its author gave it.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    fn parse(value: &Value, on_resource: bool) -> Result<Self, MalformedPolicy> {
        let fields = value
            .as_object()
            .ok_or(MalformedPolicy::new("a statement is no object"))?;
        refuse_unknown(fields, &ELEMENTS)?;
        let effect = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(MalformedPolicy::new("the Effect must be Allow or Deny")),
        };
        let sid = match fields.get("Sid") {
            None => None,
            Some(Value::String(sid)) => Some(sid.clone()),
            Some(_) => return Err(MalformedPolicy::new("the Sid is no text")),
        };
        let actions = Listed::parse(fields, "Action", "NotAction")?;
        if let Some(pattern) = actions.patterns.iter().find(|p| !is_action(p.as_str())) {
            let text = format!(
                "{:?} is no action: it must be SERVICE:NAME or *",
                pattern.as_str()
            );
            return Err(MalformedPolicy::new(text));
        }
        let conditions = fields
            .get("Condition")
            .map(Condition::parse_all)
            .transpose()?;
        Ok(Self {
            sid,
            effect,
            who: Who::parse(fields, on_resource)?,
            actions,
            resources: Listed::parse(fields, "Resource", "NotResource")?,
            conditions: conditions.unwrap_or_default(),
        })
    }

    /// How closely the statement names the principal, if action, resource and conditions match.
    pub(crate) fn names(
        &self,
        principal: &Principal,
        action: &str,
        resource: &str,
        context: &Context,
    ) -> Names {
        let matches = self
            .actions
            .holds(|pattern| pattern.matches_ignoring_case(action))
            && self.resources.holds(|pattern| {
                context
                    .fill_in(pattern.as_str())
                    .is_some_and(|filled| filled.matches(resource))
            })
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(context));
        if matches {
            self.who.names(principal)
        } else {
            Names::No
        }
    }
}

impl Listed {
    fn parse(
        fields: &Map<String, Value>,
        name: &str,
        exception: &str,
    ) -> Result<Self, MalformedPolicy> {
        let (value, is_exception) = match (fields.get(name), fields.get(exception)) {
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            _ => {
                let text = format!("a statement has either {name} or {exception}");
                return Err(MalformedPolicy::new(text));
            }
        };
        let texts = texts(value)
            .filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()))
            .ok_or_else(|| {
                MalformedPolicy::new(format!("{name} must be text or a list of texts"))
            })?;
        Ok(Self {
            patterns: texts.into_iter().map(Pattern::new).collect(),
            is_exception,
        })
    }

    fn holds(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        self.patterns.iter().any(matches) != self.is_exception
    }
}

impl Who {
    fn parse(fields: &Map<String, Value>, on_resource: bool) -> Result<Self, MalformedPolicy> {
        let who = (fields.get("Principal"), fields.get("NotPrincipal"));
        match (who, on_resource) {
            ((None, None), false) => Ok(Self::Bearer),
            ((Some(value), None), true) => parse_principals(value).map(Self::These),
            ((None, Some(value)), true) => parse_principals(value).map(Self::AllBut),
            (_, true) => Err(MalformedPolicy::new(
                "a statement on a resource has either Principal or NotPrincipal",
            )),
            (_, false) => Err(MalformedPolicy::new(
                "a policy of a user, group or account has no Principal",
            )),
        }
    }

    fn names(&self, principal: &Principal) -> Names {
        let closest = |named: &[Named]| {
            named
                .iter()
                .map(|named| named.names(principal))
                .max()
                .unwrap_or(Names::No)
        };
        match self {
            Self::Bearer => Names::Directly,
            Self::These(named) => closest(named),
            Self::AllBut(named) if closest(named) == Names::No => Names::Directly,
            Self::AllBut(_) => Names::No,
        }
    }
}

impl Named {
    fn names(&self, principal: &Principal) -> Names {
        match (self, principal) {
            (Self::Everyone, _) => Names::Directly,
            (
                Self::Account(named),
                Principal::Known {
                    account, standing, ..
                },
            ) if named == account => match standing {
                Standing::Administrator => Names::Directly,
                Standing::Member => Names::Account,
            },
            (Self::Arn(named), Principal::Known { arn, .. }) if named == arn.as_str() => {
                Names::Directly
            }
            (Self::Service(named), Principal::Service(name)) if named == name => Names::Directly,
            _ => Names::No,
        }
    }
}

fn parse_principals(value: &Value) -> Result<Vec<Named>, MalformedPolicy> {
    if value.as_str() == Some("*") {
        return Ok(vec![Named::Everyone]);
    }
    let kinds = value.as_object().filter(|kinds| !kinds.is_empty());
    let kinds = kinds.ok_or(MalformedPolicy::new(
        "the Principal must be \"*\" or an object",
    ))?;
    let mut out = Vec::new();
    for (kind, values) in kinds {
        let values = texts(values).filter(|values| !values.is_empty());
        let values = values.ok_or_else(|| {
            MalformedPolicy::new(format!("{kind} must be text or a list of texts"))
        })?;
        for value in values {
            out.push(parse_named(kind, &value)?);
        }
    }
    Ok(out)
}

fn parse_named(kind: &str, value: &str) -> Result<Named, MalformedPolicy> {
    let invalid = || MalformedPolicy::new(format!("invalid principal in policy: {value:?}"));
    match kind {
        "AWS" | "CanonicalUser" if value == "*" => Ok(Named::Everyone),
        "AWS" => {
            if let Ok(account) = value.parse() {
                return Ok(Named::Account(account));
            }
            let rest = value.strip_prefix("arn:aws:iam::").ok_or_else(invalid)?;
            let (account, name) = rest.split_once(':').ok_or_else(invalid)?;
            let Ok(account) = account.parse() else {
                let is_alias = !account.is_empty()
                    && account
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                return match name {
                    "root" if is_alias => Ok(Named::Alias(account.to_owned())),
                    _ => Err(invalid()),
                };
            };
            match name {
                "root" => Ok(Named::Account(account)),
                _ if name.starts_with("user/") || name.starts_with("role/") => {
                    Ok(Named::Arn(value.to_owned()))
                }
                _ => Err(invalid()),
            }
        }
        "CanonicalUser" => match value.parse() {
            Ok(account) => Ok(Named::Account(account)),
            Err(_) => Ok(Named::Alias(value.to_owned())),
        },
        "Service" => Ok(Named::Service(value.to_owned())),
        "Federated" => Ok(Named::Nobody),
        _ => Err(MalformedPolicy::new(format!(
            "unknown kind of principal {kind:?}"
        ))),
    }
}

fn is_action(text: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'?' | b'-'))
    };
    text == "*"
        || text
            .split_once(':')
            .is_some_and(|(service, name)| is_word(service) && is_word(name))
}

fn refuse_unknown(fields: &Map<String, Value>, known: &[&str]) -> Result<(), MalformedPolicy> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(MalformedPolicy::new(format!("unknown element {key:?}"))),
        None => Ok(()),
    }
}

/// One text or a list of texts; numbers and booleans stand for how they are written.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_grant_to_everyone_is_public_unless_it_says_from_where() {
        let policy = |who: &str, condition: &str| {
            let text = format!(
                r#"{{"Statement":{{"Effect":"Allow","Principal":{who},"Action":"s3:*","Resource":"*"{condition}}}}}"#
            );
            Policy::parse_resource(&text).unwrap()
        };
        assert!(policy(r#""*""#, "").is_public());
        assert!(!policy(r#"{"AWS":"111122223333"}"#, "").is_public());
        let from = r#","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#;
        assert!(!policy(r#""*""#, from).is_public());
        let of = r#","Condition":{"StringLike":{"s3:prefix":"a"}}"#;
        assert!(policy(r#""*""#, of).is_public() && policy(r#""*""#, of).looks_at("s3:pre"));
        assert!(policy(r#""*""#, "").refusals().statements().is_empty());
    }

    #[test]
    fn an_alias_is_nobody_until_it_is_resolved() {
        let text = r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::alice:root"},
                       "Action":"s3:*","Resource":"*"}}"#;
        let policy = Policy::parse_resource(text).unwrap();
        let root = Principal::root("111122223333".parse().unwrap());
        let names = |policy: &Policy| {
            policy.statements()[0].names(&root, "s3:GetObject", "*", &Context::new())
        };
        assert_eq!(names(&policy), Names::No);
        let find = |name: &str| (name == "alice").then(|| "111122223333".parse().unwrap());
        assert_eq!(names(&policy.resolved(&find)), Names::Directly);
    }

    #[test]
    fn a_policy_without_a_version_and_with_single_values_parses() {
        let text = r#"{"Statement": {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}}"#;
        assert_eq!(Policy::parse_identity(text).unwrap().statements().len(), 1);
    }

    #[test]
    fn what_is_not_understood_does_not_parse() {
        let allow = r#""Effect":"Allow""#;
        for (text, on_resource) in [
            ("", false),
            ("[]", false),
            ("{}", false),
            (r#"{"Version":"2013-01-01","Statement":[]}"#, false),
            (r#"{"Statement":[],"Statemend":[]}"#, false),
            (
                r#"{"Statement":[{"Effect":"Permit","Action":"*","Resource":"*"}]}"#,
                false,
            ),
            (
                &format!(r#"{{"Statement":[{{{allow},"Action":"*"}}]}}"#),
                false,
            ),
            (
                &format!(r#"{{"Statement":[{{{allow},"Resource":"*"}}]}}"#),
                false,
            ),
            (
                &format!(r#"{{"Statement":[{{{allow},"Action":"run","Resource":"*"}}]}}"#),
                false,
            ),
            (
                &format!(r#"{{"Statement":[{{{allow},"Action":[],"Resource":"*"}}]}}"#),
                false,
            ),
            (
                &format!(
                    r#"{{"Statement":[{{{allow},"Action":"*","NotAction":"*","Resource":"*"}}]}}"#
                ),
                false,
            ),
            (
                &format!(
                    r#"{{"Statement":[{{{allow},"Action":"*","Resource":"*","Conditions":{{}}}}]}}"#
                ),
                false,
            ),
            (
                &format!(
                    r#"{{"Statement":[{{{allow},"Action":"*","Resource":"*","Principal":"*"}}]}}"#
                ),
                false,
            ),
            (
                &format!(r#"{{"Statement":[{{{allow},"Action":"*","Resource":"*"}}]}}"#),
                true,
            ),
            (
                &format!(
                    r#"{{"Statement":[{{{allow},"Action":"*","Resource":"*","Principal":{{"AWS":"bob"}}}}]}}"#
                ),
                true,
            ),
        ] {
            let parsed = if on_resource {
                Policy::parse_resource(text)
            } else {
                Policy::parse_identity(text)
            };
            assert!(parsed.is_err(), "{text}");
        }
    }

    #[test]
    fn a_document_has_a_longest_length() {
        assert!(Policy::parse_identity(&" ".repeat(DOCUMENT_MAX_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Policy::parse_identity(&text);
            let _ = Policy::parse_resource(&text);
        }
    }
}
