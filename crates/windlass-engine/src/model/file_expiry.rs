//! How long Files live by default, and at most, by purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use windlass_types::{AnyPurpose, FileLifetime};

/// Lifetimes of Files by purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurposeLifetimes {
    /// That of every purpose without its own.
    others: Option<FileLifetime>,
    own: Vec<(AnyPurpose, FileLifetime)>,
}

/// The error for a text that is not [`PurposeLifetimes`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write lifetimes of 1h to 30d by purpose, such as 'batch=7d,*=30d', where '*' is every other purpose")]
pub struct NotPurposeLifetimes(String);

impl PurposeLifetimes {
    /// The lifetime of Files of this purpose, if there is one.
    pub fn of(&self, purpose: AnyPurpose) -> Option<FileLifetime> {
        self.own.iter().find(|it| it.0 == purpose).map(|it| it.1).or(self.others)
    }

    /// The items of the column in the ledger.
    pub fn to_ledger(&self) -> Vec<String> {
        self.items().map(|(purpose, lifetime)| format!("{purpose}={}", lifetime.seconds())).collect()
    }

    /// Reads the items of the column in the ledger.
    ///
    /// # Errors
    /// If one of them is not `purpose=seconds`.
    pub fn from_ledger(items: &[String]) -> Result<Self, NotPurposeLifetimes> {
        Self::parse(items.iter().map(String::as_str), |text| text.parse().map_err(|_| format!("'{text}' is no number")))
    }

    fn items(&self) -> impl Iterator<Item = (&'static str, FileLifetime)> {
        let own = self.own.iter().map(|(purpose, lifetime)| (purpose.as_str(), *lifetime));
        own.chain(self.others.map(|it| ("*", it)))
    }

    fn parse<'t>(
        items: impl Iterator<Item = &'t str>,
        seconds: impl Fn(&str) -> Result<i64, String>,
    ) -> Result<Self, NotPurposeLifetimes> {
        let mut lifetimes = Self::default();
        for item in items {
            let (purpose, lifetime) =
                item.split_once('=').ok_or_else(|| NotPurposeLifetimes(format!("'{item}' has no '='")))?;
            let lifetime = seconds(lifetime.trim()).map_err(NotPurposeLifetimes)?;
            let lifetime = FileLifetime::try_from(lifetime).map_err(|e| NotPurposeLifetimes(e.to_string()))?;
            let repeated = if purpose.trim() == "*" {
                lifetimes.others.replace(lifetime).is_some()
            } else {
                let purpose = purpose.trim().parse::<AnyPurpose>().map_err(|e| NotPurposeLifetimes(e.to_string()))?;
                let repeated = lifetimes.own.iter().any(|it| it.0 == purpose);
                lifetimes.own.push((purpose, lifetime));
                repeated
            };
            if repeated {
                return Err(NotPurposeLifetimes(format!("'{}' is given more than once", purpose.trim())));
            }
        }
        Ok(lifetimes)
    }
}

impl FromStr for PurposeLifetimes {
    type Err = NotPurposeLifetimes;

    fn from_str(text: &str) -> Result<Self, NotPurposeLifetimes> {
        let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        Self::parse(items, |text| {
            let duration = humantime::parse_duration(text).map_err(|e| format!("'{text}': {e}"))?;
            i64::try_from(duration.as_secs()).map_err(|_| format!("'{text}' is too long"))
        })
    }
}

impl fmt::Display for PurposeLifetimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (purpose, lifetime)) in self.items().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let duration = humantime::format_duration(Duration::from_secs(lifetime.seconds().unsigned_abs()));
            write!(f, "{comma}{purpose}={}", duration.to_string().replace(' ', ""))?;
        }
        Ok(())
    }
}

/// The lifetimes of Files that were created without one, and the longest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileExpiry {
    /// The lifetime of a File that was created without one.
    pub default: PurposeLifetimes,
    /// The longest lifetime that a File may have.
    pub longest: PurposeLifetimes,
}

/// The lifetime is longer than Files of the purpose may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file for '{purpose}' lives at most {} seconds in this project, but {} were given", longest.seconds(), given.seconds())]
pub struct LifetimeTooLong {
    /// The purpose of the File.
    pub purpose: AnyPurpose,
    /// The longest lifetime.
    pub longest: FileLifetime,
    /// The lifetime that was given.
    pub given: FileLifetime,
}

