//! Numbered steps that bring a database to the version this program knows.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::OpenError;

/// A step: its name, `0001_accounts.sql`, and its SQL. Steps are in order, from 1, without gaps; a
/// shipped step never changes.
pub type Migration = (&'static str, &'static str);

/// Applies what is missing, each step in a transaction with its version number. A file that holds
/// something is copied first, to `FILE.before-NNNN`.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    steps: &[Migration],
) -> Result<(), OpenError> {
    check_numbers(steps);
    let failed = |step: &str| {
        let (path, step) = (path.display().to_string(), step.to_owned());
        move |source| OpenError::Sqlite { path, step, source }
    };
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("reading its version"))?;
    let known = steps.len() as i64;
    if found > known {
        return Err(OpenError::Newer {
            path: path.display().to_string(),
            found,
            known,
        });
    }
    if found > 0 && found < known {
        back_up(connection, &backup_path(path, found)).map_err(failed("backing up"))?;
    }
    for (version, (name, sql)) in (1..).zip(steps).filter(|(version, _)| *version > found) {
        apply(connection, version, sql).map_err(failed(name))?;
        tracing::info!(step = name, "database migrated");
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: i64, sql: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// A backup of the same version from an interrupted attempt is replaced.
fn back_up(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let _absent = std::fs::remove_file(to);
    connection
        .execute("VACUUM INTO ?1", [to.display().to_string()])
        .map(drop)
}

fn backup_path(path: &Path, version: i64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".before-{:04}", version + 1));
    path.with_file_name(name)
}

/// A wrong list is a mistake in the program, found by its first test.
fn check_numbers(steps: &[Migration]) {
    for (number, (name, _)) in (1..).zip(steps) {
        assert!(
            name.starts_with(&format!("{number:04}_")),
            "step {number} is called {name}"
        );
    }
}
