//! The file `walrus.toml`. `mallee-walrus --check` prints it merged with the defaults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::{
    config::{Admin, Log, Settings, default_state_dir},
    public::certificate::{Source, Tls, own_names},
};
use serde::{Deserialize, Serialize};

use types::{AccountId, quota::Bounds};

use crate::{
    access_log,
    engine::{
        Places, Tuning,
        blobs::{BlobPlace, remote},
        quota::Defaults,
    },
    lifecycle::Day,
    upkeep::Pace,
};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where certificates, identities and objects are.
    pub state_dir: PathBuf,
    /// The listener for operators.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// The listener for the cloud itself.
    pub control: Control,
    /// The S3 listener.
    pub s3: S3,
    /// https at the S3 listener.
    pub tls: Tls,
    /// How objects are kept.
    pub storage: Storage,
    /// Whom owners of buckets may have told what happens in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notification: Vec<Notification>,
    /// What is known of accounts and keys.
    pub identity: Identity,
    /// Access logs of buckets.
    pub access_log: AccessLog,
    /// How much accounts and buckets may hold for which `mallee s3 quota set` says nothing else.
    pub quota: Quota,
    /// Another S3 store for large bodies.
    pub blobs: OtherStore,
}

/// A section `[[notification]]`: a destination of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// What stands last in its ARN, as `arn:aws:sqs:REGION::NAME`.
    pub name: String,
    /// Where events are posted to, over http or https.
    pub url: String,
    /// The accounts whose buckets may name it; absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountId>,
    /// A file with the value of the header `Authorization`, such as `Bearer TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_file: Option<PathBuf>,
    /// Certificates to trust at https, in PEM, instead of the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Notification {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
        if name.is_empty() || name.len() > 80 || !name.bytes().all(plain) {
            return Err(format!(
                "notification.name {name:?}: 1 to 80 letters, digits, dashes, dots and underscores"
            ));
        }
        let uri: Result<http::Uri, _> = self.url.parse();
        let is_web = uri.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        match is_web {
            true => Ok(()),
            false => Err(format!(
                "notification.url {:?} of {name} is no http or https address",
                self.url
            )),
        }
    }
}

/// The section `[identity]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// How long known keys serve while the Cloud Controller is away; after it they only read.
    pub trusted_s: u32,
}

/// The section `[access_log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// How often what was logged is delivered; sooner if it is much.
    pub deliver_every_s: u32,
    /// MiB that may wait for it below `state_dir`; beyond them lines are lost, and counted.
    pub spool_mib_max: u32,
}

/// The section `[quota]`. What is absent has no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// MiB of all versions of all objects of an account, with the parts of unfinished uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_mib: Option<u64>,
    /// Versions of objects of an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_objects: Option<u64>,
    /// Buckets of an account.
    pub account_buckets: u64,
    /// MiB of a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_mib: Option<u64>,
    /// Versions of objects of a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_objects: Option<u64>,
}

/// The section `[control]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Where the CLC calls us.
    pub listen: SocketAddr,
    /// How it reaches that; must be given to `join` if `listen` is a wildcard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
}

/// The section `[s3]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Where S3 is served. The CLC's front door passes requests on to it; clients may come directly.
    pub listen: SocketAddr,
    /// DNS names under which `BUCKET.NAME` means a bucket.
    pub domains: Vec<String>,
    /// DNS names under which `BUCKET.NAME` is the website of a bucket. None of them may be a name of
    /// `domains`.
    pub website_domains: Vec<String>,
    /// The region that buckets say they are in.
    pub region: String,
    /// Seconds in a day of a lifecycle rule. Anything but 86400 is for tests of rules.
    pub lifecycle_day_s: u32,
    /// Whether signatures of version 2 are accepted: euca2ools makes them, and so do boto3 and the
    /// aws CLI for presigned URLs.
    pub signature_v2: bool,
    /// Names of keys that clients may ask for by `aws:kms`. Each is made of the key file and its
    /// name. What was written under a name that is taken away cannot be read until it is back.
    pub kms_keys: Vec<String>,
}

