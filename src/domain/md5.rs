//! The MD5 of a whole file, as a client claims it at completion.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// 16 bytes. Against damage on the way, not against malice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Md5([u8; 16]);

/// A text that is no MD5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an md5 is 32 hexadecimal digits, or the 24 characters of its base64")]
pub struct NotAnMd5;

impl From<[u8; 16]> for Md5 {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Md5 {
    type Error = NotAnMd5;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAnMd5> {
        bytes.try_into().map(Self).map_err(|_| NotAnMd5)
    }
}

impl AsRef<[u8]> for Md5 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Md5 {
    type Err = NotAnMd5;

    fn from_str(text: &str) -> Result<Self, NotAnMd5> {
        if text.len() == 24 {
            return STANDARD.decode(text).map_err(|_| NotAnMd5)?.as_slice().try_into();
        }
        if text.len() != 32 || !text.is_ascii() {
            return Err(NotAnMd5);
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAnMd5)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAnMd5);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAnMd5)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_in_either_case_and_base64_are_the_same_md5() {
        let hex = "900150983CD24FB0d6963f7d28e17f72".parse::<Md5>();
        assert_eq!(hex, "kAFQmDzST7DWlj99KOF/cg==".parse());
        assert_eq!(hex.unwrap().to_string(), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "md5",
            "900150983cd24fb0d6963f7d28e17f7",
            "+00150983cd24fb0d6963f7d28e17f72",
            "kAFQmDzST7DWlj99KOF/cgAA",
        ] {
            assert_eq!(text.parse::<Md5>(), Err(NotAnMd5), "{text}");
        }
    }
}
