//! The metrics: their names follow the grammar in docs/metrics.md, which lists all of them, and the dashboard and the
//! alert rules name only metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::client::id;
use crate::support::{StoreKind, TestApp, eventually};

/// The type of each metric, by name.
type Families = BTreeMap<String, String>;

/// Metrics that only the embedded PostgreSQL has; `metrics_of_the_ledger` tests them.
const OF_EMBEDDED: [(&str, &str); 1] = [("windlass_postgres_up", "gauge")];

/// The metrics after an upload, a download, a deletion and a sweep.
async fn families() -> Option<Families> {
    let app = TestApp::start(StoreKind::Directory, &[("WINDLASS_LEDGER_PART_BYTES", "0")]).await?;
    let bytes = vec![7; 1 << 20];
    let upload = app.client.upload(bytes.len()).await;
    let part = app.client.part(&upload, bytes.clone()).await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert!(app.client.download(&file).await == bytes);
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.let_time_pass("2 hours").await;
    let metrics = async || String::from_utf8(app.client.get("/metrics").await.body.to_vec()).unwrap();
    // The service's own sweep runs when it starts; the deletion is due only now.
    app.restart_with(&[("WINDLASS_SWEEP_INTERVAL", "1s")]);
    eventually("the object is deleted, and the ledger summed up", async || {
        let text = metrics().await;
        text.contains("operation=\"delete\"") && text.contains("windlass_oldest_garbage_age_seconds ")
    })
    .await;
    // These metrics are of the new process.
    let upload = app.client.upload(bytes.len()).await;
    let part = app.client.part(&upload, bytes.clone()).await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    app.client.download(&file).await;
    let text = metrics().await;
    let types = text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).filter_map(|it| it.split_once(' '));
    let families: Families = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    for name in families.keys() {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no description");
    }
    app.nothing_is_lost_and_nothing_is_left().await;
    let of_embedded = OF_EMBEDDED.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    Some(families.into_iter().chain(of_embedded).collect())
}

/// The names of metrics in a file of the repository.
fn named_in(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|it| it.starts_with("windlass_")).map(ToOwned::to_owned).collect()
}

/// The metric that a series belongs to.
fn family(series: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|it| series.strip_suffix(it)).unwrap_or(series)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_the_dashboard_and_the_alerts_name_the_metrics_that_exist() {
    let Some(families) = families().await else { return };
    let exist: BTreeSet<_> = families.keys().cloned().collect();
    let documented: BTreeSet<_> = named_in("docs/metrics.md").into_iter().filter(|it| it != "windlass_").collect();
    assert_eq!(documented, exist, "docs/metrics.md (left), and the program (right)");
    for path in ["deploy/grafana/windlass.json", "deploy/prometheus/windlass-alerts.yml", "docs/operations.md"] {
        let unknown: Vec<_> = named_in(path).into_iter().filter(|it| !exist.contains(family(it))).collect();
        assert!(unknown.is_empty(), "{path} names {unknown:?}");
    }
    for (name, kind) in &families {
        let expected = match kind.as_str() {
            "counter" => name.ends_with("_total"),
            "histogram" => name.ends_with("_seconds"),
            "gauge" => !name.ends_with("_total"),
            _ => false,
        };
        assert!(expected, "{name} is a {kind}");
        assert!(name.chars().all(|it| it.is_ascii_lowercase() || it == '_'), "{name}");
    }
}
