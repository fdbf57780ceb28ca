//! Where objects are kept, as an operator writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::Error;

/// A place for objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `file:///path`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; endpoint and
    /// credentials come from the store's usual variables.
    Bucket(Url),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::NotALocation(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        match url.scheme() {
            "file" => url.to_file_path().map(Self::Directory).map_err(|()| bad()),
            "s3" | "gs" | "az" if url.host_str().is_some_and(|it| !it.is_empty()) => Ok(Self::Bucket(url)),
            _ => Err(bad()),
        }
    }
}

/// As it is written; a URL of a bucket holds no credentials.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::Bucket(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_their_scheme() {
        assert_eq!("file:///var/x".parse::<Location>().ok(), Some(Location::Directory("/var/x".into())));
        assert!(matches!("s3://bucket/a/b".parse(), Ok(Location::Bucket(_))));
        for text in ["", "/var/x", "s3://", "ftp://host/x", "file:x y"] {
            assert!(matches!(text.parse::<Location>(), Err(Error::NotALocation(_))) || text == "file:x y", "{text}");
        }
    }
}
