//! Buckets of the cloud's own account: objects of others under a second name there, so that they
//! stay when the first name is deleted. The files are linked, not copied. Nobody reaches these buckets
//! over S3 but the cloud's own key, which reads.

use control::{CallError, Code, objects::LinkObjects};
use s3::{Acl, BucketName, Key, request::ListVersion};
use types::{AccountId, Timestamp};

use crate::engine::{
    Change, Engine, Failure, Found, Object,
    change::{DeleteChange, PutChange, SameBucket},
    facts::Bucket,
};

/// Objects that are removed in one commit.
const DROP_MAX: u32 = 1_000;

/// Makes the bucket, if it is not there.
pub(crate) async fn make_bucket(
    engine: &Engine,
    name: &str,
    now: Timestamp,
) -> Result<SameBucket, CallError> {
    let name = bucket_name(name)?;
    if let Some(bucket) = find(engine, &name).await? {
        return Ok(bucket);
    }
    let bucket = Bucket {
        id: hex::encode(rand::random::<[u8; 8]>()),
        created: now,
        location: None,
        acl: Acl::default(),
        settings: Default::default(),
        owner: AccountId::system(),
        name: name.clone(),
    };
    match engine.commit(Change::CreateBucket(Box::new(bucket))).await {
        // Made meanwhile, by whoever: looked at again.
        Ok(_) | Err(Failure::Refused(_)) => {}
        Err(failure) => return Err(internal(&failure)),
    }
    find(engine, &name)
        .await?
        .ok_or_else(|| CallError::new(Code::Conflict, format!("the bucket {name} went at once")))
}

/// The bucket, if it is there and the cloud's.
async fn find(engine: &Engine, name: &BucketName) -> Result<Option<SameBucket>, CallError> {
    let asked = name.clone();
    let found = engine
        .view(move |view| view.find_bucket(&asked))
        .await
        .map_err(|failure| internal(&failure))?;
    match found.map(|kept| kept.thing) {
        None => Ok(None),
        Some(bucket) if bucket.owner == AccountId::system() => Ok(Some(SameBucket {
            name: bucket.name,
            id: bucket.id,
        })),
        Some(_) => Err(CallError::new(
            Code::Conflict,
            format!("the bucket {name} is somebody's"),
        )),
    }
}

fn bucket_name(name: &str) -> Result<BucketName, CallError> {
    BucketName::parse(name).map_err(|error| CallError::new(Code::Invalid, error.to_string()))
}

/// The object under another name, and nobody's but the cloud's.
pub(crate) async fn link(
    engine: &Engine,
    found: &Found,
    bucket: &SameBucket,
    name: &str,
    now: Timestamp,
) -> Result<Change, CallError> {
    let key = Key::parse(name).map_err(|error| CallError::new(Code::Invalid, error.to_string()))?;
    let (body, blobs) = engine
        .duplicate_body(found)
        .await
        .map_err(|failure| internal(&failure))?;
    let object = Object {
        bucket: bucket.name.clone(),
        key,
        modified: now,
        owner: AccountId::system(),
        acl: Acl::default(),
        body,
        upload_id: None,
        ..found.object.clone()
    };
    Ok(Change::PutObject(Box::new(PutChange {
        bucket: bucket.clone(),
        object,
        inline: found.inline().cloned().unwrap_or_default(),
        blobs,
        conditions: Default::default(),
        unique: rand::random(),
    })))
}

/// Makes all changes, or says what the first that failed says.
pub(crate) async fn commit(engine: &Engine, changes: Vec<Change>) -> Result<(), CallError> {
    for done in engine.commit_all(changes).await {
        done.map_err(|failure| internal(&failure))?;
    }
    Ok(())
}

/// Removes the bucket and all that is in it.
pub(crate) async fn drop_bucket(
    engine: &Engine,
    name: &str,
    now: Timestamp,
) -> Result<(), CallError> {
    let name = bucket_name(name)?;
    let Some(bucket) = find(engine, &name).await? else {
        return Ok(());
    };
    loop {
        let keys = some_keys(engine, &name).await?;
        if keys.is_empty() {
            return commit(engine, vec![Change::DeleteBucket(bucket)]).await;
        }
        let delete = |key| {
            Change::DeleteObject(Box::new(DeleteChange {
                bucket: bucket.clone(),
                key,
                version: None,
                conditions: Default::default(),
                bypass_governance: false,
                owner: AccountId::system(),
                now,
                unique: 0,
            }))
        };
        commit(engine, keys.into_iter().map(delete).collect()).await?;
    }
}

async fn some_keys(engine: &Engine, bucket: &BucketName) -> Result<Vec<Key>, CallError> {
    let (bucket, list) = (
        bucket.clone(),
        s3::request::ListObjects {
            prefix: String::new(),
            delimiter: None,
            max_keys: DROP_MAX,
            encode: false,
            version: ListVersion::V1 {
                marker: String::new(),
            },
        },
    );
    let page = engine
        .view(move |view| view.list_objects(&bucket, &list))
        .await
        .map_err(|failure| internal(&failure))?;
    let keys = page.objects.into_iter().map(|line| line.key);
    keys.map(|key| Key::parse(&key).map_err(|error| CallError::internal(&error)))
        .collect()
}

fn internal(failure: &Failure) -> CallError {
    CallError::internal(failure)
}

/// Refuses more than one call may ask.
pub(crate) fn check(ask: &LinkObjects) -> Result<(), CallError> {
    /// A link and a sync each: some seconds.
    const NAMES_MAX: usize = 1_000;
    match ask.names.len() {
        0..=NAMES_MAX => Ok(()),
        _ => Err(CallError::new(Code::Invalid, "more than 1000 names")),
    }
}
