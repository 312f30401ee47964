//! Volume states as EC2 names them.

use serde::{Deserialize, Serialize};

/// The state of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Being made at the Storage Controller.
    Creating,
    /// Ready, attached nowhere.
    Available,
    /// Attached.
    InUse,
    /// Being removed.
    Deleting,
    /// Gone.
    Deleted,
    /// Could not be made; its reason is in the record.
    Error,
}

impl VolumeState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Creating,
        Self::Available,
        Self::InUse,
        Self::Deleting,
        Self::Deleted,
        Self::Error,
    ];

    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::InUse => "in-use",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Error => "error",
        }
    }

    /// The state of that word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}
