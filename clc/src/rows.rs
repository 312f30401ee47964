//! SQL and row types, a file per noun: nothing but SQL here. A row is read by hand in one place per
//! table, its text parsed into our types; what does not parse is an error that names the column.

pub mod client_tokens;
pub mod cloud;
pub mod identity;
pub mod images;
pub mod instance_attributes;
pub mod instances;
pub mod key_pairs;
pub mod network;
pub mod nodes;
pub mod security_groups;
pub mod services;
pub mod short_ids;
pub mod tags;
pub mod volumes;

use std::str::FromStr;

use rusqlite::{Row, types::Type};

/// A column that holds the text of one of our types.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(row, column, error))
}

/// The same where the column may be null.
pub(crate) fn parsed_or_null<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error| unreadable(row, column, error)))
        .transpose()
}

/// A column that holds one of the words of an enum.
pub(crate) fn word<T>(
    row: &Row<'_>,
    column: &str,
    read: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    read(&text).ok_or_else(|| unreadable(row, column, UnknownWord(text)))
}

#[derive(Debug, thiserror::Error)]
#[error("unknown word {0:?}")]
struct UnknownWord(String);

fn unreadable(
    row: &Row<'_>,
    column: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}
