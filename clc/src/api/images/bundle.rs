//! A bundle in Walrus, read in its user's name: the manifest whole, the parts by their sizes.
//!
//! A manifest is a user's file. Who registers it must be able to read every part; our strict parser
//! takes it or says what is wrong; and the cloud must hold the key that it was bundled for. So an
//! image that is registered can be launched, or its parts were touched since.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use control::{
    CallError, Code as Peer, Objects,
    objects::{ObjectStats, Principal, ReadObject, StatObjects},
    rpc::Call,
};
use ec2::Code;
use image::manifest::{MAX_MANIFEST_BYTES, Manifest, PART_BYTES};

use crate::{
    Caller, Clc,
    api::{
        errors::{Error, Result},
        naming,
    },
    rows,
};

/// Asks in one StatObjects, below the message limit of the control protocol.
const STAT_MAX: usize = 10_000;

/// Bucket and key of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Location {
    /// Reads `BUCKET/NAME.manifest.xml`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        // It stands in metadata and on terminals.
        naming::printable("ImageLocation", text)?;
        match text.trim_start_matches('/').split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Self {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }),
            _ => {
                let reason = "Expected BUCKET/NAME.manifest.xml";
                Err(ec2::Error::invalid("ImageLocation", text.escape_debug(), reason).into())
            }
        }
    }

    /// What stands before the parts' names: they lie beside the manifest.
    fn prefix(&self) -> String {
        let folder = self.key.rsplit_once('/');
        folder.map_or(String::new(), |(folder, _)| format!("{folder}/"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// A bundle that can be launched.
pub(super) struct Bundle {
    pub(super) manifest: Manifest,
    pub(super) kept: rows::images::Manifest,
}

impl Bundle {
    /// Reads the bundle there, or says what is wrong with it.
    pub(super) async fn read(clc: &Clc, caller: &Caller, at: &Location) -> Result<Self> {
        let bytes = read_manifest(clc, caller, at).await?;
        let manifest = Manifest::parse(&bytes).map_err(|error| bad_manifest(error.to_string()))?;
        if manifest.user != *caller.account() {
            let message = "The manifest was made for another account: its user is not the caller's account number";
            return Err(Error::new(Code::AuthFailure, message));
        }
        clc.image_key.unwrap(&manifest.cloud_key).map_err(|_| {
            bad_manifest(
                "the bundle was made for another cloud: get this one's certificate and bundle again",
            )
        })?;
        let mut kept = rows::images::Manifest {
            bucket: at.bucket.clone(),
            prefix: at.prefix(),
            bytes,
            part_sizes: Vec::new(),
        };
        kept.part_sizes = part_sizes(clc, caller, &kept, &manifest).await?;
        Ok(Self { manifest, kept })
    }
}

pub(super) fn bad_manifest(why: impl fmt::Display) -> Error {
    Error::new(
        Code::InvalidManifest,
        format!("The manifest cannot be used: {why}"),
    )
}

fn principal(caller: &Caller) -> Principal {
    Principal {
        account: caller.account().clone(),
        user: caller.user().to_owned(),
    }
}

fn objects(clc: &Clc) -> Result<std::sync::Arc<dyn Objects>> {
    clc.peers.objects().ok_or_else(|| {
        Error::new(
            Code::Unavailable,
            "The object store has not joined the cloud yet. Try again.",
        )
    })
}

async fn read_manifest(clc: &Clc, caller: &Caller, at: &Location) -> Result<Vec<u8>> {
    let ask = ReadObject {
        principal: principal(caller),
        bucket: at.bucket.clone(),
        key: at.key.clone(),
        bytes_max: MAX_MANIFEST_BYTES as u64,
    };
    let call = Call::new(caller.request_id().as_str());
    let object = objects(clc)?
        .read_object(&call, ask)
        .await
        .map_err(|error| unreadable(at, error))?;
    STANDARD
        .decode(object.content)
        .map_err(|error| ec2::Error::internal(error).into())
}

/// As the caller would be told by S3.
fn unreadable(at: &Location, error: CallError) -> Error {
    match error.code {
        Peer::NotFound => bad_manifest(format_args!("{at} does not exist")),
        Peer::Forbidden => bad_manifest(format_args!("you may not read {at}")),
        Peer::Invalid => bad_manifest(format_args!("{at}: {}", error.message)),
        _ => error.into(),
    }
}

/// The sizes of all parts, each of which the caller must be able to read.
pub(super) async fn part_sizes(
    clc: &Clc,
    caller: &Caller,
    kept: &rows::images::Manifest,
    manifest: &Manifest,
) -> Result<Vec<u64>> {
    let objects = objects(clc)?;
    let keys = kept.keys(manifest);
    let mut sizes = Vec::with_capacity(keys.len());
    for keys in keys.chunks(STAT_MAX) {
        let ask = StatObjects {
            principal: principal(caller),
            bucket: kept.bucket.clone(),
            keys: keys.to_vec(),
        };
        let call = Call::new(caller.request_id().as_str());
        let ObjectStats { objects: stats } = objects.stat_objects(&call, ask).await?;
        for (key, stat) in keys.iter().zip(&stats) {
            sizes.push(part_size(&kept.bucket, key, &stat.size)?);
        }
    }
    let (said, sum) = (manifest.bundled_bytes, sizes.iter().sum::<u64>());
    if sizes.len() != manifest.parts.len() || sum != said {
        return Err(bad_manifest(format_args!(
            "it says {said} bytes of parts, and they have {sum}"
        )));
    }
    Ok(sizes)
}

fn part_size(bucket: &str, key: &str, size: &std::result::Result<u64, String>) -> Result<u64> {
    match size {
        Ok(size) if *size <= PART_BYTES => Ok(*size),
        Ok(_) => Err(bad_manifest(format_args!(
            "part {bucket}/{key} has more than {PART_BYTES} bytes"
        ))),
        Err(why) => Err(bad_manifest(format_args!("part {bucket}/{key}: {why}"))),
    }
}
