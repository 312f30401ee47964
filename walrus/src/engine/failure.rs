//! What can go wrong below S3: what failed, on which file, and why.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request cannot be done as things are; the client is told exactly this.
    #[error(transparent)]
    Refused(#[from] s3::Error),
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The disk does not give what a segment of the journal holds, which is no proof that it is lost.
    #[error(
        "{} cannot be read, and may hold what nothing else does; nothing goes on without it. \
         If its disk stays so, copy what can be read to another one, zeros in the place of the rest: \
         `mallee-walrus fsck` there says what is missing",
        path.display()
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The journal and the index may not lie there.
    #[error("journal and index cannot lie there; storage.blobs_dir may, for large bodies")]
    Place(#[source] Box<store::OpenError>),
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] rusqlite::Error),
    /// A row of the index is not what was written; the journal has it.
    #[error("the index is damaged: {0}")]
    Record(String),
    /// Kept bytes are not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The store of large objects does not answer, or serves nobody; what it keeps is not lost.
    #[error("the store of large objects is away: {0}")]
    Away(String),
    /// The engine has met an error after which it writes nothing more; a restart recovers.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

impl Failure {
    /// Whether the disk has no room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Index(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Refused(_)
            | Self::Unreadable { .. }
            | Self::Place(_)
            | Self::Record(_)
            | Self::Damaged(_)
            | Self::Away(_)
            | Self::Stopped(_) => false,
        }
    }

    /// Whether the index cannot be believed. It is made anew from the journal.
    pub fn is_of_index(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Record(_) => true,
            Self::Index(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase)
            }
            // A column of another kind, or text that is not UTF-8: no row of ours.
            Self::Index(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::InvalidColumnType(..),
            ) => true,
            _ => false,
        }
    }
}

/// What the engine answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<s3::Code> for Failure {
    fn from(code: s3::Code) -> Self {
        Self::Refused(code.into())
    }
}

/// Says what was tried when an I/O error comes.
pub trait During<T> {
    /// `verb` and the path go before the error.
    fn during(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Failure::Io {
            what: format!("{verb} {}", path.display()),
            source,
        })
    }
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(io::Error::from).during(verb, path)
    }
}
