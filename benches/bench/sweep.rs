//! The sweeper under load: two concurrent sweepers expire and collect a million Uploads of one Part each, while clients
//! use a third process. Measures the rate, the memory, and the effect on the clients' latencies.
//!
//! `WINDLASS_BENCH_UPLOADS` sets a smaller number.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sqlx::PgPool;
use uuid::Uuid;

use crate::load::{Latencies, visits_during};
use crate::process::{peak_mib, resident_mib};
use crate::support::program::Program;
use crate::support::store::Store;
use crate::support::{Client, StoreKind};
use crate::table::Table;
use crate::windlass::{KEY, Windlass};

/// Visits of clients; each is six requests.
const VISITS_A_SECOND: u32 = 10;
/// The sweepers alternately run and are stopped for this long.
const SLICE: Duration = Duration::from_secs(15);
/// Rows per statement while seeding.
const BATCH: usize = 10_000;

/// The measurements.
struct Swept {
    /// The time during which the sweepers ran.
    took: Duration,
    /// The memory of each sweeper, in MiB, after each quarter of the work.
    resident: Vec<[u64; 2]>,
    resting: Latencies,
    sweeping: Latencies,
}

/// Runs this part and prints its table.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(sweep());
}

async fn sweep() {
    let uploads = uploads_asked_for(1_000_000);
    let windlass = Windlass::start(StoreKind::Directory, &[("WINDLASS_SWEEP_INTERVAL", "1h")]).await.unwrap();
    let Store::Directory(root) = &windlass.store else { unreachable!() };
    let seeding = Instant::now();
    seed(&windlass.pool, root.path(), uploads).await;
    println!("{uploads} expired uploads, each with a part, were created in {:.0} s", seeding.elapsed().as_secs_f64());
    let client = Client::new(windlass.address(), KEY);
    visits_during(tokio::time::sleep(SLICE), &client, VISITS_A_SECOND).await;

    let sweepers = [0, 1].map(|_| windlass.another(&[("WINDLASS_SWEEP_INTERVAL", "5s")]));
    let mut swept = Swept {
        took: Duration::ZERO,
        resident: Vec::new(),
        resting: Latencies::default(),
        sweeping: Latencies::default(),
    };
    loop {
        let signal_all = |signal| sweepers.each_ref().map(|it| it.signal(signal));
        signal_all(Signal::SIGSTOP);
        swept.resting.add(visits_during(tokio::time::sleep(SLICE), &client, VISITS_A_SECOND).await.0);
        signal_all(Signal::SIGCONT);
        let began = Instant::now();
        let slice = watch(&windlass.pool, &sweepers, uploads, &mut swept.resident);
        let (latencies, is_over) = visits_during(slice, &client, VISITS_A_SECOND).await;
        swept.sweeping.add(latencies);
        swept.took += began.elapsed();
        if is_over {
            break;
        }
    }
    assert!(no_file_is_left(root.path()), "a part's file is left");
    swept.print(uploads, &sweepers);
}

/// The size of the ledger: `WINDLASS_BENCH_UPLOADS`, or a default.
#[expect(clippy::disallowed_methods, reason = "the benchmark's own setting")]
pub fn uploads_asked_for<N: FromStr<Err: Debug>>(otherwise: N) -> N {
    std::env::var("WINDLASS_BENCH_UPLOADS").map_or(otherwise, |it| it.parse().unwrap())
}

/// Inserts rows as clients would have left them two hours ago, and writes their objects.
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

/// Waits for [`SLICE`], or until everything is swept; returns whether it is. Meanwhile, records the sweepers' memory.
/// Their progress is read from their metrics, since counting rows would itself be a load.
async fn watch(pool: &PgPool, sweepers: &[Program; 2], uploads: usize, resident: &mut Vec<[u64; 2]>) -> bool {
    let began = Instant::now();
    while began.elapsed() < SLICE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (expired, deleted) = counted(sweepers).await;
        while resident.len() < 4 && (expired + deleted) * 4 >= 2 * uploads * (resident.len() + 1) {
            resident.push([0, 1].map(|it: usize| resident_mib(sweepers[it].pid())));
        }
        if is_swept(pool, (expired, deleted), uploads).await {
            return true;
        }
    }
    false
}

async fn is_swept(pool: &PgPool, (expired, deleted): (usize, usize), uploads: usize) -> bool {
    let left = "select exists (select from upload where status = 'pending' and expires_at <= now())
                    or exists (select from part where created_at < now() - interval '1 hour')";
    expired >= uploads && deleted >= uploads && !sqlx::query_scalar::<_, bool>(left).fetch_one(pool).await.unwrap()
}

/// The numbers of Uploads that the sweepers have expired and of objects that they have deleted so far.
async fn counted(sweepers: &[Program; 2]) -> (usize, usize) {
    let mut sums = (0, 0);
    for program in sweepers {
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

/// Whether no files are left except those of the last visits, which are not due yet.
fn no_file_is_left(root: &Path) -> bool {
    let folders = fs::read_dir(root.join("parts")).unwrap();
    let files: usize = folders.map(|it| fs::read_dir(it.unwrap().path()).unwrap().count()).sum();
    files < 1000
}

impl Swept {
    fn print(&self, uploads: usize, sweepers: &[Program; 2]) {
        let rate = f64::from(u32::try_from(uploads).unwrap()) / self.took.as_secs_f64();
        println!("expired and collected in {:.0} s of sweeping: {rate:.0} a second", self.took.as_secs_f64());
        for (number, sweeper) in sweepers.iter().enumerate() {
            let on_the_way: Vec<_> = self.resident.iter().map(|it| it[number].to_string()).collect();
            let peak = peak_mib(sweeper.pid());
            println!("memory of sweeper {number}, MiB, at each quarter: {}; peak {peak}", on_the_way.join(", "));
        }
        let mut table = Table::new(&["requests of clients", "sweepers stopped, ms", "two sweepers, ms", "ratio"]);
        for (name, rank) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)] {
            let [resting, sweeping] = [&self.resting, &self.sweeping].map(|it| it.permille(rank).as_secs_f64() * 1e3);
            table.row(name, &[format!("{resting:.2}"), format!("{sweeping:.2}"), format!("{:.2}", sweeping / resting)]);
        }
        table.print();
    }
}
