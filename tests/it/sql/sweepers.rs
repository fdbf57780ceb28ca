//! Concurrent sweepers: each row is handled once, and locked rows are skipped.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _};
use tokio::time::timeout;
use uuid::Uuid;
use windlass_engine::db::{self, Db, Tx, files, garbage, keys, uploads};
use windlass_types::{FileId, UploadId};

use crate::support::cluster;

/// Longer than any statement here takes.
const SOON: Duration = Duration::from_secs(20);
const AN_HOUR: Duration = Duration::from_hours(1);

/// A step of the sweeper, which handles rows in batches.
#[derive(Debug, Clone, Copy)]
enum Step {
    ExpireUploads,
    ExpireFiles,
    ClaimGarbage,
    ForgetFiles,
    ForgetUploads,
}

const STEPS: [Step; 5] =
    [Step::ExpireUploads, Step::ExpireFiles, Step::ClaimGarbage, Step::ForgetFiles, Step::ForgetUploads];

impl Step {
    /// Handles a batch. Returns the ids of its rows, or as many random ids if the step returns only their number.
    async fn take(self, db: &Db, limit: u16) -> Vec<Uuid> {
        let mut tx = db.begin().await.unwrap();
        let taken = match self {
            Self::ExpireUploads => {
                uploads::mark_expired(&mut tx, limit).await.unwrap().into_iter().map(UploadId::uuid).collect()
            }
            Self::ExpireFiles => {
                files::mark_expired(&mut tx, limit).await.unwrap().into_iter().map(FileId::uuid).collect()
            }
            Self::ClaimGarbage => garbage::claim(&mut tx, limit, Duration::ZERO)
                .await
                .unwrap()
                .into_iter()
                .map(|it| it.part.uuid())
                .collect(),
            Self::ForgetFiles => {
                let gone = files::delete_gone(&mut tx, AN_HOUR, limit).await.unwrap();
                let uploads: Vec<_> = gone.iter().copied().map(FileId::upload).collect();
                uploads::delete_completed(&mut tx, &uploads).await.unwrap();
                gone.into_iter().map(FileId::uuid).collect()
            }
            Self::ForgetUploads => {
                let gone = uploads::delete_ended(&mut tx, AN_HOUR, limit).await.unwrap();
                (0..gone).map(|_| Uuid::now_v7()).collect()
            }
        };
        db::commit(tx).await.unwrap();
        taken
    }

    /// Selects the row that is due first.
    fn first(self) -> &'static str {
        match self {
            Self::ExpireUploads => "select id from upload where status = 'pending' order by expires_at limit 1",
            Self::ExpireFiles => "select id from file where deleted_at is null order by expires_at limit 1",
            Self::ClaimGarbage => "select id from part order by not_before limit 1",
            Self::ForgetFiles => "select id from file where deleted_at is not null order by deleted_at limit 1",
            Self::ForgetUploads => "select id from upload where status = 'cancelled' order by ended_at limit 1",
        }
    }

    /// Handles batches until there is no row left. Returns all ids.
    async fn take_all(self, db: &Db) -> Vec<Uuid> {
        let mut taken = Vec::new();
        loop {
            let batch = self.take(db, 7).await;
            if batch.is_empty() {
                return taken;
            }
            taken.extend(batch);
        }
    }
}

/// A ledger with `n` rows due for each step, and one row of each kind that is not due.
async fn due(n: u32) -> Db {
    let database = cluster::database().await;
    let db = Db::connect(&database.url, 8, Duration::ZERO).await.unwrap();
    keys::insert_project_if_missing(&db, &"default".parse().unwrap()).await.unwrap();
    let seed = format!(
        "begin;
         set local session_replication_role = replica;
         insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, created_at,
                             expires_at, ended_at)
         select gen_random_uuid(), project.id, 'client', kind, 'batch', 'text/plain', 0,
                case when kind in ('pending', 'cancelled') then kind else 'completed' end,
                due - interval '1 day', due, case when kind <> 'pending' then due end
         from project, unnest(array['pending', 'cancelled', 'kept', 'deleted']) kind,
              (select now() + case when n = 0 then interval '1 day' else n * interval '1 second' - interval '2 days' end
               from generate_series(0, {n}) n) as moment (due);
         insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at,
                           expires_at, deleted_at)
         select id, project_id, filename, purpose, mime_type, bytes, '{{}}', '{{}}', 0, created_at, expires_at,
                case when filename = 'deleted' then expires_at end
         from upload where status = 'completed';
         insert into part (id, upload_id, state, not_before)
         select gen_random_uuid(), id, 'garbage', expires_at from upload where status = 'pending';
         commit"
    );
    (&db).execute(sqlx::raw_sql(AssertSqlSafe(seed))).await.unwrap();
    db
}

