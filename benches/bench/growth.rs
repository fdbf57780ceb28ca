//! Growth: compares the latency of requests and of sweeper passes with ten million Uploads and Files to that with a
//! thousand. Both ledgers are in one Postgres and are measured in turn, so that other load on the machine affects both.
//!
//! `WINDLASS_BENCH_UPLOADS` sets a smaller number than ten million.

use std::time::{Duration, Instant};

use sqlx::{Executor as _, PgPool};
use tokio::runtime::{Handle, Runtime};
use uuid::Uuid;
use windlass_engine::Service;
use windlass_engine::db::Db;
use windlass_engine::model::Limits;
use windlass_engine::store::{BlobStore, IfMissing, Location, Variables};
use windlass_types::{FileId, UploadId};

use crate::load::Latencies;
use crate::support::StoreKind;
use crate::sweep::uploads_asked_for;
use crate::table::Table;
use crate::windlass::{Client, Windlass};

const FEW: i64 = 1000;
const MANY: i64 = 10_000_000;
/// The measured rounds; a warm-up round precedes them.
const ROUNDS: usize = 16;
/// Visits (one request of each kind) in a round, on each ledger.
const VISITS: i64 = 250;
const PASSES: i64 = 25;
const PART: [u8; 4096] = [7; 4096];
const FILES_A_STATEMENT: i64 = 1_000_000;

/// The timed operations. A pass of the sweeper handles a full batch of each kind of row, and every deletion succeeds.
const OPERATIONS: [&str; 11] = [
    "create an upload",
    "add a part of 4 KiB",
    "complete",
    "files, the first 20",
    "files, 20 after a random one",
    "uploads, the first 20",
    "uploads, 20 after a random one",
    "retrieve an upload",
    "retrieve a file",
    "delete a file",
    SWEEP,
];
const SWEEP: &str = "a pass of the sweeper";

/// Prepares the insertion of rows for one large project and nine small ones. Triggers are disabled: the rows are
/// inserted directly in their final, legal states.
const BEGIN: &str = "set local session_replication_role = replica; set local work_mem = '256MB';
    insert into project (id, name) select uuidv7(), 'project-' || n from generate_series(1, 9) n on conflict do nothing";

/// Inserts the Files number $1 to $2 of $3, created over a year, with their Uploads and Parts. Of each hundred, three
/// were deleted in the last days, and ten will expire.
const FILES: &str = "with made as materialized (
        select n, uuidv7(age) as id, uuidv7(age + interval '1 second') as part, now() + age as created_at,
               projects[case when n % 50 = 0 then 2 + n / 50 % 9 else 1 end] as project_id, 'report-' || n || '.pdf' as filename,
               case n % 5 when 0 then 'vision' when 1 then 'batch' else 'user_data' end as purpose,
               case when n % 100 in (7, 41, 77) then now() - n % 6 * interval '1 day' end as deleted_at,
               case when n % 10 = 3 then now() + (1 + n % 29) * interval '1 day' end as expires_at
        from generate_series($1::bigint, $2) n,
             lateral (select (n::float8 / $3 - 1) * interval '1 year' as age) at,
             (select array_agg(id order by name <> 'default') as projects from project) them
    ), uploads as (
        insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, created_at, expires_at, ended_at)
        select id, project_id, 'client', filename, purpose, 'application/pdf', 4096, 'completed',
               created_at, created_at + interval '1 hour', created_at + interval '1 minute'
        from made
    ), files as (
        insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at,
                          expires_at, deleted_at)
        select id, project_id, filename, purpose, 'application/pdf', 4096, array[part], '{0}', n, created_at, expires_at,
               deleted_at
        from made
    )
    insert into part (id, upload_id, state, bytes, crc64nvme, created_at)
    select part, id, 'stored', 4096, n, created_at from made where deleted_at is null";

/// Inserts $1 Uploads without a File. Of each ten, one is pending, with a Part, and nine have ended in the last days.
const OTHERS: &str = "with made as materialized (
        select n, uuidv7(age) as id, now() + age as created_at, is_pending
        from generate_series(1, $1::bigint) n,
             lateral (select n % 10 = 0 as is_pending) kind,
             lateral (select -n::float8 / $1 * case when is_pending then interval '10 minutes' else interval '6 days' end as age) at
    ), uploads as (
        insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, created_at, expires_at, ended_at)
        select made.id, project.id, 'client', 'report.pdf', 'user_data', 'application/pdf', 4096,
               case when is_pending then 'pending' when n % 2 = 0 then 'cancelled' else 'expired' end,
               made.created_at, made.created_at + interval '1 day', case when not is_pending then made.created_at end
        from made join project on name = 'default'
    )
    insert into part (id, upload_id, state, bytes, crc64nvme, created_at)
    select uuidv7(), id, 'stored', 4096, n, created_at from made where is_pending";

