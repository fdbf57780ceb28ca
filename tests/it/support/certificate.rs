//! A self-signed certificate for `localhost`.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::tools;

/// The certificate and its key, as PEM files in a folder that is deleted on drop.
pub struct Certificate(TempDir);

impl Certificate {
    /// Creates one with `openssl`; `None` if that is not installed.
    pub fn for_localhost() -> Option<Self> {
        let openssl = tools::program("openssl")?;
        let created = Self(tempfile::tempdir().unwrap());
        let made = Command::new(openssl)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-sha256"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-out"])
            .arg(created.path())
            .arg("-keyout")
            .arg(created.key())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(created)
    }

    /// The certificate.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}
