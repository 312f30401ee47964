//! Every way in which clients write a date: ISO 8601 basic and extended, RFC 1123, and RFC 2822
//! with `-0000` as euca2ools does. Milliseconds since 1970, UTC.

use jiff::{
    Timestamp, Zoned,
    civil::DateTime,
    fmt::{rfc2822, strtime},
    tz::TimeZone,
};

use crate::Refused;

const BASIC: &str = "%Y%m%dT%H%M%SZ";

/// Reads a date in any of the known forms. Before 1970 there were no requests.
pub fn parse(text: &str) -> Result<i64, Refused> {
    let text = text.trim();
    basic(text)
        .or_else(|| extended(text))
        .or_else(|| mail(text))
        .filter(|ms| *ms >= 0)
        .ok_or_else(|| Refused::BadDate(text.chars().take(64).collect()))
}

/// Reads `20261123T030159Z`.
fn basic(text: &str) -> Option<i64> {
    (text.len() == 16).then_some(())?;
    let date = strtime::parse(BASIC, text).ok()?.to_datetime().ok()?;
    utc(date)
}

/// Reads `2026-11-23T03:01:59Z`, with a fraction, an offset, or (Hybridfox) no zone at all.
fn extended(text: &str) -> Option<i64> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let is_civil = text.contains('T') && text.contains('-') && text.is_ascii();
    is_civil
        .then(|| text.parse::<DateTime>().ok())
        .flatten()
        .and_then(utc)
}

/// Reads `Mon, 23 Nov 2026 03:01:59 GMT`, also with `-0000` or `UTC`.
fn mail(text: &str) -> Option<i64> {
    let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let text = text
        .strip_suffix("UTC")
        .map_or_else(|| text.to_owned(), |t| format!("{t}+0000"));
    parser
        .parse_timestamp(&text)
        .ok()
        .map(|instant| instant.as_millisecond())
}

fn utc(date: DateTime) -> Option<i64> {
    let zoned: Zoned = date.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

fn civil(ms: i64) -> DateTime {
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    instant.to_zoned(TimeZone::UTC).datetime()
}

/// `20261123T030159Z`, as version 4 writes it.
pub fn basic_text(ms: i64) -> String {
    civil(ms).strftime(BASIC).to_string()
}

/// `20261123`, the date of a scope.
pub fn day_text(ms: i64) -> String {
    civil(ms).strftime("%Y%m%d").to_string()
}

/// `2026-11-23T03:01:59Z`, as version 2 writes it.
pub fn extended_text(ms: i64) -> String {
    civil(ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `Mon, 23 Nov 2026 03:01:59 GMT`, as HTTP writes it.
pub fn http_text(ms: i64) -> String {
    civil(ms).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_clients_send_is_the_same_instant() {
        for text in [
            "20261123T030159Z",
            "2026-11-23T03:01:59Z",
            "2026-11-23T03:01:59.000Z",
            "2026-11-23T04:01:59+01:00",
            "2026-11-23T03:01:59",
            "Mon, 23 Nov 2026 03:01:59 -0000",
            "Mon, 23 Nov 2026 03:01:59 +0000",
            "Mon, 23 Nov 2026 03:01:59 GMT",
            "Mon, 23 Nov 2026 03:01:59 UTC",
        ] {
            assert_eq!(parse(text), Ok(1_795_402_919_000), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "20261123",
            "20261323T030159Z",
            "2026-11-23",
            "0",
            "1795402919",
            "Tue, 07 Jul 1950 21:53:04 GMT",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_we_write_we_read() {
        let ms = 1_795_402_919_000;
        for text in [basic_text(ms), extended_text(ms), http_text(ms)] {
            assert_eq!(parse(&text), Ok(ms));
        }
        assert_eq!(day_text(ms), "20261123");
    }
}
