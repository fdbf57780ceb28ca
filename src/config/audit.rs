//! Settings of the audit trail, and the options of its export.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::DateTime;
use clap::{Args, ValueEnum};
use windlass_engine::Moment;
use windlass_engine::model::{AuditAction, AuditFilter, AuditObject};
use windlass_types::{KeyId, ProjectName};

use super::values::duration;

/// The shortest and the longest time for which events can be kept.
const RETENTION: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(24 * 3650);

/// Settings of the audit trail.
#[derive(Debug, Args)]
pub struct AuditOptions {
    /// Whether an audit trail is kept in the database: who did what, when and from where. Set it for the service and for
    /// its commands. A request that cannot be recorded gets 503.
    #[arg(long, global = true, env = "WINDLASS_AUDIT", default_value = "off")]
    audit: AuditSwitch,
    /// How long events of the audit trail are kept: 1h to 3650d. While the trail is off, none are deleted.
    #[arg(long, global = true, env = "WINDLASS_AUDIT_RETENTION", default_value = "90d", value_parser = retention)]
    audit_retention: Duration,
}

/// Whether there is an audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AuditSwitch {
    /// Nothing is recorded.
    Off,
    /// Requests and commands are recorded.
    On,
}

impl AuditOptions {
    /// How long events are kept; `None` if there is no audit trail.
    pub fn retention(&self) -> Option<Duration> {
        (self.audit == AuditSwitch::On).then_some(self.audit_retention)
    }
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditCommand {
    /// Only events from this time on: an age, such as `24h`, or a time, such as `2026-11-27T09:00:00Z` (RFC 3339).
    #[arg(long, value_parser = moment)]
    pub since: Option<Moment>,
    /// Only events before this time; now, if not set.
    #[arg(long, value_parser = moment)]
    pub until: Option<Moment>,
    /// Only events of this project.
    #[arg(long)]
    pub project: Option<ProjectName>,
    /// Only events of this action, such as `file.read`.
    #[arg(long)]
    pub action: Option<AuditAction>,
    /// Only events of this key, and of URLs that it has signed.
    #[arg(long)]
    pub key: Option<KeyId>,
    /// Only events about this file, upload or key. A file and the upload that it was created from are one object.
    #[arg(long)]
    pub object: Option<AuditObject>,
    /// Print JSON: one object per line.
    #[arg(long)]
    pub json: bool,
}

impl AuditCommand {
    /// Which events are exported.
    pub fn filter(&self) -> AuditFilter {
        let Self { project, action, key, object, .. } = self;
        AuditFilter { project: project.clone(), action: *action, key: *key, object: *object }
    }
}

fn retention(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(it) if !RETENTION.contains(&it) => Err("must be 1h to 3650d".to_owned()),
        outcome => outcome,
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    let wrong = "is neither an age, such as 24h or 7d, nor a time, such as 2026-11-27T09:00:00Z";
    duration(text).map(Moment::Ago).map_err(|_| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_an_age_or_a_time_with_an_offset() {
        assert_eq!(moment("24h"), Ok(Moment::Ago(Duration::from_hours(24))));
        let Ok(Moment::At(time)) = moment("2026-11-27T10:00:00+01:00") else { panic!("it is a time") };
        assert_eq!(time.to_rfc3339(), "2026-11-27T09:00:00+00:00");
        for text in ["", "24", "yesterday", "2026-11-27", "2026-11-27T09:00:00", "2026-13-01T00:00:00Z", "-1h"] {
            assert!(moment(text).unwrap_err().contains("2026-11-27T09:00:00Z"), "{text}");
        }
    }

    #[test]
    fn events_are_kept_for_an_hour_to_ten_years() {
        for (text, seconds) in [("1h", 3600), ("90d", 90 * 86_400), ("3650d", 3650 * 86_400)] {
            assert_eq!(retention(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["59m", "3651d", "0", "forever", "90"] {
            assert!(retention(text).is_err(), "{text}");
        }
        assert_eq!(retention("1s").unwrap_err(), "must be 1h to 3650d");
    }
}
