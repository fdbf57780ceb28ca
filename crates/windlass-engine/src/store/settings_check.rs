//! Checks all variables of a store before it is opened, and shows those that are in force.

use std::collections::BTreeMap;

use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use windlass_types::ErrorChain;

use super::clients::{self, Try, misfit, unpaired, without_client};
use super::location::{Bucket, Provider};
use super::variables::{Variables, check, may_be_secret};
use super::{Error, Location, SetupError};

/// Variables of the shared configuration files, which the client does not know.
const PROFILE: [&str; 4] = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

impl Location {
    /// Everything that is wrong with the variables for this store. Sends no request.
    pub fn check(&self, variables: &Variables) -> Vec<SetupError> {
        match self {
            Self::Directory(_) => Vec::new(),
            Self::Bucket(bucket) => check_all(bucket, variables),
        }
    }
}

impl Variables {
    /// Whether this is the name of a variable with a secret, such as `AWS_SECRET_ACCESS_KEY`.
    pub fn is_secret(name: &str) -> bool {
        may_be_secret(name) && is_known(name)
    }

    /// The variables that a store at this location uses, and their values, except for secrets.
    pub fn used_by(&self, location: &Location) -> Vec<(&str, Option<&str>)> {
        let Location::Bucket(bucket) = location else { return Vec::new() };
        let used = prefixes(bucket.provider).iter().flat_map(|it| self.starting_with(it));
        used.filter(|it| is_known(it.0)).map(|(name, value)| (name, (!may_be_secret(name)).then_some(value))).collect()
    }
}

fn prefixes(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::S3 => &["AWS_"],
        Provider::Google => &["GOOGLE_"],
        Provider::Azure => &["AZURE_", "AZURITE_"],
    }
}

/// Whether a client or this module uses a variable with this name.
fn is_known(name: &str) -> bool {
    let key = name.to_ascii_lowercase();
    match name.split_once('_').map(|it| it.0) {
        Some("AWS") => PROFILE.contains(&name) || key.parse::<AmazonS3ConfigKey>().is_ok(),
        Some("GOOGLE") => key.parse::<GoogleConfigKey>().is_ok(),
        Some("AZURE") => key.parse::<AzureConfigKey>().is_ok(),
        Some("AZURITE") => name == "AZURITE_BLOB_STORAGE_URL",
        Some(_) | None => false,
    }
}

fn check_all(bucket: &Bucket, variables: &Variables) -> Vec<SetupError> {
    let (opened, try_with): (_, Try) = match bucket.provider {
        Provider::S3 => (clients::s3(bucket, variables).map(drop), clients::try_s3),
        Provider::Google => (clients::google(bucket, variables).map(drop), clients::try_google),
        Provider::Azure => (clients::azure(bucket, variables).map(drop), clients::try_azure),
    };
    let first = match opened {
        Ok(()) => return Vec::new(),
        Err(Error::Setup(error)) => error,
        Err(error) => SetupError::NoClient(ErrorChain(&error).to_string()),
    };
    // It is the first of possibly several problems.
    let no_client = try_with(&BTreeMap::new()).err();
    let of = |(name, value): (&str, &str)| match check(name, value) {
        Ok(_) if no_client.is_some() => None,
        Ok(value) => misfit(name, &value, try_with),
        Err(error) => Some(error),
    };
    let mut all: Vec<_> =
        prefixes(bucket.provider).iter().flat_map(|it| variables.starting_with(it)).filter_map(of).collect();
    if bucket.provider == Provider::S3 {
        let is_set = |name| variables.get(name).is_some();
        all.extend(unpaired(is_set("AWS_ACCESS_KEY_ID"), is_set("AWS_SECRET_ACCESS_KEY")));
    }
    all.extend(no_client.as_ref().map(without_client));
    if all.iter().all(|it| it.to_string() != first.to_string()) {
        all.push(first);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Variables {
        Variables::new(set.iter().map(|it| (it.0.into(), it.1.into())))
    }

    fn wrong(location: &str, set: &[(&str, &str)]) -> Vec<String> {
        let location: Location = location.parse().unwrap();
        location.check(&variables(set)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_invalid_variables_are_found_and_secrets_are_not_shown() {
        let found = wrong(
            "s3://b",
            &[
                ("AWS_ENDPOINT_URL", "minio:9000"),
                ("AWS_TIMEOUT", "soon"),
                ("AWS_ALLOW_HTTP", "maybe"),
                ("AWS_REGION", "eu central 1"),
                ("AWS_SECRET_ACCESS_KEY", "a secret\u{1}"),
                ("AWS_UNKNOWN", "maybe"),
            ],
        );
        let expected = [
            "AWS_ALLOW_HTTP (maybe)",
            "AWS_ENDPOINT_URL (minio:9000)",
            "AWS_REGION (eu central 1)",
            "AWS_SECRET_ACCESS_KEY cannot",
            "AWS_TIMEOUT (soon)",
            "AWS_ACCESS_KEY_ID cannot be used: it is not set",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected) && !found.contains("a secret"), "{expected}: {found}");
        }
    }

    #[test]
    fn a_problem_of_several_variables_is_found_once() {
        let key = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        assert_eq!(wrong("s3://b", &key), Vec::<String>::new());
        assert_eq!(wrong("s3://b", &key[..1]).len(), 1);
        let plain = [("AWS_ENDPOINT_URL", "http://h"), ("AWS_ALLOW_HTTP", "false")];
        let found = wrong("s3://b", &[&key[..], &plain].concat());
        assert!(found.len() == 1 && found[0].contains("AWS_ALLOW_HTTP forbids"), "{found:?}");
        assert!(wrong("az://c", &[("AZURE_TIMEOUT", "soon")]).iter().any(|it| it.contains("ACCOUNT_NAME")));
        assert_eq!(wrong("az://c", &[("AZURE_TIMEOUT", "soon")]).len(), 2);
        assert_eq!(wrong("gs://b", &[("GOOGLE_SERVICE_ACCOUNT_KEY", "no JSON"), ("GOOGLE_TIMEOUT", "soon")]).len(), 2);
        assert_eq!(wrong("file:///a", &[("AWS_TIMEOUT", "soon")]), Vec::<String>::new());
    }

    #[test]
    fn secrets_are_told_from_names_of_files_and_unknown_variables() {
        for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY", "AZURE_CLIENT_SECRET"]
        {
            assert!(Variables::is_secret(name), "{name}");
        }
        for name in
            ["AWS_WEB_IDENTITY_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION", "SECRET", "AWS_KEY_OF_OTHERS"]
        {
            assert!(!Variables::is_secret(name), "{name}");
        }
    }

    #[test]
    fn the_variables_in_force_are_shown_without_secrets() {
        let set = [
            ("AWS_REGION", "eu-1"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/a/token"),
            ("AWS_OF_OTHERS", "secret"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
        ];
        let variables = variables(&set);
        let expected = [
            ("AWS_REGION", Some("eu-1")),
            ("AWS_SECRET_ACCESS_KEY", None),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Some("/a/token")),
        ];
        assert_eq!(variables.used_by(&"s3://b".parse().unwrap()), expected);
        assert_eq!(variables.used_by(&"file:///a".parse().unwrap()), []);
    }
}
