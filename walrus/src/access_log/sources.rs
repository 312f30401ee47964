//! Which buckets are logged, and where to: in memory, so that a request for a bucket that is not
//! logged costs a look into a map. It follows what the index says: at the start, and after each
//! change of a bucket.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use s3::{BucketName, documents::logging::Logging};
use serde::{Deserialize, Serialize};
use types::AccountId;

use crate::engine::{Bucket, Engine, Result};

/// A bucket that is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub bucket: BucketName,
    /// Whose it is.
    pub owner: AccountId,
    /// Where its log goes.
    pub logging: Logging,
}

impl Source {
    fn of(bucket: &Bucket) -> Option<Self> {
        Some(Self {
            bucket: bucket.name.clone(),
            owner: bucket.owner.clone(),
            logging: bucket.settings.logging.clone()?,
        })
    }
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    known: Arc<RwLock<HashMap<BucketName, Arc<Source>>>>,
    /// One refreshes at a time: what is looked up last is written last.
    refreshing: Arc<tokio::sync::Mutex<()>>,
}

impl Sources {
    /// Looks at all buckets.
    pub async fn load(&self, engine: &Engine) -> Result<()> {
        let _alone = self.refreshing.lock().await;
        let buckets = engine
            .view(|view| view.buckets_where(|bucket| bucket.settings.logging.is_some()))
            .await?;
        let sources = buckets.iter().filter_map(Source::of);
        let sources = sources.map(|source| (source.bucket.clone(), Arc::new(source)));
        let sources = sources.collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = sources;
        Ok(())
    }

    /// Looks at one bucket again, after something about it was changed.
    pub async fn refresh(&self, engine: &Engine, bucket: &BucketName) -> Result<()> {
        let _alone = self.refreshing.lock().await;
        let found = engine.find_bucket(bucket.clone()).await?;
        let source = found.as_ref().and_then(Source::of);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match source {
            Some(source) => known.insert(bucket.clone(), Arc::new(source)),
            None => known.remove(bucket),
        };
        Ok(())
    }

    /// A bucket, if it is logged.
    pub fn find(&self, bucket: &BucketName) -> Option<Arc<Source>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(bucket).cloned()
    }
}
