//! Text with `*` (any run of characters) and `?` (any one). Matching takes time in proportion to
//! pattern times text at worst, whatever the pattern: policies are written by users.

/// A pattern as a policy writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` matches, case and all.
    pub fn matches(&self, text: &str) -> bool {
        matches(&pieces(&self.0).collect::<Vec<_>>(), text.as_bytes())
    }

    /// Whether the whole of `text` matches, whatever the case: actions and their services.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        let pattern: Vec<Piece> = pieces(&self.0.to_ascii_lowercase()).collect();
        matches(&pattern, text.to_ascii_lowercase().as_bytes())
    }
}

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    /// A byte that stands for itself.
    Byte(u8),
}

/// Text as a pattern.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    text.bytes().map(|byte| match byte {
        b'*' => Piece::Any,
        b'?' => Piece::One,
        byte => Piece::Byte(byte),
    })
}

/// Greedy with one step back: on a mismatch the last `*` takes one byte more.
pub(crate) fn matches(pattern: &[Piece], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::Any) => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(piece) if *piece == Piece::One || *piece == Piece::Byte(text[t]) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                (p, t) = (star + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|piece| *piece == Piece::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            Pattern::new(pattern).matches(text),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn stars_and_question_marks() {
        check("*", "", true);
        check("ec2:*", "ec2:RunInstances", true);
        check("ec2:Describe*", "ec2:RunInstances", false);
        check("*Instances", "ec2:RunInstances", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("a*b*c", "a1b2b3c", true);
        check("a*b*c", "a1b2b3", false);
        check("", "a", false);
        check("arn:aws:s3:::b/*", "arn:aws:s3:::b/", true);
        check("arn:aws:s3:::b/*", "arn:aws:s3:::b", false);
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!Pattern::new(pattern).matches(&"a".repeat(5000)));
    }

    /// The definition, exponential and plain.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                by_definition(rest, text) || !text.is_empty() && by_definition(pattern, &text[1..])
            }
            ([byte, rest @ ..], [first, more @ ..]) if *byte == b'?' || byte == first => {
                by_definition(rest, more)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let ours = Pattern::new(pattern.clone()).matches(&text);
            prop_assert_eq!(ours, by_definition(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
