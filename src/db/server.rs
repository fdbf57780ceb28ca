//! The Postgres server and its connection options: `DATABASE_URL` and related settings.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::{Error, Result};

/// The default statement timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// URL parameters for the file of CA certificates.
const ROOT_CERT: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// URL parameters for the TLS mode.
const SSL_MODE: [&str; 2] = ["sslmode", "ssl-mode"];

/// A Postgres server, as configured.
#[derive(Clone)]
pub struct Server {
    /// `DATABASE_URL`.
    pub url: String,
    /// The timeout of an operation; the server cancels statements that take longer.
    pub patience: Duration,
    /// `SSL_CERT_FILE`: CA certificates in PEM format, used if the URL names none or has `sslrootcert=system`.
    pub ca_file: Option<PathBuf>,
}

impl<T: Into<String>> From<T> for Server {
    fn from(url: T) -> Self {
        Self { url: url.into(), patience: PATIENCE, ca_file: None }
    }
}

impl Server {
    /// The connection options for sqlx.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub(super) fn options(&self) -> Result<PgConnectOptions> {
        let mut url: Url = self.url.parse().map_err(|error| Error::Url(sqlx::Error::Configuration(Box::new(error))))?;
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
                    let message = format!("sslrootcert=system needs sslmode=verify-full, not {weaker}");
                    return Err(Error::Url(sqlx::Error::Configuration(message.into())));
                }
            };
            let bundle = self.ca_file.clone().or_else(|| openssl_probe::probe().cert_file);
            let bundle = bundle.ok_or_else(|| {
                let message =
                    "sslrootcert=system: this system has no file of CA certificates; name one in SSL_CERT_FILE";
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
    fn a_host_may_be_an_address_of_either_kind_or_a_name() {
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
    fn the_systems_ca_certificates_are_used_with_the_whole_check_only() {
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
    fn what_is_no_url_is_said_to_be_none() {
        assert!(matches!(Server::from("host=localhost dbname=db").options(), Err(Error::Url(_))));
    }
}
