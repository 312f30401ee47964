//! The query string as decoded pairs in the order they came. A repeated name keeps its first value,
//! as S3 does; `+` is a space, as every SDK's form encoder has it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{Code, Error, Result};

/// The most parameters one request may carry: far above any client, far below harm.
const MAX_PARAMETERS: usize = 200;

/// What stays as it is in `encoding-type=url` answers and in copy sources: RFC 3986's unreserved
/// characters, and the slash.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Percent-encodes a key for an answer with `encoding-type=url`.
pub fn encode_key(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// Decodes percent escapes; anything but UTF-8 is `InvalidURI`.
pub fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Code::InvalidURI.into())
}

/// Decoded parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL after its question mark.
    pub fn parse(text: &str) -> Result<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.take(MAX_PARAMETERS + 1).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((
                decode(&name.replace('+', " "))?,
                decode(&value.replace('+', " "))?,
            ))
        });
        let pairs: Vec<_> = pairs.collect::<Result<_>>()?;

        if pairs.len() > MAX_PARAMETERS {
            return Err(Error::new(
                Code::InvalidRequest,
                "There are too many query parameters.",
            ));
        }
        Ok(Self(pairs))
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter unless it is empty.
    pub fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A parameter as a number, `InvalidArgument` if it is none.
    pub fn get_number(&self, name: &str) -> Result<Option<u32>> {
        let Some(text) = self.get_text(name) else {
            return Ok(None);
        };
        let number = text
            .parse::<i64>()
            .ok()
            .filter(|n| (0..=i64::from(i32::MAX)).contains(n));
        match number {
            Some(number) => Ok(Some(number as u32)),
            None => Err(Error::invalid_argument(
                name,
                text,
                format!("Provided {name} not an integer or within integer range"),
            )),
        }
    }

    /// A switch: on if it is named alone or with `true`, `InvalidArgument` if it is neither that nor off.
    pub fn get_switch(&self, name: &str) -> Result<bool> {
        let value = self.get(name).map(str::to_ascii_lowercase);
        match value.as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(Error::invalid_argument(
                name,
                other,
                format!("{name} is true or false."),
            )),
        }
    }

    /// All pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_the_first_wins() {
        let query = Query::parse("prefix=a%2Fb+c&acl&x=1&x=2&=&").unwrap();
        assert_eq!(query.get("prefix"), Some("a/b c"));
        assert_eq!(query.get("acl"), Some(""));
        assert_eq!(query.get("x"), Some("1"));
        assert!(!query.has("y"));
    }

    #[test]
    fn bytes_that_are_no_text_and_numbers_that_are_none_are_refused() {
        assert_eq!(Query::parse("a=%ff").unwrap_err().code, Code::InvalidURI);
        for bad in ["-1", "x", "99999999999"] {
            let query = Query::parse(&format!("max-keys={bad}")).unwrap();
            assert_eq!(
                query.get_number("max-keys").unwrap_err().code,
                Code::InvalidArgument
            );
        }
        assert!(Query::parse(&"a&".repeat(201)).is_err());
    }

    #[test]
    fn a_switch_is_on_or_off_and_nothing_else() {
        for (text, expect) in [
            ("", Some(false)),
            ("x", Some(true)),
            ("x=True", Some(true)),
            ("x=false", Some(false)),
            ("x=1", None),
            ("x=maybe", None),
        ] {
            let switch = Query::parse(text).unwrap().get_switch("x");
            assert_eq!(switch.as_ref().ok().copied(), expect, "{text}");
            assert!(switch.is_ok() || switch.unwrap_err().code == Code::InvalidArgument);
        }
    }

    #[test]
    fn keys_are_encoded_as_the_suites_expect() {
        assert_eq!(encode_key("foo+1/b ar%é"), "foo%2B1/b%20ar%25%C3%A9");
    }
}
