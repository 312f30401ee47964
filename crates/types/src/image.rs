//! Kinds and states of images.

use serde::{Deserialize, Serialize};

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// A root disk or root partition (EMI).
    Machine,
    /// A kernel (EKI).
    Kernel,
    /// A ramdisk (ERI).
    Ramdisk,
}

impl ImageKind {
    /// The prefix of its id.
    pub const fn id_prefix(self) -> &'static str {
        match self {
            Self::Machine => "emi-",
            Self::Kernel => "eki-",
            Self::Ramdisk => "eri-",
        }
    }

    /// The word on the wire, in the manifest and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
        }
    }

    /// The kind of that word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Machine, Self::Kernel, Self::Ramdisk]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// The state of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// A copy that is being made.
    Pending,
    /// Registered and ready to launch.
    Available,
    /// A copy that could not be made.
    Failed,
    /// Deregistered; kept while instances still use it.
    Deregistered,
}

impl ImageState {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Failed => "failed",
            Self::Deregistered => "deregistered",
        }
    }

    /// The state of that word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Available,
            Self::Failed,
            Self::Deregistered,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}
