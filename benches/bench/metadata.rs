//! Small requests: Uploads created per second, compared with plain inserts of `pgbench` into the same Postgres; and the
//! latency of a Part of four bytes, compared with that of one commit.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sqlx::Executor as _;
use tokio::runtime::Runtime;

use crate::process;
use crate::support::{StoreKind, tools};
use crate::table::{Table, median};
use crate::windlass::Windlass;

const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(5);
const CLIENTS: [usize; 2] = [8, 32];

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    let more = [("WINDLASS_DATABASE_CONNECTIONS", "32"), ("WINDLASS_SWEEP_INTERVAL", "1h")];
    let windlass = runtime.block_on(Windlass::start(StoreKind::Directory, &more)).unwrap();
    let table = "create table plain (id uuid primary key default gen_random_uuid(), name text not null, at timestamptz not null default now());
                 create index on plain (at)";
    runtime.block_on(windlass.pool.execute(sqlx::raw_sql(table))).unwrap();
    let url = windlass.setting("DATABASE_URL").to_owned();

    let (mut inserts, mut creates, mut cpu) = (CLIENTS.map(|_| vec![]), CLIENTS.map(|_| vec![]), vec![]);
    let (mut commits, mut parts) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        for (number, clients) in CLIENTS.into_iter().enumerate() {
            let Some(plain) = pgbench(&url, clients) else { return };
            inserts[number].push(plain.a_second);
            let used = process::cpu_seconds(windlass.pid());
            let made = creates_a_second(&windlass, clients);
            cpu.push((process::cpu_seconds(windlass.pid()) - used) / (made * ROUND_TIME.as_secs_f64()) * 1e6);
            creates[number].push(made);
        }
        commits.extend(pgbench(&url, 1).map(|it| it.milliseconds));
        parts.push(milliseconds_a_part(&windlass));
    }

    println!("metadata: {ROUNDS} rounds of {} s; medians", ROUND_TIME.as_secs());
    let mut table = Table::new(&["", "pgbench insert", "Windlass", "ratio"]);
    for (number, clients) in CLIENTS.into_iter().enumerate() {
        let (plain, made) = (median(&inserts[number]), median(&creates[number]));
        let figures = [format!("{plain:.0}"), format!("{made:.0}"), format!("{:.2}", made / plain)];
        table.row(&format!("uploads created per second, {clients} clients"), &figures);
    }
    let (commit, part) = (median(&commits), median(&parts));
    table.row(
        "a part of 4 bytes, ms, 1 client",
        &[format!("{commit:.2}"), format!("{part:.2}"), format!("{:.2}", part / commit)],
    );
    table.row("processor time of a create, µs", &[String::new(), format!("{:.0}", median(&cpu)), String::new()]);
    table.print();
}

struct Plain {
    a_second: f64,
    milliseconds: f64,
}

/// Measures prepared inserts of a row with two indexes, each with its own commit. `None` if pgbench is not installed.
fn pgbench(url: &str, clients: usize) -> Option<Plain> {
    let program = tools::pg_bin().map(|it| it.join("pgbench")).filter(|it| it.is_file());
    let Some(program) = program.or_else(|| tools::program("pgbench")) else {
        println!("skipped: pgbench is not installed; `./dev bench` installs it");
        return None;
    };
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "insert into plain (name) values ('a file');\n").unwrap();
    let output = Command::new(program)
        .args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "2",
            "-c",
            &clients.to_string(),
            "-T",
            &ROUND_TIME.as_secs().to_string(),
            "-f",
        ])
        .arg(script.path())
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figure = |before: &str| {
        let line = text.lines().find_map(|it| it.strip_prefix(before));
        let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    Some(Plain { a_second: figure("tps = "), milliseconds: figure("latency average = ") })
}

fn creates_a_second(windlass: &Windlass, clients: usize) -> f64 {
    let made = AtomicU64::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = windlass.client();
                while began.elapsed() < ROUND_TIME {
                    client.upload(8);
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    f64::from(u32::try_from(made.into_inner()).unwrap()) / began.elapsed().as_secs_f64()
}

/// The median latency of a Part of four bytes, with one client.
fn milliseconds_a_part(windlass: &Windlass) -> f64 {
    let mut client = windlass.client();
    let upload = client.upload(100_000);
    let times: Vec<_> = (0..500)
        .map(|_| {
            let began = Instant::now();
            client.part(&upload, b"four");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&times)
}
