//! Bundle tasks: asked for and given up here, done by the instance's node.

pub(crate) mod policy;

use std::collections::HashMap;

use control::node::Wanted;
use ec2::{
    Code,
    bundle_tasks::{
        BundleInstance, BundleTask, BundleTaskError, BundleTaskOutput, CancelBundleTask,
        DescribeBundleTasks, DescribeBundleTasksOutput, S3Storage, S3StorageShown, StorageShown,
    },
};
use image::{
    keys::{BundleKey, Certificate, WrappedKey},
    manifest,
};
use sigv4::{PolicyClaim, Rules};
use store::Tx;
use types::{AccessKeyId, AccountId, BundleId, InstanceState, Timestamp};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming,
};
use crate::{
    Caller, Clc,
    bundle_task::BundleState,
    rows::{self, bundle_tasks::Task},
};

/// Asks for a bundle of an instance that runs.
pub async fn bundle_instance(
    clc: &Clc,
    caller: &Caller,
    ask: BundleInstance,
) -> Result<BundleTaskOutput> {
    let (storage, now) = (ask.storage.s3, clc.now());
    let access_key = permitted(clc, &storage, now)?;
    let account = caller.account().clone();
    let certificate = clc
        .db
        .read({
            let account = account.clone();
            move |tx| Ok::<_, Error>(rows::identity::certificate_of(tx, &account)?)
        })
        .await?;
    let (cloud_key, user_key) = wrapped(clc, certificate.as_deref())?;

    let task = Task {
        id: clc.mint(BundleId::mint),
        account: account.clone(),
        instance: ask.instance_id,
        bucket: storage.bucket,
        prefix: storage.prefix,
        access_key,
        policy: storage.upload_policy,
        signature: storage.upload_policy_signature,
        cloud_key,
        user_key,
        is_cancelled: false,
        state: BundleState::Pending,
        percent: 0,
        error: None,
        started_at: now,
        updated_at: now,
    };
    let task = change(clc, caller, move |tx| {
        must_be_free(tx, &account, &task)?;
        rows::bundle_tasks::insert(tx, &task)?;
        rows::instances::touch(tx, &task.instance)?;
        Ok(task)
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(output(task))
}

/// Whose permission it is, if it is one: a policy that allows this bundle, signed by a key in use.
fn permitted(clc: &Clc, storage: &S3Storage, now: Timestamp) -> Result<AccessKeyId> {
    let invalid = |field: &str, value: &str, why: &str| {
        Error::from(ec2::Error::invalid(field, value.escape_debug(), why))
    };
    must_be_a_place(storage).map_err(|(field, value, why)| invalid(field, value, why))?;
    let key = storage
        .aws_access_key_id
        .as_deref()
        .ok_or_else(|| ec2::Error::missing("Storage.S3.AWSAccessKeyId"))?;
    policy::allows(
        &storage.upload_policy,
        &storage.bucket,
        &storage.prefix,
        now,
    )
    .map_err(|why| invalid("Storage.S3.UploadPolicy", "the policy", &why))?;
    let refused = || {
        let message = "The upload policy is not signed by the access key that came with it";
        Error::new(Code::SignatureDoesNotMatch, message)
    };
    let key: AccessKeyId = key.parse().map_err(|_| refused())?;
    is_signed(
        clc,
        &key,
        &storage.upload_policy,
        &storage.upload_policy_signature,
    )
    .then_some(key)
    .ok_or_else(refused)
}

/// Bucket and prefix as they will stand in keys and in the manifest's file names.
fn must_be_a_place(storage: &S3Storage) -> std::result::Result<(), (&str, &str, &'static str)> {
    let (bucket, prefix) = (storage.bucket.as_str(), storage.prefix.as_str());
    if s3_bucket(bucket).is_none() {
        return Err(("Storage.S3.Bucket", bucket, "It is no name of a bucket"));
    }
    if !manifest::is_bundle_name(name_of(prefix)) || prefix.starts_with('/') || prefix.len() > 512 {
        let why =
            "Expected the beginning of a key whose last part is a file name of 90 bytes at most";
        return Err(("Storage.S3.Prefix", prefix, why));
    }
    Ok(())
}

/// A bucket's name as a path takes it; what is none is refused by Walrus in any case.
fn s3_bucket(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    ((3..=255).contains(&name.len()) && name.bytes().all(is_plain)).then_some(name)
}

/// The bundle's name: the last part of the prefix.
pub(crate) fn name_of(prefix: &str) -> &str {
    prefix.rsplit('/').next().unwrap_or(prefix)
}

/// Whether a policy is signed by that key, and the key is in use.
pub(crate) fn is_signed(clc: &Clc, key: &AccessKeyId, policy: &str, signature: &str) -> bool {
    let fields = [
        ("policy", policy),
        ("awsaccesskeyid", key.as_str()),
        ("signature", signature),
    ];
    let fields: HashMap<String, String> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let claim = PolicyClaim::read(&fields, &Rules::S3).ok().flatten();
    let credential = clc.identity.credential(key);
    claim
        .zip(credential)
        .is_some_and(|(claim, known)| claim.verify(known.secret.reveal()).is_ok())
}

/// A fresh key, wrapped for the cloud, and for the user where the user has a certificate. The node
/// gets it unwrapped, again and again: what is begun again makes the same parts.
fn wrapped(clc: &Clc, user_pem: Option<&str>) -> Result<(WrappedKey, WrappedKey)> {
    let broken = |error: image::keys::KeyError| Error::from(ec2::Error::internal(error));
    let key = BundleKey::mint();
    let cloud = Certificate::from_pem(&clc.image_certificate_pem).map_err(broken)?;
    let user = user_pem
        .map(Certificate::from_pem)
        .transpose()
        .map_err(broken)?;
    let for_user = user
        .map(|user| key.wrap(&user))
        .transpose()
        .map_err(broken)?;
    Ok((
        key.wrap(&cloud).map_err(broken)?,
        for_user.unwrap_or_default(),
    ))
}

fn must_be_free(tx: &Tx, account: &AccountId, task: &Task) -> Result<()> {
    let instance = rows::instances::find(tx, account, &task.instance)?
        .ok_or_else(|| ec2::Error::not_found(&task.instance))?;
    if let Some(open) = rows::bundle_tasks::open_of(tx, &instance.id)? {
        let message = format!(
            "The instance '{}' is being bundled by {}",
            instance.id, open.id
        );
        return Err(Error::new(Code::BundlingInProgress, message));
    }
    if instance.state != InstanceState::Running || instance.wanted != Wanted::Running {
        let state = instance.state.as_str();
        let message = format!(
            "The instance '{}' is {state} and cannot be bundled",
            instance.id
        );
        return Err(Error::new(Code::IncorrectState, message));
    }
    Ok(())
}

fn output(task: Task) -> BundleTaskOutput {
    BundleTaskOutput {
        bundle_instance_task: shown(task),
    }
}

fn shown(task: Task) -> BundleTask {
    BundleTask {
        bundle_id: task.id,
        instance_id: task.instance,
        state: task.state.as_str().to_owned(),
        progress: format!("{}%", task.percent),
        start_time: task.started_at.into(),
        update_time: task.updated_at.into(),
        storage: StorageShown {
            s3: S3StorageShown {
                bucket: task.bucket,
                prefix: task.prefix,
            },
        },
        error: task.error.map(|error| BundleTaskError {
            code: error.code,
            message: error.message,
        }),
    }
}

impl Filterable for BundleTask {
    const FIELDS: &'static [Field<Self>] = &[
        ("bundle-id", |task| vec![task.bundle_id.to_string()]),
        ("error-code", |task| {
            task.error.iter().map(|error| error.code.clone()).collect()
        }),
        ("error-message", |task| {
            task.error
                .iter()
                .map(|error| error.message.clone())
                .collect()
        }),
        ("instance-id", |task| vec![task.instance_id.to_string()]),
        ("progress", |task| vec![task.progress.clone()]),
        ("s3-bucket", |task| vec![task.storage.s3.bucket.clone()]),
        ("s3-prefix", |task| vec![task.storage.s3.prefix.clone()]),
        ("start-time", |task| vec![task.start_time.0.to_string()]),
        ("state", |task| vec![task.state.clone()]),
        ("update-time", |task| vec![task.update_time.0.to_string()]),
    ];

    fn tags(&self) -> Option<&[ec2::Tag]> {
        None
    }
}

/// Lists bundle tasks, oldest first.
pub async fn describe_bundle_tasks(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeBundleTasks,
) -> Result<DescribeBundleTasksOutput> {
    let filters = Filters::of(ask.filters)?;
    let account = caller.account().clone();
    let tasks = clc
        .db
        .read(move |tx| Ok::<_, Error>(rows::bundle_tasks::list(tx, &account)?))
        .await?;
    let picked = naming::pick(tasks, &ask.bundle_ids, |task| &task.id)?;
    let listed = picked.into_iter().map(shown);
    Ok(DescribeBundleTasksOutput {
        bundle_instance_tasks_set: listed.filter(|task| filters.admit(task)).collect(),
    })
}

/// Gives a bundle task up. Said twice, it is no error.
pub async fn cancel_bundle_task(
    clc: &Clc,
    caller: &Caller,
    ask: CancelBundleTask,
) -> Result<BundleTaskOutput> {
    let (account, now) = (caller.account().clone(), clc.now());
    let task = change(clc, caller, move |tx| {
        let found = rows::bundle_tasks::load(tx, &ask.bundle_id)?;
        let task = found
            .filter(|task| task.account == account)
            .ok_or_else(|| ec2::Error::not_found(&ask.bundle_id))?;
        if task.state.is_final() {
            let state = task.state.as_str();
            let message = format!("The bundle task '{}' is {state}", task.id);
            return Err(Error::new(Code::IncorrectState, message));
        }
        rows::bundle_tasks::want_cancelled(tx, &task.id, now)?;
        rows::instances::touch(tx, &task.instance)?;
        Ok(Task {
            state: BundleState::Cancelling,
            ..task
        })
    })
    .await?;
    clc.wakes.instances.wake();
    Ok(output(task))
}
