//! Object lock: versions that cannot be deleted before their time, or while somebody holds them.

use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::{
    Code, Error, Result,
    conditions::parse_date,
    xml::{Element, Writer, malformed},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A hundred years, as S3 has it.
const DAYS_MAX: u32 = 36_500;

/// How firmly a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// Who has the right to bypass it may.
    Governance,
    /// Nobody may, the owner included.
    Compliance,
}

impl Mode {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// Until when a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How firmly.
    pub mode: Mode,
    /// Until when.
    pub until: Timestamp,
}

impl Retention {
    /// Reads a Retention document; an empty one takes the retention away.
    pub fn read(body: &[u8]) -> Result<Option<Self>> {
        let retention = Element::read(body, "Retention")?;
        if retention.children.is_empty() {
            return Ok(None);
        }
        let mode = Mode::parse(retention.required("Mode")?.trim());
        let until = parse_date(retention.required("RetainUntilDate")?);
        match (mode, until) {
            (Some(mode), Some(until)) => Ok(Some(Self { mode, until })),
            _ => Err(malformed("Mode or RetainUntilDate is unknown")),
        }
    }

    /// The document.
    pub fn write(self) -> String {
        Writer::document("Retention", |xml| {
            xml.text("Mode", self.mode.as_str());
            xml.plain("RetainUntilDate", self.until);
        })
    }

    /// Whether this may become `new` at this time. Longer is always right; less of it needs the
    /// right to bypass governance, and is never right under compliance.
    pub fn may_become(self, new: Option<Self>, now: Timestamp, bypass: bool) -> bool {
        if self.until <= now {
            return true;
        }
        let is_more = new.is_some_and(|new| new.until >= self.until && new.mode == self.mode);
        is_more || (self.mode == Mode::Governance && bypass)
    }
}

/// What is kept of a version's lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Locked {
    /// Until when it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether somebody holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
}

impl Locked {
    /// Whether nothing was ever said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the version may be deleted at this time.
    pub fn allows_deletion(&self, now: Timestamp, bypass: bool) -> bool {
        let is_free = |retention: Retention| {
            retention.until <= now || (retention.mode == Mode::Governance && bypass)
        };
        self.held != Some(true) && self.retention.is_none_or(is_free)
    }
}

/// Reads a LegalHold.
pub fn read_legal_hold(body: &[u8]) -> Result<bool> {
    let hold = Element::read(body, "LegalHold")?;
    parse_hold(hold.required("Status")?.trim()).ok_or_else(|| malformed("Status is ON or OFF"))
}

/// `ON` or `OFF`.
pub fn parse_hold(text: &str) -> Option<bool> {
    match text {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// `ON` or `OFF`.
pub fn hold_word(held: bool) -> &'static str {
    if held { "ON" } else { "OFF" }
}

/// The document of a legal hold.
pub fn write_legal_hold(held: bool) -> String {
    Writer::document("LegalHold", |xml| xml.text("Status", hold_word(held)))
}

/// How long new versions are kept unless their writer says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// How firmly.
    pub mode: Mode,
    /// How long, in days or years.
    pub period: Period,
}

/// A time in days or years, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Days.
    Days(u32),
    /// Years of 365 days.
    Years(u32),
}

impl DefaultRetention {
    /// The retention of a version that is written now.
    pub fn from(self, now: Timestamp) -> Retention {
        let days = match self.period {
            Period::Days(days) => days,
            Period::Years(years) => years * 365,
        };
        Retention {
            mode: self.mode,
            until: Timestamp(now.as_millis() + i64::from(days) * DAY_MS),
        }
    }
}

/// A bucket whose versions can be locked; once so, always so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockConfiguration {
    /// What holds for new versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultRetention>,
}

impl LockConfiguration {
    /// Reads an ObjectLockConfiguration.
    pub fn read(body: &[u8]) -> Result<Self> {
        let configuration = Element::read(body, "ObjectLockConfiguration")?;
        if configuration.required("ObjectLockEnabled")?.trim() != "Enabled" {
            return Err(malformed("ObjectLockEnabled is Enabled"));
        }
        let rule = configuration.child("Rule");
        let default = rule.map(|rule| match rule.child("DefaultRetention") {
            Some(default) => read_default(default),
            None => Err(malformed("a rule has a DefaultRetention")),
        });
        Ok(Self {
            default: default.transpose()?,
        })
    }

