//! Tables for people, JSON for programs.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::Failure;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns
    Table,
    /// One JSON document
    Json,
}

impl Output {
    /// Prints one of the two forms of the same thing.
    pub fn print(
        self,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self {
            Self::Table => text(),
            Self::Json => {
                let json = serde_json::to_string_pretty(json);
                json.map_err(|error| Failure::failed("writing JSON", error))? + "\n"
            }
        };
        write(text.as_bytes())
    }
}

/// Writes to the standard output. A reader that has gone (`| head`) is no failure.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write, stdout};

    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| Failure::failed("writing", error)),
    }
}

/// Columns as wide as their widest cell, two blanks between; nothing at all without rows.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heads = heads.map(str::to_owned);
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes as a person reads them: `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// What stands in a cell where there is nothing.
pub fn dash(text: Option<impl ToString>) -> String {
    text.map(|text| text.to_string())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["i-1".to_owned(), "running".to_owned()],
            ["i-1234".to_owned(), String::new()],
        ];
        let text = table(["INSTANCE", "STATE"], &rows);
        assert_eq!(text, "INSTANCE  STATE\ni-1       running\ni-1234\n");
        assert_eq!(table(["A"], &[]), "");
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}
