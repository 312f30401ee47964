//! RFC 3986 percent-encoding as signatures need it: over bytes, upper-case hex, space as `%20`.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

fn encode_with(bytes: &[u8], keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 4);
    for &byte in bytes {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Encodes all but the unreserved characters.
pub fn encode(bytes: &[u8]) -> String {
    encode_with(bytes, is_unreserved)
}

/// Encodes all but the unreserved characters and `/`.
pub fn encode_path(bytes: &[u8]) -> String {
    encode_with(bytes, |b| is_unreserved(b) || b == b'/')
}

/// Decodes `%XX`; a `%` that no two hex digits follow stands for itself, as servers have it.
pub fn decode(text: &str) -> Vec<u8> {
    decode_as(text, false)
}

/// Decodes a form field: `%XX`, and `+` as a space.
pub(crate) fn decode_form(text: &str) -> Vec<u8> {
    decode_as(text, true)
}

fn decode_as(text: &str, plus_is_space: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| Some((nibble(*bytes.get(at + 1)?)?, nibble(*bytes.get(at + 2)?)?)))
            .flatten();
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            None => {
                out.push(if plus_is_space && bytes[at] == b'+' {
                    b' '
                } else {
                    bytes[at]
                });
                at += 1;
            }
        }
    }
    out
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The fields of a query string or form as they were sent: split, not decoded, empty ones dropped.
/// A field without `=` has an empty value.
pub fn pairs(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split('&')
        .filter(|field| !field.is_empty())
        .map(|f| f.split_once('=').unwrap_or((f, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stray_percent_stands_for_itself() {
        assert_eq!(decode("100%"), b"100%");
        assert_eq!(decode("%zz%4"), b"%zz%4");
        assert_eq!(decode("a%20b+c"), b"a b+c");
        assert_eq!(decode_form("a%20b+c"), b"a b c");
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), bytes.clone());
            prop_assert_eq!(decode(&encode_path(&bytes)), bytes);
        }
    }
}