/// Inserts $1 rows of each kind that is due for the sweeper: Uploads to expire, Files to expire, and Uploads and Files
/// that ended so long ago that their rows are deleted.
const DUE: &str = "with made as materialized (
        select n % 4 as kind, uuidv7(interval '-9 days') as id, project.id as project_id, now() - interval '9 days' as created_at,
               now() - interval '8 days' as long_ago
        from generate_series(1, 4 * $1::bigint) n, project where name = 'default'
    ), uploads as (
        insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, status, created_at, expires_at, ended_at)
        select id, project_id, 'client', 'report.pdf', 'user_data', 'application/pdf', case kind when 0 then 4096 else 0 end,
               case kind when 0 then 'pending' when 1 then 'cancelled' else 'completed' end,
               created_at, long_ago, case when kind <> 0 then long_ago end
        from made
    ), files as (
        insert into file (id, project_id, filename, purpose, mime_type, bytes, manifest, offsets, crc64nvme, created_at,
                          expires_at, deleted_at)
        select id, project_id, 'report.pdf', 'user_data', 'application/pdf', 0, '{}', '{}', 0, created_at,
               case kind when 2 then long_ago end, case kind when 3 then long_ago end
        from made where kind in (2, 3)
    )
    insert into part (id, upload_id, state, bytes, crc64nvme, created_at)
    select uuidv7(interval '-9 days'), id, 'stored', 4096, 1, created_at from made where kind = 0";

/// Selects 2 × $1 random Files of the large project, which has about $2.
const ANY_FILES: &str = "select id from file tablesample bernoulli (least(100, 800.0 * $1 / $2))
    where deleted_at is null and project_id = (select id from project where name = 'default')
      and (expires_at is null or expires_at > now() + interval '1 hour') order by random() limit 2 * $1";

/// Runs this part and prints its tables.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let many = uploads_asked_for(MANY);
    let mut ledgers = [FEW, many].map(|files| runtime.block_on(Ledger::of(files)));
    println!("{}", runtime.block_on(sizes(&ledgers[1].windlass.pool)));
    for round in 0..=ROUNDS {
        for ledger in &mut ledgers {
            let times = ledger.measure(&runtime);
            if round > 0 {
                for (number, took) in times {
                    ledger.times[number].push(took);
                }
            }
        }
    }

    println!(
        "growth: {ROUNDS} rounds of {VISITS} requests of each kind, by one client, and of {PASSES} passes of the sweeper"
    );
    let columns = ["p50", "p99"].map(|rank| [FEW, many].map(|files| format!("{rank} at {files}, ms"))).concat();
    let mut table = Table::new(&["", &columns[0], &columns[1], &columns[2], &columns[3], "ratio of p99"]);
    for (number, name) in OPERATIONS.into_iter().enumerate() {
        let [p50, p99] = [500, 990]
            .map(|rank| ledgers.each_ref().map(|ledger| ledger.times[number].permille(rank).as_secs_f64() * 1e3));
        let figures = [p50[0], p50[1], p99[0], p99[1], p99[1] / p99[0]].map(|it| format!("{it:.2}"));
        table.row(name, &figures);
    }
    table.print();
}

/// A ledger, the service and sweeper on it, and the measured latencies.
struct Ledger {
    windlass: Windlass,
    /// Runs in this process, so that each pass can be timed.
    sweeper: Service,
    files: i64,
    times: [Latencies; OPERATIONS.len()],
}

impl Ledger {
    /// Creates a ledger with `files` Files, and 10 % more Uploads.
    async fn of(files: i64) -> Self {
        let settings = [("WINDLASS_SWEEP_INTERVAL", "1d"), ("WINDLASS_UPLOAD_LIFETIME", "1d")];
        let windlass = Windlass::start(StoreKind::Directory, &settings).await.unwrap();
        let db = Db::connect(windlass.setting("DATABASE_URL"), 2, Duration::ZERO).await.unwrap();
        let store: Location = windlass.setting("WINDLASS_STORE").parse().unwrap();
        let limits = Limits { deletion_grace: Duration::ZERO, ..Limits::default() };
        let blobs = BlobStore::open(&store, &Variables::default(), IfMissing::Fail).await.unwrap();
        let sweeper = Service::new(db, blobs, limits, Handle::current());
        sweeper.verify_or_link_store().await.unwrap();
        let began = Instant::now();
        let mut last = 0;
        while last < files {
            let first = last + 1;
            last = files.min(last + FILES_A_STATEMENT);
            insert(&windlass.pool, FILES, &[first, last, files]).await;
        }
        insert(&windlass.pool, OTHERS, &[files / 10]).await;
        for settled in ["vacuum analyze", "checkpoint"] {
            windlass.pool.execute(settled).await.unwrap();
        }
        println!(
            "{files} files and {} uploads were created in {:.0} s",
            files + files / 10,
            began.elapsed().as_secs_f64()
        );
        Self { windlass, sweeper, files, times: Default::default() }
    }

