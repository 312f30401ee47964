//! Instants as UTC milliseconds, stamped by the CLC. Nodes' clocks are never compared.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// UTC milliseconds since 1970.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Text that is no ISO 8601 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time like 2026-01-31T12:00:00Z")]
pub struct MalformedTime;

impl Timestamp {
    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// So many milliseconds later (earlier if negative); the end of time if beyond it.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to here.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    fn printed(self, format: &str) -> String {
        let instant = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        instant.strftime(format).to_string()
    }

    /// `Mon, 23 Nov 2026 03:01:59 GMT`, as HTTP headers have it.
    pub fn http_date(self) -> String {
        self.printed("%a, %d %b %Y %H:%M:%S GMT")
    }

    /// `23/Nov/2026:03:01:59 +0000`, as access logs have it.
    pub fn log_date(self) -> String {
        self.printed("%d/%b/%Y:%H:%M:%S +0000")
    }

    /// `2026-11-23-03-01-59`, as names of log files have it.
    pub fn name_date(self) -> String {
        self.printed("%Y-%m-%d-%H-%M-%S")
    }

    /// `2026/11/23`, as folders by day are named.
    pub fn folder_date(self) -> String {
        self.printed("%Y/%m/%d")
    }

    /// `20261123T030159Z`, as signatures have it.
    pub fn amz_date(self) -> String {
        self.printed("%Y%m%dT%H%M%SZ")
    }
}

/// `2026-11-23T03:01:59.000Z`, as EC2 and S3 print it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printed("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

impl FromStr for Timestamp {
    type Err = MalformedTime;
    fn from_str(text: &str) -> Result<Self, MalformedTime> {
        text.parse::<jiff::Timestamp>()
            .map(|instant| Self(instant.as_millisecond()))
            .map_err(|_| MalformedTime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_each_wire_wants_them() {
        let time: Timestamp = "2026-11-23T03:01:59Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-23T03:01:59.000Z");
        assert_eq!(time.http_date(), "Mon, 23 Nov 2026 03:01:59 GMT");
        assert_eq!(time.amz_date(), "20261123T030159Z");
        assert_eq!(time.log_date(), "23/Nov/2026:03:01:59 +0000");
        assert_eq!(time.name_date(), "2026-11-23-03-01-59");
        assert_eq!(time.folder_date(), "2026/11/23");
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
