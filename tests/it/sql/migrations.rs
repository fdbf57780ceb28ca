//! Migrations: with existing rows, by concurrent processes, and refused on a foreign schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use windlass_engine::db::{Db, migrate};

use crate::support::audit::let_time_pass;
use crate::support::{cluster, program};

/// An applied migration: a row of refinery's history table.
type Applied = (i32, String, String, String);

/// The files `V<n>….sql` of a directory, by their number.
fn numbered(folder: &str) -> BTreeMap<u32, PathBuf> {
    fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "sql"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let number = name.strip_prefix('V').unwrap().split('_').next().unwrap().parse().unwrap();
            (number, path)
        })
        .collect()
}

async fn apply(pool: &PgPool, sql: String) {
    let mut tx = pool.begin().await.unwrap();
    tx.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    tx.commit().await.unwrap();
}

/// The ids in every table.
type Ids = BTreeMap<String, BTreeSet<String>>;

async fn ids(pool: &PgPool) -> Ids {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.columns where table_schema = 'public' and column_name = 'id'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut ids = BTreeMap::new();
    for table in tables {
        let select = format!("select id::text from {table}");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
        ids.insert(table, BTreeSet::from_iter(rows));
    }
    ids
}

/// Every row of every table, as text.
async fn everything(pool: &PgPool) -> Vec<String> {
    let selects: Vec<String> = sqlx::query_scalar(
        "select format('select %L || it::text from %I it', relname, relname) from pg_class
         where relnamespace = 'public'::regnamespace and relkind = 'r'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(!selects.is_empty());
    let all = format!("{} order by 1", selects.join(" union all "));
    sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(pool).await.unwrap()
}

async fn history(pool: &PgPool) -> Vec<Applied> {
    let select = "select version, name, applied_on, checksum from refinery_schema_history order by version";
    sqlx::query_as(select).fetch_all(pool).await.unwrap()
}

/// A database that was migrated step by step, with the rows of each version inserted before the next migration. Also
/// returns the ids after each step.
async fn grown() -> (cluster::Database, Vec<Ids>) {
    let database = cluster::empty_database().await;
    let rows = numbered("tests/it/sql/rows");
    let mut steps = Vec::new();
    for (version, (_, sql)) in numbered("migrations").keys().zip(migrate::all()) {
        apply(&database.pool, sql).await;
        if let Some(path) = rows.get(version) {
            let before = ids(&database.pool).await;
            apply(&database.pool, fs::read_to_string(path).unwrap()).await;
            assert_ne!(ids(&database.pool).await, before, "{}", path.display());
        }
        steps.push(ids(&database.pool).await);
    }
    // The history that refinery would have written.
    let make = "create table refinery_schema_history
                (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))";
    database.pool.execute(make).await.unwrap();
    for (version, name, applied_on, checksum) in history(&cluster::database().await.pool).await {
        sqlx::query("insert into refinery_schema_history values ($1, $2, $3, $4)")
            .bind(version)
            .bind(name)
            .bind(applied_on)
            .bind(checksum)
            .execute(&database.pool)
            .await
            .unwrap();
    }
    (database, steps)
}

#[test]
fn migrations_are_embedded_in_the_order_of_their_numbers() {
    let files = numbered("migrations");
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), (1..).take(files.len()).collect::<Vec<u32>>());
    let texts: Vec<_> = files.values().map(|it| fs::read_to_string(it).unwrap()).collect();
    assert_eq!(texts, migrate::all().into_iter().map(|(_, text)| text).collect::<Vec<_>>());
    let rows = numbered("tests/it/sql/rows");
    assert!(rows.keys().all(|it| files.contains_key(it)), "rows of a version that does not exist");
}

#[tokio::test]
async fn rows_of_every_version_survive_the_later_migrations() {
    let (database, steps) = grown().await;
    let now = ids(&database.pool).await;
    let miscounted: i64 =
        sqlx::query_scalar("select count(*) from usage_difference").fetch_one(&database.pool).await.unwrap();
    assert_eq!(miscounted, 0, "projects whose usage was not counted");
    let counted: i64 =
        sqlx::query_scalar("select sum(files)::bigint from usage_counter").fetch_one(&database.pool).await.unwrap();
    assert!(counted > 0, "no file of an earlier version was counted");
    for then in steps {
        for (table, ids) in then {
            assert!(!ids.is_empty(), "there are no rows in {table}");
            assert!(ids.is_subset(&now[&table]), "{table}: {ids:?}, and now {:?}", now[&table]);
        }
    }
    let not_validated: Vec<String> =
        sqlx::query_scalar("select conname::text from pg_constraint where not convalidated and contype <> 't'")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    assert_eq!(not_validated, Vec::<String>::new(), "constraints that old rows may violate");
}

