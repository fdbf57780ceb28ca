//! The name a client gives its file. It is data: no path in the store or on disk is made from it.

use std::str::FromStr;

/// 1 to 512 characters, none of them a control character. Slashes, dots and emoji are kept as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filename(String);

/// Why a text is no file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilename {
    /// It has no characters.
    #[error("a file name cannot be empty")]
    Empty,
    /// It has too many of them.
    #[error("a file name has at most {max} characters, but this one has {0}", max = Filename::MAX_CHARS)]
    TooLong(usize),
    /// Such as a line break, a tab or NUL.
    #[error("a file name cannot contain control characters, but this one has U+{0:04X}")]
    Control(u32),
}

impl Filename {
    /// The longest name, in characters (not bytes).
    pub const MAX_CHARS: usize = 512;

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
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
    fn odd_names_are_kept_as_they_are() {
        for name in ["../../etc/passwd", "你好.txt", "🦀.bin", " ", "a\"b", "C:\\x", &"x".repeat(512)] {
            assert_eq!(name.parse::<Filename>().as_ref().map(Filename::as_str), Ok(name));
        }
    }

    #[test]
    fn names_that_break_a_header_or_a_terminal_are_refused() {
        assert_eq!("".parse::<Filename>(), Err(BadFilename::Empty));
        assert_eq!("x".repeat(513).parse::<Filename>(), Err(BadFilename::TooLong(513)));
        assert_eq!("a\r\nb".parse::<Filename>(), Err(BadFilename::Control(13)));
        assert_eq!("a\u{0}".parse::<Filename>(), Err(BadFilename::Control(0)));
        assert_eq!("a\u{85}".parse::<Filename>(), Err(BadFilename::Control(0x85)));
    }
}
