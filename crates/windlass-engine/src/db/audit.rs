//! The table `audit_event`: the audit trail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;
use windlass_types::{KeyId, ProjectId, ProjectName};

use super::{Position, Result, seconds};
use crate::model::{AuditAction, AuditActor, AuditEntry, AuditEvent, AuditFilter, AuditObject, AuditProject, AuditVia};

/// Records events, except those that were recorded before. A project's name is looked up.
pub async fn insert(db: impl PgExecutor<'_>, events: &[AuditEvent]) -> Result<()> {
    fn each<'e, T>(events: &'e [AuditEvent], it: impl Fn(&'e AuditEvent) -> T) -> Vec<T> {
        events.iter().map(it).collect()
    }
    sqlx::query!(
        "insert into audit_event (id, action, outcome, status, via, key_id, operator, project, object, address,
                                  forwarded_for, request_id, user_agent)
         select event.id, action, outcome, status, via, key_id, operator, coalesce(project_name, project.name), object,
                address::inet, forwarded_for, request_id, user_agent
         from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::uuid[], $7::text[], $8::uuid[],
                     $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
              as event (id, action, outcome, status, via, key_id, operator, project_id, project_name, object, address,
                        forwarded_for, request_id, user_agent)
              left join project on project.id = event.project_id
         on conflict (id) do nothing",
        &each(events, |it| it.id),
        &each(events, |it| it.action.as_str()) as &[&str],
        &each(events, |it| it.outcome.as_str()) as &[&str],
        &each(events, |it| it.status.map(i32::from)) as &[Option<i32>],
        &each(events, |it| via(&it.actor).as_str()) as &[&str],
        &each(events, |it| key(&it.actor)) as &[Option<KeyId>],
        &each(events, |it| operator(&it.actor)) as &[Option<&str>],
        &each(events, |it| project_id(it.project.as_ref())) as &[Option<ProjectId>],
        &each(events, |it| project_name(it.project.as_ref())) as &[Option<&str>],
        &each(events, |it| it.object.map(|it| it.to_string())) as &[Option<String>],
        &each(events, |it| it.origin.address.map(|it| it.to_string())) as &[Option<String>],
        &each(events, |it| it.origin.forwarded_for.as_deref()) as &[Option<&str>],
        &each(events, |it| it.origin.request_id.as_deref()) as &[Option<&str>],
        &each(events, |it| it.origin.user_agent.as_deref()) as &[Option<&str>],
    )
    .execute(db)
    .await?;
    Ok(())
}

fn via(actor: &AuditActor) -> AuditVia {
    match actor {
        AuditActor::Key(_) => AuditVia::Key,
        AuditActor::SignedUrl(_) => AuditVia::SignedUrl,
        AuditActor::Operator(_) => AuditVia::CommandLine,
    }
}

fn key(actor: &AuditActor) -> Option<KeyId> {
    match actor {
        AuditActor::Key(id) | AuditActor::SignedUrl(id) => Some(*id),
        AuditActor::Operator(_) => None,
    }
}

fn operator(actor: &AuditActor) -> Option<&str> {
    match actor {
        AuditActor::Operator(name) => Some(name),
        AuditActor::Key(_) | AuditActor::SignedUrl(_) => None,
    }
}

fn project_id(project: Option<&AuditProject>) -> Option<ProjectId> {
    match project? {
        AuditProject::Id(id) => Some(*id),
        AuditProject::Name(_) => None,
    }
}

fn project_name(project: Option<&AuditProject>) -> Option<&str> {
    match project? {
        AuditProject::Id(_) => None,
        AuditProject::Name(name) => Some(name.as_str()),
    }
}

/// The current time, by the database's clock.
pub async fn now(db: impl PgExecutor<'_>) -> Result<DateTime<Utc>> {
    let row = sqlx::query!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await?;
    Ok(row.now)
}

/// A page of events.
#[derive(Debug)]
pub struct Page {
    /// Those that match the filter, the oldest first.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Position>,
}

/// Reads up to `limit` events after a position, and before `until`, and returns those that match the filter. A page is
/// bounded by what is read, not by what matches, so that no statement takes long.
pub async fn page(
    db: impl PgExecutor<'_>,
    after: Position,
    until: DateTime<Utc>,
    filter: &AuditFilter,
    limit: u16,
) -> Result<Page> {
    let ids = filter.object.map(names);
    let rows = sqlx::query!(
        r#"with page as materialized (
               select id, at, action, outcome, status, via, key_id, operator, project, object,
                      host(address) as address, forwarded_for, request_id, user_agent,
                      coalesce(($5::text is null or project = $5) and ($6::text is null or action = $6)
                               and ($7::uuid is null or key_id = $7)
                               and ($8::text[] is null or object = any($8)), false) as is_match
               from audit_event where (at, id) > ($1, $2) and at < $3
               order by at, id limit $4
           )
           select id, at, action, outcome, status, via, key_id as "key: KeyId", operator, project, object, address,
                  forwarded_for, request_id, user_agent, is_match as "is_match!"
           from page
           where is_match or id = (select id from page order by at desc, id desc limit 1)
           order by at, id"#,
        after.created_at,
        after.id,
        until,
        i64::from(limit),
        filter.project.as_ref().map(ProjectName::as_str),
        filter.action.map(AuditAction::as_str),
        filter.key.map(KeyId::uuid),
        ids.as_deref(),
    )
    .fetch_all(db)
    .await?;
    let next = rows.last().map(|it| Position::of(it.at, it.id));
    let entries = rows.into_iter().filter(|it| it.is_match).map(|row| AuditEntry {
        id: row.id,
        at: row.at,
        action: row.action,
        outcome: row.outcome,
        status: row.status,
        via: row.via,
        key: row.key,
        operator: row.operator,
        project: row.project,
        object: row.object,
        address: row.address,
        forwarded_for: row.forwarded_for,
        request_id: row.request_id,
        user_agent: row.user_agent,
    });
    Ok(Page { entries: entries.collect(), next })
}

/// The ids of an object: those of a File, and of the Upload that it was created from.
fn names(object: AuditObject) -> Vec<String> {
    match object {
        AuditObject::Upload(id) => vec![id.to_string(), id.file().to_string()],
        AuditObject::File(id) => vec![id.to_string(), id.upload().to_string()],
        AuditObject::Key(id) => vec![id.to_string()],
    }
}

/// The position before all events from this time on.
pub fn from(since: DateTime<Utc>) -> Position {
    Position::of(since, Uuid::nil())
}

/// Deletes up to `batch` events that are older than `retention`. Returns their number.
pub async fn delete_old(db: impl PgExecutor<'_>, retention: Duration, batch: u16) -> Result<u64> {
    let outcome = sqlx::query!(
        "delete from audit_event where ctid = any (array(
             select ctid from audit_event where at < now() - make_interval(secs => $1)
             order by at limit $2 for update skip locked))",
        seconds(retention),
        i64::from(batch),
    )
    .execute(db)
    .await?;
    Ok(outcome.rows_affected())
}
