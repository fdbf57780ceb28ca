//! Rejects secrets on the command line, since every user of the machine can read the arguments of a process.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory as _, value_parser};
use url::Url;

use super::CommandLine;

const KEY: &str = "api_key";
const DATABASE: &str = "database_url";
const HEADERS: &str = "otlp_headers";

/// The same command without value parsers for secrets, because clap's error messages quote the rejected value.
pub(super) fn without_secret_parsers(command: Command) -> Command {
    command.mut_args(|it| {
        if [KEY, DATABASE, HEADERS].contains(&it.get_id().as_str()) {
            it.value_parser(value_parser!(OsString))
        } else {
            it
        }
    })
}

/// The same command without value parsers for settings.
pub(super) fn without_parsers(command: Command) -> Command {
    let settings: Vec<_> = CommandLine::command()
        .get_arguments()
        .filter(|it| it.get_env().is_some())
        .map(|it| it.get_id().clone())
        .collect();
    command.mut_args(|it| if settings.contains(it.get_id()) { it.value_parser(value_parser!(OsString)) } else { it })
}

/// Rejects a command line that contains a secret.
pub(super) fn reject(mut command: Command, typed: &ArgMatches) -> Result<(), clap::Error> {
    let has = |id: &str, is_secret: fn(&OsStr) -> bool| {
        typed.get_many::<OsString>(id).is_some_and(|mut values| values.any(|it| is_secret(it)))
    };
    let message = if has(KEY, |_| true) {
        "--api-key is not accepted: every user of the machine can read the command line. Set WINDLASS_API_KEY, or use \
         --api-key-file"
    } else if has(HEADERS, |_| true) {
        "--otlp-headers is not accepted: every user of the machine can read the command line. Set \
         OTEL_EXPORTER_OTLP_HEADERS, or use --otlp-headers-file"
    } else if has(DATABASE, has_password) {
        "--database-url must not contain a password: every user of the machine can read the command line. Set \
         DATABASE_URL, or omit the password and use a password file (PGPASSFILE)"
    } else {
        return Ok(());
    };
    Err(command.error(ErrorKind::ArgumentConflict, message))
}

/// Whether the URL has a password, or may have one if it cannot be parsed.
fn has_password(url: &OsStr) -> bool {
    let url = url.to_string_lossy();
    match Url::parse(&url) {
        Ok(parsed) if parsed.has_authority() || !url.contains('@') => {
            parsed.password().is_some() || parsed.query_pairs().any(|(name, _)| name == "password")
        }
        Ok(_) | Err(_) => url.contains('@') || url.contains("password"),
    }
}
