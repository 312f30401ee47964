//! Signature versions 2 and 1. Query services: euca-install-image, libcloud, boto 2, Hybridfox.
//! S3: euca2ools always, boto3's and awscli's presigned addresses to this day.
//!
//! Version 2 signs no body but a query service's form, whose fields are part of the string. Version
//! 1 joins names and values without anything between them, so that one signature fits several
//! splits: it is here for Hybridfox, and the replay cache and the window are what limit it.

mod query;
mod s3;

pub(crate) use query::QueryClaim;
pub(crate) use s3::{S3Claim, string_to_sign as s3_string_to_sign};

use crate::{Received, Rules};

/// Whether the query or the form carries a version 1 or 2 signature.
pub(crate) fn is_signed(received: &Received<'_>, form: &str, rules: &Rules) -> bool {
    let has = |raw: &str| {
        crate::pairs(raw).any(|(name, _)| {
            let name = crate::encode::decode_form(name);
            matches!(name.as_slice(), b"AWSAccessKeyId" | b"Signature")
        })
    };
    has(received.query) || (!rules.s3 && has(form))
}
