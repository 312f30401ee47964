//! Who asks: an account's root, one of its users, a part of the cloud, or nobody in particular.

use types::{AccountId, Arn};

/// What a principal may do without any policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The account's root or an administrator of the account: all within the account.
    Administrator,
    /// Only what a policy allows.
    Member,
}

/// Who asks. Made from a verified signature, or from the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// No signature: only what a resource's policy gives to everyone.
    Anonymous,
    /// A part of the cloud that works in somebody's name, by its name: only what a resource's policy
    /// gives to it.
    Service(&'static str),
    /// Someone of an account.
    Known {
        /// The account.
        account: AccountId,
        /// `arn:aws:iam::ACCOUNT:root` or `...:user/NAME`.
        arn: Arn,
        /// Administrator or member.
        standing: Standing,
    },
}

impl Principal {
    /// The root of an account.
    pub fn root(account: AccountId) -> Self {
        let arn = Arn::account_root(&account);
        Self::Known {
            account,
            arn,
            standing: Standing::Administrator,
        }
    }

    /// A user with no rights but those of policies.
    pub fn user(account: AccountId, arn: Arn) -> Self {
        Self::Known {
            account,
            arn,
            standing: Standing::Member,
        }
    }

    /// The account, if there is one.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Anonymous | Self::Service(_) => None,
            Self::Known { account, .. } => Some(account),
        }
    }
}
