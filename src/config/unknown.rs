//! Environment variables that look like settings but are not.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::problems::UnknownVariable;

/// The minimum similarity, from 0 to 1, at which a variable is reported together with a setting.
const MIN_SIMILARITY: f64 = 0.85;

/// The maximum number of inserted, deleted, replaced or swapped letters of a misspelled name.
const MAX_SLIPS: usize = 2;

/// There is at most one slip in this many letters.
const LETTERS_PER_SLIP: usize = 4;

/// The variables that begin with `WINDLASS_` and are not among the settings, except those that Kubernetes sets.
pub(super) fn find(settings: &[&str], environment: &BTreeMap<OsString, OsString>) -> Vec<UnknownVariable> {
    let variables = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
    let unknown = variables.filter(|(name, value)| {
        name.starts_with("WINDLASS_")
            && !value.is_empty()
            && !settings.contains(name)
            && !is_from_kubernetes(name, value)
    });
    unknown.map(|(name, _)| explain(name, settings)).collect()
}

/// Whether this variable was set by Kubernetes, which publishes the addresses of a Service named `windlass` this way.
fn is_from_kubernetes(name: &str, value: &OsStr) -> bool {
    let of_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_"];
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|it| value.to_string_lossy().starts_with(it));
    is_address || of_service.iter().any(|it| name.contains(it))
}

fn explain(name: &str, settings: &[&str]) -> UnknownVariable {
    let bare = |it: &str| it.strip_prefix("WINDLASS_").unwrap_or(it).replace('_', "");
    let similarity = |it: &str| strsim::jaro_winkler(&bare(name), &bare(it));
    let best = settings.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let nearest = best.filter(|it| similarity(it) >= MIN_SIMILARITY);
    let is_misspelled = nearest.is_some_and(|it| {
        let slips = strsim::damerau_levenshtein(&bare(name), &bare(it));
        slips <= MAX_SLIPS && slips * LETTERS_PER_SLIP <= bare(it).len()
    });
    UnknownVariable { name: name.to_owned(), nearest: nearest.map(|it| (*it).to_owned()), is_misspelled }
}
