//! Image tickets: what a node needs to fetch one image, and nothing more.
//!
//! Given only to a node on which an instance of that image is placed, or which the administrator has
//! fetch it. One that names the cache entry is told where else to take it from, if there is
//! ([`super::copies`]); the bundle is for the others. Its key is unwrapped
//! here, with the cloud's private key, and travels over mutual TLS; the parts are addressed by
//! presigned URLs of the cloud's own account, which Walrus lets read bundles.

use std::sync::Arc;

use control::{
    CallError, Code,
    cloud::{Ticket, TicketAsk, TicketPart},
};
use daemon::tls::Peer;
use image::manifest::Manifest;
use sigv4::sign::{Key, Presign, Target, v4_presign};
use store::Tx;
use types::{AccountId, NodeId, Secret};

use super::{Refused, copies, internal};
use crate::{Clc, identity::Credential, rows::images};

/// How long a ticket's addresses hold. A transfer that takes longer asks again in its midst.
const VALID_SECS: i64 = 15 * 60;

/// Gives a ticket, or says why not.
pub(super) async fn give(clc: &Arc<Clc>, peer: &Peer, ask: TicketAsk) -> Result<Ticket, CallError> {
    let (node, zone) = copies::speaker(peer)?;
    let now_ms = clc.clock.monotonic_ms();
    let is_warmed = clc.copies.is_warmed(&node, &ask.image.id, now_ms);
    let (who, at, what) = (node.clone(), zone.clone(), ask.clone());
    let known = clc.db.read(move |tx| {
        may_have(tx, &who, &what, is_warmed).map_err(Refused)?;
        copies::Known::read(tx, &at, &what).map_err(Refused)
    });
    if let Some(ticket) = copies::instead(clc, (&node, &zone), &ask, known.await?) {
        return Ok(ticket);
    }

    let image = ask.image.id.clone();
    let stored = clc.db.read(move |tx| images::manifest(tx, &image)).await;
    let stored = stored
        .map_err(internal)?
        .ok_or_else(|| CallError::not_found(&ask.image.id))?;
    let manifest = Manifest::parse(&stored.bytes).map_err(internal)?;
    let key = clc
        .image_key
        .unwrap(&manifest.cloud_key)
        .map_err(internal)?;
    let signer = clc
        .identity
        .of_account(&AccountId::system())
        .ok_or_else(|| {
            CallError::new(Code::NotReady, "the cloud's own account has no access key")
        })?;
    Ok(Ticket {
        image: ask.image.id,
        parts: parts(clc, &signer, &stored, &manifest)?,
        key: Secret::new(hex::encode(key.key())),
        iv: Secret::new(hex::encode(key.iv())),
        digest_sha1: manifest.digest.to_string(),
        size_bytes: manifest.size_bytes,
        bundled_bytes: stored.part_sizes.iter().sum(),
        valid_ms: VALID_SECS.unsigned_abs() * 1000,
        blocks: None,
        peers: Vec::new(),
        filled_by: None,
    })
}

/// Whether the node has a reason to ask, and knows what it asks for.
fn may_have(tx: &Tx, node: &NodeId, ask: &TicketAsk, is_warmed: bool) -> Result<(), CallError> {
    let image = &ask.image;
    copies::has_reason(tx, node, &image.id, is_warmed)?;
    let row = images::find(tx, &image.id)
        .map_err(internal)?
        .ok_or_else(|| CallError::not_found(&image.id))?;
    if row.manifest_sha256 != image.manifest_sha256 {
        let what = "the image has another manifest now";
        return Err(CallError::new(Code::Conflict, what));
    }
    Ok(())
}

fn parts(
    clc: &Clc,
    signer: &Credential,
    stored: &images::Manifest,
    manifest: &Manifest,
) -> Result<Vec<TicketPart>, CallError> {
    let (scheme, host) = clc
        .config
        .s3_base()
        .map_err(|why| CallError::new(Code::NotReady, why))?;
    let now_ms = clc.now().0;
    let one = |(part, size_bytes): (&image::manifest::Part, &u64)| {
        let key = format!("{}{}", stored.prefix, part.file_name);
        let path = format!("/{}/{}", stored.bucket, sigv4::encode_path(key.as_bytes()));
        let ask = Presign {
            method: "GET",
            host: host.as_str(),
            path: &path,
            query: "",
            headers: &[],
            expires_secs: VALID_SECS,
        };
        let by = Key {
            access_key: signer.id.as_str(),
            secret: signer.secret.reveal(),
            session_token: None,
        };
        let target = Target {
            region: clc.region.as_str(),
            service: "s3",
        };
        TicketPart {
            name: part.file_name.clone(),
            url: Secret::new(format!(
                "{scheme}://{host}{}",
                v4_presign(ask, by, target, now_ms)
            )),
            digest_sha1: part.digest.to_string(),
            size_bytes: *size_bytes,
        }
    };
    Ok(manifest
        .parts
        .iter()
        .zip(&stored.part_sizes)
        .map(one)
        .collect())
}
