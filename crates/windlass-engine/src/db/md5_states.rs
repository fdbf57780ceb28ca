//! The columns `md5_state` and `md5_follows` of the table `part`: the MD5 of a file, computed while its Parts arrive.

use sqlx::PgExecutor;
use windlass_types::{Md5State, PartId, UploadId};

use super::Result;
use crate::model::Md5Link;

/// The latest of an Upload's stored Parts, and the MD5 state at its end, if it has one.
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

/// The Parts of an Upload that have an MD5 state, in no particular order.
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
