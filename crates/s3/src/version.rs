//! Version ids. An object that was written without versioning is the `null` version; all others
//! have ids that we mint. An id begins with the place of its version among those of its key, so
//! that a list can be continued behind a version that was deleted meanwhile.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result};

const NULL: &str = "null";
const ORDER_DIGITS: usize = 16;
/// Longer than any id that we mint: what is longer is none.
const ID_BYTES_MAX: usize = 64;

/// Which version of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(String);

impl VersionId {
    /// The version that is written without versioning.
    pub fn null() -> Self {
        Self(NULL.to_owned())
    }

    /// A new version's id: its place among its key's versions, and a number that nobody can guess.
    pub fn mint(order: u64, unique: u64) -> Self {
        Self(format!("{order:016x}{unique:016x}"))
    }

    /// Reads `versionId`. An id that we did not mint is no mistake: there is no such version.
    pub fn parse(text: &str) -> Result<Self> {
        match text.len() {
            0 => Err(Error::invalid_argument(
                "versionId",
                "",
                "Version id cannot be the empty string",
            )),
            1..=ID_BYTES_MAX => Ok(Self(text.to_owned())),
            _ => Err(Error::from(Code::NoSuchVersion).with("VersionId", text)),
        }
    }

    /// Whether this is the null version.
    pub fn is_null(&self) -> bool {
        self.0 == NULL
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for VersionId {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a list of versions is continued by. The null version's id says nothing of its place, so its
/// marker has the place behind a dash.
pub fn marker_of(version: &VersionId, order: u64) -> String {
    if version.is_null() {
        format!("{NULL}-{order:016x}")
    } else {
        version.as_str().to_owned()
    }
}

/// The place that a marker names: the list goes on with what is older. `None` for the plain null
/// version, which must be looked up.
pub fn order_of_marker(marker: &str) -> Result<Option<u64>> {
    if marker == NULL {
        return Ok(None);
    }
    let digits = match marker.strip_prefix("null-") {
        Some(digits) => Some(digits),
        None => marker.get(..ORDER_DIGITS),
    };
    let order = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let wrong = || {
        let message = "Invalid version id specified";
        Error::invalid_argument("version-id-marker", marker, message)
    };
    order.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_name_a_place_even_of_what_is_gone() {
        let version = VersionId::mint(7, 0xfeed);
        assert_eq!(order_of_marker(&marker_of(&version, 7)).unwrap(), Some(7));
        let null = VersionId::null();
        assert_eq!(order_of_marker(&marker_of(&null, 9)).unwrap(), Some(9));
        assert_eq!(order_of_marker("null").unwrap(), None);
        assert!(order_of_marker("nonsense").is_err());
    }

    #[test]
    fn ids_that_are_not_ours_are_versions_that_are_not_there() {
        assert!(VersionId::parse("").is_err());
        assert!(VersionId::parse("3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY").is_ok());
        let long = VersionId::parse(&"x".repeat(65)).unwrap_err();
        assert_eq!(long.code, Code::NoSuchVersion);
    }
}
