//! The providers' usual environment variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::SetupError;

type Result<T> = std::result::Result<T, SetupError>;

/// Prefixes of the variables for the stores' clients.
const PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "AZURE_", "AZURITE_"];

/// Other variables that affect the clients.
const OTHERS: [&str; 7] =
    ["SERVICE_ACCOUNT", "IDENTITY_ENDPOINT", "HOME", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Variables whose value must be the URL of a server.
const URLS: [&str; 14] = [
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "GOOGLE_BASE_URL",
    "AZURE_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_AUTHORITY_HOST",
    "AZURE_STORAGE_AUTHORITY_HOST",
    "AZURE_MSI_ENDPOINT",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURITE_BLOB_STORAGE_URL",
];

/// Environment variables for the stores' clients. An empty variable counts as not set, and leading and trailing
/// whitespace, such as the newline at the end of a mounted secret, is removed.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Selects the variables for stores from an environment.
    pub fn new(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = |name: &str| OTHERS.contains(&name) || PREFIXES.iter().any(|it| name.starts_with(it));
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().trim().to_owned()))
        };
        Self(environment.into_iter().filter_map(text).filter(|it| ours(&it.0) && !it.1.is_empty()).collect())
    }

    /// The value of a variable, if set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The home directory.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// Whether a proxy is configured, for all clients or for those with this prefix.
    pub(super) fn has_proxy(&self, prefix: &str) -> bool {
        let own = format!("{prefix}PROXY_URL");
        [own.as_str(), "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].iter().any(|it| self.get(it).is_some())
    }

    /// All variables whose names start with `prefix`.
    ///
    /// # Errors
    /// If a value is invalid in a header or not a valid URL: passing it to a client would cause a panic.
    pub(super) fn with_prefix(&self, prefix: &str) -> Result<BTreeMap<String, String>> {
        self.starting_with(prefix).map(|(name, value)| Ok((name.to_owned(), check(name, value)?))).collect()
    }

    /// All variables whose names start with `prefix`, in the order of their names.
    pub(super) fn starting_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let found = self.0.range(prefix.to_owned()..).take_while(move |it| it.0.starts_with(prefix));
        found.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Shows names only, since values may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Validates and normalizes a value for use by a client.
pub(super) fn check(name: &str, value: &str) -> Result<String> {
    let is_text = |it: char| !it.is_control() && it != char::REPLACEMENT_CHARACTER;
    let has_lines = name.ends_with("PROXY_CA_CERTIFICATE") || name.ends_with("SERVICE_ACCOUNT_KEY");
    if !has_lines && !value.chars().all(is_text) {
        return Err(unfit(name, value, "it contains a control character, or is not UTF-8"));
    }
    let is_in_a_header = ["ACCESS_KEY_ID", "TOKEN", "REGION"].iter().any(|it| name.ends_with(it));
    if is_in_a_header && !value.chars().all(|it| it.is_ascii_graphic()) {
        return Err(unfit(name, value, "it may contain ASCII letters, digits and punctuation, but no spaces"));
    }
    if name.ends_with("REGION") && !value.chars().all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it)) {
        return Err(unfit(name, value, "it is not a region name such as eu-central-1"));
    }
    if name.ends_with("PROXY_CA_CERTIFICATE") && !value.contains("-----BEGIN CERTIFICATE-----") {
        return Err(unfit(name, value, "it must be the certificate itself, as PEM (-----BEGIN CERTIFICATE-----…)"));
    }
    if name == "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        && !(value.starts_with('/') && value.chars().all(|it| it.is_ascii_graphic()))
    {
        return Err(unfit(name, value, "it must begin with a slash, such as /v2/credentials/…"));
    }
    if URLS.contains(&name) { server(name, value).map(|it| without_slash(&it)) } else { Ok(value.to_owned()) }
}

