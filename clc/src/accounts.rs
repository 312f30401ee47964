//! Making an account: its administrator, its access key, its default network.

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::Ipv4Net;
use store::{Error, Tx};
use types::{AccessKeyId, AccountId, Secret, Timestamp};

use crate::{
    default_vpc,
    identity::ADMIN,
    rows::identity::{self, KeyRow},
    seal::Seal,
};

/// Bytes of a secret access key: 40 characters in base64, as every client expects.
const SECRET_BYTES: usize = 30;

/// An account in the making.
#[derive(Debug, Clone)]
pub struct Making {
    /// Its number.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The id of its administrator's access key.
    pub access_key: AccessKeyId,
    /// The secret half.
    pub secret: Secret<String>,
}

impl Making {
    /// A new account of that name.
    pub fn named(name: &str) -> Self {
        Self::of(AccountId::mint(&mut rand::rng()), name)
    }

    /// An account of that number.
    pub fn of(account: AccountId, name: &str) -> Self {
        let access_key = AccessKeyId::mint(&mut rand::rng());
        Self {
            account,
            name: name.to_owned(),
            access_key,
            secret: mint_secret(),
        }
    }

    /// Writes it down: the account, its user `admin`, and the key.
    pub fn write(&self, tx: &Tx, seal: &Seal, now: Timestamp) -> Result<(), Error> {
        let canonical_id = hex::encode(rand::random::<[u8; 32]>());
        identity::insert_account(tx, &self.account, &self.name, &canonical_id, now)?;
        let unique_id = format!("AIDA{}", &AccessKeyId::mint(&mut rand::rng()).as_str()[4..]);
        identity::insert_user(tx, &self.account, ADMIN, &unique_id, now)?;
        let key = KeyRow {
            id: self.access_key.clone(),
            account: self.account.clone(),
            user: ADMIN.to_owned(),
            sealed_secret: seal.close(self.access_key.as_str(), &self.secret),
            active: true,
            deleted: false,
        };
        identity::insert_key(tx, &key, now)
    }

    /// The same with a default VPC of that address space, as every account of people has.
    pub fn write_with_network(
        &self,
        tx: &Tx,
        seal: &Seal,
        vpc: Ipv4Net,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(tx, seal, now)?;
        default_vpc::make(tx, &self.account, vpc, &mut rand::rng(), now).map(drop)
    }
}

/// Whether a text can be an account's name: 1 to 63 lower-case letters, digits and inner dashes.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A secret access key. Without `/` and `+`, which half of all hand-written URLs get wrong.
pub fn mint_secret() -> Secret<String> {
    let text = STANDARD.encode(rand::random::<[u8; SECRET_BYTES]>());
    Secret::new(text.replace('/', "a").replace('+', "b"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_key_has_forty_plain_characters() {
        let secret = mint_secret();
        assert_eq!(secret.reveal().len(), 40);
        assert!(secret.reveal().bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn an_account_name_is_a_label() {
        assert!(is_name("physics-2"));
        for text in [
            "",
            "-a",
            "a-",
            "A",
            "a b",
            "(mallee)system",
            &"a".repeat(64),
        ] {
            assert!(!is_name(text), "{text:?}");
        }
    }
}