    /// The document.
    pub fn write(self) -> String {
        Writer::document("ObjectLockConfiguration", |xml| {
            xml.text("ObjectLockEnabled", "Enabled");
            let Some(default) = self.default else { return };
            xml.nest("Rule", |xml| {
                xml.nest("DefaultRetention", |xml| {
                    xml.text("Mode", default.mode.as_str());
                    match default.period {
                        Period::Days(days) => xml.plain("Days", days),
                        Period::Years(years) => xml.plain("Years", years),
                    }
                });
            });
        })
    }
}

fn read_default(default: &Element) -> Result<DefaultRetention> {
    let mode = Mode::parse(default.required("Mode")?.trim());
    let mode = mode.ok_or_else(|| malformed("Mode is unknown"))?;
    let number = |name, days_each: u32| -> Result<Option<u32>> {
        let Some(text) = default.text_of(name) else {
            return Ok(None);
        };
        let number: i64 = text
            .trim()
            .parse()
            .map_err(|_| malformed("it is no number"))?;
        let fits = (1..=i64::from(DAYS_MAX / days_each)).contains(&number);
        let wrong = || {
            let why = "Default retention period must be a positive integer value.";
            Error::new(Code::InvalidRetentionPeriod, why)
        };
        fits.then_some(number as u32).ok_or_else(wrong).map(Some)
    };
    let period = match (default.child("Days"), default.child("Years")) {
        (Some(_), None) => number("Days", 1)?.map(Period::Days),
        (None, Some(_)) => number("Years", 365)?.map(Period::Years),
        _ => None,
    };
    let period = period.ok_or_else(|| malformed("there are either Days or Years"))?;
    Ok(DefaultRetention { mode, period })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(mode: Mode, until: i64) -> Retention {
        Retention {
            mode,
            until: Timestamp(until),
        }
    }

    #[test]
    fn a_lock_binds_as_long_as_it_says() {
        let governed = |now, bypass| {
            let locked = Locked {
                retention: Some(kept(Mode::Governance, 10)),
                held: None,
            };
            locked.allows_deletion(Timestamp(now), bypass)
        };
        assert!(!governed(9, false) && governed(9, true) && governed(10, false));
        let locked = Locked {
            retention: Some(kept(Mode::Compliance, 10)),
            held: Some(false),
        };
        assert!(!locked.allows_deletion(Timestamp(9), true));
        let held = Locked {
            retention: None,
            held: Some(true),
        };
        assert!(!held.allows_deletion(Timestamp(99), true));
    }

    #[test]
    fn a_retention_may_only_grow() {
        let (now, old) = (Timestamp(5), kept(Mode::Compliance, 10));
        assert!(old.may_become(Some(kept(Mode::Compliance, 11)), now, false));
        assert!(!old.may_become(Some(kept(Mode::Compliance, 9)), now, true));
        assert!(!old.may_become(Some(kept(Mode::Governance, 11)), now, true));
        assert!(!old.may_become(None, now, true));
        assert!(old.may_become(None, Timestamp(10), false));
        let old = kept(Mode::Governance, 10);
        assert!(!old.may_become(None, now, false) && old.may_become(None, now, true));
    }

    #[test]
    fn configurations_go_round_and_periods_make_sense() {
        let read = |inside: &str| {
            let text = format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
                 <Rule><DefaultRetention>{inside}</DefaultRetention></Rule></ObjectLockConfiguration>"
            );
            LockConfiguration::read(text.as_bytes())
        };
        let good = read("<Mode>GOVERNANCE</Mode><Years>1</Years>").unwrap();
        assert_eq!(
            LockConfiguration::read(good.write().as_bytes()).unwrap(),
            good
        );
        let until = good.default.unwrap().from(Timestamp(0)).until;
        assert_eq!(until, Timestamp(365 * DAY_MS));
        for (bad, code) in [
            (
                "<Mode>GOVERNANCE</Mode><Days>0</Days>",
                Code::InvalidRetentionPeriod,
            ),
            (
                "<Mode>GOVERNANCE</Mode><Years>101</Years>",
                Code::InvalidRetentionPeriod,
            ),
            (
                "<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>",
                Code::MalformedXML,
            ),
            ("<Mode>governance</Mode><Days>1</Days>", Code::MalformedXML),
        ] {
            assert_eq!(read(bad).unwrap_err().code, code, "{bad}");
        }
    }
}
