//! What an owner sets about a bucket, besides its access list: each one document that is put, read
//! back and perhaps deleted. They are kept typed; what a document said that we do not know is lost.

use serde::{Deserialize, Serialize};

use crate::documents::versions::Versioning;

/// All settings of a bucket; what was never set is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Whether old versions are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versioning: Option<Versioning>,
}

impl Settings {
    /// Whether nothing was ever set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