/// The section `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Where large bodies lie, if not below `state_dir`; may be a network file system. The journal
    /// and the index stay in `state_dir`, which may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blobs_dir: Option<PathBuf>,
    /// Room that stays free for deletes and the index; uploads are refused below it.
    pub reserve_mib: u64,
    /// How fast everything is read again in the background to find rot, MiB a second; 0 is never.
    pub scrub_mib_per_s: u32,
    /// How long after the beginning of such a pass the next one begins.
    pub scrub_every_hours: u32,
}

/// The section `[blobs]`: large bodies lie in a bucket of another S3 store if it has a `url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtherStore {
    /// `http://HOST:PORT` or `https://HOST`, perhaps with a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A bucket that is there and that nobody else uses.
    pub bucket: String,
    /// What all keys in it begin with: nothing, or a text that ends in a slash.
    pub prefix: String,
    /// The region that its requests are signed for.
    pub region: String,
    /// The access key, in a file as the aws CLI has it; nobody else may read it. A new key is taken
    /// from it as soon as the old one is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Certificates, in PEM, that are believed at an https address, instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl OtherStore {
    fn settings(&self) -> Option<remote::Settings> {
        Some(remote::Settings {
            url: self.url.clone()?,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            credentials_file: self.credentials_file.clone().unwrap_or_default(),
            ca_file: self.ca_file.clone(),
        })
    }

    fn check(&self, storage: &Storage) -> Result<(), String> {
        let Some(settings) = self.settings() else {
            return match *self == Self::default() {
                true => Ok(()),
                false => Err("blobs.url is missing: without it there is no other store".to_owned()),
            };
        };
        if storage.blobs_dir.is_some() {
            return Err("storage.blobs_dir and blobs.url exclude each other".to_owned());
        }
        if self.credentials_file.is_none() {
            return Err("blobs.credentials_file is missing: the key to blobs.url".to_owned());
        }
        settings.check()
    }
}

impl Default for OtherStore {
    fn default() -> Self {
        Self {
            url: None,
            bucket: String::new(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            credentials_file: None,
            ca_file: None,
        }
    }
}

impl Config {
    /// Where the engine keeps what it keeps.
    pub fn places(&self) -> Places {
        let folder = self.state_dir.join("objects");
        let blobs = match self.blobs.settings() {
            Some(settings) => BlobPlace::Bucket(Box::new(settings)),
            None => {
                let elsewhere = self.storage.blobs_dir.clone();
                BlobPlace::Folder(elsewhere.unwrap_or_else(|| folder.join("blobs")))
            }
        };
        Places { folder, blobs }
    }

    /// The engine's sizes.
    pub fn tuning(&self) -> Tuning {
        Tuning {
            reserve_bytes: self.storage.reserve_mib << 20,
            quotas: self.quota.defaults(),
            ..Tuning::default()
        }
    }

    /// How fast and how often all is read again; `None` is never.
    pub fn scrub(&self) -> Option<Pace> {
        let bytes_per_s = u64::from(self.storage.scrub_mib_per_s) << 20;
        let every_ms = i64::from(self.storage.scrub_every_hours) * 3_600_000;
        (bytes_per_s > 0).then_some(Pace {
            bytes_per_s,
            every_ms,
        })
    }

    /// The certificate that clients see: by default of the authority's, for our own names and those
    /// of buckets.
    pub fn public_certificate(&self) -> Source {
        let domains = self.s3.domains.iter().chain(&self.s3.website_domains);
        let known = domains
            .flat_map(|name| [name.clone(), format!("*.{name}")])
            .chain(own_names(self.s3.listen))
            .chain(self.control.advertise.map(|at| at.ip().to_string()));
        self.tls.source(self.state_dir.join("public"), known)
    }