    /// Runs one round. Returns the latencies, each with the index of its operation.
    fn measure(&self, runtime: &Runtime) -> Vec<(usize, Duration)> {
        let pool = &self.windlass.pool;
        let files: Vec<Uuid> = runtime.block_on(async {
            // Replaces the files that this round deletes.
            insert(pool, FILES, &[1, VISITS, VISITS]).await;
            insert(pool, DUE, &[PASSES * i64::from(self.sweeper.limits().sweep_batch)]).await;
            sqlx::query_scalar(ANY_FILES).bind(VISITS).bind(self.files).fetch_all(pool).await.unwrap()
        });
        let mut client = self.windlass.client();
        let visits = files.chunks_exact(2).flat_map(|two| visit(&mut client, two[0], two[1]).into_iter().enumerate());
        let mut times: Vec<_> = visits.collect();
        runtime.block_on(async {
            for _ in 0..PASSES {
                times.push((OPERATIONS.len() - 1, pass(&self.sweeper).await));
            }
            let report = self.sweeper.clone().sweep_all().await;
            assert!(report.failed_steps.is_empty(), "{report:?}");
        });
        times
    }
}

/// Runs one of the statements above with these parameters.
async fn insert(pool: &PgPool, rows: &'static str, numbers: &[i64]) {
    let mut tx = pool.begin().await.unwrap();
    tx.execute(sqlx::raw_sql(BEGIN)).await.unwrap();
    numbers.iter().fold(sqlx::query(rows), sqlx::query::Query::bind).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Sends one request of each kind: one File is retrieved, the other deleted.
fn visit(client: &mut Client, retrieved: Uuid, deleted: Uuid) -> [Duration; OPERATIONS.len() - 1] {
    let (upload, file) = (UploadId::from(retrieved), FileId::from(retrieved));
    let mut look = |path: &str| timed(|| client.json(&format!("GET /v1/{path}"), "")).1;
    let [files, files_after, uploads, uploads_after, one_upload, one_file] = [
        look("files?limit=20"),
        look(&format!("files?limit=20&after={file}")),
        look("uploads?limit=20"),
        look(&format!("uploads?limit=20&after={upload}")),
        look(&format!("uploads/{upload}")),
        look(&format!("files/{file}")),
    ];
    let (upload, create) = timed(|| client.upload(PART.len()));
    let (part, add) = timed(|| client.part(&upload, &PART));
    let ((), complete) = timed(|| drop(client.complete(&upload, &[part], None)));
    let ((), delete) = timed(|| client.delete(&FileId::from(deleted).to_string()));
    [create, add, complete, files, files_after, uploads, uploads_after, one_upload, one_file, delete]
}

/// Runs and times a pass of the sweeper, which must handle full batches.
async fn pass(sweeper: &Service) -> Duration {
    let began = Instant::now();
    let report = sweeper.clone().sweep().await;
    assert!(report.failed_steps.is_empty(), "{report:?}");
    let took = began.elapsed();
    let batch = u64::from(sweeper.limits().sweep_batch);
    let counts = [report.uploads_expired, report.files_expired, report.objects_deleted, report.rows_forgotten];
    assert_eq!(counts, [batch, batch, batch, 2 * batch]);
    took
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (work(), began.elapsed())
}

/// The sizes of all tables and indexes of at least 1 MiB.
async fn sizes(pool: &PgPool) -> String {
    let select =
        "select string_agg(format('%s %s', relname, pg_relation_size(oid) >> 20), ', ' order by relkind desc, relname)
                  from pg_class where relnamespace = 'public'::regnamespace and pg_relation_size(oid) >= 1 << 20";
    let sizes: Option<String> = sqlx::query_scalar(select).fetch_one(pool).await.unwrap();
    format!("MiB: {}", sizes.unwrap_or_default())
}
