//! The settings in force, for `windlass config`. Secrets are hidden.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde::Serialize;
use url::Url;
use windlass_types::Shown;

use super::environment::{Setting, Source, trimmed};
use super::{Config, Location};

/// Shown instead of a secret.
const HIDDEN: &str = "***";

/// Other variables that have an effect.
const OTHERS: [&str; 23] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGDATABASE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGAPPNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// The name of its environment variable.
    pub name: String,
    /// Its flag, if it has one.
    pub flag: Option<String>,
    /// Its value, with secrets replaced by `***`; `None` if it is not set.
    pub value: Option<String>,
    /// `flag`, `environment`, `file` or `default`.
    pub source: &'static str,
    /// The file that the value was read from.
    pub file: Option<PathBuf>,
}

impl InForce {
    /// The line for a person.
    pub fn line(&self) -> String {
        let Self { name, value, source, file, .. } = self;
        let file = file.as_ref().map_or_else(String::new, |it| format!(" {}", it.display()));
        format!("{name:<32} {} ({source}{file})", Shown(value.as_deref().unwrap_or("not set")))
    }

    fn new(name: &str, flag: Option<String>, value: Option<String>, source: Source) -> Self {
        let (source, file) = match source {
            Source::Flag => ("flag", None),
            Source::Environment => ("environment", None),
            Source::File(path) => ("file", Some(path)),
            Source::Default => ("default", None),
        };
        Self { name: name.to_owned(), flag, value, source, file }
    }
}

/// All settings, then the variables for the store, then others that have an effect.
pub(super) fn list(
    settings: &[Setting],
    config: &Config,
    environment: &BTreeMap<OsString, OsString>,
    files: &BTreeMap<String, PathBuf>,
) -> Vec<InForce> {
    let own = settings.iter().filter(|it| it.is_flag_shown || it.is_secret).map(|it| {
        let given = it.given.clone();
        let source = given.as_ref().map_or(Source::Default, |it| it.source.clone());
        let given = given.map(|given| given.value.to_string_lossy().into_owned());
        let value = match given {
            Some(value) => Some(if it.is_secret { url_without_password(&value) } else { without_password(&value) }),
            None => it.default.clone().or_else(|| computed(&it.variable, config)),
        };
        let flag = it.is_flag_shown.then(|| format!("--{}", it.flag));
        InForce::new(&it.variable, flag, value, source)
    });
    let of_store = config.store_variables.used_by(&config.store).into_iter().map(|(name, value)| {
        let source = files.get(name).map_or(Source::Environment, |it| Source::File(it.clone()));
        InForce::new(name, None, Some(value.unwrap_or(HIDDEN).to_owned()), source)
    });
    let others = OTHERS.iter().filter_map(|name| {
        let value = trimmed(environment.get(OsStr::new(name))?).to_string_lossy();
        let value = match *name {
            _ if value.is_empty() => return None,
            "PGPASSWORD" => HIDDEN.to_owned(),
            _ => without_password(&value),
        };
        Some(InForce::new(name, None, Some(value), Source::Environment))
    });
    own.chain(of_store).chain(others).collect()
}

/// The value of a setting whose default depends on other settings or on the machine.
fn computed(variable: &str, config: &Config) -> Option<String> {
    match variable {
        "WINDLASS_STORE" => match &config.store {
            Location::Directory(path) => Some(format!("file://{}", path.display())),
            Location::Bucket(_) => None,
        },
        "WINDLASS_BUFFER_BYTES" => Some(config.limits.buffer_bytes.to_string()),
        _ => None,
    }
}

/// The text with the password of a URL hidden, or all of it if it is not clear where the password ends.
pub(super) fn without_password(text: &str) -> String {
    let is_path = text.starts_with(['/', '.']);
    let has_password = text.contains('@') || text.contains("password=");
    if has_password && !is_path { url_without_password(text) } else { text.to_owned() }
}

fn url_without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return HIDDEN.to_owned() };
    let rest = text.split_once("://").and_then(|it| it.1.split_once('@')).map_or("", |it| it.1);
    let ends_late = rest.contains('@') || url.path().contains('@') || url.fragment().is_some();
    if !url.has_authority() || ends_late || url.query().is_some_and(|it| it.contains('@')) {
        return HIDDEN.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    if pairs.iter().any(|it| it.0.contains("password")) {
        let hidden = pairs.iter().map(|(name, value)| (name, if name.contains("password") { HIDDEN } else { value }));
        url.query_pairs_mut().clear().extend_pairs(hidden);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("postgres://u:secret@h:5432/d", "postgres://u:***@h:5432/d"),
            ("postgres://u@h/d?sslmode=require", "postgres://u@h/d?sslmode=require"),
            ("postgres:///d?host=/run&password=secret", "postgres:///d?host=%2Frun&password=***"),
            ("postgres://u@h/d?pass%77ord=secret", "postgres://u@h/d?password=***"),
            ("http://u:secret@proxy:3128", "http://u:***@proxy:3128/"),
            ("postgres://u:se/cret@h/d", HIDDEN),
            ("postgres://u:1/secret@h/d", HIDDEN),
            ("postgres://u:1?secret@h/d", HIDDEN),
            ("postgres://u:1#secret@h/d", HIDDEN),
            ("postgres://u:a@secret@h/d", HIDDEN),
            ("a-secret-of-enough-letters", HIDDEN),
            ("key:secret", HIDDEN),
        ] {
            assert!(without_password(url) == shown || !url.contains(['@', '=']), "{url}");
            assert_eq!(url_without_password(url), shown, "{url}");
        }
    }
}
