//! Settings from the environment. An empty variable counts as not set (`${X:-}` in a compose file), leading and
//! trailing white space is ignored (a secret read from a file ends with a line feed), and all invalid variables are
//! reported at once.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use super::{CommandLine, typed_secrets};

/// The minimum similarity, from 0 to 1, at which a variable is reported as a misspelled setting.
const ALIKE: f64 = 0.85;

/// The error returned when the command line or the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// An error from the command line parser, including requests for help and the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// Invalid environment variables.
    #[error("{}", list(.0))]
    Settings(Vec<BadSetting>),
}

/// An environment variable with an invalid value.
#[derive(Debug)]
pub struct BadSetting {
    name: String,
    /// `None` if the value is a secret.
    value: Option<String>,
    /// What is wrong, or what is expected instead.
    reason: String,
}

/// An environment variable that looks like a setting but is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    name: String,
    /// The setting that was probably meant.
    nearest: Option<String>,
}

/// The flag and the variable of a setting.
struct Setting {
    id: String,
    flag: String,
    variable: String,
    is_secret: bool,
}

/// Parses the command line, and reads all settings that it does not contain from the environment.
pub(super) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<CommandLine, Unusable> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    let environment: BTreeMap<_, _> = environment.into_iter().collect();
    let command = CommandLine::command().mut_args(|it| it.env(None));
    let reading = typed_secrets::unread(command.clone());
    let typed = reading.clone().try_get_matches_from(&arguments).map_err(|error| manual(error, &arguments))?;
    typed_secrets::refuse(reading, &typed)?;

    let settings: Vec<_> = CommandLine::command().get_arguments().filter_map(Setting::of).collect();
    let (mut values, mut bad) = (Vec::new(), Vec::new());
    for setting in &settings {
        let is_typed = typed.value_source(&setting.id) == Some(ValueSource::CommandLine);
        let value = environment.get(OsStr::new(&setting.variable)).map(|it| without_white_space(it));
        if let Some(value) = value.filter(|it| !it.is_empty() && !is_typed) {
            let argument = setting.argument(value);
            match command.clone().try_get_matches_from([OsString::from("windlass"), argument.clone()]) {
                Ok(_) => values.push(argument),
                Err(error) => bad.push(setting.refused(value, &error)),
            }
        }
    }
    if !bad.is_empty() {
        return Err(Unusable::Settings(bad));
    }
    let after_name = arguments.len().min(1);
    arguments.splice(after_name..after_name, values);
    let mut line = CommandLine::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
    line.unknown = unknown(&settings, &environment);
    Ok(line)
}

/// Regenerates the help text with the environment enabled, so that it shows the variables and their values.
fn manual(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    if error.kind() == ErrorKind::DisplayHelp {
        let with_variables = typed_secrets::unread(CommandLine::command());
        return with_variables.try_get_matches_from(arguments).err().unwrap_or(error);
    }
    error
}

/// Trims the value, unless it is not UTF-8 and therefore possibly a path.
fn without_white_space(value: &OsStr) -> &OsStr {
    value.to_str().map_or(value, |it| OsStr::new(it.trim()))
}

impl Setting {
    fn of(argument: &Arg) -> Option<Self> {
        Some(Self {
            id: argument.get_id().to_string(),
            flag: argument.get_long()?.to_owned(),
            variable: argument.get_env()?.to_str()?.to_owned(),
            is_secret: argument.is_hide_env_values_set(),
        })
    }

    fn argument(&self, value: &OsStr) -> OsString {
        let mut argument = OsString::from(format!("--{}=", self.flag));
        argument.push(value);
        argument
    }

    fn refused(&self, value: &OsStr, error: &clap::Error) -> BadSetting {
        let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => source.to_string(),
            (None, Some(ContextValue::Strings(values))) => format!("must be one of {}", values.join(", ")),
            (None, _) => error.kind().to_string(),
        };
        let value = (!self.is_secret).then(|| value.to_string_lossy().into_owned());
        BadSetting { name: self.variable.clone(), value, reason }
    }
}

fn unknown(settings: &[Setting], environment: &BTreeMap<OsString, OsString>) -> Vec<UnknownVariable> {
    let is_setting = |name: &str| settings.iter().any(|it| it.variable == name);
    let variables = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
    let unknown = variables.filter(|(name, value)| {
        name.starts_with("WINDLASS_") && !value.is_empty() && !is_setting(name) && !is_of_kubernetes(name, value)
    });
    unknown.map(|(name, _)| UnknownVariable { name: name.to_owned(), nearest: nearest(name, settings) }).collect()
}

/// Whether Kubernetes has set this variable: it does so for the addresses of a Service named `windlass`.
fn is_of_kubernetes(name: &str, value: &OsStr) -> bool {
    let of_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_"];
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|it| value.to_string_lossy().starts_with(it));
    is_address || of_service.iter().any(|it| name.contains(it))
}

fn nearest(name: &str, settings: &[Setting]) -> Option<String> {
    let own = |it: &str| it.strip_prefix("WINDLASS_").unwrap_or(it).replace('_', "");
    let alike = |it: &Setting| strsim::jaro_winkler(&own(name), &own(&it.variable));
    let best = settings.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE).then(|| best.variable.clone())
}

fn list(settings: &[BadSetting]) -> String {
    settings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nwindlass: ")
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, reason } = self;
        match value {
            Some(value) => write!(f, "{name} is '{value}': {reason}"),
            None => write!(f, "{name}: {reason}"),
        }
    }
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment has {}, which is no setting", self.name)?;
        self.nearest.as_ref().map_or(Ok(()), |it| write!(f, "; {it} is one"))
    }
}
