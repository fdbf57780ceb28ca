//! Credentials from a profile in the shared AWS configuration files (`~/.aws/credentials` and `~/.aws/config`), which
//! `object_store` does not read.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use configparser::ini::Ini;

use super::SetupError;
use super::variables::Variables;

type Result<T> = std::result::Result<T, SetupError>;

/// The settings that are read from a profile, and the equivalent environment variables.
const SETTINGS: [(&str, &str); 5] = [
    ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
    ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("aws_session_token", "AWS_SESSION_TOKEN"),
    ("region", "AWS_REGION"),
    ("endpoint_url", "AWS_ENDPOINT_URL"),
];

/// Settings for sources of credentials that are not supported.
const UNSUPPORTED: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// The settings of a profile, as environment variables.
#[derive(Debug)]
pub(super) struct Profile {
    /// The profile and its files, for messages.
    pub source: String,
    /// Values by the name of the equivalent variable.
    pub set: BTreeMap<&'static str, String>,
}

impl Profile {
    /// Reads the profile named by `AWS_PROFILE`, or the profile `default`. Returns `None` if no profile was named and
    /// there is no `default` with credentials.
    ///
    /// # Errors
    /// If a file cannot be read, the named profile does not exist or has no credentials, or a profile uses an
    /// unsupported source of credentials.
    pub(super) fn read(variables: &Variables) -> Result<Option<Self>> {
        let named = variables.get("AWS_PROFILE").or_else(|| variables.get("AWS_DEFAULT_PROFILE"));
        let name = named.unwrap_or("default");
        let path = |variable, default: &str| {
            let ours = variables.get(variable).map(PathBuf::from);
            ours.or_else(|| variables.home().map(|it| it.join(".aws").join(default)))
        };
        let files = [path("AWS_CONFIG_FILE", "config"), path("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
        let mut found = BTreeMap::new();
        let mut sources = Vec::new();
        for path in files.iter().flatten() {
            if let Some(section) = section(path, name)? {
                found.extend(section);
                sources.push(path.display().to_string());
            }
        }
        if sources.is_empty() {
            let looked_in: Vec<_> = files.iter().flatten().map(|it| it.display().to_string()).collect();
            return match named {
                Some(name) => Err(SetupError::Profile(format!(
                    "AWS_PROFILE names the profile '{name}', which is not in {}",
                    if looked_in.is_empty() { "any file: HOME is not set".to_owned() } else { looked_in.join(" or ") }
                ))),
                None => Ok(None),
            };
        }
        let source = format!("the profile '{name}' in {}", sources.join(" and "));
        let value = |key: &str| found.get(key).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let has_credentials = value("aws_access_key_id").is_some() && value("aws_secret_access_key").is_some();
        if !has_credentials && let Some(way) = UNSUPPORTED.iter().find(|it| value(it).is_some()) {
            return Err(SetupError::Profile(format!(
                "{source} uses {way}, which is not supported: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                 AWS_SESSION_TOKEN (`aws configure export-credentials --profile {name} --format env` prints them)"
            )));
        }
        if !has_credentials {
            return match named {
                Some(_) => Err(SetupError::Profile(format!(
                    "{source} has no credentials: it needs aws_access_key_id and aws_secret_access_key"
                ))),
                None => Ok(None),
            };
        }
        let set = SETTINGS.iter().filter_map(|(key, variable)| Some((*variable, value(key)?))).collect();
        Ok(Some(Self { source, set }))
    }
}

/// The settings of a profile in one file.
fn section(path: &Path, name: &str) -> Result<Option<BTreeMap<String, String>>> {
    let unreadable = |problem: String| SetupError::Profile(format!("{} cannot be read: {problem}", path.display()));
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| unreadable(error.to_string()))?,
    };
    let mut file = Ini::new_cs();
    file.set_inline_comment_symbols(Some(&[]));
    let sections = file.read(text).map_err(unreadable)?;
    // Headings are `[name]` in one file and `[profile name]` in the other; `default` has no prefix in either.
    let settings = sections.get(name).or_else(|| sections.get(&format!("profile {name}")));
    Ok(settings
        .filter(|it| !it.is_empty())
        .map(|it| it.iter().filter_map(|(key, value)| Some((key.to_lowercase(), value.clone()?))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Variables {
        Variables::new(set.iter().map(|it| (it.0.into(), it.1.into())))
    }

    fn home(credentials: &str, config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        fs::write(home.path().join(".aws/config"), config).unwrap();
        home
    }

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AK1\naws_secret_access_key = a#b;c=d/e+f\n\n\
                               [other]\nAWS_ACCESS_KEY_ID=AK2\naws_secret_access_key=s2\naws_session_token = t2==\n";
    const CONFIG: &str = "[default]\nregion = eu-1\ns3 =\n  max_concurrent_requests = 20\n\n[profile other]\n\
                          endpoint_url = http://host:9000\n[profile role]\nrole_arn = arn:aws:iam::1:role/x\n\
                          [profile empty]\noutput = json\n";

    #[test]
    fn a_profile_combines_the_settings_of_both_files() {
        let home = home(CREDENTIALS, CONFIG);
        let home = ("HOME", home.path().to_str().unwrap());
        let profile = Profile::read(&variables(&[home])).unwrap().unwrap();
        assert_eq!(profile.set["AWS_ACCESS_KEY_ID"], "AK1");
        assert_eq!(profile.set["AWS_SECRET_ACCESS_KEY"], "a#b;c=d/e+f");
        assert_eq!(profile.set["AWS_REGION"], "eu-1");
        let profile = Profile::read(&variables(&[home, ("AWS_PROFILE", "other")])).unwrap().unwrap();
        assert_eq!(profile.set["AWS_ACCESS_KEY_ID"], "AK2");
        assert_eq!(profile.set["AWS_SESSION_TOKEN"], "t2==");
        assert_eq!(profile.set["AWS_ENDPOINT_URL"], "http://host:9000");
    }

    #[test]
    fn without_a_file_or_a_default_profile_there_is_no_profile() {
        assert!(Profile::read(&variables(&[])).unwrap().is_none());
        let empty = tempfile::tempdir().unwrap();
        assert!(Profile::read(&variables(&[("HOME", empty.path().to_str().unwrap())])).unwrap().is_none());
        let home = home("[other]\naws_access_key_id = x\n", "");
        assert!(Profile::read(&variables(&[("HOME", home.path().to_str().unwrap())])).unwrap().is_none());
    }

    #[test]
    fn an_unusable_profile_is_rejected_with_the_reason() {
        let home = home(CREDENTIALS, CONFIG);
        let home = ("HOME", home.path().to_str().unwrap());
        for (name, hint) in [("nobody", "not in"), ("role", "role_arn"), ("empty", "no credentials")] {
            let error = Profile::read(&variables(&[home, ("AWS_PROFILE", name)])).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains(name), "{error}");
        }
        let nowhere = Profile::read(&variables(&[("AWS_PROFILE", "x")])).unwrap_err().to_string();
        assert!(nowhere.contains("HOME"), "{nowhere}");
    }
}
