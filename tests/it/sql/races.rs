//! What happens at the same moment happens in one order or the other.

use std::time::Duration;

use tokio::time::timeout;
use windlass::db::contents::{self, NewPart};
use windlass::db::discards::{self, Discard};
use windlass::db::locks::{self, Lock};
use windlass::db::uploads::{Creation, Origin};
use windlass::db::{self, Db, Tx, files, keys, parts, uploads};
use windlass::domain::{
    ApiKey, ByteCount, Crc64, Declaration, KeyId, Limits, NewUpload, Part, PartId, PartOrder, ProjectId, UploadId,
    UploadStatus,
};

use crate::support::cluster;

/// Longer than any statement here takes, and shorter than a reader waits.
const SOON: Duration = Duration::from_secs(20);
const DISCARD: Discard =
    Discard { grace: Duration::from_mins(1), writer_lifetime: Duration::from_mins(1), batch: 1000 };

/// How an Upload ends by a client's wish.
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
        keys::insert_project_if_missing(&db, "default").await.unwrap();
        let project: ProjectId = sqlx::query_scalar("select id from project").fetch_one(&db).await.unwrap();
        Self { db, project }
    }

    fn pool(&self) -> &Db {
        &self.db
    }

    /// An Upload of ten bytes, the one Part that they are in, and some that are on their way.
    async fn upload(&self, on_their_way: usize) -> (Part, Vec<Part>) {
        let declaration = Declaration {
            filename: "a".parse().unwrap(),
            purpose: "user_data".parse().unwrap(),
            mime_type: "text/plain".parse().unwrap(),
            bytes: ByteCount::of(10),
            file_lifetime: None,
        };
        let new = NewUpload::new(declaration, &Limits::default()).unwrap();
        let upload = UploadId::generate();
        let creation = Creation { id: upload, project: self.project, new };
        uploads::insert(self.pool(), &[creation], Duration::from_hours(1)).await.unwrap();
        let mut begun = Vec::new();
        for _ in 0..=on_their_way {
            begun.push(self.begin_part(upload).await.unwrap());
        }
        let listed = begun.remove(0);
        assert!(parts::mark_stored(self.pool(), &listed, None).await.unwrap());
        (listed, begun)
    }

    /// A Part that is being received, unless the Upload has ended.
    async fn begin_part(&self, upload: UploadId) -> Option<Part> {
        let id = PartId::generate();
        let begun = parts::insert_if_pending(self.pool(), self.project, upload, id).await.unwrap();
        begun.map(|it| Part {
            id,
            upload,
            bytes: ByteCount::of(10),
            crc64: Crc64::EMPTY,
            created_at: it.created_at,
            in_ledger: false,
        })
    }

    /// Writes a Part with its bytes. Whether it did: not if the Upload has ended.
    async fn keep_part(&self, db: impl sqlx::PgExecutor<'_>, part: PartId, upload: UploadId) -> bool {
        let new = NewPart { id: part, upload, content: b"ten bytes.".to_vec(), crc64: Crc64::EMPTY };
        contents::insert_if_pending(db, self.project, &new, None).await.unwrap().is_some()
    }

    /// Does what the service does, up to the commit.
    async fn end(&self, how: End, listed: &Part) -> Tx {
        let mut tx = self.db.begin().await.unwrap();
        let id = listed.upload;
        match how {
            End::Cancelled => {
                assert!(uploads::mark_cancelled(&mut tx, self.project, id, Origin::Client).await.unwrap());
                discards::discard(&mut tx, &[id], DISCARD).await.unwrap();
            }
            End::Completed => {
                let order = PartOrder::try_from(vec![listed.id]).unwrap();
                let upload = uploads::lock(&mut tx, self.project, id, Origin::Client).await.unwrap().unwrap();
                let stored = parts::list_stored(&mut tx, id).await.unwrap();
                let assembly = upload.into_pending().unwrap().assemble(&order, stored).unwrap();
                files::insert(&mut tx, self.project, &assembly, None, DISCARD).await.unwrap();
            }
        }
        tx
    }

    /// Waits until some statement waits for a row.
    async fn somebody_waits(&self) {
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

    /// Nothing of an ended Upload is there that is neither in its file nor on its way out.
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
async fn a_part_that_finishes_after_the_end_is_not_taken() {
    for how in [End::Completed, End::Cancelled] {
        let ledger = Ledger::new().await;
        let (listed, on_their_way) = ledger.upload(1).await;
        let late = on_their_way[0];
        let ending = ledger.end(how, &listed).await;
        let (ledger_too, pool) = (ledger.clone(), ledger.pool().clone());
        let kept = PartId::generate();
        let keeping = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.keep_part(ledger.pool(), kept, late.upload).await }
        });
        let finishing = tokio::spawn(async move { parts::mark_stored(&pool, &late, None).await });
        let beginning = tokio::spawn(async move { ledger_too.begin_part(late.upload).await });
        ledger.somebody_waits().await;
        db::commit(ending).await.unwrap();
        assert!(!finishing.await.unwrap().unwrap(), "{how:?}");
        assert!(beginning.await.unwrap().is_none(), "{how:?}");
        assert!(!keeping.await.unwrap(), "{how:?}");
        assert_eq!(ledger.state(&late).await, "garbage", "{how:?}");
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn an_end_waits_for_a_part_that_is_being_counted_and_discards_it() {
    for how in [End::Completed, End::Cancelled] {
        let ledger = Ledger::new().await;
        let (listed, on_their_way) = ledger.upload(1).await;
        let mut counting = ledger.db.begin().await.unwrap();
        assert!(parts::mark_stored(&mut counting, &on_their_way[0], None).await.unwrap());
        let kept = Part { id: PartId::generate(), ..listed };
        assert!(ledger.keep_part(&mut counting, kept.id, kept.upload).await);
        let ending = tokio::spawn({
            let ledger = ledger.clone();
            async move { db::commit(ledger.end(how, &listed).await).await }
        });
        ledger.somebody_waits().await;
        db::commit(counting).await.unwrap();
        ending.await.unwrap().unwrap();
        assert_eq!(ledger.state(&on_their_way[0]).await, "garbage", "{how:?}");
        assert_eq!(ledger.state(&kept).await, "garbage", "{how:?}");
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn a_part_that_is_written_again_before_its_answer_came_is_there_once() {
    let ledger = Ledger::new().await;
    let (listed, _) = ledger.upload(0).await;
    let id = PartId::generate();
    let mut first = ledger.db.begin().await.unwrap();
    assert!(ledger.keep_part(&mut first, id, listed.upload).await);
    let again = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.keep_part(ledger.pool(), id, listed.upload).await }
    });
    ledger.somebody_waits().await;
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
    ledger.somebody_waits().await;
    db::commit(ending).await.unwrap();
    assert!(matches!(waiting.await.unwrap().status, UploadStatus::Completed(Some(_))));
}

