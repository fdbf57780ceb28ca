//! The name that a client gives a file. It is only data: no path in the store or on disk is derived from it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A file name: 1 to 512 characters, none of which is a control character. Slashes, dots and emoji are kept as sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Filename(String);

/// Why a text is not a valid file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilename {
    /// It is empty.
    #[error("a file name cannot be empty")]
    Empty,
    /// It has this many characters, which is too many.
    #[error("a file name has at most {max} characters, but this one has {0}", max = Filename::MAX_CHARS)]
    TooLong(usize),
    /// It contains this control character, such as a line break, a tab or NUL.
    #[error("a file name cannot contain control characters, but this one has U+{0:04X}")]
    Control(u32),
}

impl Filename {
    /// The maximum length, in characters (not bytes).
    pub const MAX_CHARS: usize = 512;

    /// The name as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Filename> for String {
    fn from(it: Filename) -> Self {
        it.0
    }
}

impl TryFrom<String> for Filename {
    type Error = BadFilename;

    fn try_from(text: String) -> Result<Self, BadFilename> {
        text.parse()
    }
}

impl FromStr for Filename {
    type Err = BadFilename;

    fn from_str(text: &str) -> Result<Self, BadFilename> {
        let chars = text.chars().count();
        if chars == 0 {
            return Err(BadFilename::Empty);
        }
        if chars > Self::MAX_CHARS {
            return Err(BadFilename::TooLong(chars));
        }
        match text.chars().find(|it| it.is_control()) {
            Some(it) => Err(BadFilename::Control(it.into())),
            None => Ok(Self(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_names_are_kept_unchanged() {
        for name in ["../../etc/passwd", "你好.txt", "🦀.bin", " ", "a\"b", "C:\\x", &"x".repeat(512)] {
            assert_eq!(name.parse::<Filename>().as_ref().map(Filename::as_str), Ok(name));
        }
    }

    #[test]
    fn empty_long_and_control_character_names_are_rejected() {
        assert_eq!("".parse::<Filename>(), Err(BadFilename::Empty));
        assert_eq!("x".repeat(513).parse::<Filename>(), Err(BadFilename::TooLong(513)));
        assert_eq!("a\r\nb".parse::<Filename>(), Err(BadFilename::Control(13)));
        assert_eq!("a\u{0}".parse::<Filename>(), Err(BadFilename::Control(0)));
        assert_eq!("a\u{85}".parse::<Filename>(), Err(BadFilename::Control(0x85)));
    }
}
