//! A guest's console output made harmless for the terminal that shows it. A guest is hostile: by
//! control sequences it could set the window's title, answer for the keyboard, or hide text.
//!
//! Text, newlines, tabs, returns and backspaces pass; escape sequences and other controls are left
//! out. It works on a stream: a sequence may be cut anywhere.

/// What the bytes so far were part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [: ends with a byte from `@` to `~`.
    Control,
    /// After ESC ], P, X, ^, _: ends with BEL or ESC \.
    Command,
    /// ESC within a command.
    CommandEscape,
    /// After ESC and an intermediate byte: one more to come.
    Charset,
}

/// Leaves out what is no text.
#[derive(Debug, Default)]
pub struct Neutral(State);

impl Neutral {
    /// The harmless part of the next bytes.
    pub fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .copied()
            .filter(|byte| self.passes(*byte))
            .collect()
    }

    fn passes(&mut self, byte: u8) -> bool {
        let (next, passes) = match (self.0, byte) {
            (State::Text, 0x1b) => (State::Escape, false),
            (State::Text, b'\n' | b'\r' | b'\t' | 0x08) => (State::Text, true),
            (State::Text, 0..=0x1f | 0x7f) => (State::Text, false),
            (State::Text, _) => (State::Text, true),

            (State::Escape, b'[') => (State::Control, false),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (State::Command, false),
            (State::Escape, b' '..=b'/') => (State::Charset, false),
            (State::Escape | State::Charset, 0x1b) => (State::Escape, false),
            (State::Escape | State::Charset, _) => (State::Text, false),

            // A broken sequence must not swallow the lines that follow.
            (State::Control, b'\n') => (State::Text, true),
            (State::Control, b'@'..=b'~') => (State::Text, false),
            (State::Control, 0x1b) => (State::Escape, false),
            (State::Control, _) => (State::Control, false),

            (State::Command, 0x07) => (State::Text, false),
            (State::Command, b'\n') => (State::Text, true),
            (State::Command, 0x1b) => (State::CommandEscape, false),
            (State::Command, _) => (State::Command, false),
            (State::CommandEscape, b'\\') => (State::Text, false),
            (State::CommandEscape, b'[') => (State::Control, false),
            (State::CommandEscape, _) => (State::Command, false),
        };
        self.0 = next;
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let mut whole = Neutral::default();
        assert_eq!(
            String::from_utf8(whole.filter(input.as_bytes())).unwrap(),
            expected
        );
        let mut by_byte = Neutral::default();
        let pieces: Vec<u8> = input
            .bytes()
            .flat_map(|byte| by_byte.filter(&[byte]))
            .collect();
        assert_eq!(String::from_utf8(pieces).unwrap(), expected);
    }

    #[test]
    fn text_passes_and_what_commands_a_terminal_does_not() {
        check("plain\r\n\tübers\u{8}", "plain\r\n\tübers\u{8}");
        check("\x1b[31mred\x1b[0m", "red");
        check("\x1b]0;title\x07after", "after");
        check("\x1b]52;c;Zm9v\x1b\\after", "after");
        check("\x1bP+q544e\x1b\\after\x1b(B.", "after.");
        check("a\x07b\x00c\x7fd\x0ee", "abcde");
        check("\x1b[?2004h# ", "# ");
    }

    #[test]
    fn a_sequence_that_never_ends_swallows_one_line_at_most() {
        check("\x1b]0;never ended\nnext", "\nnext");
        check("\x1b[1;2\nnext", "\nnext");
    }
}