#[tokio::test]
async fn files_of_older_versions_have_their_parts_in_order() {
    let (database, _) = grown().await;
    let manifests: Vec<(String, String)> = sqlx::query_as(
        "select manifest::text, offsets::text from file where deleted_at is null and bytes > 0 order by id",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let part = |version: &str, n| format!("{version}-7000-8000-00000000000{n}");
    let old = |n| part("d0000000-0000", n);
    let expected = [
        (format!("{{{}}}", part("00000004-0000", 5)), "{0}".to_owned()),
        (format!("{{{}}}", part("00000008-0000", 5)), "{0}".to_owned()),
        (format!("{{{},{}}}", old(6), old(7)), "{0,10}".to_owned()),
    ];
    assert_eq!(manifests, expected);
}

#[tokio::test]
async fn rows_of_every_version_are_swept_when_due() {
    let (database, _) = grown().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL".to_owned(), database.url.clone()),
        ("WINDLASS_DATA_DIR".to_owned(), folder.path().display().to_string()),
        ("WINDLASS_AUDIT".to_owned(), "on".to_owned()),
    ];
    // The rows' objects never existed.
    let linked = program::run(&settings, &["store", "link", "--yes"]);
    assert!(linked.status.success(), "{linked:?}");
    for _ in 0..4 {
        let_time_pass(&database.pool, "400 days").await;
        let swept = program::run(&settings, &["sweep"]);
        assert!(swept.status.success(), "{swept:?}");
    }
    let left: Vec<(String, usize)> =
        ids(&database.pool).await.into_iter().map(|(table, it)| (table, it.len())).collect();
    assert!(
        left.iter()
            .all(|(table, n)| *n == 0 || ["api_key", "project", "store", "url_secret"].contains(&table.as_str())),
        "{left:?}"
    );
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let (database, _) = grown().await;
    let before = everything(&database.pool).await;
    migrate::run(&database.db().await).await.unwrap();
    assert_eq!(everything(&database.pool).await, before);
}

#[tokio::test]
async fn a_schema_with_another_history_is_refused_and_left_unchanged() {
    for (tampering, complaint) in [
        (
            "update refinery_schema_history set checksum = '1' where version = 1",
            "V1 of the schema ('create_ledger') is not",
        ),
        (
            "update refinery_schema_history set name = 'something_else' where version = 1",
            "V1 of the schema ('something_else') is not",
        ),
        (
            "insert into refinery_schema_history select 9999, 'of_a_later_release', applied_on, '1' from refinery_schema_history limit 1",
            "run a newer version",
        ),
    ] {
        let database = cluster::database().await;
        let pool = &database.pool;
        pool.execute(tampering).await.unwrap();
        let before = everything(pool).await;
        let db = database.db().await;
        let windlass_engine::db::Error::Schema(refused) = migrate::run(&db).await.unwrap_err() else {
            panic!("{tampering}")
        };
        assert!(refused.to_string().contains(complaint), "{tampering}: {refused}");
        assert_eq!(everything(pool).await, before, "{tampering}");
        // The refusal has released the migration lock.
        let again = tokio::time::timeout(Duration::from_secs(10), migrate::run(&db)).await;
        assert!(again.unwrap().is_err(), "{tampering}");
    }
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_and_can_be_retried() {
    let database = cluster::empty_database().await;
    let pool = &database.pool;
    // Conflicts with the last but one table.
    pool.execute("create table file (not_ours text)").await.unwrap();
    let db = database.db().await;
    migrate::run(&db).await.unwrap_err();
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(tables, ["file", "refinery_schema_history"]);
    assert_eq!(history(pool).await, []);
    pool.execute("drop table file").await.unwrap();
    migrate::run(&db).await.unwrap();
    assert_eq!(history(pool).await.len(), migrate::all().len());
}

#[tokio::test]
async fn eight_processes_may_migrate_at_once() {
    let database = cluster::empty_database().await;
    let settings = [("DATABASE_URL".to_owned(), database.url.clone())];
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| program::run(&settings, &["migrate"]))).collect();
        for run in runs {
            let output = run.join().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    });
    assert_eq!(history(&database.pool).await.len(), migrate::all().len());
}

#[tokio::test]
async fn eight_tasks_in_one_process_may_migrate_at_once() {
    let database = cluster::empty_database().await;
    let db = Db::connect(&database.url, 8, Duration::ZERO).await.unwrap();
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { migrate::run(&db).await })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(history(&database.pool).await.len(), migrate::all().len());
    db.close().await;
}
