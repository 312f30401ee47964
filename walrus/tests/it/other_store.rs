//! Another S3 store for large bodies: a second Walrus, or whatever `MALLEE_BLOBS_URL` names. With
//! `MALLEE_BLOBS` set, every Walrus of every test keeps its large bodies in one, in a bucket of its own.

use std::{os::unix::fs::PermissionsExt, path::Path};

use crate::{
    daemon_process::{BOB, Walrus},
    s3_client::S3,
};

/// A store, and the bucket that is made for somebody.
pub(crate) struct OtherStore {
    /// The store itself, if it is ours.
    pub(crate) walrus: Option<Box<Walrus>>,
    pub(crate) host: String,
    pub(crate) bucket: String,
    access_key: String,
    secret: String,
    /// Whether it is spoken to by https; ours has a certificate that its own cloud's authority signed.
    pub(crate) is_https: bool,
}

fn new_bucket() -> String {
    format!("blobs-{}", hex::encode(rand::random::<[u8; 6]>()))
}

/// Whether all tests are to keep large bodies in another store.
pub(crate) fn is_asked() -> bool {
    std::env::var("MALLEE_BLOBS").is_ok()
}

impl OtherStore {
    /// The store that the environment names, or a Walrus.
    pub(crate) async fn start() -> Self {
        let from_environment = |name: &str| std::env::var(name).ok();
        let Some(url) = from_environment("MALLEE_BLOBS_URL") else {
            return Self::start_own().await;
        };
        let theirs = Self {
            walrus: None,
            host: url.trim_start_matches("http://").to_owned(),
            bucket: new_bucket(),
            access_key: from_environment("MALLEE_BLOBS_KEY").unwrap(),
            secret: from_environment("MALLEE_BLOBS_SECRET").unwrap(),
            is_https: false,
        };
        theirs.with_bucket().await
    }

    /// A Walrus.
    pub(crate) async fn start_own() -> Self {
        let mut walrus = Walrus::prepare_plain(&std::env::temp_dir(), &[]).await;
        walrus.run().await;
        let ours = Self {
            host: walrus.s3.to_string(),
            walrus: Some(Box::new(walrus)),
            bucket: new_bucket(),
            access_key: BOB.id.to_owned(),
            secret: BOB.secret.to_owned(),
            is_https: false,
        };
        ours.with_bucket().await
    }

    async fn with_bucket(self) -> Self {
        let bucket = format!("/{}", self.bucket);
        self.s3().put(&bucket, b"").await.ok();
        self
    }

    /// A client of the store.
    pub(crate) fn s3(&self) -> S3 {
        S3::at(&self.host, &self.access_key, &self.secret)
    }

    /// What is told to a Walrus that is to use it; its key goes into that folder.
    pub(crate) fn sets(&self, folder: &Path) -> Vec<String> {
        let file = folder.join("blobs.credentials");
        self.write_key(&file, &self.secret);
        let mut sets = vec![
            format!("blobs.url=http://{}", self.host),
            format!("blobs.bucket={}", self.bucket),
            "blobs.prefix=large/".to_owned(),
            format!("blobs.credentials_file={}", file.display()),
        ];
        if self.is_https {
            let ca_file = folder.join("blobs.ca.pem");
            std::fs::write(&ca_file, self.walrus.as_ref().unwrap().authority_pem()).unwrap();
            sets[0] = format!("blobs.url=https://{}", self.host);
            sets.push(format!("blobs.ca_file={}", ca_file.display()));
        }
        sets
    }

    /// Writes the file with the key, and another secret if that is wanted.
    pub(crate) fn write_key(&self, file: &Path, secret: &str) {
        let key = &self.access_key;
        let text =
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The keys of all files in it.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let listed = self
            .s3()
            .get(&format!("/{}?prefix=large/", self.bucket))
            .await
            .ok();
        let mut keys = listed.elements("Key");
        keys.retain(|key| key != "large/owner");
        keys
    }

    /// The ids of all uploads that were begun in it.
    pub(crate) async fn uploads(&self) -> Vec<String> {
        let listed = self
            .s3()
            .get(&format!("/{}?uploads", self.bucket))
            .await
            .ok();
        listed.elements("UploadId")
    }
}
