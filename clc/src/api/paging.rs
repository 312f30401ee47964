//! `MaxResults` and `NextToken`. Without the first, everything comes in one answer: old clients
//! never ask for a second page.
//!
//! A page starts after the last key of the one before, so that what comes or goes between two pages
//! neither repeats nor hides anything else. Keys are made of what orders a listing.

use ec2::Code;
use wire::Blob;

use super::errors::{Error, Result};

/// The least and the most of one page, as in EC2.
const PAGE: std::ops::RangeInclusive<u32> = 5..=1000;
/// Tokens carry it, so that those of another meaning are told apart.
const PREFIX: &str = "after:";

/// Which part of a listing is asked for.
#[derive(Debug, Default)]
pub struct Page {
    after: Option<String>,
    size: Option<usize>,
}

impl Page {
    /// Reads what a request says. `has_ids`: it also names things, which excludes pages.
    pub fn of(max_results: Option<u32>, next_token: Option<String>, has_ids: bool) -> Result<Self> {
        if max_results.is_some() && has_ids {
            let message = "The parameter MaxResults cannot be used with a list of ids";
            return Err(Error::new(Code::InvalidParameterCombination, message));
        }
        if let Some(size) = max_results.filter(|size| !PAGE.contains(size)) {
            let range = format!("Expected a value of {} to {}", PAGE.start(), PAGE.end());
            return Err(ec2::Error::invalid("MaxResults", size, &range).into());
        }
        let after = next_token.map(|token| read(&token)).transpose()?;
        Ok(Self {
            after,
            size: max_results.map(|size| size as usize),
        })
    }

    /// Cuts the page out of things, which come in the order of their keys. Everything at once stays in
    /// the order that it has.
    pub fn cut<T>(
        &self,
        mut things: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        if self.after.is_some() || self.size.is_some() {
            things.sort_by_cached_key(&key);
        }
        if let Some(after) = &self.after {
            things.retain(|thing| key(thing) > *after);
        }
        let Some(size) = self.size.filter(|size| things.len() > *size) else {
            return (things, None);
        };
        things.truncate(size);
        let next = things.last().map(|last| write(&key(last)));
        (things, next)
    }
}

/// A key that orders by time, then by text.
pub fn by_time(time: types::Timestamp, then: &str) -> String {
    // Times before 1970 do not occur; 15 digits reach the year 33658.
    format!("{:015}/{then}", time.as_millis().max(0))
}

fn write(key: &str) -> String {
    Blob(format!("{PREFIX}{key}").into_bytes()).to_base64()
}

fn read(token: &str) -> Result<String> {
    let text = Blob::parse(token)
        .ok()
        .and_then(|blob| String::from_utf8(blob.0).ok());
    text.as_deref()
        .and_then(|text| text.strip_prefix(PREFIX))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::new(
                Code::InvalidNextToken,
                "The token is not one that was given out",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(max: Option<u32>, token: Option<String>, things: &[u32]) -> (Vec<u32>, Option<String>) {
        Page::of(max, token, false)
            .unwrap()
            .cut(things.to_vec(), |thing| format!("{thing:03}"))
    }

    #[test]
    fn pages_together_are_the_whole() {
        let all: Vec<u32> = (0..12).collect();
        let (first, token) = cut(Some(5), None, &all);
        let (second, token) = cut(Some(5), token, &all);
        let (third, end) = cut(Some(5), token, &all);
        assert_eq!([first, second, third].concat(), all);
        assert_eq!(end, None);
        assert_eq!(cut(None, None, &all), (all.clone(), None));
        assert_eq!(cut(Some(12), None, &all).1, None);
    }

    #[test]
    fn what_goes_between_two_pages_hides_nothing_else() {
        let (_, token) = cut(Some(5), None, &[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(cut(Some(5), token, &[0, 1, 6, 7]).0, [6, 7]);
    }

    #[test]
    fn sizes_ids_and_tokens_are_checked() {
        for size in [0, 4, 1001] {
            assert_eq!(
                code(Page::of(Some(size), None, false)),
                "InvalidParameterValue"
            );
        }
        assert_eq!(
            code(Page::of(Some(5), None, true)),
            "InvalidParameterCombination"
        );
        for token in ["x", "%%", "YWZ0ZXI"] {
            assert_eq!(
                code(Page::of(None, Some(token.to_owned()), false)),
                "InvalidNextToken"
            );
        }
    }

    fn code(page: Result<Page>) -> &'static str {
        page.unwrap_err().0.code.as_str()
    }
}
