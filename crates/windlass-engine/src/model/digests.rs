//! Digests of content, computed while it is received.

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use windlass_types::{Md5, Md5Digest, Sha256, Sha512};

/// An algorithm for digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5, which detects damage, but not manipulation.
    Md5,
}

impl DigestAlgorithm {
    /// All algorithms, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Md5];

    /// The length of a digest in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }
}

/// Digests of the same bytes, one for each algorithm at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests {
    /// The SHA-256, if it is known.
    pub sha256: Option<Sha256>,
    /// The SHA-512, if it is known; boxed, since it is large and rare.
    pub sha512: Option<Box<Sha512>>,
    /// The MD5, if it is known.
    pub md5: Option<Md5>,
}

impl Digests {
    /// The bytes of the digest by this algorithm, if it is known.
    pub fn get(&self, algorithm: DigestAlgorithm) -> Option<&[u8]> {
        match algorithm {
            DigestAlgorithm::Sha256 => self.sha256.as_ref().map(AsRef::as_ref),
            DigestAlgorithm::Sha512 => self.sha512.as_deref().map(AsRef::as_ref),
            DigestAlgorithm::Md5 => self.md5.as_ref().map(AsRef::as_ref),
        }
    }

    /// Sets the digest by this algorithm. Bytes of another length remove it.
    pub fn set(&mut self, algorithm: DigestAlgorithm, bytes: &[u8]) {
        match algorithm {
            DigestAlgorithm::Sha256 => self.sha256 = bytes.try_into().ok(),
            DigestAlgorithm::Sha512 => self.sha512 = bytes.try_into().ok().map(Box::new),
            DigestAlgorithm::Md5 => self.md5 = bytes.try_into().ok(),
        }
    }
}

impl From<Option<Md5>> for Digests {
    fn from(md5: Option<Md5>) -> Self {
        Self { md5, ..Self::default() }
    }
}

/// Digests being computed, only by the algorithms that are needed.
#[derive(Clone, Default)]
pub struct RunningDigests {
    sha256: Option<Context>,
    sha512: Option<Context>,
    md5: Option<Md5Digest>,
}

impl RunningDigests {
    /// Begins a digest by each of these algorithms.
    pub fn by(algorithms: impl IntoIterator<Item = DigestAlgorithm>) -> Self {
        let mut running = Self::default();
        for algorithm in algorithms {
            match algorithm {
                DigestAlgorithm::Sha256 => running.sha256 = Some(Context::new(&SHA256)),
                DigestAlgorithm::Sha512 => running.sha512 = Some(Context::new(&SHA512)),
                DigestAlgorithm::Md5 => running.md5 = Some(Md5Digest::default()),
            }
        }
        running
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for sha2 in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            sha2.update(bytes);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    /// The digests of all bytes so far.
    pub fn finish(self) -> Digests {
        Digests {
            sha256: self.sha256.and_then(|it| it.finish().as_ref().try_into().ok()),
            sha512: self.sha512.and_then(|it| it.finish().as_ref().try_into().ok()).map(Box::new),
            md5: self.md5.map(Md5Digest::finish),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requested_digests_are_computed() {
        let mut running = RunningDigests::by([DigestAlgorithm::Sha256, DigestAlgorithm::Md5]);
        running.update(b"a");
        running.update(b"bc");
        let digests = running.finish();
        assert_eq!(
            digests.sha256.unwrap().to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digests.md5.unwrap().to_string(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digests.sha512, None);
        for algorithm in DigestAlgorithm::ALL {
            let digests = RunningDigests::by([algorithm]).finish();
            assert_eq!(digests.get(algorithm).unwrap().len(), algorithm.length());
        }
    }
}
