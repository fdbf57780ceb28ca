//! Displays a client's text in logs and messages: bounded in length, and without characters that terminals interpret.

use std::fmt::{self, Write as _};

use super::is_invisible;

/// The maximum number of characters that are shown.
const MAX_CHARS: usize = 256;

/// Displays the beginning of a text, with invisible characters and unusual white space escaped.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'t>(pub &'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= MAX_CHARS && self.0.bytes().all(|it| it == b' ' || it.is_ascii_graphic()) {
            return f.write_str(self.0);
        }
        let mut chars = self.0.chars();
        for it in chars.by_ref().take(MAX_CHARS) {
            if is_invisible(it) || (it != ' ' && it.is_whitespace()) {
                write!(f, "{}", it.escape_unicode())?;
            } else {
                f.write_char(it)?;
            }
        }
        match chars.as_str().len() {
            0 => Ok(()),
            more => write!(f, "… and {more} more bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_shown_unchanged() {
        for text in ["", "/v1/files", "a b", "你好 é 🦀", &"x".repeat(256)] {
            assert_eq!(Shown(text).to_string(), text);
        }
    }

    #[test]
    fn long_text_is_truncated_and_invisible_characters_are_escaped() {
        assert_eq!(Shown("a\u{1b}[31m\nb\u{202e}\u{a0}").to_string(), "a\\u{1b}[31m\\u{a}b\\u{202e}\\u{a0}");
        assert_eq!(Shown(&"x".repeat(257)).to_string(), format!("{}… and 1 more bytes", "x".repeat(256)));
        assert_eq!(Shown(&"你".repeat(300)).to_string(), format!("{}… and 132 more bytes", "你".repeat(256)));
        let worst = "\u{e0001}".repeat(100_000);
        assert!(Shown(&worst).to_string().len() < 3000);
    }
}
