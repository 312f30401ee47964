//! The facts of a request that conditions and policy variables look at: `aws:SourceIp`,
//! `aws:CurrentTime`, `s3:prefix`. Names compare without regard to case; a fact may have several
//! values (`aws:TagKeys`) and may be absent.

use std::collections::BTreeMap;

use crate::pattern::{Piece, matches, pieces};

/// Facts by name.
#[derive(Debug, Clone, Default)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// No facts at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value to a fact.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.add(name, value);
        self
    }

    /// Adds a value to a fact.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.into());
    }

    /// The values of a fact; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.0.get(&name.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// Replaces `${name}` by the one value of that fact, `${*}`, `${?}` and `${$}` by the character.
    /// `None` if a name is absent or has several values: then the text matches nothing.
    pub(crate) fn fill_in(&self, text: &str) -> Option<Filled> {
        let mut out = Filled::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_pattern(before);
            let (name, after) = after.split_once('}')?;
            match name {
                "*" | "?" | "$" => out.push_literal(name),
                name => match self.get(name)? {
                    [value] => out.push_literal(value),
                    _ => return None,
                },
            }
            rest = after;
        }
        out.push_pattern(rest);
        Some(out)
    }
}

/// A pattern after its variables were filled in: what a variable brought is never a wildcard, or a
/// user could choose a name of `*`.
#[derive(Debug, Default)]
pub(crate) struct Filled(Vec<Piece>);

impl Filled {
    fn push_pattern(&mut self, text: &str) {
        self.0.extend(pieces(text));
    }

    fn push_literal(&mut self, text: &str) {
        self.0.extend(text.bytes().map(Piece::Byte));
    }

    /// The text as it stands, wildcards and all: for operators that know none.
    pub(crate) fn literal(&self) -> Vec<u8> {
        let byte = |piece: &Piece| match piece {
            Piece::Any => b'*',
            Piece::One => b'?',
            Piece::Byte(byte) => *byte,
        };
        self.0.iter().map(byte).collect()
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        matches(&self.0, text.as_bytes())
    }

    /// Whether each of the six parts of an ARN matches its own: a `*` does not reach over a colon.
    pub(crate) fn matches_arn(&self, text: &str) -> bool {
        const PARTS: usize = 6;
        let ours: Vec<&[Piece]> = self.0.splitn(PARTS, |p| *p == Piece::Byte(b':')).collect();
        let theirs: Vec<&str> = text.splitn(PARTS, ':').collect();
        ours.len() == theirs.len()
            && ours
                .iter()
                .zip(theirs)
                .all(|(part, text)| matches(part, text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case() {
        let context = Context::new().with("aws:UserName", "ann");
        assert_eq!(context.get("aws:username"), Some(&["ann".to_owned()][..]));
        assert_eq!(context.get("aws:userid"), None);
    }

    #[test]
    fn a_variables_value_is_no_wildcard() {
        let context = Context::new().with("aws:username", "*");
        let filled = context.fill_in("home/${aws:username}/*").unwrap();
        assert!(filled.matches("home/*/a"));
        assert!(!filled.matches("home/ann/a"));
    }

    #[test]
    fn an_unknown_variable_matches_nothing() {
        assert!(Context::new().fill_in("home/${aws:username}/*").is_none());
        assert!(Context::new().fill_in("${aws:username").is_none());
        assert!(Context::new().fill_in("a${*}b").unwrap().matches("a*b"));
    }
}
