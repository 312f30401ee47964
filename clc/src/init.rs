//! `mallee-clc init`: everything that a cloud has before its first daemon runs.
//!
//! | in the state folder | is |
//! |---|---|
//! | `ca/` | the authority of all daemons' certificates |
//! | `tls/` | our own identity |
//! | `public/` | the certificate that clients see, made by the daemon |
//! | `admin/` | the administrator's identity, and `credentials.json` of the first account |
//! | `image-key.pem`, `image-cert.pem` | the key that bundles are made for |
//! | `seal.key` | what secrets in the database are sealed under |
//! | `clc.db` | the record of intent |
//!
//! May be cut off anywhere and run again: what is there is kept, what is missing is made, and it
//! prints the same credentials each time. The database is written last, in one transaction.

mod keys;
mod rows;

use std::path::{Path, PathBuf};

use control::Role;
use daemon::{
    BoxError,
    clock::SystemClock,
    files,
    tls::{Authority, Identity, Issue, Peer},
};
use serde::{Deserialize, Serialize};
use store::Db;
use types::{AccessKeyId, AccountId, Region, Secret, Timestamp, Zone};

use crate::{MIGRATIONS, accounts::mint_secret, config::Config, seal::Seal};

/// What may be chosen, once.
#[derive(Debug, Clone)]
pub struct Choices {
    /// The region.
    pub region: Region,
    /// The first zone.
    pub zone: Zone,
    /// The first account's name.
    pub account_name: String,
}

impl Default for Choices {
    fn default() -> Self {
        let region = Region::first();
        Self {
            zone: region.first_zone(),
            region,
            account_name: "admin".to_owned(),
        }
    }
}

/// What the first account's administrator needs; printed as JSON by `init --output json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The region.
    pub region: Region,
    /// The first zone.
    pub zone: Zone,
    /// The account's number.
    pub account_id: AccountId,
    /// The account's name.
    pub account_name: String,
    /// The access key.
    pub access_key_id: AccessKeyId,
    /// Its secret.
    pub secret_access_key: Secret<String>,
    /// The certificate that goes with bundles (`EC2_CERT`).
    pub user_certificate_pem: String,
    /// Its private key (`EC2_PRIVATE_KEY`); kept nowhere else.
    pub user_private_key_pem: Secret<String>,
    /// The certificate that bundles are made for (`EUCALYPTUS_CERT`).
    pub cloud_certificate_pem: String,
}

/// Where things are in the state folder.
#[derive(Debug, Clone)]
pub struct Places(PathBuf);

impl Places {
    /// In that folder.
    pub fn of(config: &Config) -> Self {
        Self(config.state_dir.clone())
    }

    /// The authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// Our identity.
    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// The certificate that clients see.
    pub fn public(&self) -> PathBuf {
        self.0.join("public")
    }

    /// The administrator's identity.
    pub fn admin(&self) -> PathBuf {
        self.0.join("admin")
    }

    /// The first account's credentials.
    pub fn credentials(&self) -> PathBuf {
        self.admin().join("credentials.json")
    }

    /// The key that bundles are made for.
    pub fn image_key(&self) -> PathBuf {
        self.0.join("image-key.pem")
    }

    /// Its certificate.
    pub fn image_certificate(&self) -> PathBuf {
        self.0.join("image-cert.pem")
    }

    /// What secrets are sealed under.
    pub fn seal_key(&self) -> PathBuf {
        self.0.join("seal.key")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.0.join("clc.db")
    }
}

/// Makes the cloud, or what is missing of it.
pub async fn init(config: &Config, choices: &Choices) -> Result<Credentials, BoxError> {
    let places = Places::of(config);
    let now_ms = SystemClock::shared().now_ms();
    files::make_dir(&config.state_dir)?;
    let authority = authority(&places, now_ms)?;
    identity(&places.tls(), &authority, Role::Clc, "main", now_ms)?;
    identity(&places.admin(), &authority, Role::Admin, "admin", now_ms)?;
    // Beside the administrator's certificate, as `join` would have put it.
    if let Some(address) = config.advertised() {
        files::publish(places.admin().join("cloud"), address.to_string().as_bytes())?;
    }
    let cloud_certificate_pem = image_key(&places, now_ms)?;
    let seal = Seal::load_or_make(&places.seal_key())?;
    let credentials = credentials(&places, choices, cloud_certificate_pem, now_ms)?;

    let db = Db::open(places.database(), MIGRATIONS)?;
    rows::fill(&db, config, &credentials, seal, Timestamp(now_ms)).await?;
    Ok(credentials)
}

fn authority(places: &Places, now_ms: i64) -> Result<Authority, BoxError> {
    if !places.ca().join("ca.pem").exists() {
        Authority::create(now_ms)?.save(places.ca())?;
    }
    Ok(Authority::load(places.ca())?)
}

fn identity(
    dir: &Path,
    authority: &Authority,
    role: Role,
    name: &str,
    now_ms: i64,
) -> Result<(), BoxError> {
    if !Identity::exists(dir) {
        let peer = Peer::new(role, name, None)?;
        Identity::make(dir, authority, &Issue::daemon(peer, now_ms))?;
    }
    Ok(())
}

/// Makes the image key unless it is there; gives its certificate.
fn image_key(places: &Places, now_ms: i64) -> Result<String, BoxError> {
    // The certificate is written last: where it is, its key is.
    if !places.image_certificate().exists() {
        let made = keys::KeyAndCertificate::make("Mallee cloud images", now_ms)?;
        files::publish(places.image_key(), made.key_pem.reveal().as_bytes())?;
        files::publish_mode(
            places.image_certificate(),
            made.certificate_pem.as_bytes(),
            0o644,
        )?;
    }
    Ok(files::read_text(places.image_certificate())?)
}

/// Makes the credentials unless they are there. They are on disk before the database has them, so
/// that an `init` that was cut off prints the same ones the next time.
fn credentials(
    places: &Places,
    choices: &Choices,
    cloud_certificate_pem: String,
    now_ms: i64,
) -> Result<Credentials, BoxError> {
    if places.credentials().exists() {
        return Ok(serde_json::from_str(&files::read_text(
            places.credentials(),
        )?)?);
    }
    let rng = &mut rand::rng();
    let account_id = AccountId::mint(rng);
    let user = keys::KeyAndCertificate::make(&format!("{account_id} admin"), now_ms)?;
    let made = Credentials {
        region: choices.region.clone(),
        zone: choices.zone.clone(),
        account_id,
        account_name: choices.account_name.clone(),
        access_key_id: AccessKeyId::mint(rng),
        secret_access_key: mint_secret(),
        user_certificate_pem: user.certificate_pem,
        user_private_key_pem: user.key_pem,
        cloud_certificate_pem,
    };
    files::publish(places.credentials(), &serde_json::to_vec_pretty(&made)?)?;
    Ok(made)
}
