//! New rows of the table `upload` that are declared: the Uploads of `POST /v1/uploads`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use windlass_types::{ByteCount, FileLifetime, ProjectId, UploadId};

use super::{Result, quotas, seconds};
use crate::model::{NewUpload, ProjectLimits, QuotaExceeded, UploadSpec};

/// An Upload to be inserted.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Id of the Upload.
    pub id: UploadId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// The declaration.
    pub new: NewUpload,
}

/// The outcome of inserting an Upload.
#[derive(Debug, Clone, Copy)]
pub struct Inserted {
    /// Id of the Upload.
    pub id: UploadId,
    /// Its times, or the quota that it would exceed.
    pub outcome: Result<Created, QuotaExceeded>,
}

/// The times of an Upload that was inserted.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    /// When it was inserted, by the database's clock.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

impl Created {
    fn of_upload(self, id: UploadId) -> Inserted {
        Inserted { id, outcome: Ok(self) }
    }
}

/// The columns of declared Uploads, one array each.
struct Columns<'c> {
    ids: Vec<UploadId>,
    projects: Vec<ProjectId>,
    filenames: Vec<&'c str>,
    purposes: Vec<&'c str>,
    mime_types: Vec<&'c str>,
    sizes: Vec<ByteCount>,
    file_lifetimes: Vec<Option<i64>>,
}

impl<'c> Columns<'c> {
    fn of(creations: &'c [Creation]) -> Self {
        fn each<'c, T>(creations: &'c [Creation], it: impl Fn(&'c UploadSpec) -> T) -> Vec<T> {
            creations.iter().map(|creation| it(creation.new.spec())).collect()
        }
        Self {
            ids: creations.iter().map(|it| it.id).collect(),
            projects: creations.iter().map(|it| it.project).collect(),
            filenames: each(creations, |it| it.filename.as_str()),
            purposes: each(creations, |it| it.purpose.as_str()),
            mime_types: each(creations, |it| it.mime_type.as_str()),
            sizes: each(creations, |it| it.bytes),
            file_lifetimes: each(creations, |it| it.file_lifetime.map(FileLifetime::seconds)),
        }
    }
}

/// Inserts declared Uploads and returns them; none if one of their projects has a limit, given the default limits.
pub async fn insert_unlimited(
    db: impl PgExecutor<'_>,
    creations: &[Creation],
    lifetime: Duration,
    limits: ProjectLimits,
) -> Result<Vec<Inserted>> {
    let columns = Columns::of(creations);
    let [most_bytes, most_uploads, most_files] = quotas::columns(limits);
    let rows = sqlx::query!(
        r#"insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, file_lifetime_seconds,
                               expires_at)
           select id, project_id, 'client', filename, purpose, mime_type, bytes, file_lifetime_seconds,
                  now() + make_interval(secs => $8)
           from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[])
                as new (id, project_id, filename, purpose, mime_type, bytes, file_lifetime_seconds)
           where not exists (select from project
                             where id = any($2) and (is_limited(max_bytes, $9) or is_limited(max_pending_uploads, $10)
                                                     or is_limited(max_files, $11)))
           on conflict (id) do nothing
           returning id as "id: UploadId", created_at, expires_at"#,
        &columns.ids as &[UploadId],
        &columns.projects as &[ProjectId],
        &columns.filenames as &[&str],
        &columns.purposes as &[&str],
        &columns.mime_types as &[&str],
        &columns.sizes as &[ByteCount],
        &columns.file_lifetimes as &[Option<i64>],
        seconds(lifetime),
        most_bytes,
        most_uploads,
        most_files,
    )
    .fetch_all(db)
    .await?;
    let inserted =
        rows.into_iter().map(|it| Created { created_at: it.created_at, expires_at: it.expires_at }.of_upload(it.id));
    Ok(inserted.collect())
}

/// Inserts declared Uploads, except those that exceed a quota of their project, given the default limits. Waits for
/// other transactions that allocate in the limited projects. Returns those that were not inserted before.
pub async fn insert(
    db: impl PgExecutor<'_>,
    creations: &[Creation],
    lifetime: Duration,
    limits: ProjectLimits,
) -> Result<Vec<Inserted>> {
    let columns = Columns::of(creations);
    let [most_bytes, most_uploads, most_files] = quotas::columns(limits);
    let rows = sqlx::query!(
        r#"with limited as materialized (
             select from project
             where id = any($2) and (is_limited(max_bytes, $9) or is_limited(max_pending_uploads, $10)
                                     or is_limited(max_files, $11))
             limit 1
         ), refused as materialized (
             select refusal.* from limited, quota_refusals($1, $2, $6, 1, 1, $9, $10, $11) refusal
         ), inserted as (
             insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, file_lifetime_seconds,
                                 expires_at)
             select id, project_id, 'client', filename, purpose, mime_type, bytes, file_lifetime_seconds,
                    now() + make_interval(secs => $8)
             from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[])
                  as new (id, project_id, filename, purpose, mime_type, bytes, file_lifetime_seconds)
             where id not in (select refused from refused)
             on conflict (id) do nothing
             returning id, created_at, expires_at
         )
         select id as "id!: UploadId", created_at as "created_at?", expires_at as "expires_at?", null as "quota?: String",
                null::bigint as "used?", null::bigint as "most?"
         from inserted
         union all
         select refused, null, null, quota, used, most from refused"#,
        &columns.ids as &[UploadId],
        &columns.projects as &[ProjectId],
        &columns.filenames as &[&str],
        &columns.purposes as &[&str],
        &columns.mime_types as &[&str],
        &columns.sizes as &[ByteCount],
        &columns.file_lifetimes as &[Option<i64>],
        seconds(lifetime),
        most_bytes,
        most_uploads,
        most_files,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (Some(created_at), Some(expires_at)) = (row.created_at, row.expires_at) else {
                return Ok(Inserted {
                    id: row.id,
                    outcome: Err(quotas::exceeded(row.quota, row.used, row.most, row.id)?),
                });
            };
            Ok(Created { created_at, expires_at }.of_upload(row.id))
        })
        .collect()
}
