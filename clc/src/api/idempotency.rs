//! `ClientToken`: the same token with the same request gets the first answer, with another request
//! an error. The token is stored in the transaction that makes the thing, so that of two concurrent
//! requests one makes it and the other sees it made.

use ec2::Code;
use sha2::{Digest, Sha256};
use store::Tx;
use types::Timestamp;

use super::errors::{Error, Result};
use crate::{Caller, rows::client_tokens};

/// The longest token, as in EC2.
const TOKEN_MAX: usize = 64;

/// A token with the digest of the request that it stands for.
#[derive(Debug, Clone)]
pub struct Token {
    action: &'static str,
    text: String,
    digest: String,
}

impl Token {
    /// The token of a request, if it has one. `meaning` is the request, without what may differ when
    /// it is sent again.
    pub fn of(
        action: &'static str,
        token: Option<&str>,
        meaning: &impl std::fmt::Debug,
    ) -> Result<Option<Self>> {
        let Some(text) = token else { return Ok(None) };
        if text.len() > TOKEN_MAX || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let reason = format!("Expected at most {TOKEN_MAX} ASCII characters");
            return Err(ec2::Error::invalid("ClientToken", text.escape_debug(), &reason).into());
        }
        let digest = Sha256::digest(format!("{meaning:?}"));
        Ok(Some(Self {
            action,
            text: text.to_owned(),
            digest: hex::encode(digest),
        }))
    }

    /// The id of what the token made before, if it did.
    pub fn find(&self, tx: &Tx, caller: &Caller) -> Result<Option<String>> {
        let Some(used) = client_tokens::find(tx, caller.account(), self.action, &self.text)? else {
            return Ok(None);
        };
        if used.digest != self.digest {
            let message = "The client token was used before with other parameters";
            return Err(Error::new(Code::IdempotentParameterMismatch, message));
        }
        Ok(Some(used.made))
    }

    /// Records what the token makes.
    pub fn record(&self, tx: &Tx, caller: &Caller, made: &str, now: Timestamp) -> Result<()> {
        let used = client_tokens::ClientToken {
            digest: self.digest.clone(),
            made: made.to_owned(),
        };
        Ok(client_tokens::insert(
            tx,
            caller.account(),
            self.action,
            &self.text,
            &used,
            now,
        )?)
    }
}
