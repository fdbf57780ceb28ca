//! SHA-2 digests of files and parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A SHA-2 digest of `N` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha2<const N: usize>([u8; N]);

/// A SHA-256 digest.
pub type Sha256 = Sha2<32>;

/// A SHA-512 digest.
pub type Sha512 = Sha2<64>;

/// The error for text or bytes that are not a SHA-2 digest. Contains the expected number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest must have {bytes} bytes, which are {digits} hexadecimal digits", bytes = .0, digits = .0 * 2)]
pub struct NotASha2(usize);

impl<const N: usize> TryFrom<&[u8]> for Sha2<N> {
    type Error = NotASha2;

    fn try_from(bytes: &[u8]) -> Result<Self, NotASha2> {
        bytes.try_into().map(Self).map_err(|_| NotASha2(N))
    }
}

impl<const N: usize> AsRef<[u8]> for Sha2<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Sha2<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> FromStr for Sha2<N> {
    type Err = NotASha2;

    fn from_str(text: &str) -> Result<Self, NotASha2> {
        if text.len() != 2 * N || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(NotASha2(N));
        }
        let mut bytes = [0; N];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NotASha2(N))?;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> Serialize for Sha2<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Sha2<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hexadecimal_of_its_length() {
        let text = "0Aff".repeat(16);
        assert_eq!(text.parse::<Sha256>().unwrap().to_string(), text.to_lowercase());
        for other in ["", "0a", &text[1..], &format!("{text}00"), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(other.parse::<Sha256>(), Err(NotASha2(32)), "{other}");
        }
        assert_eq!(NotASha2(32).to_string(), "the digest must have 32 bytes, which are 64 hexadecimal digits");
    }
}
