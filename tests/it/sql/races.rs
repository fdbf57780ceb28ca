//! Concurrent transactions have the same effect as if they had run one after the other.

use std::time::Duration;

use tokio::time::timeout;
use windlass_engine::db::creations::{self, Creation};
use windlass_engine::db::garbage::{self, GarbagePolicy};
use windlass_engine::db::locks::{self, Lock};
use windlass_engine::db::parts::{NewPart, PartContent};
use windlass_engine::db::uploads::Origin;
use windlass_engine::db::{self, Db, Tx, files, keys, parts, uploads};
use windlass_engine::model::{ApiKey, Digests, Limits, NewUpload, Part, ProjectLimits, UploadSpec, UploadState};
use windlass_types::{ByteCount, Crc64, KeyId, PartId, PartOrder, ProjectId, UploadId};

use crate::support::cluster;

/// Longer than any statement here takes, but short enough for a failing run.
const SOON: Duration = Duration::from_secs(20);
const DISCARD: GarbagePolicy =
    GarbagePolicy { grace: Duration::from_mins(1), writer_lifetime: Duration::from_mins(1), batch: 1000 };

/// How a client ends an Upload.
#[derive(Debug, Clone, Copy)]
enum End {
    Completed,
    Cancelled,
}

/// A ledger with one project.
#[derive(Clone)]
struct Ledger {
    db: Db,
    project: ProjectId,
}

impl Ledger {
    async fn new() -> Self {
        let database = cluster::database().await;
        let db = Db::connect(&database.url, 12, Duration::ZERO).await.unwrap();
        keys::insert_project_if_missing(&db, &"default".parse().unwrap()).await.unwrap();
        let project: ProjectId = sqlx::query_scalar("select id from project").fetch_one(&db).await.unwrap();
        Self { db, project }
    }

    fn pool(&self) -> &Db {
        &self.db
    }

    /// Creates an Upload of ten bytes. Returns its one stored Part, and some that are being received.
    async fn upload(&self, receiving: usize) -> (Part, Vec<Part>) {
        let spec = UploadSpec {
            filename: "a".parse().unwrap(),
            purpose: "user_data".parse().unwrap(),
            mime_type: "text/plain".parse().unwrap(),
            bytes: ByteCount::of(10),
            file_lifetime: None,
        };
        let new = NewUpload::new(spec, &Limits::default()).unwrap();
        let upload = UploadId::generate();
        let creation = Creation { id: upload, project: self.project, new };
        creations::insert(self.pool(), &[creation], Duration::from_hours(1), ProjectLimits::default()).await.unwrap();
        let mut begun = Vec::new();
        for _ in 0..=receiving {
            begun.push(self.begin_part(upload).await.unwrap());
        }
        let listed = begun.remove(0);
        assert!(parts::mark_stored(self.pool(), &listed, None).await.unwrap());
        (listed, begun)
    }

    /// Inserts a Part that is being received; `None` if the Upload has ended.
    async fn begin_part(&self, upload: UploadId) -> Option<Part> {
        let id = PartId::generate();
        let begun = parts::insert_if_pending(
            self.pool(),
            self.project,
            &NewPart { id, upload, content: None },
            &Limits::default(),
        )
        .await
        .unwrap();
        begun.map(|it| Part {
            id,
            upload,
            bytes: ByteCount::of(10),
            crc64: Crc64::EMPTY,
            created_at: it.created_at,
            in_ledger: false,
        })
    }

    /// Inserts a Part with its bytes. Returns false if the Upload has ended.
    async fn keep_part(&self, db: impl sqlx::PgExecutor<'_>, part: PartId, upload: UploadId) -> bool {
        let content = PartContent { bytes: b"ten bytes.".to_vec(), crc64: Crc64::EMPTY, md5: None };
        let new = NewPart { id: part, upload, content: Some(content) };
        parts::insert_if_pending(db, self.project, &new, &Limits::default()).await.unwrap().is_some()
    }

    /// Ends an Upload as the service does, without the commit.
    async fn end(&self, how: End, listed: &Part) -> Tx {
        let mut tx = self.db.begin().await.unwrap();
        let id = listed.upload;
        match how {
            End::Cancelled => {
                assert!(uploads::mark_cancelled(&mut tx, self.project, id, Origin::Client).await.unwrap());
                garbage::discard(&mut tx, &[id], DISCARD).await.unwrap();
            }
            End::Completed => {
                let order = PartOrder::try_from(vec![listed.id]).unwrap();
                let upload = uploads::lock(&mut tx, self.project, id, Origin::Client).await.unwrap().unwrap();
                let stored = parts::list_stored(&mut tx, id).await.unwrap();
                let plan = upload.into_pending().unwrap().assemble(&order, stored).unwrap();
                files::complete_upload(&mut tx, self.project, &plan, &Digests::default(), DISCARD).await.unwrap();
            }
        }
        tx
    }

    /// Waits until a statement is blocked by a lock.
    async fn a_statement_is_blocked(&self) {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let until = async {
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(self.pool()).await.unwrap() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, until).await.unwrap();
    }

    async fn state(&self, part: &Part) -> String {
        sqlx::query_scalar("select state from part where id = $1").bind(part.id).fetch_one(self.pool()).await.unwrap()
    }

