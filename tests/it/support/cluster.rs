//! One real PostgreSQL server for the test run, and a database for every test.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool};
use windlass::embedded::{Postgres, Settings};
use windlass_engine::db::Db;

use super::tools;

const TEMPLATE: &str = "windlass_template";

/// A database for one test.
pub struct Database {
    pub url: String,
    pub pool: PgPool,
}

impl Database {
    /// The service's own connection pool to it.
    pub async fn db(&self) -> Db {
        Db::connect(&self.url, 8, Duration::ZERO).await.unwrap()
    }
}

/// A new database with the schema.
pub async fn database() -> Database {
    from_template(Some(TEMPLATE)).await
}

/// A new, empty database.
pub async fn empty_database() -> Database {
    from_template(None).await
}

/// A new, empty database with the encoding LATIN1.
pub async fn latin1_database() -> Database {
    administer("create database latin1 template template0 encoding 'LATIN1' locale 'C'").await;
    connect("latin1").await
}

async fn from_template(template: Option<&str>) -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static READY: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    READY.get_or_init(make_template).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let template = template.unwrap_or("template0");
    administer(&format!("create database {name} template {template}")).await;
    connect(&name).await
}

async fn connect(name: &str) -> Database {
    let url = url_of(name);
    // The role owns the schema, and may disable triggers.
    let pool =
        PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(30)).connect(&url).await.unwrap();
    Database { url, pool }
}

async fn make_template() {
    administer("alter system set fsync = off").await;
    administer("select pg_reload_conf()").await;
    administer(&format!("create database {TEMPLATE}")).await;
    let db = Db::connect(&url_of(TEMPLATE), 1, Duration::ZERO).await.unwrap();
    windlass_engine::db::migrate::run(&db).await.unwrap();
    db.close().await;
}

async fn administer(statement: &str) {
    let options: PgConnectOptions = server().parse().unwrap();
    let mut connection: PgConnection = options.connect().await.unwrap();
    connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

fn url_of(database: &str) -> String {
    let (server, _) = server().rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

/// The settings of an embedded server for the tests.
pub fn server_settings(data_dir: PathBuf, connections: u32) -> Settings {
    Settings {
        data_dir,
        bin_dir: tools::pg_bin(),
        path: tools::path(),
        guard: PathBuf::from(env!("CARGO_BIN_EXE_windlass")),
        connections,
        memory: windlass::memory::limit(),
    }
}

/// The URL of the server, which is Windlass's embedded PostgreSQL and ends with this process.
fn server() -> &'static str {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        // Not waited for: the databases of a full run are hundreds of thousands of files.
        std::thread::spawn(remove_old_runs);
        let settings = server_settings(tools::scratch().join("cluster"), 250);
        Postgres::start(&settings, || false, || ()).unwrap().unwrap()
    });
    server.url()
}

/// Deletes the directories of earlier test runs.
fn remove_old_runs() {
    for entry in fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|it| it.strip_prefix("run-"));
        if process.is_some_and(|it| !PathBuf::from(format!("/proc/{it}")).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
