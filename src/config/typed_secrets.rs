//! Secrets on the command line are refused: every user of the machine can read a process's arguments.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, value_parser};
use url::Url;

const KEY: &str = "api_key";
const DATABASE: &str = "database_url";

/// The same command, with any text accepted where a secret may be: clap's messages repeat a value that is rejected.
pub(super) fn unread(command: Command) -> Command {
    command.mut_args(|it| {
        if [KEY, DATABASE].contains(&it.get_id().as_str()) { it.value_parser(value_parser!(OsString)) } else { it }
    })
}

/// Rejects a command line with a secret in it.
pub(super) fn refuse(mut command: Command, typed: &ArgMatches) -> Result<(), clap::Error> {
    let has = |id: &str, is_secret: fn(&OsStr) -> bool| {
        typed.get_many::<OsString>(id).is_some_and(|mut values| values.any(|it| is_secret(it)))
    };
    let message = if has(KEY, |_| true) {
        "--api-key is not accepted: every user of the machine can read the command line. Set WINDLASS_API_KEY, or use \
         --api-key-file"
    } else if has(DATABASE, has_password) {
        "--database-url must not contain a password: every user of the machine can read the command line. Set \
         DATABASE_URL, or omit the password and use a password file (PGPASSFILE)"
    } else {
        return Ok(());
    };
    Err(command.error(ErrorKind::ArgumentConflict, message))
}

/// Whether it has, or may have, a password.
fn has_password(url: &OsStr) -> bool {
    let url = url.to_string_lossy();
    match Url::parse(&url) {
        Ok(parsed) if parsed.has_authority() || !url.contains('@') => {
            parsed.password().is_some() || parsed.query_pairs().any(|(name, _)| name == "password")
        }
        Ok(_) | Err(_) => url.contains('@') || url.contains("password"),
    }
}
