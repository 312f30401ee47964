//! Who is who: accounts, users with their policies, access keys. A value that is replaced whole
//! when the CLC tells of changes; every request looks at one of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use control::cloud::{AccessKey, Account, IdentityChange, User};
use iam::{Policy, Principal};
use s3::acl::{People, Person};
use types::{AccountId, Arn, Secret};

use crate::authorise::{BucketPolicy, PoliciesRead};

/// The user who may do everything in its account.
pub(crate) const ADMIN: &str = "admin";

/// Who asks, as far as policies go.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The principal; anonymous if the request is not signed.
    pub principal: Principal,
    /// Its policies. `None`: one of them cannot be read, so that nothing is allowed.
    pub policies: Option<Arc<[Policy]>>,
}

impl Caller {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            principal: Principal::Anonymous,
            policies: Some(Arc::new([])),
        }
    }

    /// The account, if there is one.
    pub fn account(&self) -> Option<&AccountId> {
        self.principal.account()
    }
}

/// All identities at one revision.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    accounts: HashMap<AccountId, Account>,
    by_canonical_id: HashMap<String, AccountId>,
    users: BTreeMap<(AccountId, String), (User, Caller)>,
    keys: HashMap<String, AccessKey>,
    /// As buckets' policies read among these identities.
    policies: PoliciesRead,
}

impl Directory {
    /// Takes up changes. A full list replaces everything.
    pub fn apply(&mut self, changes: Vec<IdentityChange>, full: bool) {
        if full {
            *self = Self::default();
        }
        self.policies = PoliciesRead::default();
        for change in changes {
            match change {
                IdentityChange::Account(account) => self.set_account(account),
                IdentityChange::User(user) => self.set_user(user),
                IdentityChange::Key(key) => self.set_key(key),
            }
        }
    }

    fn set_account(&mut self, account: Account) {
        if account.deleted {
            self.by_canonical_id.remove(&account.canonical_id);
            self.accounts.remove(&account.account);
        } else {
            self.by_canonical_id
                .insert(account.canonical_id.clone(), account.account.clone());
            self.accounts.insert(account.account.clone(), account);
        }
    }

    fn set_user(&mut self, user: User) {
        let name = (user.account.clone(), user.name.clone());
        if user.deleted {
            self.users.remove(&name);
        } else {
            let caller = caller_of(&user);
            self.users.insert(name, (user, caller));
        }
    }

    fn set_key(&mut self, key: AccessKey) {
        let id = key.id.as_str().to_owned();
        if key.deleted {
            self.keys.remove(&id);
        } else {
            self.keys.insert(id, key);
        }
    }

    /// Everything, as a full list.
    pub fn all(&self) -> Vec<IdentityChange> {
        let accounts = self.accounts.values().cloned().map(IdentityChange::Account);
        let users = self
            .users
            .values()
            .map(|(user, _)| IdentityChange::User(user.clone()));
        let keys = self.keys.values().cloned().map(IdentityChange::Key);
        accounts.chain(users).chain(keys).collect()
    }

    /// The secret of an access key and whom it speaks for. `None` if the key is unknown or
    /// inactive, or its user or account is gone.
    pub fn find_key(&self, access_key: &str) -> Option<(&Secret<String>, Caller)> {
        let key = self.keys.get(access_key).filter(|key| key.active)?;
        Some((&key.secret, self.find_user(&key.account, &key.user)?))
    }

    /// An account by its name or its canonical id.
    pub fn find_alias(&self, alias: &str) -> Option<AccountId> {
        let by_name = || self.accounts.values().find(|account| account.name == alias);
        self.find_account(alias)
            .or_else(|| by_name().map(|account| account.account.clone()))
    }

    /// What a bucket's policy says, with the accounts that it calls by name.
    pub fn read_policy(&self, text: &str) -> s3::Result<BucketPolicy> {
        self.policies.read(text, &|alias| self.find_alias(alias))
    }

    /// A user of an account.
    pub fn find_user(&self, account: &AccountId, user: &str) -> Option<Caller> {
        // The cloud's own account has keys and no users.
        if *account == AccountId::system() {
            let principal = Principal::root(account.clone());
            return Some(Caller {
                principal,
                ..Caller::anonymous()
            });
        }
        let known = self.users.get(&(account.clone(), user.to_owned()))?;
        self.accounts.contains_key(account).then(|| known.1.clone())
    }
}

fn caller_of(user: &User) -> Caller {
    let principal = if user.name == ADMIN {
        Principal::root(user.account.clone())
    } else {
        let arn = Arn::user(&user.account, &user.path, &user.name);
        Principal::user(user.account.clone(), arn)
    };
    let parsed: Result<Vec<_>, _> = user
        .policies
        .iter()
        .map(|text| Policy::parse_identity(text))
        .collect();
    if let Err(error) = &parsed {
        let (account, name) = (&user.account, &user.name);
        tracing::error!(%account, user = name, %error, "a policy cannot be read: its user may do nothing");
    }
    Caller {
        principal,
        policies: parsed.ok().map(Arc::from),
    }
}

impl People for Directory {
    fn person(&self, account: &AccountId) -> Person {
        match self.accounts.get(account) {
            Some(known) => Person {
                id: known.canonical_id.clone(),
                name: known.name.clone(),
            },
            None => Person {
                id: account.to_string(),
                name: account.to_string(),
            },
        }
    }

    fn find_account(&self, id: &str) -> Option<AccountId> {
        self.by_canonical_id.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(deleted: bool) -> IdentityChange {
        IdentityChange::Account(Account {
            account: "111111111111".parse().unwrap(),
            name: "alice".into(),
            canonical_id: "ab".repeat(32),
            deleted,
        })
    }

    fn user(policies: &[&str]) -> IdentityChange {
        IdentityChange::User(User {
            account: "111111111111".parse().unwrap(),
            name: "ann".into(),
            path: "/".into(),
            policies: policies.iter().map(|text| (*text).to_owned()).collect(),
            deleted: false,
        })
    }

    fn key(active: bool) -> IdentityChange {
        IdentityChange::Key(AccessKey {
            id: "AKIAIOSFODNN7EXAMPLE".parse().unwrap(),
            account: "111111111111".parse().unwrap(),
            user: "ann".into(),
            secret: Secret::new("secret".into()),
            active,
            deleted: false,
        })
    }

    fn finds(directory: &Directory) -> bool {
        directory.find_key("AKIAIOSFODNN7EXAMPLE").is_some()
    }

    #[test]
    fn a_key_speaks_only_while_key_user_and_account_stand() {
        let mut directory = Directory::default();
        directory.apply(vec![account(false), user(&[]), key(true)], true);
        assert!(finds(&directory));

        let mut without = directory.clone();
        without.apply(vec![key(false)], false);
        assert!(!finds(&without));
        let mut without = directory.clone();
        without.apply(vec![account(true)], false);
        assert!(!finds(&without));
        directory.apply(vec![account(false), key(true)], true);
        assert!(!finds(&directory), "a full list without the user");
    }

    #[test]
    fn a_policy_that_cannot_be_read_takes_everything_away() {
        let mut directory = Directory::default();
        directory.apply(vec![account(false), user(&["{nonsense"]), key(true)], true);
        let (_, caller) = directory.find_key("AKIAIOSFODNN7EXAMPLE").unwrap();
        assert!(caller.policies.is_none());
    }
}
