//! Accounts and the keys that speak for them.

use std::str::FromStr;

use crate::text::text_like;

/// An account number: twelve decimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

/// Text that is not twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 12 digits")]
pub struct MalformedAccountId;

impl AccountId {
    /// The account id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cloud's own account, which owns nothing a user sees and reads bundles for the nodes.
    pub fn system() -> Self {
        Self("000000000000".to_owned())
    }

    /// Makes a new account number from random bits; never starts with a zero.
    pub fn mint(rng: &mut impl rand::Rng) -> Self {
        Self((100_000_000_000 + rng.next_u64() % 900_000_000_000).to_string())
    }
}

impl FromStr for AccountId {
    type Err = MalformedAccountId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MalformedAccountId)
        }
    }
}

/// An access key id: 16 to 128 word characters, `AKIA` + 16 when we make it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId(String);

/// Text that cannot be an access key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an access key id is 16 to 128 letters and digits")]
pub struct MalformedAccessKeyId;

impl AccessKeyId {
    /// The key id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a new access key id from random bits.
    pub fn mint(rng: &mut impl rand::Rng) -> Self {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let tail = (0..16).map(|i| char::from(ALPHABET[(bits >> (5 * i)) as usize & 31]));
        Self("AKIA".chars().chain(tail).collect())
    }
}

impl FromStr for AccessKeyId {
    type Err = MalformedAccessKeyId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let right = (16..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(MalformedAccessKeyId)
        }
    }
}

text_like!(AccountId);
text_like!(AccessKeyId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_accounts_and_keys_parse() {
        let mut rng = rand::rng();
        for _ in 0..100 {
            AccountId::mint(&mut rng)
                .to_string()
                .parse::<AccountId>()
                .unwrap();
            AccessKeyId::mint(&mut rng)
                .to_string()
                .parse::<AccessKeyId>()
                .unwrap();
        }
    }

    #[test]
    fn an_account_is_exactly_twelve_digits() {
        for text in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "１２３４",
        ] {
            assert!(text.parse::<AccountId>().is_err());
        }
    }
}
