//! Accounts, users and keys in memory: looked up by every request, and followed by Walrus as a
//! feed. The rows are the truth; whoever changes them calls [`Identity::reload`].

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use control::{
    Changes, Feed,
    cloud::{AccessKey, Account, IdentityChange, User},
    feed::Poll,
};
use iam::{Policy, Principal};
use store::{Db, Error};
use types::{AccessKeyId, AccountId, Arn, Secret};

use crate::{
    rows::identity::{self, Everyone},
    seal::Seal,
};

/// The user who may do everything in its account.
pub const ADMIN: &str = "admin";

/// Who an access key speaks for, with what a signature is checked against.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The key's id.
    pub id: AccessKeyId,
    /// The secret half.
    pub secret: Secret<String>,
    /// Its account.
    pub account: AccountId,
    /// Its user.
    pub user: String,
    /// The user's unique id, `AIDA...`.
    pub unique_id: String,
    /// The principal, as policies know it.
    pub principal: Principal,
    /// What the user's own policies say.
    pub policies: Arc<[Policy]>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    // In this order in a full list: a key comes after its user, a user after its account.
    Account(AccountId),
    User(AccountId, String),
    Key(AccessKeyId),
}

/// The identities, loaded.
pub struct Identity {
    seal: Seal,
    keys: RwLock<HashMap<AccessKeyId, Arc<Credential>>>,
    feed: Feed<Thing, IdentityChange>,
}

impl Identity {
    /// Loads everything. The epoch is this life's; random.
    pub async fn load(db: &Db, seal: Seal, epoch: String) -> Result<Self, Error> {
        let loaded = Self {
            seal,
            keys: RwLock::default(),
            feed: Feed::new(epoch),
        };
        loaded.reload(db).await?;
        Ok(loaded)
    }

    /// Takes up the rows as they are now. Called after each change of them.
    pub async fn reload(&self, db: &Db) -> Result<(), Error> {
        let everyone = db.read(identity::everyone).await?;
        let secrets = self.open_all(&everyone);
        *self
            .keys
            .write()
            .expect("no one panics while holding this lock") = credentials(&everyone, &secrets);
        self.publish(everyone, &secrets);
        Ok(())
    }

    /// Who a key speaks for; none if it is unknown, inactive or gone.
    pub fn credential(&self, id: &AccessKeyId) -> Option<Arc<Credential>> {
        self.keys
            .read()
            .expect("no one panics while holding this lock")
            .get(id)
            .cloned()
    }

    /// A usable key of an account's administrator.
    pub fn of_account(&self, account: &AccountId) -> Option<Arc<Credential>> {
        let keys = self
            .keys
            .read()
            .expect("no one panics while holding this lock");
        let mine = |key: &&Arc<Credential>| key.account == *account && key.user == ADMIN;
        keys.values()
            .filter(mine)
            .min_by(|a, b| a.id.cmp(&b.id))
            .cloned()
    }

    /// The changes that Walrus follows.
    pub async fn poll(&self, poll: &Poll) -> Changes<IdentityChange> {
        self.feed.poll(poll).await
    }

    /// A secret that does not open is reported and left out: one damaged row locks out one key.
    fn open_all(&self, everyone: &Everyone) -> HashMap<AccessKeyId, Secret<String>> {
        let open =
            |key: &identity::KeyRow| match self.seal.open(key.id.as_str(), &key.sealed_secret) {
                Ok(secret) => Some((key.id.clone(), secret)),
                Err(error) => {
                    tracing::error!(key = %key.id, %error, "an access key cannot be used");
                    None
                }
            };
        everyone.keys.iter().filter_map(open).collect()
    }

    fn publish(&self, everyone: Everyone, secrets: &HashMap<AccessKeyId, Secret<String>>) {
        for account in everyone.accounts {
            self.feed.set(
                Thing::Account(account.id.clone()),
                IdentityChange::Account(Account {
                    account: account.id,
                    name: account.name,
                    canonical_id: account.canonical_id,
                    deleted: account.deleted,
                }),
            );
        }
        for user in everyone.users {
            self.feed.set(
                Thing::User(user.account.clone(), user.name.clone()),
                IdentityChange::User(User {
                    account: user.account,
                    name: user.name,
                    path: user.path,
                    policies: user.policies,
                    deleted: user.deleted,
                }),
            );
        }
        for key in everyone.keys {
            let Some(secret) = secrets.get(&key.id) else {
                continue;
            };
            self.feed.set(
                Thing::Key(key.id.clone()),
                IdentityChange::Key(AccessKey {
                    secret: secret.clone(),
                    id: key.id,
                    account: key.account,
                    user: key.user,
                    active: key.active,
                    deleted: key.deleted,
                }),
            );
        }
    }
}

fn credentials(
    everyone: &Everyone,
    secrets: &HashMap<AccessKeyId, Secret<String>>,
) -> HashMap<AccessKeyId, Arc<Credential>> {
    let users: HashMap<_, _> = everyone
        .users
        .iter()
        .filter(|user| !user.deleted)
        .map(|user| ((&user.account, &user.name), (user, policies_of(user))))
        .collect();
    let usable = everyone
        .keys
        .iter()
        .filter(|key| key.active && !key.deleted);
    usable
        .filter_map(|key| {
            let (user, policies) = users.get(&(&key.account, &key.user))?;
            let credential = Credential {
                id: key.id.clone(),
                secret: secrets.get(&key.id)?.clone(),
                account: key.account.clone(),
                user: user.name.clone(),
                unique_id: user.unique_id.clone(),
                principal: principal_of(user),
                policies: policies.clone(),
            };
            Some((key.id.clone(), Arc::new(credential)))
        })
        .collect()
}

fn principal_of(user: &identity::UserRow) -> Principal {
    if user.name == ADMIN {
        Principal::root(user.account.clone())
    } else {
        let arn = Arn::user(&user.account, &user.path, &user.name);
        Principal::user(user.account.clone(), arn)
    }
}

/// Policies were checked when they were put; one that no longer parses allows nothing.
fn policies_of(user: &identity::UserRow) -> Arc<[Policy]> {
    let parse = |text: &String| match Policy::parse_identity(text) {
        Ok(policy) => Some(policy),
        Err(error) => {
            tracing::error!(account = %user.account, user = user.name, %error, "unreadable policy");
            None
        }
    };
    user.policies.iter().filter_map(parse).collect()
}
