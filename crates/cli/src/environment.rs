//! The environment: the variables that EC2's clients have always read, and two of our own. Read here
//! and nowhere else.

use std::{ffi::OsStr, path::PathBuf};

use crate::Failure;

/// A variable, if it is set and not empty.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where this command reads it"
)]
pub fn get(name: impl AsRef<OsStr>) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The first of these variables that is set.
pub fn first(names: &[&str]) -> Option<String> {
    names.iter().find_map(get)
}

/// A variable that names a file.
pub fn path(name: &str) -> Option<PathBuf> {
    get(name).map(PathBuf::from)
}

/// The first of these variables that is set, or what to do about it.
pub fn need(names: &[&str], what: &str) -> Result<String, Failure> {
    first(names).ok_or_else(|| {
        let names = names.join(" or ");
        Failure::Usage(format!(
            "{what} is not known: set {names} (`deploy/cloud env` prints it)"
        ))
    })
}
