//! Probes, unknown paths and methods.

use serde_json::json;

use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    probes_need_no_key;
    probes_answer_in_json;
    unknown_paths_and_methods_get_the_usual_error_object;
}

async fn probes_need_no_key(app: &TestApp) {
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(reqwest::get(format!("{}{path}", app.client.address)).await.unwrap().status(), 200, "{path}");
    }
}

async fn probes_answer_in_json(app: &TestApp) {
    assert_eq!(app.client.get("/livez").await.ok(), json!({"status": "live", "causes": []}));
    assert_eq!(app.client.get("/readyz").await.ok(), json!({"status": "ready", "causes": []}));
}

async fn unknown_paths_and_methods_get_the_usual_error_object(app: &TestApp) {
    app.client.get("/v1/_unknown_path").await.error(404, None);
    app.client.get("/nothing").await.error(404, None);
    app.client.delete("/v1/uploads").await.error(405, None);
    app.client.delete("/v1/files").await.error(405, None);
}
