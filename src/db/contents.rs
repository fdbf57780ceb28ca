//! The column `content` of the table `part`: the bytes of small Parts, in the ledger.

use sqlx::PgExecutor;

use super::Result;
use super::parts::Begun;
use crate::domain::{Crc64, Limits, Md5Link, PartId, ProjectId, UploadId};

/// A Part whose bytes are all there, before it is written down.
#[derive(Debug, Clone)]
pub struct NewPart {
    /// Its name.
    pub id: PartId,
    /// The Upload it is for.
    pub upload: UploadId,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Their checksum.
    pub crc64: Crc64,
}

/// Writes down a Part with its bytes: with this statement it is stored. Not when a Part could not be begun, or
/// when it is there already.
pub async fn insert_if_pending(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    part: &NewPart,
    md5: Option<&Md5Link>,
) -> Result<Option<Begun>> {
    let most = i64::try_from(Limits::PARTS_PER_UPLOAD).unwrap_or(i64::MAX);
    let begun = sqlx::query_as!(
        Begun,
        r#"insert into part (id, upload_id, state, bytes, crc64nvme, content, md5_state, md5_follows)
         select $1, upload.id, 'stored', octet_length($5::bytea), $6, $5, $7, $8 from upload
         where upload.id = $2 and upload.project_id = $3 and upload.status = 'pending' and upload.expires_at > now()
           and (select count(*) from part where part.upload_id = $2) < $4
         for share of upload
         on conflict (id) do nothing
         returning created_at, (select completes_with_md5 from project where project.id = $3) as "wants_md5!""#,
        part.id as PartId,
        part.upload as UploadId,
        project as ProjectId,
        most,
        &part.content,
        part.crc64.to_ledger(),
        md5.map(|it| it.state.as_ref()),
        md5.and_then(|it| it.follows) as Option<PartId>,
    )
    .fetch_optional(db)
    .await?;
    Ok(begun)
}

/// The bytes of those of the listed Parts that are in the ledger, in no order.
pub async fn list(db: impl PgExecutor<'_>, listed: &[PartId]) -> Result<Vec<(PartId, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"select id, content as "content!" from part where id = any($1) and content is not null"#,
        listed as &[PartId],
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.content)).collect())
}
