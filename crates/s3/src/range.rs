//! `Range: bytes=…`: one range, as S3 serves it. Several ranges, other units and nonsense are
//! ignored, which RFC 9110 (14.2) allows and S3 does; a range outside the object is an error.

use std::ops::Range;

use crate::{Code, Error, Result};

/// A range as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=5-` or `bytes=5-9`, both ends included.
    From(u64, Option<u64>),
    /// `bytes=-7`: the last seven bytes.
    Last(u64),
}

impl ByteRange {
    /// Reads a `Range` header; `None` means that the whole object is sent.
    pub fn parse(header: &str) -> Option<Self> {
        let spec = header.trim().strip_prefix("bytes=")?;
        let (first, last) = spec.split_once('-')?;
        let (first, last) = (first.trim(), last.trim());

        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => number(last).map(Self::Last),
            (false, true) => number(first).map(|first| Self::From(first, None)),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes of an object of `size` that the range covers, or `InvalidRange`.
    pub fn of(self, size: u64) -> Result<Range<u64>> {
        let range = match self {
            Self::From(first, last) => {
                first..last.map_or(size, |last| size.min(last.saturating_add(1)))
            }
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.is_empty() {
            let unit = Error::from(Code::InvalidRange);
            return Err(unit.with("ActualObjectSize", size.to_string()));
        }
        Ok(range)
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, size: u64, expect: Option<Option<Range<u64>>>) {
        let got = ByteRange::parse(header).map(|range| range.of(size).ok());
        assert_eq!(got, expect, "{header} of {size}");
    }

    #[test]
    fn ranges_cover_what_the_rfc_says() {
        check("bytes=0-4", 10, Some(Some(0..5)));
        check("bytes=4-", 10, Some(Some(4..10)));
        check("bytes=-3", 10, Some(Some(7..10)));
        check("bytes=-30", 10, Some(Some(0..10)));
        check("bytes=5-99999999999999999999", 10, Some(Some(5..10)));
    }

    #[test]
    fn ranges_outside_are_errors_and_nonsense_is_the_whole() {
        check("bytes=10-", 10, Some(None));
        check("bytes=-0", 10, Some(None));
        check("bytes=0-0", 0, Some(None));
        for whole in [
            "bytes=5-4",
            "bytes=a-b",
            "lines=1-2",
            "bytes=1-2,4-5",
            "bytes=-",
            "",
        ] {
            check(whole, 10, None);
        }
    }
}
