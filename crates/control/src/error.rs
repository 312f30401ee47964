//! What a call between daemons can answer instead of its result.

use serde::{Deserialize, Serialize};

/// Why a call failed, for the code that decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The peer could not be reached, or closed the connection. The call may have happened.
    Unreachable,
    /// No answer before the deadline. The call may have happened.
    Deadline,
    /// The peer's certificate, or ours, may not do this.
    Forbidden,
    /// What the call names does not exist there.
    NotFound,
    /// No room: capacity, quota, disk.
    NoRoom,
    /// The call is malformed or asks for what cannot be.
    Invalid,
    /// Something newer was already there, or the state does not allow it.
    Conflict,
    /// The peer is up but cannot do this yet; its reason says why.
    NotReady,
    /// A defect or an I/O error at the peer.
    Internal,
}

impl Code {
    /// The HTTP status that carries it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Unreachable | Self::NotReady => 503,
            Self::Deadline => 504,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::NoRoom => 507,
            Self::Invalid => 400,
            Self::Conflict => 409,
            Self::Internal => 500,
        }
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Unreachable | Self::Deadline | Self::NotReady | Self::Internal | Self::NoRoom => {
                true
            }
            Self::Forbidden | Self::NotFound | Self::Invalid | Self::Conflict => false,
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What to do about it.
    pub code: Code,
    /// What failed, in a sentence that names the thing.
    pub message: String,
}

impl CallError {
    /// A failure with its code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What the call names is not there.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("{what} does not exist here"))
    }

    /// A defect or an I/O error, with its chain of causes.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(Code::Internal, message)
    }
}
