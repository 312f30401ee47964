//! From what went wrong inside to what a client is told: the only place that chooses so.
//!
//! A handler's error is an [`ec2::Error`] in a coat of ours, since neither the database's nor the
//! peers' errors know that crate.

use control::CallError;
use ec2::Code;

/// What a handler answers instead of its output.
#[derive(Debug)]
pub struct Error(pub ec2::Error);

/// A handler's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(ec2::Error::new(code, message))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

impl From<ec2::Error> for Error {
    fn from(error: ec2::Error) -> Self {
        Self(error)
    }
}

impl From<wire::query::Error> for Error {
    fn from(error: wire::query::Error) -> Self {
        Self(error.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let busy = |message: &str| ec2::Error::new(Code::Unavailable, message);
        Self(match &error {
            store::Error::Closed => busy("The cloud is stopping. Try again."),
            store::Error::Conflict { .. } => {
                busy("Somebody else changed the same thing. Try again.")
            }
            _ => ec2::Error::internal(error),
        })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        store::Error::from(error).into()
    }
}

/// Where a peer's answer has no meaning of its own for the handler: what the user can do is wait.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        use control::Code as Peer;

        Self(match error.code {
            Peer::Unreachable | Peer::Deadline | Peer::NotReady => ec2::Error {
                code: Code::Unavailable,
                message: "A part of the cloud does not answer. Try again.".to_owned(),
                source: Some(Box::new(error)),
            },
            Peer::NoRoom => ec2::Error::new(Code::InsufficientInstanceCapacity, error.message),
            Peer::Forbidden | Peer::NotFound | Peer::Invalid | Peer::Conflict | Peer::Internal => {
                ec2::Error::internal(error)
            }
        })
    }
}
