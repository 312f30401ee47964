//! Verifies and makes AWS signatures: version 4 (header, query, streamed body, trailer, POST form)
//! and versions 2 and 1 (query services, S3 header, S3 query). Pure: bytes in, a verdict out; no
//! clock, no store, no socket.
//!
//! A request is judged in three steps, so that a secret is looked up between two pure ones:
//!
//! ```text
//! Claim::read(received, form, rules)  what the request says about who sent it
//!   → the caller looks up the secret of `claim.access_key`
//! claim.verify(received, form, secret, rules, now) → Verified, or Refused with what was expected
//! ```
//!
//! Clients differ in what they sign (euca2ools encodes the path twice, or signs it without the
//! endpoint's own path), so each form that an honest client is known to use is tried in turn.
//!
//! | module | holds |
//! |---|---|
//! | [`received`] | the request as it came, and the rules that its service has |
//! | [`claim`] | reading and verifying, whatever the version |
//! | [`v4`] | scope, canonical request, signing key; [`v4::body`] verifies bodies as they stream |
//! | [`v2`] | versions 2 and 1 of the query services, version 2 of S3 |
//! | [`policy`] | browser uploads: the signature over a POST policy |
//! | [`sign`] | the signers |
//! | [`stamp`] | every way a client writes a date |
//! | [`refused`] | why a request is refused, with what the answer needs |
//! | [`vouch`] | the address of a client, as the front door tells it to Walrus |

pub mod claim;
mod encode;
mod hash;
pub mod policy;
pub mod received;
pub mod refused;
pub mod sign;
pub mod stamp;
pub mod v2;
pub mod v4;
pub mod vouch;

pub use claim::{Claim, Verified, Version};
pub use encode::{decode, encode, encode_path, pairs};
pub use hash::{same, sha256_hex};
pub use policy::PolicyClaim;
pub use received::{QUERY_EXPIRES_MAX_SECS, Received, Rules};
pub use refused::Refused;
pub use v4::body::{BodyError, BodyVerifier, Finished};
