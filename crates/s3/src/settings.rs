//! What an owner sets about a bucket, besides its access list: each one document that is put, read
//! back and perhaps deleted. They are kept typed; what a document said that we do not know is lost.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Code, Error, Result,
    documents::{
        cors::Cors,
        encryption::DefaultEncryption,
        lifecycle::Lifecycle,
        lock::LockConfiguration,
        logging::Logging,
        notification::Notifications,
        ownership::{Ownership, PublicAccessBlock},
        payment::Payer,
        tagging::{BUCKET_TAGS_MAX, Tags},
        versions::{Versioning, write_versioning},
        website::Website,
    },
    xml::malformed,
};

/// One kind of setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the document of that name")]
pub enum Kind {
    Versioning,
    Policy,
    Tagging,
    Cors,
    Lifecycle,
    Encryption,
    Ownership,
    PublicAccessBlock,
    ObjectLock,
    RequestPayment,
    Logging,
    Notification,
    Website,
}

/// What is done with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is read.
    Get,
    /// It is set.
    Put,
    /// It is as if it had never been set.
    Delete,
}

impl Kind {
    /// The kind and the verb of an operation, if it is about a setting.
    pub fn of(action: Action) -> Option<(Self, Verb)> {
        use Action as A;
        use Verb::{Delete, Get, Put};
        Some(match action {
            A::GetBucketVersioning => (Self::Versioning, Get),
            A::PutBucketVersioning => (Self::Versioning, Put),
            A::GetBucketPolicy => (Self::Policy, Get),
            A::PutBucketPolicy => (Self::Policy, Put),
            A::DeleteBucketPolicy => (Self::Policy, Delete),
            A::GetBucketTagging => (Self::Tagging, Get),
            A::PutBucketTagging => (Self::Tagging, Put),
            A::DeleteBucketTagging => (Self::Tagging, Delete),
            A::GetBucketCors => (Self::Cors, Get),
            A::PutBucketCors => (Self::Cors, Put),
            A::DeleteBucketCors => (Self::Cors, Delete),
            A::GetBucketLifecycleConfiguration => (Self::Lifecycle, Get),
            A::PutBucketLifecycleConfiguration => (Self::Lifecycle, Put),
            A::DeleteBucketLifecycle => (Self::Lifecycle, Delete),
            A::GetBucketEncryption => (Self::Encryption, Get),
            A::PutBucketEncryption => (Self::Encryption, Put),
            A::DeleteBucketEncryption => (Self::Encryption, Delete),
            A::GetBucketOwnershipControls => (Self::Ownership, Get),
            A::PutBucketOwnershipControls => (Self::Ownership, Put),
            A::DeleteBucketOwnershipControls => (Self::Ownership, Delete),
            A::GetPublicAccessBlock => (Self::PublicAccessBlock, Get),
            A::PutPublicAccessBlock => (Self::PublicAccessBlock, Put),
            A::DeletePublicAccessBlock => (Self::PublicAccessBlock, Delete),
            A::GetObjectLockConfiguration => (Self::ObjectLock, Get),
            A::PutObjectLockConfiguration => (Self::ObjectLock, Put),
            A::GetBucketRequestPayment => (Self::RequestPayment, Get),
            A::PutBucketRequestPayment => (Self::RequestPayment, Put),
            A::GetBucketNotificationConfiguration => (Self::Notification, Get),
            A::PutBucketNotificationConfiguration => (Self::Notification, Put),
            A::GetBucketLogging => (Self::Logging, Get),
            A::PutBucketLogging => (Self::Logging, Put),
            A::GetBucketWebsite => (Self::Website, Get),
            A::PutBucketWebsite => (Self::Website, Put),
            A::DeleteBucketWebsite => (Self::Website, Delete),
            _ => return None,
        })
    }
}

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the document of that name")]
pub enum Setting {
    Versioning(Versioning),
    Policy(String),
    Tagging(Tags),
    Cors(Cors),
    Lifecycle(Lifecycle),
    Encryption(DefaultEncryption),
    Ownership(Ownership),
    PublicAccessBlock(PublicAccessBlock),
    ObjectLock(LockConfiguration),
    RequestPayment(Payer),
    Logging(Option<Logging>),
    Notification(Notifications),
    Website(Website),
}

impl Setting {
    /// Reads the document of a PUT. A policy is text here; `iam` knows what it means.
    pub fn read(kind: Kind, body: &[u8]) -> Result<Self> {
        Ok(match kind {
            Kind::Versioning => Self::Versioning(Versioning::read(body)?),
            Kind::Policy => {
                let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
                Self::Policy(text.to_owned())
            }
            Kind::Tagging => Self::Tagging(Tags::read(body, BUCKET_TAGS_MAX)?),
            Kind::Cors => Self::Cors(Cors::read(body)?),
            Kind::Lifecycle => Self::Lifecycle(Lifecycle::read(body)?),
            Kind::Encryption => Self::Encryption(DefaultEncryption::read(body)?),
            Kind::Ownership => Self::Ownership(Ownership::read(body)?),
            Kind::PublicAccessBlock => Self::PublicAccessBlock(PublicAccessBlock::read(body)?),
            Kind::ObjectLock => Self::ObjectLock(LockConfiguration::read(body)?),
            Kind::RequestPayment => Self::RequestPayment(Payer::read(body)?),
            Kind::Logging => Self::Logging(Logging::read(body)?),
            Kind::Notification => Self::Notification(Notifications::read(body)?),
            Kind::Website => Self::Website(Website::read(body)?),
        })
    }
}

