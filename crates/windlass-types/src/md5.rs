//! The MD5 of a file, which a client can send at completion to be verified.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::digest::common::hazmat::SerializableState as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An MD5 digest. It detects accidental damage in transit, not manipulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Md5([u8; 16]);

/// An MD5 computation in progress.
#[derive(Clone, Default)]
pub struct Md5Digest(md5::Md5);

/// Serialized MD5 state; any process can resume it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Md5State(Vec<u8>);

/// The format version, the first byte of a serialized state. The rest is the serialization of md-5 0.11: 16 bytes of
/// state, 8 for the number of blocks, one for the length of the incomplete block, and that block.
const FORMAT: u8 = 1;

impl Md5Digest {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        md5::Digest::update(&mut self.0, bytes);
    }

    /// The MD5 of all bytes so far.
    pub fn finish(self) -> Md5 {
        Md5(md5::Digest::finalize(self.0).into())
    }

    /// Serializes the state.
    pub fn state(&self) -> Md5State {
        Md5State([&[FORMAT][..], &self.0.serialize()].concat())
    }

    /// Resumes from a serialized state. Returns `None` if the state is invalid or in the format of another release.
    pub fn resume(state: &Md5State) -> Option<Self> {
        let (format, written) = state.0.split_first()?;
        let digest = || md5::Md5::deserialize(written.try_into().ok()?).ok().map(Self);
        (*format == FORMAT).then(digest)?
    }
}

impl From<Vec<u8>> for Md5State {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Md5State {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The error for text or bytes that are not an MD5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an md5 is 32 hexadecimal digits or 24 characters of base64")]
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

impl Serialize for Md5 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Md5 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
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
    fn a_state_can_be_resumed_at_any_length() {
        let bytes: Vec<u8> = (0..300).map(|it| u8::try_from(it % 251).unwrap()).collect();
        let mut whole = Md5Digest::default();
        whole.update(&bytes);
        let whole = whole.finish();
        for cut in 0..=bytes.len() {
            let mut digest = Md5Digest::default();
            digest.update(&bytes[..cut]);
            let mut digest = Md5Digest::resume(&digest.state()).unwrap();
            digest.update(&bytes[cut..]);
            assert_eq!(digest.finish(), whole, "cut at {cut}");
        }
    }

    /// RFC 1321, section 3.3.
    const INITIAL: [u8; 16] =
        [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];

    #[test]
    fn the_format_of_a_state_is_stable_across_releases() {
        let mut digest = Md5Digest::default();
        digest.update(b"abc");
        let state = digest.state();
        let expected = [&[FORMAT][..], &INITIAL, &[0; 8], &[3], b"abc", &[0; 60]].concat();
        assert_eq!(state.as_ref(), expected);
        let mut other = state.as_ref().to_vec();
        other[0] = 2;
        assert!(Md5Digest::resume(&other.into()).is_none(), "of a later release");
        assert!(Md5Digest::resume(&Vec::new().into()).is_none());
        assert!(Md5Digest::resume(&vec![FORMAT; 20].into()).is_none());
    }

    #[test]
    fn other_text_is_rejected() {
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
