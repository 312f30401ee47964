//! Opening a database, and the handle that everyone shares.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::{Error, Migration, OpenError, Tx, migrate::migrate, place, writer::Writer};

/// Readers at once. A read takes a core and no waiting, so more than a few would only queue.
const READERS: usize = 8;
/// Statements that each connection keeps compiled; a daemon has some hundred.
const STATEMENTS_KEPT: usize = 256;
/// Only another program (`mallee-clc token`, sqlite3) can hold the lock; it has this long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A daemon's database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    readers: Arc<Readers>,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Db {
    /// Opens the file, making it if need be, and brings it to the version of `steps`.
    pub fn open(path: impl AsRef<Path>, steps: &[Migration]) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |step: &'static str| {
            let path = path.display().to_string();
            move |source| OpenError::Sqlite {
                path,
                step: step.to_owned(),
                source,
            }
        };
        place::check(
            path.parent()
                .filter(|dir| !dir.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
        )?;

        let mut connection = Connection::open(path).map_err(failed("opening"))?;
        private(path).map_err(|source| OpenError::Io {
            path: path.display().to_string(),
            source,
        })?;
        set_up(&connection).map_err(failed("setting up"))?;
        // Foreign keys are off while tables are rebuilt, as SQLite's manual asks, and checked after.
        migrate(&mut connection, path, steps)?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(failed("setting up"))?;

        let idle = (0..READERS)
            .map(|_| open_reader(path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(failed("opening readers"))?;
        let readers = Readers {
            idle: Mutex::new(idle),
            permits: Arc::new(Semaphore::new(READERS)),
        };
        let writer = Writer::start(connection).map_err(|source| OpenError::Io {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self {
            writer,
            readers: Arc::new(readers),
        })
    }

    /// Runs a closure in a write transaction. `Ok` is answered once it is on disk; if the closure
    /// fails, nothing of it is written. Dropping the future does not undo a write in progress.
    pub async fn write<T, E>(
        &self,
        closure: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.writer.write(closure).await
    }

    /// Runs a closure on one consistent snapshot, read-only. Sees every write answered before.
    pub async fn read<T, E>(
        &self,
        closure: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = self
            .readers
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let readers = self.readers.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = Reader::take(&readers);
            connection.snapshot(closure)
        });
        match reading.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(Error::Panicked(error.to_string()).into()),
            Err(_) => Err(Error::Closed.into()),
        }
    }
}

/// A reader that is in use; goes back to the pool when dropped, also by a panic.
struct Reader<'a> {
    connection: Option<Connection>,
    home: &'a Readers,
}

impl<'a> Reader<'a> {
    fn take(home: &'a Readers) -> Self {
        let connection = home.lock().pop().expect("a permit is a connection");
        Self {
            connection: Some(connection),
            home,
        }
    }

    fn snapshot<T, E: From<Error>>(
        &self,
        closure: impl FnOnce(&Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        let connection = self.connection.as_ref().expect("it is there until dropped");
        // Ends with the reader: a read transaction has nothing to commit.
        let snapshot = connection.unchecked_transaction().map_err(Error::from)?;
        closure(&snapshot)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.home.lock().extend(self.connection.take());
    }
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("push and pop do not panic")
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(())
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// Databases hold secrets; SQLite gives its `-wal` and `-shm` files the mode of this one.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
