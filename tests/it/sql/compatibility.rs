//! Programs on a schema that a newer version has migrated, and migrations of a schema that is in use.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use windlass_engine::db::compatibility::{Effect, LAST_UNNAMED};
use windlass_engine::db::{self, migrate};

use crate::support::{cluster, eventually};

/// A database with the first migrations only.
async fn migrated_to(version: usize) -> cluster::Database {
    let (database, complete) = (cluster::empty_database().await, cluster::database().await);
    let make = "create table refinery_schema_history
                (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))";
    database.pool.execute(make).await.unwrap();
    for (_, sql) in migrate::all().into_iter().take(version) {
        database.pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
    let select = "select format('insert into refinery_schema_history values (%L, %L, %L, %L)',
                                version, name, applied_on, checksum)
                  from refinery_schema_history order by version limit $1";
    let rows: Vec<String> =
        sqlx::query_scalar(select).bind(i64::try_from(version).unwrap()).fetch_all(&complete.pool).await.unwrap();
    for row in rows {
        database.pool.execute(AssertSqlSafe(row)).await.unwrap();
    }
    database
}

/// Adds a migration to the history that this program does not know.
async fn newer(pool: &PgPool, version: i32, name: &str) {
    sqlx::query("insert into refinery_schema_history values ($1, $2, now()::text, '1')")
        .bind(version)
        .bind(name)
        .execute(pool)
        .await
        .unwrap();
}

fn known() -> i32 {
    i32::try_from(migrate::all().len()).unwrap()
}

#[test]
fn every_migration_says_in_its_name_which_programs_can_still_run() {
    for ((name, _), version) in migrate::all().iter().zip(1..).filter(|it| it.1 > LAST_UNNAMED) {
        let oldest = match Effect::of(name) {
            Effect::Expand => 0,
            Effect::Contract { oldest } => oldest,
            Effect::Unknown => {
                panic!("V{version}__{name}: expand_<what> or contract_<n>_<what> (migrations/README.md)")
            }
        };
        assert!(oldest < version, "V{version}__{name}: the previous release could not run during the upgrade");
    }
}

#[tokio::test]
async fn a_newer_schema_is_used_if_its_migrations_support_this_program() {
    let known = known();
    let (next, after) = (known + 1, known + 2);
    for (migrations, needed) in [
        (vec![(next, "expand_add_a_column".to_owned())], None),
        (vec![(next, "expand_add_a_column".to_owned()), (after, format!("contract_{known}_drop_a_column"))], None),
        (vec![(next, "expand_add_a_column".to_owned()), (after, format!("contract_{next}_drop_a_column"))], Some(next)),
        // The most demanding one counts, not the last one.
        (vec![(next, "drop_a_column".to_owned()), (after, "expand_add_a_column".to_owned())], Some(next)),
    ] {
        let database = cluster::database().await;
        for (version, name) in &migrations {
            newer(&database.pool, *version, name).await;
        }
        let db = database.db().await;
        let (started, running) = (migrate::run(&db).await, migrate::check_still_supported(&db).await);
        for outcome in [started, running] {
            let Some(needed) = needed else {
                outcome.unwrap();
                continue;
            };
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, db::Error::Schema(_)), "{migrations:?}: {refused}");
            let found = migrations.last().unwrap().0;
            for part in [format!("is at V{found},"), format!("know V{needed} or later"), format!("knows V{known}:")] {
                assert!(refused.to_string().contains(&part), "{migrations:?}: {refused}");
            }
        }
        db.close().await;
    }
}

#[tokio::test]
async fn a_newer_schema_without_one_of_this_programs_migrations_is_refused() {
    let database = migrated_to(migrate::all().len() - 1).await;
    newer(&database.pool, known() + 1, "expand_add_a_column").await;
    migrate::run(&database.db().await).await.unwrap_err();
}

/// A transaction that has read a table, such as that of `pg_dump`.
async fn reader(url: &str) -> (PgConnection, i32) {
    let mut reader = PgConnection::connect(url).await.unwrap();
    reader.execute("set application_name = 'a backup'").await.unwrap();
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut reader).await.unwrap();
    reader.execute("begin").await.unwrap();
    reader.execute("select count(*) from api_key").await.unwrap();
    (reader, pid)
}

/// The last version whose successor changes the table `api_key`.
const BEFORE_SERVICE_KEYS: usize = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_table_does_not_block_requests() {
    let database = migrated_to(BEFORE_SERVICE_KEYS).await;
    let (mut reader, _) = reader(&database.url).await;
    let db = database.db().await;
    let migrating = tokio::spawn(async move { migrate::run(&db).await });
    // Far longer than a migration waits, and far shorter than a request may take.
    let mut request = PgConnection::connect(&database.url).await.unwrap();
    request.execute("set lock_timeout = '15s'").await.unwrap();
    for _ in 0..3 {
        eventually("the migration waits for the table", async || {
            let waiting = "select exists(select from pg_locks where relation = 'api_key'::regclass and not granted)";
            sqlx::query_scalar(waiting).fetch_one(&database.pool).await.unwrap()
        })
        .await;
        request.execute("select count(*) from api_key").await.unwrap();
    }
    assert!(!migrating.is_finished());
    reader.execute("rollback").await.unwrap();
    migrating.await.unwrap().unwrap();
    let applied: i64 =
        sqlx::query_scalar("select count(*) from refinery_schema_history").fetch_one(&database.pool).await.unwrap();
    assert_eq!(applied, i64::from(known()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_cannot_lock_a_table_gives_up_and_reports_the_oldest_transaction() {
    let database = migrated_to(BEFORE_SERVICE_KEYS).await;
    let (_reader, pid) = reader(&database.url).await;
    let db = database.db().await;
    let refused = migrate::run_within(&db, Duration::from_millis(10)).await.unwrap_err();
    let db::Error::Locked { what: "table", holder, .. } = &refused else { panic!("{refused}") };
    assert!(holder.starts_with(&format!("pid {pid} (application a backup")), "{refused}");
    // The transaction of the migration lock has ended.
    db.close().await;
}
