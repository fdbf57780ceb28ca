//! The commands `projects` and `usage`: their arguments to the engine's types, and their output as text or JSON.

use std::error::Error;

use serde::Serialize;
use windlass_engine::model::{ProjectChange, ProjectEntry, ProjectLimits, ProjectSettings, Usage};
use windlass_engine::{Keys, ProjectUsage};

use crate::config::{ProjectsCommand, SetProject, UsageCommand};
use crate::keys_command::time;
use crate::telemetry::{self, stdout};

/// A project in JSON output.
#[derive(Serialize)]
struct ProjectJson<'p> {
    id: String,
    name: &'p str,
    created_at: String,
    max_bytes: String,
    max_pending_uploads: String,
    max_files: String,
    file_lifetimes: String,
    max_file_lifetimes: String,
}

impl<'p> ProjectJson<'p> {
    fn of(entry: &'p ProjectEntry) -> Self {
        let ProjectEntry { id, name, created_at, limits } = entry;
        Self {
            id: id.to_string(),
            name,
            created_at: time(created_at),
            max_bytes: limits.bytes.to_string(),
            max_pending_uploads: limits.pending_uploads.to_string(),
            max_files: limits.files.to_string(),
            file_lifetimes: limits.file_expiry.default.to_string(),
            max_file_lifetimes: limits.file_expiry.longest.to_string(),
        }
    }
}

/// The usage of a project in JSON output.
#[derive(Serialize)]
struct UsageJson<'p> {
    project: &'p str,
    bytes: u64,
    pending_uploads: u64,
    files: u64,
    max_bytes: Option<u64>,
    max_pending_uploads: Option<u64>,
    max_files: Option<u64>,
}

impl<'p> UsageJson<'p> {
    fn of(entry: &'p ProjectUsage) -> Self {
        let ProjectUsage { project, usage: Usage { bytes, pending_uploads, files, limits } } = entry;
        Self {
            project,
            bytes: *bytes,
            pending_uploads: *pending_uploads,
            files: *files,
            max_bytes: limits.bytes,
            max_pending_uploads: limits.pending_uploads,
            max_files: limits.files,
        }
    }

    fn line(&self) -> String {
        let of = |used: u64, most: Option<u64>| most.map_or(used.to_string(), |it| format!("{used} of {it}"));
        let Self { project, bytes, pending_uploads, files, max_bytes, max_pending_uploads, max_files } = self;
        format!(
            "{project}  {} bytes  {} pending uploads  {} files",
            of(*bytes, *max_bytes),
            of(*pending_uploads, *max_pending_uploads),
            of(*files, *max_files)
        )
    }
}

/// Runs a command of `projects`.
///
/// # Errors
/// When the ledger fails, the output cannot be written, or the project does not exist.
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
        ProjectsCommand::Set(arguments) => set(arguments, keys).await?,
        ProjectsCommand::List { json } => {
            let projects = keys.list_projects().await?;
            if json {
                let projects: Vec<_> = projects.iter().map(ProjectJson::of).collect();
                return Ok(stdout::print(serde_json::to_string_pretty(&projects)?)?);
            }
            for project in projects {
                let created = project.created_at.format("%Y-%m-%d");
                let limits = limits(&project.limits);
                stdout::print(format_args!("{}  {}  created {created}{limits}", project.id, project.name))?;
            }
        }
    }
    Ok(())
}

async fn set(arguments: SetProject, keys: &Keys) -> Result<(), Box<dyn Error>> {
    let SetProject { name, bytes, pending_uploads, files, lifetimes, longest_lifetimes, json } = arguments;
    let change = ProjectChange { bytes, pending_uploads, files, default_lifetimes: lifetimes, longest_lifetimes };
    keys.change_project(&name, &change).await?;
    if json {
        let listed = keys.list_projects().await?;
        let entry = listed.iter().find(|it| it.name == name.as_str()).map(ProjectJson::of);
        return Ok(stdout::print(serde_json::to_string_pretty(&entry)?)?);
    }
    telemetry::say(&format!("changed {name}"));
    Ok(())
}

/// What is set for a project.
fn limits(settings: &ProjectSettings) -> String {
    let ProjectSettings { bytes, pending_uploads, files, file_expiry } = settings;
    let values = [
        ("max bytes", bytes.to_string(), "default"),
        ("max pending uploads", pending_uploads.to_string(), "default"),
        ("max files", files.to_string(), "default"),
        ("file lifetimes", file_expiry.default.to_string(), ""),
        ("max file lifetimes", file_expiry.longest.to_string(), ""),
    ];
    let set = values.into_iter().filter(|(_, value, unset)| value != unset);
    set.map(|(name, value, _)| format!("  {name} {value}")).collect::<Vec<_>>().concat()
}

/// Runs the command `usage`. `defaults` are the limits of projects that have none of their own.
///
/// # Errors
/// When the ledger fails, the output cannot be written, or the project does not exist.
pub async fn usage(command: UsageCommand, keys: &Keys, defaults: ProjectLimits) -> Result<(), Box<dyn Error>> {
    let found = keys.usage(command.project.as_ref(), defaults).await?;
    let entries: Vec<_> = found.iter().map(UsageJson::of).collect();
    if command.json {
        return Ok(stdout::print(serde_json::to_string_pretty(&entries)?)?);
    }
    for entry in entries {
        stdout::print(entry.line())?;
    }
    Ok(())
}
