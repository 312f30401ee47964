//! What goes wrong, in words that say what to do, and the exit code of each. The codes are part of
//! the interface: scripts decide by them, and `mallee --help` lists them.

use control::{CallError, Code};

/// The command line is wrong (EX_USAGE of sysexits).
pub const USAGE: u8 = 64;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cloud answered no. Exit code 1.
    #[error("{message} ({code})")]
    Refused {
        /// The code of the API.
        code: String,
        /// What it says.
        message: String,
    },
    /// A file, a terminal, anything on this side. Exit code 1.
    #[error("{what}: {cause}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: String,
    },
    /// It was looked at, and something is broken. Exit code 2.
    #[error("{0}")]
    Broken(String),
    /// What was named does not exist. Exit code 3.
    #[error("{0}")]
    NotFound(String),
    /// The command line or the environment lacks something. Exit code 64.
    #[error("{0}")]
    Usage(String),
    /// The cloud does not answer. Exit code 69.
    #[error("{0}")]
    Unreachable(String),
    /// The cloud does not let us. Exit code 77.
    #[error("{0}")]
    Forbidden(String),
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Failed { .. } => 1,
            Self::Broken(_) => 2,
            Self::NotFound(_) => 3,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => 69,
            Self::Forbidden(_) => 77,
        }
    }

    /// Something on this side failed.
    pub fn failed(what: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Failed {
            what: what.into(),
            cause: cause.to_string(),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let message = error.message;
        match error.code {
            Code::Unreachable | Code::Deadline => {
                Self::Unreachable(format!("the cloud controller does not answer: {message}"))
            }
            Code::NotReady => Self::Unreachable(format!("the cloud is not ready: {message}")),
            Code::Forbidden => Self::Forbidden(message),
            Code::NotFound => Self::NotFound(message),
            Code::NoRoom => Self::Refused {
                code: "NoRoom".into(),
                message,
            },
            Code::Invalid => Self::Refused {
                code: "Invalid".into(),
                message,
            },
            Code::Conflict => Self::Refused {
                code: "Conflict".into(),
                message,
            },
            Code::Internal => Self::Refused {
                code: "Internal".into(),
                message,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_stay_what_the_help_says() {
        let code = |code| Failure::from(CallError::new(code, "x")).exit_code();
        assert_eq!(code(Code::Internal), 1);
        assert_eq!(Failure::Broken("x".into()).exit_code(), 2);
        assert_eq!(code(Code::NotFound), 3);
        assert_eq!(Failure::Usage("x".into()).exit_code(), 64);
        assert_eq!(code(Code::Unreachable), 69);
        assert_eq!(code(Code::Forbidden), 77);
    }
}
