//! Bundling: what is needed besides the file, and where the parts go.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use image::{
    bundle::{Folder, Label, Order, PartSink, Source, bundle},
    keys::{BundleKey, Certificate, CloudKey},
    manifest::{Architecture, Kind},
};
use tokio::sync::mpsc;
use types::AccountId;

use super::progress::Progress;
use crate::{Failure, args, environment, public::Public};

/// A part on its way.
pub(super) type Part = (String, Bytes);

/// Everything that a bundle is made of.
pub(super) struct Prepared {
    file: PathBuf,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    kind: args::Kind,
    architecture: Architecture,
    account: AccountId,
    kernel: Option<String>,
    ramdisk: Option<String>,
    cloud: Certificate,
    user: Option<Certificate>,
    signer: Option<CloudKey>,
}

impl Prepared {
    /// Looks at the file, and for what the command line left out in the environment and the cloud.
    pub(super) async fn of(public: &Public, ask: &args::BundleOf) -> Result<Self, Failure> {
        let meta = std::fs::metadata(&ask.file).map_err(|error| cannot_read(&ask.file, error))?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(cannot_read(&ask.file, "it is no file, or empty"));
        }
        let architecture = ask.arch.parse().map_err(|_| {
            Failure::Usage(format!(
                "{:?} is none of i386, x86_64, armhf, ppc, ppc64, ppc64le",
                ask.arch
            ))
        })?;
        Ok(Self {
            name: name(ask)?,
            file: ask.file.clone(),
            size_bytes: meta.len(),
            kind: ask.kind,
            architecture,
            account: account(public, ask).await?,
            kernel: ask.kernel.clone(),
            ramdisk: ask.ramdisk.clone(),
            cloud: cloud_certificate(public, ask).await?,
            user: environment::path("EC2_CERT")
                .map(|file| read_certificate(&file))
                .transpose()?,
            signer: environment::path("EC2_PRIVATE_KEY")
                .map(|file| read_key(&file))
                .transpose()?,
        })
    }

    /// What tells this image from others, and from what it was before it was last written to.
    pub(super) fn identity(&self) -> Result<String, Failure> {
        let cannot = |error| cannot_read(&self.file, error);
        let meta = std::fs::metadata(&self.file).map_err(cannot)?;
        let path = std::fs::canonicalize(&self.file).map_err(cannot)?;
        let (size_bytes, name) = (meta.len(), &self.name);
        let written = (meta.mtime(), meta.mtime_nsec());
        Ok(format!(
            "{} {size_bytes} {written:?} {name}",
            path.display()
        ))
    }

    /// Bundles into the sink with this key; gives the manifest as text, signed if there is a key for
    /// that. Blocks.
    pub(super) fn bundle(
        &self,
        key: &BundleKey,
        sink: &mut dyn PartSink,
        progress: &Progress,
    ) -> Result<String, Failure> {
        let file = File::open(&self.file).map_err(|error| cannot_read(&self.file, error))?;
        // A kernel and a ramdisk name themselves by the word `true`, as euca2ools has it.
        let own = |kind| (self.kind == kind).then(|| "true".to_owned());
        let order = Order {
            name: &self.name,
            size_bytes: self.size_bytes,
            key,
        };
        let failed = |error: &dyn std::error::Error| {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            Failure::failed("bundling", format!("{error}{cause}"))
        };
        let wrap = |certificate| key.wrap(certificate).map_err(|error| failed(&error));
        let label = Label {
            kind: match self.kind {
                args::Kind::Machine => Kind::Machine,
                args::Kind::Kernel => Kind::Kernel,
                args::Kind::Ramdisk => Kind::Ramdisk,
            },
            architecture: self.architecture,
            user: self.account.clone(),
            kernel_id: own(args::Kind::Kernel).or_else(|| self.kernel.clone()),
            ramdisk_id: own(args::Kind::Ramdisk).or_else(|| self.ramdisk.clone()),
            block_device_mapping: Vec::new(),
            cloud_key: wrap(&self.cloud)?,
            user_key: self
                .user
                .as_ref()
                .map(wrap)
                .transpose()?
                .unwrap_or_default(),
        };
        let mut image = Source::new(file, 0);
        let mut heard = |bytes| progress.bundled(bytes);
        bundle(order, &mut image, sink, &mut heard)
            .map_err(|error| failed(&error))?
            .manifest(order, label)
            .to_xml(self.signer.as_ref())
            .map_err(|error| failed(&error))
    }
}

/// Bundles into a folder, the manifest last; gives its path.
pub(super) async fn into_folder(
    prepared: Prepared,
    folder: PathBuf,
    progress: Progress,
) -> Result<PathBuf, Failure> {
    let making = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, error))?;
        let key = BundleKey::mint();
        let text = prepared.bundle(&key, &mut Folder(folder.clone()), &progress)?;
        let manifest = folder.join(format!("{}.manifest.xml", prepared.name));
        std::fs::write(&manifest, text).map_err(|error| cannot_write(&manifest, error))?;
        Ok(manifest)
    });
    making
        .await
        .map_err(|error| Failure::failed("bundling", error))?
}

/// Parts go to the uploads; waits while they have enough.
pub(super) struct Channel(pub(super) mpsc::Sender<Part>, pub(super) Progress);

impl PartSink for Channel {
    fn put(&mut self, file_name: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.1.made(bytes.len() as u64);
        let part = (file_name.to_owned(), Bytes::from(bytes));
        self.0
            .blocking_send(part)
            .map_err(|_| io::Error::other("the upload has stopped"))
    }
}

fn name(ask: &args::BundleOf) -> Result<String, Failure> {
    let of_file = || Some(ask.file.file_stem()?.to_str()?.to_owned());
    ask.name
        .clone()
        .or_else(of_file)
        .ok_or_else(|| Failure::Usage("the bundle needs a name: give one by --name".to_owned()))
}

async fn account(public: &Public, ask: &args::BundleOf) -> Result<AccountId, Failure> {
    let named = ask.user.clone().or_else(|| environment::get("EC2_USER_ID"));
    let text = match named {
        Some(text) => text.replace('-', ""),
        None => public.account().await?,
    };
    text.parse()
        .map_err(|error| Failure::Usage(format!("{text:?}: {error}")))
}

async fn cloud_certificate(public: &Public, ask: &args::BundleOf) -> Result<Certificate, Failure> {
    match ask
        .cloud_cert
        .clone()
        .or_else(|| environment::path("EUCALYPTUS_CERT"))
    {
        Some(file) => read_certificate(&file),
        None => {
            let pem = public.bundling_certificate().await?;
            let unusable = |error| Failure::failed("the cloud's certificate", error);
            Certificate::from_pem(&pem).map_err(unusable)
        }
    }
}

fn read_certificate(file: &Path) -> Result<Certificate, Failure> {
    let pem = std::fs::read_to_string(file).map_err(|error| cannot_read(file, error))?;
    Certificate::from_pem(&pem).map_err(|error| cannot_read(file, error))
}

fn read_key(file: &Path) -> Result<CloudKey, Failure> {
    let pem = std::fs::read_to_string(file).map_err(|error| cannot_read(file, error))?;
    CloudKey::from_pem(&pem).map_err(|error| cannot_read(file, error))
}

pub(super) fn cannot_read(file: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot read {}", file.display()), cause)
}

fn cannot_write(file: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot write {}", file.display()), cause)
}
