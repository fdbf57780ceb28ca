//! The sweeper under weight: a million expired Uploads of one Part each are expired and collected by
//! two programs side by side, while clients go on. How fast, in how much memory, and at what price
//! to the clients?
//!
//! `WINDLASS_BENCH_UPLOADS` makes it fewer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use uuid::Uuid;

use crate::load::{Latencies, visits_during};
use crate::process::{peak_mib, resident_mib};
use crate::support::program::Program;
use crate::support::store::Store;
use crate::support::{Client, StoreKind};
use crate::table::Table;
use crate::windlass::{KEY, Windlass};

/// Six requests each.
const VISITS_A_SECOND: u32 = 10;
/// How long the clients are watched while nothing is swept.
const IDLE: Duration = Duration::from_mins(1);
/// Rows in a statement.
const BATCH: usize = 10_000;

/// What was seen while there was something to sweep.
struct Swept {
    took: Duration,
    /// The memory of each program, in MiB, at each quarter of the way.
    resident: Vec<[u64; 2]>,
}

/// Runs it, and prints its table.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(sweep());
}

async fn sweep() {
    let uploads = uploads_to_sweep();
    let windlass = Windlass::start(StoreKind::Directory, &[("WINDLASS_SWEEP_INTERVAL", "1h")]).await.unwrap();
    let Store::Directory(root) = &windlass.store else { unreachable!() };
    let seeding = Instant::now();
    seed(&windlass.pool, root.path(), uploads).await;
    println!("{uploads} expired uploads, each with a part, were made in {:.0} s", seeding.elapsed().as_secs_f64());
    let client = Client::new(windlass.address(), KEY);
    visits_during(tokio::time::sleep(IDLE / 6), &client, VISITS_A_SECOND).await;
    let (idle, ()) = visits_during(tokio::time::sleep(IDLE), &client, VISITS_A_SECOND).await;

    let programs = [0, 1].map(|_| windlass.another(&[("WINDLASS_SWEEP_INTERVAL", "5s")]));
    let client = Client::new(&programs[0].address, KEY);
    let (busy, swept) = visits_during(watch(&windlass.pool, &programs, uploads), &client, VISITS_A_SECOND).await;
    assert!(no_file_is_left(root.path()), "a part's file is left");
    print(uploads, &idle, &busy, &swept, &programs);
}

#[expect(clippy::disallowed_methods, reason = "the benchmark's own setting")]
fn uploads_to_sweep() -> usize {
    std::env::var("WINDLASS_BENCH_UPLOADS").map_or(1_000_000, |it| it.parse().unwrap())
}

/// Rows as clients would have left them two hours ago, and their objects.
async fn seed(pool: &PgPool, root: &Path, uploads: usize) {
    let project: Uuid = sqlx::query_scalar("select id from project").fetch_one(pool).await.unwrap();
    for _ in 0..uploads.div_ceil(BATCH) {
        let ids: Vec<Uuid> = (0..BATCH.min(uploads)).map(|_| Uuid::now_v7()).collect();
        let parts: Vec<Uuid> = ids.iter().map(|_| Uuid::now_v7()).collect();
        let mut tx = pool.begin().await.unwrap();
        sqlx::query(
            "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, created_at, expires_at)
             select id, $2, 'client', 'a file', 'user_data', 'text/plain', 8, now() - interval '2 hours', now() - interval '1 hour'
             from unnest($1) id",
        )
        .bind(&ids)
        .bind(project)
        .execute(&mut *tx)
        .await
        .unwrap();
        sqlx::query(
            "insert into part (id, upload_id, state, created_at)
             select part, upload, 'receiving', now() - interval '2 hours' from unnest($1::uuid[], $2::uuid[]) it (part, upload)",
        )
            .bind(&parts)
            .bind(&ids)
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query("update part set state = 'stored', bytes = 8, crc64nvme = 1 where id = any($1)")
            .bind(&parts)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        for part in parts {
            let name = part.simple().to_string();
            fs::write(root.join(format!("parts/{}/part_{name}", &name[30..])), b"contents").unwrap();
        }
    }
    sqlx::query("vacuum analyze").execute(pool).await.unwrap();
    sqlx::query("checkpoint").execute(pool).await.unwrap();
    nix::unistd::sync();
}

/// Waits until all is gone, and looks at the programs' memory on the way. Their counters tell how far
/// they are: to count the rows would be a weight of its own.
async fn watch(pool: &PgPool, programs: &[Program; 2], uploads: usize) -> Swept {
    let began = Instant::now();
    let mut resident = Vec::new();
    while !is_swept(pool, counted(programs).await, uploads).await {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (expired, deleted) = counted(programs).await;
        while resident.len() < 4 && (expired + deleted) * 4 >= 2 * uploads * (resident.len() + 1) {
            resident.push([0, 1].map(|it: usize| resident_mib(programs[it].pid())));
        }
    }
    Swept { took: began.elapsed(), resident }
}

async fn is_swept(pool: &PgPool, (expired, deleted): (usize, usize), uploads: usize) -> bool {
    let left = "select exists (select from upload where status = 'pending' and expires_at <= now())
                    or exists (select from part where created_at < now() - interval '1 hour')";
    expired >= uploads && deleted >= uploads && !sqlx::query_scalar::<_, bool>(left).fetch_one(pool).await.unwrap()
}

/// How many Uploads the programs have expired so far, and how many objects they have deleted.
async fn counted(programs: &[Program; 2]) -> (usize, usize) {
    let mut sums = (0, 0);
    for program in programs {
        let text = reqwest::get(format!("{}/metrics", program.address)).await.unwrap().text().await.unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
            line.map_or(0, |it| it.parse::<usize>().unwrap())
        };
        sums.0 += value("windlass_uploads_expired_total");
        sums.1 += value("windlass_objects_deleted_total");
    }
    sums
}

/// Whether none is left but those of the last visits, whose turn has not come.
fn no_file_is_left(root: &Path) -> bool {
    let folders = fs::read_dir(root.join("parts")).unwrap();
    let files: usize = folders.map(|it| fs::read_dir(it.unwrap().path()).unwrap().count()).sum();
    files < 1000
}

fn print(uploads: usize, idle: &Latencies, busy: &Latencies, swept: &Swept, programs: &[Program; 2]) {
    println!("expired and collected in {:.0} s: {:.0} a second", swept.took.as_secs_f64(), {
        f64::from(u32::try_from(uploads).unwrap()) / swept.took.as_secs_f64()
    });
    for (number, program) in programs.iter().enumerate() {
        let on_the_way: Vec<_> = swept.resident.iter().map(|it| it[number].to_string()).collect();
        println!(
            "memory of program {number}, MiB, at each quarter: {}; peak {}",
            on_the_way.join(", "),
            peak_mib(program.pid())
        );
    }
    let mut table = Table::new(&["requests of clients", "nothing swept, ms", "two sweepers, ms", "ratio"]);
    for (name, rank) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)] {
        let (idle, busy) = (idle.permille(rank).as_secs_f64() * 1e3, busy.permille(rank).as_secs_f64() * 1e3);
        table.row(name, &[format!("{idle:.2}"), format!("{busy:.2}"), format!("{:.2}", busy / idle)]);
    }
    table.print();
}
