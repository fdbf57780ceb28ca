//! Requests generated from the `OpenAPI` document: Schemathesis sends valid and invalid ones to every operation, and
//! checks that each response is documented and that two projects do not see each other's objects.

use std::path::Path;

use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::process::Command;

use crate::support::{StoreKind, TestApp, tools};

#[tokio::test(flavor = "multi_thread")]
async fn requests_generated_from_the_document_get_documented_responses() {
    let Some(schemathesis) = tools::tool("schemathesis/bin/schemathesis") else { return };
    // The types, names and lines that a purpose accepts are not in the document.
    let settings = [("WINDLASS_MIME_POLICY", "any"), ("WINDLASS_JSONL_CHECK", "off")];
    let Some(app) = TestApp::start(StoreKind::Directory, &settings).await else { return };
    let place = tempfile::tempdir().unwrap();
    let users = [("default", &app.client.key), ("stranger", &app.stranger().key)].map(|(name, key)| {
        json!({"name": name, "fixedHeaders": [{"name": "Authorization", "value": format!("Bearer {key}")}]})
    });
    std::fs::write(place.path().join("users.json"), json!({ "auth": users }).to_string()).unwrap();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let run = Command::new(schemathesis)
        .arg("--config-file")
        .arg(suite.join("schemathesis.toml"))
        .args(["run", "--url", &format!("{}/v1", app.client.address)])
        .arg(format!("{}/openapi.json", app.client.address))
        .env("SCHEMATHESIS_HOOKS", suite.join("hooks.py"))
        .env("WINDLASS_USERS", place.path().join("users.json"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(place.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{report}{}", String::from_utf8_lossy(&run.stderr));
    println!("{report}");
    // Some of the requests have succeeded.
    for table in ["upload", "part", "file"] {
        let made: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&app.pool)
            .await
            .unwrap();
        assert!(made > 0, "no {table} was created: {report}");
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}
