//! Variables that Postgres's clients read besides `DATABASE_URL`. sqlx ignores invalid ones, which could turn off TLS.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;

use super::environment::trimmed;
use super::problems::BadSetting;

/// The modes of `PGSSLMODE`.
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Those that are invalid.
pub(super) fn check(environment: &BTreeMap<OsString, OsString>) -> Vec<BadSetting> {
    let wrong = |name: &str, reason: &dyn Fn(&str) -> Option<String>| {
        let value = trimmed(environment.get(OsStr::new(name))?).to_string_lossy();
        let reason = reason(&value).filter(|_| !value.is_empty())?;
        Some(BadSetting::value(name, name, Some(&value), reason))
    };
    let mode = |it: &str| (!MODES.contains(&it)).then(|| format!("must be one of {}", MODES.join(", ")));
    let port = |it: &str| it.parse::<u16>().is_err().then(|| "is not a port from 0 to 65535".to_owned());
    let readable = |it: &str| File::open(it).err().map(|error| format!("cannot be read: {error}"));
    let found = [wrong("PGSSLMODE", &mode), wrong("PGPORT", &port), wrong("SSL_CERT_FILE", &readable)];
    found.into_iter().flatten().collect()
}
