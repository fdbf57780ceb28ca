//! Reads the settings from flags, environment variables and files, and reports everything that is wrong with them
//! together. An empty variable counts as not set (`${X:-}` in a compose file), and leading and trailing white space is
//! ignored (a secret read from a file often ends with a line feed).

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory as _, FromArgMatches as _};
use windlass_engine::store::Variables;

use super::in_force::InForce;
use super::problems::{BadSetting, Unusable};
use super::{Command, CommandLine, Config, Invocation, Options};
use super::{contradictions, in_force, postgres_variables, secret_files, typed_secrets, unknown};

/// A setting, with its flag and its variable.
pub(super) struct Setting {
    /// Without the dashes.
    pub flag: String,
    /// Whether it is not only there to be rejected.
    pub is_flag_shown: bool,
    pub variable: String,
    pub is_secret: bool,
    pub default: Option<String>,
    pub given: Option<Given>,
}

/// The value of a setting that was set.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub value: OsString,
    pub source: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// A file that is named by a setting, such as a container secret.
    File(PathBuf),
    /// The program.
    Default,
}

/// Parses the command line, and reads the settings that it does not contain from the environment.
///
/// # Errors
/// When anything is invalid, or when the help or the version is requested.
pub(super) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Unusable> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let mut environment: BTreeMap<_, _> = environment.into_iter().collect();
    // The values of settings are parsed below, one by one.
    let reading = typed_secrets::without_parsers(CommandLine::command().mut_args(|it| it.env(None)));
    let typed = reading.clone().try_get_matches_from(&arguments).map_err(|error| manual(error, &arguments))?;
    typed_secrets::reject(reading, &typed)?;
    let command = typed.subcommand_name().map(|_| Command::from_arg_matches(&typed)).transpose()?;
    let command = command.unwrap_or(Command::Serve);

    let mut settings: Vec<_> =
        CommandLine::command().get_arguments().filter_map(|it| Setting::of(it, &typed, &environment)).collect();
    let mut bad = read_secrets(&mut settings);
    let mut options = parse(&mut settings, &mut bad)?;
    let (files, unreadable) = secret_files::read_for_store(&mut environment);
    bad.extend(unreadable);
    options.store_variables = Variables::new(environment.clone());
    let config = Config::try_from(options)?;

    bad.extend(postgres_variables::check(&environment));
    let is_bad = |name: &str, bad: &[BadSetting]| bad.iter().any(|it| it.name == name);
    let is_given = |name: &str| settings.iter().any(|it| it.variable == name && it.given.is_some());
    let found = contradictions::find(&config, is_given);
    let found = found.into_iter().filter(|it| !it.other.is_some_and(|other| is_bad(other, &bad)));
    let found: Vec<_> = found.map(BadSetting::from).collect();
    bad.extend(found);
    if command.uses_store() {
        bad.extend(config.store.check(&config.store_variables).into_iter().map(BadSetting::from));
    }
    let variables: Vec<_> = settings.iter().map(|it| it.variable.as_str()).collect();
    let (misspelled, unknown): (Vec<_>, _) =
        unknown::find(&variables, &environment).into_iter().partition(|it| it.is_misspelled);
    bad.extend(misspelled.into_iter().map(BadSetting::from));
    if !bad.is_empty() {
        return Err(Unusable::Settings(bad));
    }
    let in_force: Vec<InForce> = in_force::list(&settings, &config, &environment, &files);
    Ok(Invocation { command, config, in_force, unknown })
}

