//! Encryption: under which key something new is kept, with which key something kept is opened, and
//! what answers say of it.

use http::HeaderMap;
use s3::{
    documents::encryption::{AES256, KMS},
    encryption::{CustomerKey, Encryption},
};

use super::Ask;
use crate::{
    answer,
    engine::{
        Failure, Found, Object,
        facts::{Bucket, Sealing, Under},
    },
    seal::{DataKey, Outer},
};

impl Ask<'_> {
    /// How something new is kept: as its writer says, else as the bucket says.
    pub(super) fn seal_new(
        &self,
        encryption: &Encryption,
        bucket: &Bucket,
    ) -> Result<Option<(Sealing, DataKey)>, Failure> {
        let by_default = bucket.settings.encryption.as_ref();
        let outer = match encryption {
            Encryption::Customer(key) => Outer::Customer(key),
            Encryption::Kms(name) => Outer::Kms(name),
            Encryption::Server => Outer::Server,
            Encryption::Refused(error) => return Err((**error).clone().into()),
            Encryption::Default => match by_default {
                None => return Ok(None),
                Some(default) => Outer::of_default(default),
            },
        };
        self.api.master_key.make(outer).map(Some)
    }

    /// The key that opens an object, if it needs one.
    pub(super) fn key_of(
        &self,
        object: &Object,
        customer: Option<&CustomerKey>,
    ) -> Result<Option<DataKey>, Failure> {
        let sealing = object.encryption.as_ref();
        self.api.master_key.open_data_key(sealing, customer)
    }

    /// All bytes of a body in the journal, sealed anew if they are to be.
    pub(super) fn inline_again(
        found: &Found,
        old: Option<&DataKey>,
        new: Option<&(Sealing, DataKey)>,
    ) -> Result<bytes::Bytes, Failure> {
        let whole = 0..found.object.size;
        let plain = crate::outflow::inline_bytes(found, old, &whole)?.unwrap_or_default();
        Ok(match new {
            None => plain,
            Some((sealing, key)) => key.seal(&sealing.salt, &plain).into(),
        })
    }
}

/// What an answer says of how something is kept.
pub(super) fn set_encryption(headers: &mut HeaderMap, sealing: Option<&Sealing>) {
    const PREFIX: &str = "x-amz-server-side-encryption";
    match sealing.map(|sealing| &sealing.under) {
        None => {}
        Some(Under::Server) => answer::set(headers, PREFIX, AES256),
        Some(Under::Kms(name)) => {
            answer::set(headers, PREFIX, KMS);
            answer::set(headers, format!("{PREFIX}-aws-kms-key-id"), name);
        }
        Some(Under::Customer(md5)) => {
            answer::set(headers, format!("{PREFIX}-customer-algorithm"), AES256);
            answer::set(headers, format!("{PREFIX}-customer-key-md5"), md5);
        }
    }
}
