//! Bundle tickets: what a node needs to store the bundle of one instance, and nothing more.
//!
//! Given only to the node on which the instance is placed, while the task is open. The addresses are
//! signed in the name of the access key that signed the client's policy, each for one object of the
//! bundle, with the policy's ACL, and for no longer than the policy holds: what the client's own form
//! could have stored. Key and policy are looked at again each time.

use std::sync::Arc;

use control::{
    CallError, Code,
    cloud::{BundleLabel, BundlePlace, BundleTicket, BundleTicketAsk},
};
use daemon::tls::Peer;
use http::uri::{Authority, Scheme};
use image::{keys::WrappedKey, manifest::MAX_PARTS};
use sigv4::sign::{Key, Presign, Target, v4_presign};
use types::{NodeId, Secret, Timestamp};

use super::{Refused, internal, join::node_id};
use crate::{
    Clc,
    api::bundle_tasks::{is_signed, name_of, policy},
    identity::Credential,
    rows::{
        bundle_tasks::{self, Task},
        instances::{self, Instance},
    },
};

/// How long a ticket's addresses hold. A node asks again for the next parts long before.
const VALID_SECS: i64 = 15 * 60;
/// Parts for which one ticket has addresses: 320 MiB of bundle.
const PARTS: u32 = 32;

/// Gives a ticket, or says why not.
pub(super) async fn give(
    clc: &Arc<Clc>,
    peer: &Peer,
    ask: BundleTicketAsk,
) -> Result<BundleTicket, CallError> {
    let (node, first) = (node_id(peer)?, ask.first_part);
    let (task, instance) = clc
        .db
        .read(move |tx| find(tx, &node, &ask).map_err(Refused))
        .await?;
    let signer = clc
        .identity
        .credential(&task.access_key)
        .filter(|_| is_signed(clc, &task.access_key, &task.policy, &task.signature))
        .ok_or_else(|| forbidden("the access key that signed the upload policy is not in use"))?;
    let now = clc.now();
    let allowed = policy::allows(&task.policy, &task.bucket, &task.prefix, now)
        .map_err(|why| forbidden(format!("the upload policy allows it no more: {why}")))?;
    let key = clc.image_key.unwrap(&task.cloud_key).map_err(internal)?;

    let left_secs = allowed.until.millis_since(now) / 1000;
    let (scheme, host) = clc
        .config
        .s3_base()
        .map_err(|why| CallError::new(Code::NotReady, why))?;
    let places = Places {
        scheme,
        host,
        region: clc.region.as_str(),
        signer: &signer,
        task: &task,
        acl: &allowed.acl,
        expires_secs: VALID_SECS.min(left_secs).max(1),
        now,
    };
    let last = first.saturating_add(PARTS).min(MAX_PARTS as u32);
    Ok(BundleTicket {
        key: Secret::new(hex::encode(key.key())),
        iv: Secret::new(hex::encode(key.iv())),
        label: label(&task, &instance),
        parts: (first..last)
            .map(|part| places.of(&format!("part.{part:02}")))
            .collect(),
        manifest: places.of("manifest.xml"),
        valid_ms: places.expires_secs.unsigned_abs() * 1000,
        acl: allowed.acl.clone(),
    })
}

fn forbidden(why: impl Into<String>) -> CallError {
    CallError::new(Code::Forbidden, why)
}

/// The task and its instance, if the node is to do it.
fn find(
    tx: &store::Tx,
    node: &NodeId,
    ask: &BundleTicketAsk,
) -> Result<(Task, Instance), CallError> {
    let task = bundle_tasks::load(tx, &ask.task).map_err(internal)?;
    let instance = instances::load(tx, &ask.instance).map_err(internal)?;
    task.zip(instance)
        .filter(|(task, instance)| {
            task.instance == instance.id
                && instance.node.as_ref() == Some(node)
                && !task.state.is_final()
                && !task.is_cancelled
        })
        .ok_or_else(|| {
            let (task, instance) = (&ask.task, &ask.instance);
            forbidden(format!("{task} of {instance} is not for {node} to do"))
        })
}

fn label(task: &Task, instance: &Instance) -> BundleLabel {
    let hex = |key: &WrappedKey| [hex::encode(&key.key), hex::encode(&key.iv)];
    BundleLabel {
        name: name_of(&task.prefix).to_owned(),
        architecture: instance.architecture.clone(),
        account: task.account.clone(),
        kernel: instance.kernel.clone(),
        ramdisk: instance.ramdisk.clone(),
        cloud_key: hex(&task.cloud_key),
        user_key: hex(&task.user_key),
    }
}

/// Makes addresses of a bundle's objects.
struct Places<'a> {
    scheme: Scheme,
    host: Authority,
    region: &'a str,
    signer: &'a Credential,
    task: &'a Task,
    acl: &'a str,
    expires_secs: i64,
    now: Timestamp,
}

impl Places<'_> {
    fn of(&self, end: &str) -> BundlePlace {
        let key = format!("{}.{end}", self.task.prefix);
        let path = format!(
            "/{}/{}",
            self.task.bucket,
            sigv4::encode_path(key.as_bytes())
        );
        let acl = [("x-amz-acl", self.acl)];
        BundlePlace {
            put: self.signed("PUT", &path, &acl),
            head: self.signed("HEAD", &path, &[]),
        }
    }

    fn signed(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Secret<String> {
        let ask = Presign {
            method,
            host: self.host.as_str(),
            path,
            query: "",
            headers,
            expires_secs: self.expires_secs,
        };
        let by = Key {
            access_key: self.signer.id.as_str(),
            secret: self.signer.secret.reveal(),
            session_token: None,
        };
        let target = Target {
            region: self.region,
            service: "s3",
        };
        let signed = v4_presign(ask, by, target, self.now.0);
        Secret::new(format!("{}://{}{signed}", self.scheme, self.host))
    }
}
