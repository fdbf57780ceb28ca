//! Every constraint and trigger of the schema refuses the statements that violate it.

mod audit_events;
mod discards;
mod files;
mod idempotency_keys;
mod parts;
mod projects;
mod quotas;
mod stores;
mod uploads;
mod urls;

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Executor as _, PgPool, SqlSafeStr};

use crate::support::cluster;

/// The name of a rule (constraint, trigger or unique index) in the catalog, and transactions that violate it, but no
/// rule that is checked earlier. Rows are named as in `states.sql`.
type Rule = (&'static str, &'static [&'static str]);

/// A row in which only some columns may change, and the rule that refuses changes of the others.
struct Fixed {
    table: &'static str,
    row: &'static str,
    /// Assignments that accompany each change, ending in a comma.
    along: &'static str,
    /// The columns that may change.
    but: &'static [&'static str],
    refused_by: &'static str,
    /// Columns whose changes another rule refuses.
    or_by: &'static [(&'static str, &'static str)],
}

/// A database with a row in every state.
pub(super) async fn states() -> PgPool {
    let pool = cluster::database().await.pool;
    pool.execute(sqlx::raw_sql(include_str!("states.sql"))).await.unwrap();
    pool
}

fn rules() -> impl Iterator<Item = Rule> {
    let uploads = [uploads::RULES, files::RULES, parts::RULES, discards::RULES];
    [projects::RULES, quotas::RULES, urls::RULES, idempotency_keys::RULES, audit_events::RULES, stores::RULES]
        .into_iter()
        .chain(uploads)
        .flatten()
        .copied()
}

/// Runs statements in a transaction, including the checks at commit, and rolls it back. Returns the constraint or
/// trigger that refused them, or "nothing".
async fn refusal(pool: &PgPool, statements: impl SqlSafeStr) -> String {
    let mut tx = pool.begin().await.unwrap();
    let outcome = match tx.execute(sqlx::raw_sql(statements)).await {
        Ok(_) => tx.execute("set constraints all immediate").await,
        refused @ Err(_) => refused,
    };
    tx.rollback().await.unwrap();
    match outcome {
        Ok(_) => "nothing".to_owned(),
        Err(sqlx::Error::Database(e)) => e.constraint().map_or_else(|| e.to_string(), str::to_owned),
        Err(e) => panic!("{e}"),
    }
}

/// Whether statements are refused by this rule. Prints a message if not.
async fn is_refused(pool: &PgPool, rule: &str, statements: &str) -> bool {
    let by = refusal(pool, AssertSqlSafe(statements.to_owned())).await;
    if by != rule {
        eprintln!("refused by {by}, not by {rule}: {statements}");
    }
    by == rule
}

#[tokio::test]
async fn every_rule_refuses_violations() {
    let pool = states().await;
    let mut let_through = 0;
    for (rule, broken_by) in rules() {
        assert!(!broken_by.is_empty(), "{rule}");
        for statements in broken_by {
            let_through += u32::from(!is_refused(&pool, rule, statements).await);
        }
    }
    assert_eq!(let_through, 0, "see above");
}

#[tokio::test]
async fn every_rule_in_the_catalog_is_tested_here() {
    let pool = states().await;
    let in_the_catalog: Vec<String> = sqlx::query_scalar(
        "with ours as (select oid from pg_class
                       where relnamespace = 'public'::regnamespace and relname <> 'refinery_schema_history')
         select conname::text from pg_constraint where conrelid in (select oid from ours) and contype <> 'n'
         union select tgname::text from pg_trigger where tgrelid in (select oid from ours) and not tgisinternal
               and tgname not like '%_is_counted'
         union select relname::text from pg_index join pg_class on pg_class.oid = indexrelid
               where indrelid in (select oid from ours) and indisunique",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let here: BTreeSet<_> = rules().map(|(rule, _)| rule.to_owned()).collect();
    assert_eq!(here, BTreeSet::from_iter(in_the_catalog), "the rules tested here (left) and in the catalog (right)");
    assert_eq!(here.len(), rules().count(), "a rule has several entries");
}

/// Another value for a column, as SQL.
fn other_value(column: &str, data_type: &str) -> String {
    match data_type {
        "uuid" => "gen_random_uuid()".to_owned(),
        "text" => format!("concat({column}, 'x')"),
        "bigint" | "integer" => format!("coalesce({column}, 0) + 1"),
        "timestamp with time zone" => format!("coalesce({column}, now()) + interval '1 second'"),
        "boolean" => format!("not {column}"),
        "ARRAY" => format!("{column}[2:]"),
        "bytea" => format!("sha224(coalesce({column}, ''))"),
        unknown => panic!("{column}: no other value is known for a {unknown}"),
    }
}

/// The number of changes of the row that are not refused as expected: each column to another value and, if nullable, to
/// null.
async fn let_through(pool: &PgPool, fixed: &Fixed) -> u32 {
    let Fixed { table, row, along, but, refused_by, or_by } = fixed;
    let columns: Vec<(String, String, bool)> = sqlx::query_as(
        "select column_name::text, data_type::text, is_nullable = 'YES' from information_schema.columns
         where table_schema = 'public' and table_name = $1",
    )
    .bind(table)
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(!columns.is_empty(), "{table}");
    let mut through = 0;
    for (column, data_type, nullable) in columns.iter().filter(|(it, ..)| !but.contains(&it.as_str())) {
        let rule = or_by.iter().find(|(it, _)| it == column).map_or(*refused_by, |(_, rule)| *rule);
        let is_something = format!("select {column} is not null from {table} where id = {row}()");
        let is_something: bool = sqlx::query_scalar(AssertSqlSafe(is_something)).fetch_one(pool).await.unwrap();
        let nothing = (*nullable && is_something).then(|| "null".to_owned());
        for value in [other_value(column, data_type)].into_iter().chain(nothing) {
            let update = format!("update {table} set {along}{column} = {value} where id = {row}()");
            through += u32::from(!is_refused(pool, rule, &update).await);
        }
    }
    through
}

#[tokio::test]
async fn immutable_columns_cannot_be_changed() {
    let pool = states().await;
    let mut through = 0;
    for fixed in [stores::FIXED, uploads::FIXED, files::FIXED, parts::FIXED].into_iter().flatten() {
        through += let_through(&pool, fixed).await;
    }
    assert_eq!(through, 0, "see above");
}

#[tokio::test]
async fn a_refusal_at_commit_leaves_nothing_of_the_transaction() {
    let pool = states().await;
    let mut tx = pool.begin().await.unwrap();
    tx.execute("select end_as(empty(), 'completed')").await.unwrap();
    let refused = tx.commit().await.unwrap_err();
    assert_eq!(refused.into_database_error().unwrap().constraint(), Some("completed_upload_has_its_file"));
    let status: String =
        sqlx::query_scalar("select status from upload where id = empty()").fetch_one(&pool).await.unwrap();
    assert_eq!(status, "pending");
}