    /// Asserts that every Part of an ended Upload is either in its File or garbage.
    async fn nothing_is_left_behind(&self) {
        let left: i64 = sqlx::query_scalar(
            "select count(*) from part join upload on upload.id = part.upload_id left join file on file.id = upload.id
             where upload.status <> 'pending' and part.state <> 'garbage' and part.id = any(file.manifest) is not true",
        )
        .fetch_one(self.pool())
        .await
        .unwrap();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn a_part_that_completes_after_its_upload_has_ended_is_not_stored() {
    for how in [End::Completed, End::Cancelled] {
        let ledger = Ledger::new().await;
        let (listed, receiving) = ledger.upload(1).await;
        let late = receiving[0];
        let ending = ledger.end(how, &listed).await;
        let (ledger_too, pool) = (ledger.clone(), ledger.pool().clone());
        let kept = PartId::generate();
        let keeping = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.keep_part(ledger.pool(), kept, late.upload).await }
        });
        let finishing = tokio::spawn(async move { parts::mark_stored(&pool, &late, None).await });
        let beginning = tokio::spawn(async move { ledger_too.begin_part(late.upload).await });
        ledger.a_statement_is_blocked().await;
        db::commit(ending).await.unwrap();
        assert!(!finishing.await.unwrap().unwrap(), "{how:?}");
        assert!(beginning.await.unwrap().is_none(), "{how:?}");
        assert!(!keeping.await.unwrap(), "{how:?}");
        assert_eq!(ledger.state(&late).await, "garbage", "{how:?}");
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn ending_an_upload_waits_for_a_part_being_stored_and_discards_it() {
    for how in [End::Completed, End::Cancelled] {
        let ledger = Ledger::new().await;
        let (listed, receiving) = ledger.upload(1).await;
        let mut storing = ledger.db.begin().await.unwrap();
        assert!(parts::mark_stored(&mut storing, &receiving[0], None).await.unwrap());
        let kept = Part { id: PartId::generate(), ..listed };
        assert!(ledger.keep_part(&mut storing, kept.id, kept.upload).await);
        let ending = tokio::spawn({
            let ledger = ledger.clone();
            async move { db::commit(ledger.end(how, &listed).await).await }
        });
        ledger.a_statement_is_blocked().await;
        db::commit(storing).await.unwrap();
        ending.await.unwrap().unwrap();
        assert_eq!(ledger.state(&receiving[0]).await, "garbage", "{how:?}");
        assert_eq!(ledger.state(&kept).await, "garbage", "{how:?}");
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn a_part_that_is_retried_before_its_response_is_stored_once() {
    let ledger = Ledger::new().await;
    let (listed, _) = ledger.upload(0).await;
    let id = PartId::generate();
    let mut first = ledger.db.begin().await.unwrap();
    assert!(ledger.keep_part(&mut first, id, listed.upload).await);
    let again = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.keep_part(ledger.pool(), id, listed.upload).await }
    });
    ledger.a_statement_is_blocked().await;
    db::commit(first).await.unwrap();
    assert!(!again.await.unwrap());
    assert!(parts::find_stored(ledger.pool(), id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_completion_that_waited_for_another_one_sees_its_file() {
    let ledger = Ledger::new().await;
    let (listed, _) = ledger.upload(0).await;
    let ending = ledger.end(End::Completed, &listed).await;
    let waiting = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let mut tx = ledger.db.begin().await.unwrap();
            uploads::lock(&mut tx, ledger.project, listed.upload, Origin::Client).await.unwrap().unwrap()
        }
    });
    ledger.a_statement_is_blocked().await;
    db::commit(ending).await.unwrap();
    assert!(matches!(waiting.await.unwrap().state, UploadState::Completed(Some(_))));
}

#[tokio::test]
async fn parts_that_race_with_the_end_are_in_time_or_not_stored() {
    let ledger = Ledger::new().await;
    for round in 0..30 {
        let how = if round % 2 == 0 { End::Completed } else { End::Cancelled };
        let (listed, receiving) = ledger.upload(4).await;
        let finishing: Vec<_> = receiving
            .iter()
            .map(|&part| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let more = ledger.begin_part(part.upload).await;
                    (parts::mark_stored(ledger.pool(), &part, None).await.unwrap(), more)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(300 * (round % 6))).await;
        db::commit(ledger.end(how, &listed).await).await.unwrap();
        for (part, finishing) in receiving.iter().zip(finishing) {
            let (was_stored, _) = finishing.await.unwrap();
            // A Part that was stored keeps its size as garbage; one that was not stored has none.
            let sized: bool = sqlx::query_scalar("select bytes is not null from part where id = $1")
                .bind(part.id)
                .fetch_one(ledger.pool())
                .await
                .unwrap();
            assert_eq!(sized, was_stored, "{how:?}");
        }
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn concurrent_starts_create_one_first_key() {
    let ledger = Ledger::new().await;
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let db = ledger.db.clone();
            tokio::spawn(async move {
                let mut tx = db.begin().await.unwrap();
                locks::take(&mut tx, Lock::FirstKey, SOON).await.unwrap();
                let hash = ApiKey::generate().hash();
                let made =
                    keys::insert_if_first(&mut tx, &"default".parse().unwrap(), KeyId::generate(), "first", &hash)
                        .await
                        .unwrap();
                db::commit(tx).await.unwrap();
                made
            })
        })
        .collect();
    let mut made = 0;
    for starter in starters {
        made += u32::from(starter.await.unwrap());
    }
    assert_eq!(made, 1);
    assert_eq!(keys::list(ledger.pool()).await.unwrap().len(), 1);
}

#[test]
fn an_open_transaction_ends_with_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (database, mut tx) = runtime.block_on(async {
        let database = cluster::database().await;
        let tx = database.db().await.begin().await.unwrap();
        (database, tx)
    });
    runtime.block_on(async {
        keys::insert_project_if_missing(&mut tx, &"never-committed".parse().unwrap()).await.unwrap();
    });
    runtime.spawn(async move {
        let _open = tx;
        std::future::pending::<()>().await;
    });
    drop(runtime);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let db = database.db().await;
        let name = "never-committed".parse().unwrap();
        timeout(SOON, keys::insert_project_if_missing(&db, &name)).await.expect("the row is still locked").unwrap();
    });
}