/// Reads the secrets whose files are named by another setting.
fn read_secrets(settings: &mut [Setting]) -> Vec<BadSetting> {
    let mut bad = Vec::new();
    for at in 0..settings.len() {
        let variable = format!("{}{}", settings[at].variable, secret_files::SUFFIX);
        let file = settings.iter().find(|it| it.variable == variable);
        let Some((file, path)) = file.and_then(|it| Some((it, PathBuf::from(&it.given.as_ref()?.value)))) else {
            continue;
        };
        let shown = file.shown();
        let secret = &settings[at];
        match secret_files::read(&path) {
            _ if secret.given.is_some() => bad.push(BadSetting::both(&secret.variable, &secret.shown(), &shown)),
            Ok(value) => settings[at].given = Some(Given { value, source: Source::File(path) }),
            Err(error) => bad.push(BadSetting::value(&variable, &shown, None, error)),
        }
    }
    bad
}

/// Parses the values. Those that are invalid are reported, and count as not set from then on.
fn parse(settings: &mut [Setting], bad: &mut Vec<BadSetting>) -> Result<Options, clap::Error> {
    let command = CommandLine::command().mut_args(|it| it.env(None));
    let program = || OsString::from("windlass");
    let mut arguments = vec![program()];
    for setting in settings {
        let Some(given) = &setting.given else { continue };
        let argument = setting.argument(&given.value);
        match command.clone().try_get_matches_from(iter::once(program()).chain([argument.clone()])) {
            Ok(_) => arguments.push(argument),
            Err(error) => {
                bad.push(setting.refused(given, &error));
                setting.given = None;
            }
        }
    }
    Options::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// Regenerates the help text with the environment enabled, so that it contains the variables and their values.
fn manual(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    if error.kind() == ErrorKind::DisplayHelp {
        let with_variables = typed_secrets::without_secret_parsers(CommandLine::command());
        return with_variables.try_get_matches_from(arguments).err().unwrap_or(error);
    }
    error
}

/// Trims the value if it is UTF-8. Any other value can be a path and remains unchanged.
pub(super) fn trimmed(value: &OsStr) -> &OsStr {
    value.to_str().map_or(value, |it| OsStr::new(it.trim()))
}

impl Setting {
    fn of(argument: &Arg, typed: &ArgMatches, environment: &BTreeMap<OsString, OsString>) -> Option<Self> {
        let id = argument.get_id().to_string();
        let variable = argument.get_env()?.to_str()?.to_owned();
        let is_typed = typed.value_source(&id) == Some(ValueSource::CommandLine);
        let flag = typed.get_raw(&id).filter(|_| is_typed).and_then(Iterator::last);
        let set = environment.get(OsStr::new(&variable)).map(|it| trimmed(it)).filter(|it| !it.is_empty());
        let flag = flag.map(|it| Given { value: it.to_owned(), source: Source::Flag });
        Some(Self {
            flag: argument.get_long()?.to_owned(),
            is_flag_shown: !argument.is_hide_set(),
            variable,
            is_secret: argument.is_hide_env_values_set(),
            default: argument.get_default_values().first().map(|it| it.to_string_lossy().into_owned()),
            given: flag.or_else(|| set.map(|it| Given { value: it.to_owned(), source: Source::Environment })),
        })
    }

    fn argument(&self, value: &OsStr) -> OsString {
        let mut argument = OsString::from(format!("--{}=", self.flag));
        argument.push(value);
        argument
    }

    /// What the user wrote: the flag or the variable.
    fn shown(&self) -> String {
        match &self.given {
            Some(Given { source: Source::Flag, .. }) => format!("--{}", self.flag),
            Some(Given { source: Source::File(path), .. }) => format!("{} (in {})", self.variable, path.display()),
            Some(Given { source: Source::Environment | Source::Default, .. }) | None => self.variable.clone(),
        }
    }

    fn refused(&self, given: &Given, error: &clap::Error) -> BadSetting {
        let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => source.to_string(),
            (None, Some(ContextValue::Strings(values))) => format!("must be one of {}", values.join(", ")),
            (None, _) => error.kind().to_string(),
        };
        let value = in_force::without_password(&given.value.to_string_lossy());
        BadSetting::value(&self.variable, &self.shown(), (!self.is_secret).then_some(&*value), reason)
    }
}
