//! The commands `keys` and `projects`: their arguments to the engine's types, and their output as text or JSON.

use std::error::Error;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use windlass_engine::Keys;
use windlass_engine::model::{ApiKey, Grant, KeyEntry, NewGrant, NewKey, Scope};
use windlass_types::KeyId;

use crate::config::{CreateKey, KeyKind, KeysCommand, ProjectsCommand};
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

/// A project in JSON output.
#[derive(Serialize)]
struct ProjectJson<'p> {
    id: String,
    name: &'p str,
    created_at: String,
}

impl<'k> KeyJson<'k> {
    fn of(id: KeyId, name: &'k str, grant: &'k NewGrant, scopes: &[Scope]) -> Self {
        let (kind, project, acts_for, creates_projects) = match grant {
            Grant::Project(project) => ("project", Some(project.as_str()), None, None),
            Grant::Service { acts_for, creates_projects } => {
                let acts_for = acts_for.iter().map(ToString::to_string).collect();
                ("service", None, Some(acts_for), Some(*creates_projects))
            }
        };
        let scopes = scopes.iter().map(|it| it.as_str()).collect();
        Self { id, key: None, name, kind, project, acts_for, creates_projects, scopes, times: None }
    }

    fn of_entry(entry: &'k KeyEntry) -> Self {
        let times = KeyTimes {
            state: state(entry),
            created_at: time(&entry.created_at),
            expires_at: entry.expires_at.as_ref().map(time),
            last_used_at: entry.last_used_at.as_ref().map(time),
            revoked_at: entry.revoked_at.as_ref().map(time),
        };
        Self { times: Some(times), ..Self::of(entry.id, &entry.name, &entry.grant, &entry.scopes) }
    }
}

/// RFC 3339, in seconds.
fn time(it: &DateTime<Utc>) -> String {
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
    format!("{}  {whom}  created {}  {used}  {state}  {scopes}{}", entry.id, day(&entry.created_at), entry.name)
}

async fn create(arguments: CreateKey, keys: &Keys) -> Result<(), Box<dyn Error>> {
    let CreateKey { kind, project, acts_for, creates_projects, name, expires_in, scope, json } = arguments;
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
    let new = NewKey { id: KeyId::generate(), name, grant, scopes, expires_in };
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
    let created = KeyJson { key: Some(key.reveal()), ..KeyJson::of(new.id, &new.name, &new.grant, &new.scopes) };
    serde_json::to_string_pretty(&created)
}

/// Runs a command of `projects`.
///
/// # Errors
/// When the ledger fails, or the output cannot be written.
pub async fn projects(command: ProjectsCommand, keys: &Keys) -> Result<(), Box<dyn Error>> {
    match command {
        ProjectsCommand::Create { name, json } => {
            let is_new = keys.create_project(&name).await?;
            if json {
                let created = serde_json::json!({ "name": name, "created": is_new });
                return Ok(stdout::print(serde_json::to_string_pretty(&created)?)?);
            }
            telemetry::say(&if is_new { format!("created {name}") } else { format!("{name} exists already") });
        }
        ProjectsCommand::List { json } => {
            let projects = keys.list_projects().await?;
            if json {
                let projects: Vec<_> = projects
                    .iter()
                    .map(|it| ProjectJson { id: it.id.to_string(), name: &it.name, created_at: time(&it.created_at) })
                    .collect();
                return Ok(stdout::print(serde_json::to_string_pretty(&projects)?)?);
            }
            for project in projects {
                let created = project.created_at.format("%Y-%m-%d");
                stdout::print(format_args!("{}  {}  created {created}", project.id, project.name))?;
            }
        }
    }
    Ok(())
}