impl FileExpiry {
    /// The lifetime of a new File in a project with these rules, for which the `settings` are the defaults. A File whose
    /// lifetime was not given lives for the default, but not longer than the longest.
    ///
    /// # Errors
    /// If the given lifetime is longer than the longest.
    pub fn lifetime(
        &self,
        settings: &Self,
        purpose: AnyPurpose,
        given: Option<FileLifetime>,
    ) -> Result<Option<FileLifetime>, LifetimeTooLong> {
        let longest = self.longest.of(purpose).or_else(|| settings.longest.of(purpose));
        let exceeds = |it: FileLifetime| longest.filter(|longest| it.seconds() > longest.seconds());
        if let Some(given) = given {
            return exceeds(given).map_or(Ok(Some(given)), |longest| Err(LifetimeTooLong { purpose, longest, given }));
        }
        let default = self.default.of(purpose).or_else(|| settings.default.of(purpose));
        let default = default.or_else(|| FileLifetime::default_of(purpose));
        Ok(default.map(|it| exceeds(it).unwrap_or(it)).or(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(default: &str, longest: &str) -> FileExpiry {
        FileExpiry { default: default.parse().unwrap(), longest: longest.parse().unwrap() }
    }

    #[test]
    fn the_project_takes_precedence_and_the_longest_bounds_the_default() {
        let lifetime = |project: &FileExpiry, settings: &FileExpiry, purpose, given: Option<i64>| {
            let given = given.map(|it| FileLifetime::try_from(it).unwrap());
            project
                .lifetime(settings, purpose, given)
                .map(|it| it.map(FileLifetime::seconds))
                .map_err(|e| e.to_string())
        };
        let (none, batch, data) = (FileExpiry::default(), AnyPurpose::Batch, AnyPurpose::UserData);
        assert_eq!(lifetime(&none, &none, data, None), Ok(None));
        assert_eq!(lifetime(&none, &none, batch, None), Ok(Some(2_592_000)));
        let settings = expiry("user_data=2h", "*=1d");
        assert_eq!(lifetime(&none, &settings, data, None), Ok(Some(7_200)));
        assert_eq!(lifetime(&none, &settings, batch, None), Ok(Some(86_400)), "the longest bounds the default");
        assert_eq!(lifetime(&none, &settings, AnyPurpose::Evals, None), Ok(Some(86_400)), "and is one itself");
        assert_eq!(lifetime(&none, &settings, data, Some(86_400)), Ok(Some(86_400)));
        let refused = lifetime(&none, &settings, data, Some(86_401)).unwrap_err();
        assert!(refused.contains("at most 86400") && refused.contains("86401"), "{refused}");
        let project = expiry("*=3h", "user_data=30d");
        assert_eq!(lifetime(&project, &settings, data, None), Ok(Some(10_800)));
        assert_eq!(lifetime(&project, &settings, data, Some(2_592_000)), Ok(Some(2_592_000)));
        assert_eq!(lifetime(&project, &settings, batch, None), Ok(Some(10_800)));
    }

    #[test]
    fn lifetimes_are_the_same_when_they_are_read_again() {
        for text in ["", "batch=7days", "*=30days", "fine-tune-results=1h,user_data=1day2h,*=12h"] {
            let lifetimes: PurposeLifetimes = text.parse().unwrap();
            assert_eq!(lifetimes.to_string(), text);
            assert_eq!(PurposeLifetimes::from_ledger(&lifetimes.to_ledger()), Ok(lifetimes));
        }
    }

    #[test]
    fn wrong_lifetimes_are_refused_with_what_would_be_right() {
        for (text, right) in [
            ("7d", "no '='"),
            ("batch=7", "time unit"),
            ("batch=59m", "3600"),
            ("batch=31d", "2592000"),
            ("data=7d", "not one of"),
            ("batch=1d,batch=2d", "more than once"),
            ("*=1d,*=2d", "more than once"),
            ("batch=", "1h to 30d"),
        ] {
            let refused = text.parse::<PurposeLifetimes>().unwrap_err().to_string();
            assert!(refused.contains(right) && refused.contains("'batch=7d,*=30d'"), "{text}: {refused}");
        }
    }
}
