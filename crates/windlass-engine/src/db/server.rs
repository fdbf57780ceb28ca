//! The Postgres server and its connection options: `DATABASE_URL` and related settings.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::{Error, Result};

/// The default statement timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// URL parameters for the file of CA certificates.
const ROOT_CERT: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// URL parameters for the TLS mode.
const SSL_MODE: [&str; 2] = ["sslmode", "ssl-mode"];

/// Whether a URL has a list of hosts, which libpq supports and sqlx does not.
fn names_several_hosts(url: &str) -> bool {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = address.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let parameters = query.split('&').filter(|it| it.starts_with("host=") || it.starts_with("hostaddr="));
    host.contains(',') || parameters.into_iter().any(|it| it.contains(',') || it.to_lowercase().contains("%2c"))
}

/// A Postgres server, as configured.
#[derive(Clone)]
pub struct Server {
    /// `DATABASE_URL`.
    pub url: SecretString,
    /// The timeout of a statement; the server cancels statements that take longer.
    pub patience: Duration,
    /// `SSL_CERT_FILE`: CA certificates in PEM format, used if the URL names none or has `sslrootcert=system`.
    pub ca_file: Option<PathBuf>,
}

impl<T: Into<String>> From<T> for Server {
    fn from(url: T) -> Self {
        Self { url: url.into().into(), patience: DEFAULT_TIMEOUT, ca_file: None }
    }
}

impl Server {
    /// Checks a URL without connecting. The error does not contain its password.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(url: &str) -> std::result::Result<(), String> {
        if names_several_hosts(url) {
            return Err("it names several hosts; name one host, which leads to the primary".to_owned());
        }
        // The CA file is opened only when connecting.
        let server = Self { ca_file: Some(PathBuf::new()), ..Self::from(url) };
        let Err(error) = server.options() else { return Ok(()) };
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Err(cause.to_string())
    }

    /// The connection options for sqlx.
    ///
    /// # Errors
    /// [`Error::Url`] if the URL is invalid, or `sslrootcert=system` cannot be satisfied.
    pub(super) fn options(&self) -> Result<PgConnectOptions> {
        let mut url: Url = self
            .url
            .expose_secret()
            .parse()
            .map_err(|error| Error::Url(sqlx::Error::Configuration(Box::new(error))))?;
        let given = |url: &Url, names: &[&str]| {
            url.query_pairs().find(|(name, _)| names.contains(&name.as_ref())).map(|(_, value)| value.into_owned())
        };
        let (root_cert, ssl_mode) = (given(&url, &ROOT_CERT), given(&url, &SSL_MODE));
        let uses_system_roots = root_cert.as_deref() == Some("system");
        if uses_system_roots {
            // sqlx would treat it as the name of a file.
            let others: Vec<_> =
                url.query_pairs().into_owned().filter(|(name, _)| !ROOT_CERT.contains(&&**name)).collect();
            url.set_query(None);
            if !others.is_empty() {
                url.query_pairs_mut().extend_pairs(others);
            }
        }
        let mut options = PgConnectOptions::from_url(&url).map_err(Error::Url)?;
        // Default configurations of PgBouncer reject this parameter, and no column is a float.
        options = options.application_name("windlass").extra_float_digits(None);
        if let Some(address) = options.get_host().strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let address = address.to_owned();
            options = options.host(&address);
        }
        if uses_system_roots {
            options = match ssl_mode.as_deref() {
                None => options.ssl_mode(PgSslMode::VerifyFull),
                Some("verify-full") => options,
                Some(weaker) => {
                    let message = format!("sslrootcert=system requires sslmode=verify-full, not {weaker}");
                    return Err(Error::Url(sqlx::Error::Configuration(message.into())));
                }
            };
            let bundle = self.ca_file.clone().or_else(|| openssl_probe::probe().cert_file);
            let bundle = bundle.ok_or_else(|| {
                let message =
                    "sslrootcert=system: no file of CA certificates was found on this system; set SSL_CERT_FILE";
                Error::Url(sqlx::Error::Configuration(message.into()))
            })?;
            options = options.ssl_root_cert(bundle);
        } else if let (None, Some(bundle)) = (root_cert, &self.ca_file) {
            options = options.ssl_root_cert(bundle);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        Server::from(url).options().unwrap()
    }

    #[test]
    fn a_host_may_be_a_name_or_an_ipv4_or_ipv6_address() {
        for (url, host) in [
            ("postgres://me@[::1]:5433/db", "::1"),
            ("postgresql://me@[2001:db8::7]/db?sslmode=require", "2001:db8::7"),
            ("postgres://me@127.0.0.1/db", "127.0.0.1"),
            ("postgres://me:secret@db.example.org:5432/db", "db.example.org"),
        ] {
            assert_eq!(options(url).get_host(), host);
        }
        assert_eq!(options("postgres://me@[::1]:5433/db").get_port(), 5433);
    }

    #[test]
    fn system_ca_certificates_require_verify_full() {
        let of = |query: &str| {
            let url = format!("postgres://me@db.example.org/db{query}");
            Server { ca_file: Some("/etc/the-ca.pem".into()), ..Server::from(url) }.options()
        };
        let system = of("?sslrootcert=system&connect_timeout=5").unwrap();
        assert!(matches!(system.get_ssl_mode(), PgSslMode::VerifyFull));
        assert!(format!("{system:?}").contains("/etc/the-ca.pem"));
        assert!(of("?sslrootcert=system&sslmode=verify-full").is_ok());
        assert!(matches!(of("?sslrootcert=system&sslmode=require"), Err(Error::Url(_))));
        assert!(format!("{:?}", of("?sslmode=verify-ca").unwrap()).contains("/etc/the-ca.pem"));
        let own = format!("{:?}", of("?sslmode=verify-ca&sslrootcert=/etc/own.pem").unwrap());
        assert!(own.contains("/etc/own.pem") && !own.contains("/etc/the-ca.pem"));
    }

    #[test]
    fn a_keyword_value_connection_string_is_rejected() {
        assert!(matches!(Server::from("host=localhost dbname=db").options(), Err(Error::Url(_))));
    }
}