/// The URL without a trailing slash: clients append paths that start with one.
pub(super) fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Parses and validates the URL of a server.
pub(super) fn server(name: &str, value: &str) -> Result<Url> {
    let hint = "write it with its scheme, such as http://127.0.0.1:9000 or https://s3.example.com";
    let url = Url::parse(value).map_err(|_| unfit(name, value, hint))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(unfit(name, value, hint));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        // The value is omitted, since it may contain a password.
        return Err(unfit(&format!("{name}'s URL"), "", "it must not contain credentials, a query or a fragment"));
    }
    Ok(url)
}

/// An error about a variable. Its value is omitted if it may be a secret.
pub(super) fn unfit(name: &str, value: &str, problem: &str) -> SetupError {
    let value =
        if may_be_secret(name) || value.is_empty() { String::new() } else { format!(" ({})", value.escape_debug()) };
    SetupError::Variable { name: name.to_owned(), value, problem: problem.to_owned() }
}

/// Whether the value of a variable may be a secret, by its name. A variable that ends in `_FILE` names a file.
pub(super) fn may_be_secret(name: &str) -> bool {
    let secrets = ["KEY", "SECRET", "TOKEN", "SAS", "PROXY_URL", "CA_CERTIFICATE"];
    !name.ends_with("_FILE") && secrets.iter().any(|it| name.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Variables {
        Variables::new(set.iter().map(|it| (it.0.into(), it.1.into())))
    }

    #[test]
    fn only_nonempty_variables_for_stores_are_kept() {
        let found = variables(&[("AWS_REGION", "eu-1\n"), ("AWS_TOKEN", ""), ("PATH", "/bin"), ("AWS_UNKNOWN", "é")]);
        assert_eq!(found.get("AWS_REGION"), Some("eu-1"));
        assert_eq!(found.get("AWS_TOKEN"), None);
        assert_eq!(format!("{found:?}"), r#"{"AWS_REGION", "AWS_UNKNOWN"}"#);
        assert_eq!(found.with_prefix("AWS_").unwrap().len(), 2);
    }

    #[test]
    fn an_invalid_value_is_rejected_with_the_name_of_its_variable() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "minio:9000"),
            ("AWS_ENDPOINT_URL", "http://"),
            ("AWS_ENDPOINT_URL", "http://a b:9000"),
            ("AWS_ENDPOINT_URL", "http://host:99999"),
            ("AWS_ENDPOINT_URL", "//host"),
            ("AWS_ENDPOINT_URL", "ftp://host"),
            ("AWS_ENDPOINT_URL", "http://host?x"),
            ("AWS_ENDPOINT_URL", "localhost"),
            ("AWS_METADATA_ENDPOINT", "metadata"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "v2"),
            ("AWS_ACCESS_KEY_ID", "a\nb"),
            ("AWS_ACCESS_KEY_ID", "schlüssel"),
            ("AWS_SESSION_TOKEN", "a\u{7f}b"),
            ("AWS_REGION", "eu central 1"),
            ("AWS_REGION", "eu/1"),
            ("AWS_PROXY_CA_CERTIFICATE", "/etc/ca.pem"),
            ("AZURE_STORAGE_ENDPOINT", "host"),
            ("GOOGLE_BASE_URL", "host:1"),
        ] {
            let message = check(name, value).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            assert!(!name.contains("KEY") || !message.contains(value), "{message}");
        }
        let message = check("AWS_ENDPOINT_URL", "http://key:secret@host").unwrap_err().to_string();
        assert!(message.contains("credentials") && !message.contains("secret"), "{message}");
    }

    #[test]
    fn an_endpoint_is_normalized() {
        for (written, taken) in [
            ("http://minio:9000/", "http://minio:9000"),
            ("HTTP://Minio:9000", "http://minio:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("https://host/storage/v1/s3/", "https://host/storage/v1/s3"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(check("AWS_ENDPOINT_URL", written).unwrap(), taken);
        }
    }
}
