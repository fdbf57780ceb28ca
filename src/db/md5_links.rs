//! The columns `md5_state` and `md5_follows` of the table `part`: the MD5 of a file while its Parts come.

use sqlx::PgExecutor;

use super::Result;
use crate::domain::{Md5Link, Md5State, PartId, UploadId};

/// The Part of an Upload that came last, of those that are stored, and how far the MD5 is after it.
pub async fn find_last(db: impl PgExecutor<'_>, upload: UploadId) -> Result<Option<(PartId, Option<Md5State>)>> {
    let row = sqlx::query!(
        "select id, md5_state from part where part.upload_id = $1 and state = 'stored'
         order by created_at desc, id desc limit 1",
        upload as UploadId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id, row.md5_state.map(Md5State::from))))
}

/// Those of an Upload's Parts that have an MD5 under way, in no order.
pub async fn list(db: impl PgExecutor<'_>, upload: UploadId) -> Result<Vec<(PartId, Md5Link)>> {
    let rows = sqlx::query!(
        r#"select id, md5_state as "md5_state!", md5_follows as "md5_follows: PartId"
           from part where upload_id = $1 and md5_state is not null"#,
        upload as UploadId,
    )
    .fetch_all(db)
    .await?;
    let link = |follows, state: Vec<u8>| Md5Link { follows, state: state.into() };
    Ok(rows.into_iter().map(|row| (row.id, link(row.md5_follows, row.md5_state))).collect())
}