#[tokio::test]
async fn concurrent_sweepers_handle_each_due_row_once_and_no_other() {
    for step in STEPS {
        let db = due(60).await;
        let (a, b, c, d) = tokio::join!(step.take_all(&db), step.take_all(&db), step.take_all(&db), step.take_all(&db));
        let taken: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
        assert_eq!(taken.len(), 60, "{step:?}");
        assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 60, "{step:?}");
    }
}

#[tokio::test]
async fn a_locked_row_is_skipped_and_handled_later() {
    for step in STEPS {
        let db = due(5).await;
        let mut other = db.begin().await.unwrap();
        let lock = format!("{} for update", step.first());
        let held: Uuid = sqlx::query_scalar(AssertSqlSafe(lock)).fetch_one(&mut other).await.unwrap();
        let taken = timeout(SOON, step.take(&db, 100)).await.expect("the sweeper waits for the lock");
        assert_eq!(taken.len(), 4, "{step:?}");
        assert!(!taken.contains(&held), "{step:?}");
        db::rollback(other).await.unwrap();
        assert_eq!(step.take(&db, 100).await.len(), 1, "{step:?}");
    }
}

#[tokio::test]
async fn an_upload_to_which_a_part_is_being_added_is_not_expired() {
    let db = due(1).await;
    let mut other = db.begin().await.unwrap();
    sqlx::query("select from upload where status = 'pending' for share").execute(&mut other).await.unwrap();
    let taken = timeout(SOON, Step::ExpireUploads.take(&db, 100)).await.expect("the sweeper waits for the lock");
    assert!(taken.is_empty());
    db::rollback(other).await.unwrap();
    assert_eq!(Step::ExpireUploads.take(&db, 100).await.len(), 1);
}

/// The seconds until the garbage may be retried, by the clock of this transaction.
async fn pause(tx: &mut Tx) -> f64 {
    sqlx::query_scalar("select extract(epoch from not_before - now())::float8 from part where attempts > 0")
        .fetch_one(tx)
        .await
        .unwrap()
}

#[tokio::test]
async fn garbage_is_retried_with_a_backoff_of_up_to_an_hour() {
    let db = due(1).await;
    for expected in [20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0] {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(garbage::claim(&mut tx, 10, Duration::ZERO).await.unwrap().len(), 1);
        let actual = pause(&mut tx).await;
        assert!((actual - expected).abs() < 0.001, "{actual} s, not {expected} s");
        db::commit(tx).await.unwrap();
        assert!(Step::ClaimGarbage.take(&db, 10).await.is_empty(), "the row was claimed twice");
        sqlx::query("update part set not_before = now() where attempts > 0").execute(&db).await.unwrap();
    }
    // Also after very many attempts.
    sqlx::query("update part set attempts = 1000000 where attempts > 0").execute(&db).await.unwrap();
    assert_eq!(Step::ClaimGarbage.take(&db, 10).await.len(), 1);
}

#[tokio::test]
async fn when_space_is_short_only_stored_parts_are_collected_early() {
    let db = due(4).await;
    let soon = "begin;
                set local session_replication_role = replica;
                update part set not_before = now() + interval '50 minutes';
                update part set bytes = 1, crc64nvme = 0 where id in (select id from part limit 2);
                commit";
    (&db).execute(sqlx::raw_sql(soon)).await.unwrap();
    assert!(Step::ClaimGarbage.take(&db, 10).await.is_empty(), "parts are collected within their grace period");
    let early = garbage::claim(&db, 10, AN_HOUR).await.unwrap();
    assert!(early.len() == 2 && early.iter().all(|it| it.whole), "a writer may still be using the others: {early:?}");
    assert!(garbage::claim(&db, 10, AN_HOUR).await.unwrap().is_empty(), "parts were claimed twice");
}
