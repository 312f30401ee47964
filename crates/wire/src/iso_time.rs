//! Instants as ISO 8601 text, which is how these protocols print and read them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use types::Timestamp;

/// A [`Timestamp`] that travels as `2026-11-23T03:01:59.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IsoTime(pub Timestamp);

impl From<Timestamp> for IsoTime {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl Serialize for IsoTime {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IsoTime {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}
