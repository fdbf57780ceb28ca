//! In a ledger that has been used for some time, every statement of the service finds its rows by an index.

mod expected;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use expected::{EXPECTED, Expected};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Postgres, Row as _};

use crate::support::cluster;

/// The tables that grow large. Projects and keys are few.
const LARGE: [&str; 4] = ["upload", "part", "file", "audit_event"];

/// A statement that sqlx has checked at compile time.
struct Query {
    text: String,
    parameters: usize,
}

/// All checked statements, from `.sqlx`. CI checks that `./dev prepare` has been run.
fn queries() -> Vec<Query> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let described: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
            let words: Vec<_> = described["query"].as_str().unwrap().split_whitespace().collect();
            let parameters = described["describe"]["parameters"]["Left"].as_array().unwrap().len();
            Query { text: words.join(" "), parameters }
        })
        .collect()
}

/// How a plan accesses tables and indexes.
#[derive(Default)]
struct Access {
    indexes: BTreeSet<String>,
    /// The large tables and the indexes that it reads completely.
    whole: Vec<String>,
}

impl Access {
    fn of(node: &Value) -> Self {
        let mut access = Self::default();
        access.add(node);
        access
    }

    fn add(&mut self, node: &Value) {
        let text = |field: &str| node[field].as_str().unwrap_or_default();
        let index = text("Index Name");
        let is_large = LARGE.contains(&text("Relation Name"));
        if text("Node Type") == "Seq Scan" && is_large {
            self.whole.push(text("Relation Name").to_owned());
        }
        if !index.is_empty() {
            self.indexes.insert(index.to_owned());
            let is_bounded = !text("Index Cond").is_empty();
            if !is_bounded && (is_large || text("Node Type") == "Bitmap Index Scan") {
                self.whole.push(index.to_owned());
            }
        }
        for below in node["Plans"].as_array().into_iter().flatten() {
            self.add(below);
        }
    }

    /// Describes a difference from the expected plan, if there is one.
    fn complaint(&self, expected: &Expected) -> Option<String> {
        let missing = expected.indexes.iter().find(|it| !it.split('|').any(|name| self.indexes.contains(name)));
        let Self { indexes, whole } = self;
        let whole: Vec<_> = whole.iter().filter(|it| !expected.whole.contains(&it.as_str())).collect();
        (missing.is_some() || !whole.is_empty())
            .then(|| format!("it reads all of {whole:?} and uses {indexes:?}, but should use {missing:?}"))
    }
}

async fn seeded() -> PgConnection {
    let pool = cluster::database().await.pool;
    let mut connection = pool.acquire().await.unwrap().detach();
    connection.execute(sqlx::raw_sql(include_str!("seed.sql"))).await.unwrap();
    connection.execute("vacuum analyze").await.unwrap();
    connection
}

/// The generic plan (`None`), or the plan for these values.
async fn plan<C>(connection: &mut C, query: &Query, values: Option<&str>) -> Value
where
    for<'c> &'c mut C: Executor<'c, Database = Postgres>,
{
    let nothing = vec!["null"; query.parameters].join(", ");
    let (mode, values) = values.map_or(("force_generic_plan", nothing.as_str()), |it| ("force_custom_plan", it));
    let values = if query.parameters == 0 { String::new() } else { format!("({values})") };
    connection.execute(AssertSqlSafe(format!("set plan_cache_mode = {mode}"))).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("prepare it as {}", query.text)))).await.unwrap();
    let explain = format!("explain (format json) execute it{values}");
    let explained = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(explain))).await;
    let explained = explained.unwrap_or_else(|e| panic!("{}: {e}", query.text));
    connection.execute("deallocate it").await.unwrap();
    let json: Value = serde_json::from_str(explained.get_unchecked(0)).unwrap();
    json[0]["Plan"].clone()
}

#[tokio::test]
async fn every_query_finds_its_rows_by_an_index() {
    let mut connection = seeded().await;
    let mut complaints = 0;
    let queries = queries();
    assert!(!queries.is_empty());
    for query in &queries {
        let expected = EXPECTED.iter().find(|it| query.text.contains(it.fragment));
        let Some(expected) = expected else { panic!("no plan is expected for: {}", query.text) };
        for values in [None].into_iter().chain(expected.values.iter().copied().map(Some)) {
            let plan = plan(&mut connection, query, values).await;
            if let Some(complaint) = Access::of(&plan).complaint(expected) {
                eprintln!("{}\n  for {}: {complaint}\n{plan:#}", query.text, values.unwrap_or("any values"));
                complaints += 1;
            }
        }
    }
    assert_eq!(complaints, 0, "see above");
}

/// A session keeps its prepared plans, even if they were made while the tables were empty.
#[tokio::test]
async fn a_plan_made_in_an_empty_ledger_does_not_scan_a_whole_table() {
    let db = cluster::database().await.db().await;
    let mut connection = db.begin().await.unwrap();
    for query in queries() {
        let plan = plan(&mut connection, &query, None).await;
        let is_read_whole = Access::of(&plan).whole.iter().any(|it| LARGE.contains(&it.as_str()));
        assert!(!is_read_whole, "{}\n{plan:#}", query.text);
    }
}

#[test]
fn every_query_matches_exactly_one_expected_plan() {
    let queries = queries();
    for query in &queries {
        let expected = EXPECTED.iter().filter(|it| query.text.contains(it.fragment)).count();
        assert_eq!(expected, 1, "expected plans that match: {}", query.text);
    }
    for Expected { fragment, .. } in EXPECTED {
        assert!(queries.iter().any(|it| it.text.contains(fragment)), "no query contains: {fragment}");
    }
}

#[tokio::test]
async fn every_foreign_key_to_a_large_table_is_indexed() {
    let pool = cluster::database().await.pool;
    let unindexed: Vec<String> = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where contype = 'f' and confrelid in ('upload'::regclass, 'file'::regclass, 'part'::regclass)
           and not exists (select from pg_index
                           where indrelid = conrelid and indpred is null and indkey[0] = conkey[1])",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(unindexed, Vec::<String>::new());
}