#[tokio::test]
async fn parts_that_race_with_the_end_are_either_in_time_or_not_taken() {
    let ledger = Ledger::new().await;
    for round in 0..30 {
        let how = if round % 2 == 0 { End::Completed } else { End::Cancelled };
        let (listed, on_their_way) = ledger.upload(4).await;
        let finishing: Vec<_> = on_their_way
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
        for (part, finishing) in on_their_way.iter().zip(finishing) {
            let (was_taken, _) = finishing.await.unwrap();
            // What was acknowledged as taken keeps its size on its way out.
            let sized: bool = sqlx::query_scalar("select bytes is not null from part where id = $1")
                .bind(part.id)
                .fetch_one(ledger.pool())
                .await
                .unwrap();
            assert_eq!(sized, was_taken, "{how:?}");
        }
        ledger.nothing_is_left_behind().await;
    }
}

#[tokio::test]
async fn starters_at_once_make_one_first_key() {
    let ledger = Ledger::new().await;
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let db = ledger.db.clone();
            tokio::spawn(async move {
                let mut tx = db.begin().await.unwrap();
                locks::take(&mut tx, Lock::FirstKey, SOON).await.unwrap();
                let hash = ApiKey::generate().hash();
                let made = keys::insert_if_first(&mut tx, "default", KeyId::generate(), "first", &hash).await.unwrap();
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
fn a_transaction_that_is_open_when_its_runtime_ends_ends_with_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (database, mut tx) = runtime.block_on(async {
        let database = cluster::database().await;
        let tx = database.db().await.begin().await.unwrap();
        (database, tx)
    });
    runtime.block_on(async { keys::insert_project_if_missing(&mut tx, "never-committed").await.unwrap() });
    runtime.spawn(async move {
        let _open = tx;
        std::future::pending::<()>().await;
    });
    drop(runtime);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let db = database.db().await;
        let insert = keys::insert_project_if_missing(&db, "never-committed");
        timeout(SOON, insert).await.expect("the name is still taken").unwrap();
    });
}
