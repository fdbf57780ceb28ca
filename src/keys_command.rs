//! The commands `keys`: their arguments to the engine's types, and their output as text or JSON.

use std::error::Error;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use windlass_engine::Keys;
use windlass_engine::model::{ApiKey, Grant, KeyChange, KeyEntry, KeyRates, LimitSetting, NewGrant, NewKey, Scope};
use windlass_types::KeyId;

use crate::config::{CreateKey, KeyKind, KeysCommand, SetKey};
use crate::telemetry::{self, stdout};

/// A new key was created but could not be printed.
#[derive(Debug, thiserror::Error)]
enum NotShown {
    #[error("the key {id} could not be shown, and was revoked")]
    Revoked { id: KeyId, source: stdout::Error },
    #[error("the key {id} could not be shown, and is still valid: revoke it with `windlass keys revoke {id}`")]
    Valid { id: KeyId, source: stdout::Error },
}

/// A key in JSON output.
#[derive(Serialize)]
struct KeyJson<'k> {
    id: KeyId,
    /// The key itself, only when it is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'k str>,
    name: &'k str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'k str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acts_for: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creates_projects: Option<bool>,
    scopes: Vec<&'static str>,
    max_requests_per_second: String,
    max_bytes_per_second: String,
    #[serde(flatten)]
    times: Option<KeyTimes>,
}

/// State and times of a key.
#[derive(Serialize)]
struct KeyTimes {
    state: &'static str,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

impl<'k> KeyJson<'k> {
    fn of(id: KeyId, name: &'k str, grant: &'k NewGrant, scopes: &[Scope], rates: KeyRates) -> Self {
        let (kind, project, acts_for, creates_projects) = match grant {
            Grant::Project(project) => ("project", Some(project.as_str()), None, None),
            Grant::Service { acts_for, creates_projects } => {
                let acts_for = acts_for.iter().map(ToString::to_string).collect();
                ("service", None, Some(acts_for), Some(*creates_projects))
            }
        };
        let scopes = scopes.iter().map(|it| it.as_str()).collect();
        Self {
            id,
            key: None,
            name,
            kind,
            project,
            acts_for,
            creates_projects,
            scopes,
            max_requests_per_second: rates.requests.to_string(),
            max_bytes_per_second: rates.bytes.to_string(),
            times: None,
        }
    }

    fn of_entry(entry: &'k KeyEntry) -> Self {
        let times = KeyTimes {
            state: state(entry),
            created_at: time(&entry.created_at),
            expires_at: entry.expires_at.as_ref().map(time),
            last_used_at: entry.last_used_at.as_ref().map(time),
            revoked_at: entry.revoked_at.as_ref().map(time),
        };
        Self { times: Some(times), ..Self::of(entry.id, &entry.name, &entry.grant, &entry.scopes, entry.rates) }
    }
}

/// RFC 3339, in seconds.
pub(crate) fn time(it: &DateTime<Utc>) -> String {
    it.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn state(entry: &KeyEntry) -> &'static str {
    match (entry.revoked_at, entry.is_expired) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "valid",
    }
}

/// Runs a command of `keys`.
///
/// # Errors
/// When the ledger fails, the output cannot be written, or the key does not exist.
pub async fn keys(command: KeysCommand, keys: &Keys) -> Result<(), Box<dyn Error>> {
    match command {
        KeysCommand::Create(arguments) => create(arguments, keys).await,
        KeysCommand::Set(SetKey { id, requests, bytes, json }) => {
            keys.change_key(id, KeyChange { requests, bytes }).await?;
            if json {
                let listed = keys.list().await?;
                let entry = listed.iter().find(|it| it.id == id).map(KeyJson::of_entry);
                return Ok(stdout::print(serde_json::to_string_pretty(&entry)?)?);
            }
            telemetry::say(&format!("changed {id}"));
            Ok(())
        }
        KeysCommand::List { json } => {
            let entries = keys.list().await?;
            if json {
                let entries: Vec<_> = entries.iter().map(KeyJson::of_entry).collect();
                return Ok(stdout::print(serde_json::to_string_pretty(&entries)?)?);
            }
            for entry in entries {
                stdout::print(line(&entry))?;
            }
            Ok(())
        }
        KeysCommand::Revoke { id, json } => {
            let revoked_at = keys.revoke(id).await?;
            if json {
                let revoked = serde_json::json!({ "id": id, "revoked_at": time(&revoked_at) });
                return Ok(stdout::print(serde_json::to_string_pretty(&revoked)?)?);
            }
            telemetry::say(&format!("revoked {id}"));
            Ok(())
        }
    }
}

