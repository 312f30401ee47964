//! SQLite for a daemon: one writer thread with group commit, a pool of readers, migrations.
//!
//! What must be durable goes through [`Db::write`]: when it answers, the change is on disk
//! (`synchronous=FULL`), alone or together with the writes of others that were waiting. Everything
//! else a daemon knows is memory, and can be had again from its peers.
//!
//! | module | owns |
//! |---|---|
//! | [`db`](Db) | opening, reading, and the handle that everyone shares |
//! | `writer` | the one thread that writes: groups, savepoints, answers |
//! | `migrate` | numbered SQL steps, the backup before them, the refusal of newer files |
//! | `place` | which file systems a database may be on |
//!
//! No SQL of any daemon is here, and no retry: with one writer there is no `SQLITE_BUSY` to retry.

mod db;
mod migrate;
pub mod place;
mod writer;

pub use db::Db;
pub use migrate::Migration;

/// What a closure of [`Db::read`] or [`Db::write`] works on: a connection inside a transaction.
/// It never begins or ends one itself.
pub type Tx = rusqlite::Connection;

/// What goes wrong in a transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("database")]
    Sqlite(#[from] rusqlite::Error),
    /// The row is not at the generation that the caller saw: somebody was faster.
    #[error("{what} was changed by someone else")]
    Conflict {
        /// Which row, for the log.
        what: String,
    },
    /// A row holds something that this program cannot read.
    #[error("row {row}: {reason}")]
    Unreadable {
        /// Which row.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The transaction, with every write in its group, was rolled back (disk full, I/O error).
    #[error("not written: {0}")]
    NotWritten(String),
    /// The closure panicked; its writes were undone.
    #[error("a transaction panicked: {0}")]
    Panicked(String),
    /// The database is closed: the daemon is stopping.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// A unique or foreign key constraint refused the write.
    pub fn is_constraint(&self) -> bool {
        matches!(self, Self::Sqlite(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation))
    }
}

/// What keeps a database from being opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite refused, and at which step.
    #[error("database {path}: {step}")]
    Sqlite {
        /// The file.
        path: String,
        /// What was being done.
        step: String,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system cannot be asked, or the folder does not exist.
    #[error("database {path}")]
    Io {
        /// The file or folder.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A network or user-space file system, where SQLite's locks and memory map cannot be trusted.
    #[error(
        "database {path} is on {kind}; a database must be on a local file system: change state_dir"
    )]
    Place {
        /// The folder.
        path: String,
        /// The file system's name.
        kind: &'static str,
    },
    /// A newer program wrote the file.
    #[error(
        "database {path} is at version {found}, this program knows {known}; use the newer program"
    )]
    Newer {
        /// The file.
        path: String,
        /// The file's version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
}

/// Reads an update's row count: one is right, none is a [`Error::Conflict`] over `what`.
///
/// For updates that name the generation they saw: `… WHERE id = :id AND generation = :seen`.
pub fn changed_one(rows: usize, what: impl std::fmt::Display) -> Result<(), Error> {
    match rows {
        1 => Ok(()),
        _ => Err(Error::Conflict {
            what: what.to_string(),
        }),
    }
}
