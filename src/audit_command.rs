//! The command `audit`: exports the audit trail as a table or as JSON lines.

use std::error::Error;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;
use windlass_engine::AuditExport;
use windlass_engine::db::Db;
use windlass_engine::model::AuditEntry;
use windlass_types::{KeyId, Shown};

use crate::config::AuditCommand;
use crate::telemetry::stdout;

/// An event in JSON output. Fields that do not apply are null.
#[derive(Serialize)]
struct EventJson<'e> {
    id: Uuid,
    at: String,
    action: &'e str,
    outcome: &'e str,
    status: Option<i32>,
    via: &'e str,
    key: Option<KeyId>,
    operator: Option<&'e str>,
    project: Option<&'e str>,
    object: Option<&'e str>,
    address: Option<&'e str>,
    forwarded_for: Option<&'e str>,
    request_id: Option<&'e str>,
    user_agent: Option<&'e str>,
}

impl<'e> EventJson<'e> {
    fn of(entry: &'e AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: time(&entry.at),
            action: &entry.action,
            outcome: &entry.outcome,
            status: entry.status,
            via: &entry.via,
            key: entry.key,
            operator: entry.operator.as_deref(),
            project: entry.project.as_deref(),
            object: entry.object.as_deref(),
            address: entry.address.as_deref(),
            forwarded_for: entry.forwarded_for.as_deref(),
            request_id: entry.request_id.as_deref(),
            user_agent: entry.user_agent.as_deref(),
        }
    }
}

/// RFC 3339, in microseconds, as the database's clock.
fn time(it: &DateTime<Utc>) -> String {
    it.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The columns of the table. The last ones can have any length.
const HEADINGS: [&str; 7] = ["TIME", "ACTION", "OUTCOME", "PROJECT", "OBJECT", "ADDRESS", "WHO"];

fn row(cells: &[String; 7]) -> String {
    let [at, action, outcome, project, object, address, who] = cells;
    format!("{at:27}  {action:24}  {outcome:11}  {project:20}  {object:39}  {address:15}  {who}")
}

fn line(entry: &AuditEntry) -> String {
    let or_none = |it: Option<&str>| it.map_or("-".to_owned(), |it| Shown(it).to_string());
    let outcome = entry.status.map_or(entry.outcome.clone(), |status| format!("{} {status}", entry.outcome));
    let who = match (&entry.key, entry.via.as_str()) {
        (Some(key), "signed_url") => format!("URL signed by {key}"),
        (Some(key), _) => key.to_string(),
        (None, _) => or_none(entry.operator.as_deref()),
    };
    let [project, object, address] = [&entry.project, &entry.object, &entry.address].map(|it| or_none(it.as_deref()));
    row(&[time(&entry.at), entry.action.clone(), outcome, project, object, address, who])
}

/// Runs the command `audit`.
///
/// # Errors
/// When there is no time between the bounds, the ledger fails, or the output cannot be written.
pub async fn audit(command: AuditCommand, db: Db) -> Result<(), Box<dyn Error>> {
    let mut export = AuditExport::begin(db, command.since, command.until, command.filter()).await?;
    let mut text = if command.json { String::new() } else { format!("{}\n", row(&HEADINGS.map(str::to_owned))) };
    loop {
        let entries = export.next().await?;
        for entry in entries.iter().flatten() {
            if command.json {
                writeln!(text, "{}", plain(&serde_json::to_string(&EventJson::of(entry))?))?;
            } else {
                writeln!(text, "{}", line(entry))?;
            }
        }
        match write(&mut text) {
            Err(error) if error.is_closed_pipe() => return Ok(()),
            written => written?,
        }
        if entries.is_none() {
            return Ok(());
        }
    }
}

/// Escapes what a terminal might interpret, such as U+009B, in JSON; only its strings can contain it.
fn plain(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut text, it| {
        if it.is_ascii() || it.is_alphanumeric() {
            text.push(it);
        } else {
            for unit in it.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                write!(text, "\\u{unit:04x}").ok();
            }
        }
        text
    })
}

/// Writes the lines, and clears them.
fn write(text: &mut String) -> Result<(), stdout::Error> {
    if !text.is_empty() {
        stdout::deliver(text.trim_end_matches('\n'))?;
    }
    text.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_terminal_might_interpret_is_escaped() {
        let text = "caf\u{e9} \u{9b}31m \u{202e} \u{1f600}";
        let plain = super::plain(&serde_json::to_string(text).unwrap());
        assert_eq!(plain, "\"caf\u{e9} \\u009b31m \\u202e \\ud83d\\ude00\"");
        assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), text);
    }
}