fn line(entry: &KeyEntry) -> String {
    let whom = match &entry.grant {
        Grant::Project(project) => project.to_string(),
        Grant::Service { acts_for, .. } => {
            format!("service for {}", acts_for.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }
    };
    let day = |it: &DateTime<Utc>| it.format("%Y-%m-%d").to_string();
    let state = match (&entry.revoked_at, &entry.expires_at) {
        (Some(at), _) => format!("revoked {}", day(at)),
        (None, Some(at)) if entry.is_expired => format!("expired {}", day(at)),
        (None, Some(at)) => format!("valid until {}", day(at)),
        (None, None) => "valid".to_owned(),
    };
    let used = entry.last_used_at.as_ref().map_or("never used".to_owned(), |it| format!("used {}", day(it)));
    let scopes = if entry.scopes.len() == Scope::ALL.len() {
        String::new()
    } else {
        format!("{} only  ", entry.scopes.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(","))
    };
    let rates = rates(entry.rates);
    format!("{}  {whom}  created {}  {used}  {state}  {scopes}{rates}{}", entry.id, day(&entry.created_at), entry.name)
}

/// The rates that are set for a key.
fn rates(rates: KeyRates) -> String {
    let set = [(rates.requests, "requests/s"), (rates.bytes, "bytes/s")];
    let set = set.into_iter().filter(|(rate, _)| *rate != LimitSetting::Default);
    set.map(|(rate, unit)| format!("{rate} {unit}  ")).collect::<Vec<_>>().concat()
}

async fn create(arguments: CreateKey, keys: &Keys) -> Result<(), Box<dyn Error>> {
    let rates = KeyRates { requests: arguments.max_requests_per_second, bytes: arguments.max_bytes_per_second };
    let CreateKey { kind, project, acts_for, creates_projects, name, expires_in, scope, json, .. } = arguments;
    if kind == KeyKind::Project && !acts_for.is_empty() {
        return Err("--acts-for is for service keys: add --kind service, or name one project with --project".into());
    }
    let grant = match kind {
        KeyKind::Project => Grant::Project(project),
        KeyKind::Service => Grant::Service { acts_for, creates_projects },
    };
    let mut scopes = scope;
    scopes.sort_by_key(|it| it.as_str());
    scopes.dedup();
    let new = NewKey { id: KeyId::generate(), name, grant, scopes, expires_in, rates };
    let key = keys.create(&new).await?;
    if !json {
        telemetry::say(&format!("created {}; the key is shown only once:", new.id));
    }
    let shown = render(&new, &key, json)?;
    if let Err(source) = stdout::deliver(shown) {
        let (id, is_revoked) = (new.id, keys.revoke(new.id).await.is_ok());
        return Err(if is_revoked { NotShown::Revoked { id, source } } else { NotShown::Valid { id, source } }.into());
    }
    Ok(())
}

fn render(new: &NewKey, key: &ApiKey, json: bool) -> serde_json::Result<String> {
    if !json {
        return Ok(key.reveal().to_owned());
    }
    let created =
        KeyJson { key: Some(key.reveal()), ..KeyJson::of(new.id, &new.name, &new.grant, &new.scopes, new.rates) };
    serde_json::to_string_pretty(&created)
}
