//! Settings that contradict each other: one that was set has no effect, or makes correct requests fail, because of
//! another one.

use windlass_engine::model::Limits;
use windlass_types::{AnyPurpose, PartOrder};

use super::{Config, Database, Location};

/// A setting whose value cannot be used together with that of another one.
#[derive(Debug)]
pub(super) struct Contradiction {
    holds: bool,
    /// The setting.
    pub name: &'static str,
    /// The setting that it contradicts, if it is not the machine.
    pub other: Option<&'static str>,
    /// Both values, and what to change.
    pub reason: String,
}

/// All contradictions of settings that were set. A default never is one: whatever limits it further takes effect.
pub(super) fn find(config: &Config, is_set: impl Fn(&str) -> bool) -> Vec<Contradiction> {
    let all = sizes(&config.limits).into_iter().chain(times(&config.limits)).chain([
        memory(config),
        place(config),
        lifetimes(&config.limits),
        quota(&config.limits),
    ]);
    all.filter(|it| it.holds && is_set(it.name)).collect()
}

fn sizes(limits: &Limits) -> [Contradiction; 5] {
    let (part, upload, file) = (limits.part_bytes, limits.upload_bytes, limits.file_bytes);
    let (ledger_part, batch) = (limits.ledger_part_bytes, limits.batch_file_bytes);
    let max_parts = PartOrder::MAX_PARTS;
    let most = part.get().saturating_mul(u64::try_from(max_parts).unwrap_or(u64::MAX));
    let in_parts = format!("{max_parts} parts of {part} bytes (WINDLASS_MAX_PART_BYTES), {most} bytes in all");
    [
        Contradiction {
            holds: part > upload,
            name: "WINDLASS_MAX_PART_BYTES",
            other: Some("WINDLASS_MAX_UPLOAD_BYTES"),
            reason: format!("a part may have {part} bytes, but an upload at most {upload} (WINDLASS_MAX_UPLOAD_BYTES)"),
        },
        Contradiction {
            holds: ledger_part > part,
            name: "WINDLASS_LEDGER_PART_BYTES",
            other: Some("WINDLASS_MAX_PART_BYTES"),
            reason: format!(
                "parts of up to {ledger_part} bytes are stored in the database, but a part has at most {part} \
                 (WINDLASS_MAX_PART_BYTES)"
            ),
        },
        Contradiction {
            holds: upload.get() > most,
            name: "WINDLASS_MAX_UPLOAD_BYTES",
            other: Some("WINDLASS_MAX_PART_BYTES"),
            reason: format!("an upload may have {upload} bytes, but at most {in_parts}"),
        },
        Contradiction {
            holds: file.get() > most,
            name: "WINDLASS_MAX_FILE_BYTES",
            other: Some("WINDLASS_MAX_PART_BYTES"),
            reason: format!("a file may have {file} bytes, but is stored as at most {in_parts}"),
        },
        Contradiction {
            holds: batch > file,
            name: "WINDLASS_MAX_BATCH_FILE_BYTES",
            other: Some("WINDLASS_MAX_FILE_BYTES"),
            reason: format!("a batch file may have {batch} bytes, but a file at most {file} (WINDLASS_MAX_FILE_BYTES)"),
        },
    ]
}

fn times(limits: &Limits) -> [Contradiction; 2] {
    let [idle, deadline, lifetime] =
        [limits.body_idle, limits.body_deadline, limits.upload_lifetime].map(humantime::format_duration);
    [
        Contradiction {
            holds: limits.body_idle > limits.body_deadline,
            name: "WINDLASS_BODY_IDLE",
            other: Some("WINDLASS_BODY_DEADLINE"),
            reason: format!(
                "a body may pause for {idle}, but has to arrive within {deadline} (WINDLASS_BODY_DEADLINE)"
            ),
        },
        Contradiction {
            holds: limits.body_deadline > limits.upload_lifetime,
            name: "WINDLASS_BODY_DEADLINE",
            other: Some("WINDLASS_UPLOAD_LIFETIME"),
            reason: format!(
                "a body may take {deadline}, but its upload or file expires after {lifetime} (WINDLASS_UPLOAD_LIFETIME)"
            ),
        },
    ]
}

fn lifetimes(limits: &Limits) -> Contradiction {
    let expiry = &limits.file_expiry;
    let of = |purpose| Some((purpose, expiry.default.of(purpose)?.seconds(), expiry.longest.of(purpose)?.seconds()));
    let wrong = AnyPurpose::ALL.into_iter().filter_map(of).find(|(_, default, longest)| default > longest);
    let (purpose, default, longest) = wrong.unwrap_or((AnyPurpose::Batch, 0, 0));
    Contradiction {
        holds: wrong.is_some(),
        name: "WINDLASS_PROJECT_FILE_LIFETIMES",
        other: Some("WINDLASS_PROJECT_MAX_FILE_LIFETIMES"),
        reason: format!(
            "a file for {purpose} lives for {default} seconds by default, but at most {longest} \
             (WINDLASS_PROJECT_MAX_FILE_LIFETIMES)"
        ),
    }
}

fn quota(limits: &Limits) -> Contradiction {
    let (upload, project) = (limits.upload_bytes.get(), limits.project.bytes.unwrap_or(u64::MAX));
    Contradiction {
        holds: upload > project,
        name: "WINDLASS_MAX_UPLOAD_BYTES",
        other: Some("WINDLASS_PROJECT_MAX_BYTES"),
        reason: format!(
            "an upload may have {upload} bytes, but a project at most {project} (WINDLASS_PROJECT_MAX_BYTES)"
        ),
    }
}

fn place(config: &Config) -> Contradiction {
    let cluster = config.data_dir.join("postgres");
    let is_inside = matches!(&config.store, Location::Directory(path) if path.starts_with(&cluster));
    Contradiction {
        holds: is_inside && matches!(config.database, Database::Embedded(_)),
        name: "WINDLASS_STORE",
        other: Some("WINDLASS_DATA_DIR"),
        reason: format!("{} is for the files of the private PostgreSQL only", cluster.display()),
    }
}

fn memory(config: &Config) -> Contradiction {
    let Config { limits, memory, .. } = config;
    let used = limits.buffer_bytes.get() + limits.response_bytes() + limits.read_ahead_bytes();
    Contradiction {
        holds: used > *memory,
        name: "WINDLASS_BUFFER_BYTES",
        other: None,
        reason: format!("up to {used} bytes are used, with responses, but the machine or container has only {memory}"),
    }
}