    /// How long identities are relied on without the CLC.
    pub fn trusted(&self) -> Duration {
        Duration::from_secs(u64::from(self.identity.trusted_s))
    }

    /// When access logs are delivered.
    pub fn access_log(&self) -> access_log::Pace {
        access_log::Pace {
            every: Duration::from_secs(u64::from(self.access_log.deliver_every_s)),
            spool_bytes_max: u64::from(self.access_log.spool_mib_max) << 20,
        }
    }

    /// How long a day of a lifecycle rule lasts.
    pub fn day(&self) -> Day {
        Day {
            ms: i64::from(self.s3.lifecycle_day_s) * 1000,
        }
    }

    /// Where the CLC reaches our control listener.
    pub fn control_address(&self) -> SocketAddr {
        self.control.advertise.unwrap_or(self.control.listen)
    }
}

impl Quota {
    fn defaults(&self) -> Defaults {
        let bytes = |mib: Option<u64>| mib.map(|mib| mib.saturating_mul(1 << 20));
        Defaults {
            account: Bounds {
                bytes: bytes(self.account_mib),
                objects: self.account_objects,
                buckets: Some(self.account_buckets),
            },
            bucket: Bounds {
                bytes: bytes(self.bucket_mib),
                objects: self.bucket_objects,
                buckets: None,
            },
        }
    }
}

impl Settings for Config {
    const NAME: &'static str = "walrus";

    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn admin(&self) -> &Admin {
        &self.admin
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self) -> Result<(), String> {
        if self.s3.lifecycle_day_s == 0 {
            return Err("s3.lifecycle_day_s must be at least 1".to_owned());
        }
        for (at, one) in self.notification.iter().enumerate() {
            one.check()?;
            if self.notification[..at]
                .iter()
                .any(|other| other.name == one.name)
            {
                return Err(format!("notification.name {:?} is there twice", one.name));
            }
        }
        if self.identity.trusted_s < 2 {
            return Err("identity.trusted_s must be at least 2".to_owned());
        }
        if self.access_log.deliver_every_s == 0 {
            return Err("access_log.deliver_every_s must be at least 1".to_owned());
        }
        if self.s3.region.is_empty() {
            return Err("s3.region must not be empty".to_owned());
        }
        let (domains, websites) = (&self.s3.domains, &self.s3.website_domains);
        for (key, names) in [("domains", domains), ("website_domains", websites)] {
            if names.iter().any(|n| n.is_empty() || n.starts_with('.')) {
                return Err(format!("s3.{key} are names without a leading dot"));
            }
        }
        if let Some(name) = websites.iter().find(|name| domains.contains(name)) {
            return Err(format!(
                "{name} is in s3.domains and in s3.website_domains: it can mean one of them only"
            ));
        }
        self.blobs.check(&self.storage)?;
        self.tls.check()
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: default_state_dir(Self::NAME),
            admin: Admin::on_port(8784),
            log: Log::default(),
            control: Control::default(),
            s3: S3::default(),
            tls: Tls::default(),
            storage: Storage::default(),
            notification: Vec::new(),
            identity: Identity::default(),
            access_log: AccessLog::default(),
            quota: Quota::default(),
            blobs: OtherStore::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: any(8778),
            advertise: None,
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: any(8779),
            domains: vec!["s3.localhost".to_owned()],
            website_domains: vec!["s3-website.localhost".to_owned()],
            region: "mallee-1".to_owned(),
            lifecycle_day_s: 86_400,
            signature_v2: true,
            kms_keys: Vec::new(),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self { trusted_s: 15 * 60 }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            deliver_every_s: 60,
            spool_mib_max: 64,
        }
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            account_mib: None,
            account_objects: None,
            account_buckets: crate::engine::quota::BUCKETS_DEFAULT,
            bucket_mib: None,
            bucket_objects: None,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            blobs_dir: None,
            reserve_mib: 256,
            scrub_mib_per_s: 8,
            scrub_every_hours: 7 * 24,
        }
    }
}
