//! SQL and row types, a file per noun: nothing but SQL here. A row is read by hand in one place per
//! table, its text parsed into our types; what does not parse is an error that names the column.

pub mod bundle_tasks;
pub mod client_tokens;
pub mod cloud;
pub mod copies;
pub mod identity;
pub mod images;
pub mod instance_attributes;
pub mod instances;
pub mod key_pairs;
pub mod launch_permissions;
pub mod network;
pub mod nodes;
pub mod security_groups;
pub mod services;
pub mod short_ids;
pub mod tags;
pub mod used_signatures;
pub mod volumes;

use std::str::FromStr;

use rusqlite::{
    Row,
    types::{FromSql, Type},
};

/// A column that holds the text of one of our types.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| unreadable(row, column, error))
}

/// The same where the column may be null.
pub(crate) fn parsed_or_null<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(column)?.as_str_or_null()?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error| unreadable(row, column, error))
}

/// A column that holds one of the words of an enum.
pub(crate) fn word<T>(
    row: &Row<'_>,
    column: &str,
    read: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    read(text).ok_or_else(|| unreadable(row, column, UnknownWord(text.to_owned())))
}

/// Reads a row's columns one after the other, in the order of its `SELECT`. For the tables of which
/// thousands are listed at once: there, finding columns by name was a quarter of the work.
pub(crate) struct Columns<'a, 'row> {
    row: &'a Row<'row>,
    next: usize,
}

impl<'a, 'row> Columns<'a, 'row> {
    pub(crate) fn of(row: &'a Row<'row>) -> Self {
        Self { row, next: 0 }
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let at = self.step();
        self.row.get(at)
    }

    pub(crate) fn parsed<T>(&mut self) -> rusqlite::Result<T>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str()?;
        text.parse().map_err(|error| misread(at, error))
    }

    pub(crate) fn parsed_or_null<T>(&mut self) -> rusqlite::Result<Option<T>>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str_or_null()?;
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|error| misread(at, error))
    }

    pub(crate) fn word<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str()?;
        read(text).ok_or_else(|| misread(at, UnknownWord(text.to_owned())))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unknown word {0:?}")]
struct UnknownWord(String);

pub(crate) fn unreadable(
    row: &Row<'_>,
    column: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    misread(row.as_ref().column_index(column).unwrap_or_default(), error)
}

fn misread(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}