/// All settings of a bucket; what was never set is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Whether old versions are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versioning: Option<Versioning>,
    /// Who else may do what, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Names for whoever sorts buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagging: Option<Tags>,
    /// Which pages of other sites may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// What is deleted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// How new objects are encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<DefaultEncryption>,
    /// Who owns new objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ownership: Option<Ownership>,
    /// What is never public.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_access_block: Option<PublicAccessBlock>,
    /// Whether versions can be locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<LockConfiguration>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_payment: Option<Payer>,
    /// Where requests are logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// What is told to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
    /// How it is shown to browsers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<Website>,
}

impl Settings {
    /// Whether nothing was ever set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets one.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Versioning(versioning) => self.versioning = Some(versioning),
            Setting::Policy(policy) => self.policy = Some(policy),
            Setting::Tagging(tags) => self.tagging = Some(tags),
            Setting::Cors(cors) => self.cors = Some(cors),
            Setting::Lifecycle(lifecycle) => self.lifecycle = Some(lifecycle),
            Setting::Encryption(encryption) => self.encryption = Some(encryption),
            Setting::Ownership(ownership) => self.ownership = Some(ownership),
            Setting::PublicAccessBlock(block) => self.public_access_block = Some(block),
            Setting::ObjectLock(lock) => self.object_lock = Some(lock),
            Setting::RequestPayment(payer) => self.request_payment = Some(payer),
            Setting::Logging(logging) => self.logging = logging,
            Setting::Notification(rules) => {
                self.notifications = Some(rules).filter(|rules| !rules.0.is_empty());
            }
            Setting::Website(website) => self.website = Some(website),
        }
    }

    /// Forgets one. Versioning and lock are never forgotten: versions depend on them.
    pub fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Policy => self.policy = None,
            Kind::Tagging => self.tagging = None,
            Kind::Cors => self.cors = None,
            Kind::Lifecycle => self.lifecycle = None,
            Kind::Encryption => self.encryption = None,
            Kind::Ownership => self.ownership = None,
            Kind::PublicAccessBlock => self.public_access_block = None,
            Kind::RequestPayment => self.request_payment = None,
            Kind::Logging => self.logging = None,
            Kind::Notification => self.notifications = None,
            Kind::Website => self.website = None,
            Kind::Versioning | Kind::ObjectLock => {}
        }
    }

    /// The document of a GET, or that there is none.
    pub fn document(&self, kind: Kind) -> Result<String> {
        fn or<T>(
            setting: Option<&T>,
            code: Code,
            write: impl FnOnce(&T) -> String,
        ) -> Result<String> {
            setting.map(write).ok_or_else(|| Error::from(code))
        }
        match kind {
            Kind::Versioning => Ok(write_versioning(self.versioning)),
            Kind::RequestPayment => Ok(self.request_payment.unwrap_or_default().write()),
            Kind::Logging => Ok(Logging::write(self.logging.as_ref())),
            Kind::Notification => Ok(Notifications::write(self.notifications.as_ref())),
            Kind::Website => or(
                self.website.as_ref(),
                Code::NoSuchWebsiteConfiguration,
                Website::write,
            ),
            Kind::Policy => or(self.policy.as_ref(), Code::NoSuchBucketPolicy, Clone::clone),
            Kind::Tagging => or(self.tagging.as_ref(), Code::NoSuchTagSet, Tags::write),
            Kind::Cors => or(
                self.cors.as_ref(),
                Code::NoSuchCORSConfiguration,
                Cors::write,
            ),
            Kind::Lifecycle => or(
                self.lifecycle.as_ref(),
                Code::NoSuchLifecycleConfiguration,
                Lifecycle::write,
            ),
            Kind::Encryption => or(
                self.encryption.as_ref(),
                Code::ServerSideEncryptionConfigurationNotFoundError,
                DefaultEncryption::write,
            ),
            Kind::Ownership => or(
                self.ownership.as_ref(),
                Code::OwnershipControlsNotFoundError,
                |ownership| ownership.write(),
            ),
            Kind::PublicAccessBlock => or(
                self.public_access_block.as_ref(),
                Code::NoSuchPublicAccessBlockConfiguration,
                |block| block.write(),
            ),
            Kind::ObjectLock => or(
                self.object_lock.as_ref(),
                Code::ObjectLockConfigurationNotFoundError,
                |lock| lock.write(),
            ),
        }
    }

    /// Whether access lists say nothing here.
    pub fn lists_are_off(&self) -> bool {
        self.ownership == Some(Ownership::BucketOwnerEnforced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_set_has_a_code_of_its_own_or_a_document() {
        let none = Settings::default();
        for (kind, code) in [
            (Kind::Policy, Code::NoSuchBucketPolicy),
            (Kind::Tagging, Code::NoSuchTagSet),
            (Kind::ObjectLock, Code::ObjectLockConfigurationNotFoundError),
        ] {
            assert_eq!(none.document(kind).unwrap_err().code, code);
        }
        let payer = none.document(Kind::RequestPayment).unwrap();
        assert!(payer.contains("BucketOwner"));
    }

    #[test]
    fn a_setting_is_set_and_forgotten() {
        let mut settings = Settings::default();
        let read = |kind, text: &str| Setting::read(kind, text.as_bytes()).unwrap();
        settings.set(read(Kind::Policy, "{}"));
        settings.set(read(
            Kind::Versioning,
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        ));
        assert_eq!(settings.document(Kind::Policy).unwrap(), "{}");
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        settings.clear(Kind::Policy);
        settings.clear(Kind::Versioning);
        assert!(settings.policy.is_none() && settings.versioning.is_some());
    }
}
