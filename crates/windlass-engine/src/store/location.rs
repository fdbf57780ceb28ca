//! The location of a store, as configured by the operator.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;
use percent_encoding::percent_decode_str;
use url::Url;

use super::SetupError;

/// The location of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `file:///path`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Endpoint and credentials are set by the
    /// provider's usual environment variables.
    Bucket(Bucket),
}

/// The API through which a bucket is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `s3://`: Amazon S3 and compatible stores.
    S3,
    /// `gs://`: Google Cloud Storage.
    Google,
    /// `az://`: Azure Blob Storage.
    Azure,
}

/// A bucket (on Azure, a container), and the prefix of all keys of this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    pub(super) provider: Provider,
    pub(super) name: String,
    /// The prefix as it appears in keys: percent-encoding in the location is decoded.
    pub(super) prefix: Path,
    /// The prefix that earlier versions derived from the same location, if it differs: they kept the
    /// percent-encoding, so `a b` and `é` became `a%20b` and `%C3%A9` in the keys.
    pub(super) former_prefix: Option<Path>,
}

impl FromStr for Location {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Self, SetupError> {
        let text = text.trim();
        let bad = || SetupError::NotALocation(shown(text));
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        let provider = match &*scheme.to_ascii_lowercase() {
            "file" => {
                let url = Url::parse(text).map_err(|_| bad())?;
                return url.to_file_path().map(Self::Directory).map_err(|()| bad());
            }
            "s3" => Provider::S3,
            "gs" => Provider::Google,
            "az" => Provider::Azure,
            _ => return Err(bad()),
        };
        let rest = rest.strip_prefix("//").ok_or_else(bad)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(bad());
        }
        let unfit = |problem| SetupError::UnfitLocation { location: shown(text), problem };
        if !name.chars().all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it)) {
            return Err(unfit(
                "a bucket name consists of letters, digits, '-', '_' and '.'; \
                 set host, port and credentials with variables such as AWS_ENDPOINT_URL=http://host:9000",
            ));
        }
        let prefix = decode(prefix).map_err(unfit)?;
        let former = Url::parse(text).ok().and_then(|it| Path::parse(it.path().trim_matches('/')).ok());
        let former_prefix = former.filter(|it| *it != prefix);
        Ok(Self::Bucket(Bucket { provider, name: name.to_owned(), prefix, former_prefix }))
    }
}

/// The text without what may be credentials.
fn shown(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("***@{rest}"))
}

/// Decodes and validates a prefix.
fn decode(prefix: &str) -> Result<Path, &'static str> {
    if prefix.contains(['?', '#']) {
        return Err("write '?' as %3F and '#' as %23");
    }
    let prefix = percent_decode_str(prefix).decode_utf8().map_err(|_| "its percent-encoding is not UTF-8")?;
    let prefix = prefix.trim_matches('/');
    if prefix.contains("//") {
        return Err("it has an empty segment ('//')");
    }
    Path::parse(prefix).map_err(|_| "a segment is '.' or '..', or contains a control character")
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.provider {
            Provider::S3 => "s3",
            Provider::Google => "gs",
            Provider::Azure => "az",
        };
        write!(f, "{scheme}://{}", self.name)
    }
}

/// Formats the location as a URL, without a bucket's prefix.
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

    fn bucket(text: &str) -> Bucket {
        match text.parse() {
            Ok(Location::Bucket(it)) => it,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_scheme_selects_the_kind_of_store() {
        assert_eq!("file:///var/x".parse::<Location>().ok(), Some(Location::Directory("/var/x".into())));
        assert_eq!(bucket("s3://bucket/a/b").provider, Provider::S3);
        assert_eq!(bucket("gs://bucket").provider, Provider::Google);
        assert_eq!(bucket("az://container/").provider, Provider::Azure);
        for text in ["", "/var/x", "s3://", "s3:///x", "s3:bucket", "ftp://host/x", "minio:9000"] {
            assert!(matches!(text.parse::<Location>(), Err(SetupError::NotALocation(_))), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_percent_decoded_and_trimmed() {
        for (text, key) in [
            ("s3://b", ""),
            ("s3://b/", ""),
            ("s3://b/a/b/", "a/b"),
            ("s3://b//a", "a"),
            ("s3://b/a b", "a b"),
            ("s3://b/a%20b", "a b"),
            ("s3://b/é", "é"),
            ("s3://b/%C3%A9", "é"),
            ("s3://b/a+b", "a+b"),
            ("s3://b/100%", "100%"),
            ("s3://b/100%25", "100%"),
            ("s3://b/a%3Fb%23c", "a?b#c"),
            ("s3://b/a%2Fb", "a/b"),
            ("s3://b/.hidden/v1.2", ".hidden/v1.2"),
            ("s3://b/{a}|\"b\"", "{a}|\"b\""),
            (" s3://b/a\n", "a"),
        ] {
            assert_eq!(bucket(text).prefix.as_ref(), key, "{text}");
        }
    }

    #[test]
    fn the_former_prefix_is_kept_if_it_differs() {
        for (text, former) in [
            ("s3://b/a/b", None),
            ("s3://b/a+b~c", None),
            ("s3://b/a b", Some("a%20b")),
            ("s3://b/a%20b", Some("a%20b")),
            ("s3://b/é", Some("%C3%A9")),
            ("s3://b/a%2Fb", Some("a%2Fb")),
        ] {
            assert_eq!(bucket(text).former_prefix.as_ref().map(AsRef::as_ref), former, "{text}");
        }
    }

    #[test]
    fn an_invalid_location_is_rejected_with_a_hint() {
        for (text, hint) in [
            ("s3://minio:9000/bucket", "AWS_ENDPOINT_URL"),
            ("s3://key:secret@bucket/a", "AWS_ENDPOINT_URL"),
            ("s3://a b/c", "letters, digits"),
            ("s3://b/a?x=y", "%3F"),
            ("s3://b/a#c", "%23"),
            ("s3://b/a//b", "empty segment"),
            ("s3://b/a/../b", "'..'"),
            ("s3://b/%2e/b", "'.'"),
            ("s3://b/a%0Ab", "control"),
            ("s3://b/%ff", "UTF-8"),
        ] {
            let message = text.parse::<Location>().unwrap_err().to_string();
            assert!(message.contains(hint) && !message.contains("secret"), "{text}: {message}");
        }
    }
}
