//! Probes, unknown paths and methods.

use crate::support::TestApp;

crate::on_a_directory_and_s3! {
    probes_need_no_key;
    unknown_paths_and_methods_are_answered_in_the_house_shape;
}

async fn probes_need_no_key(app: &TestApp) {
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(reqwest::get(format!("{}{path}", app.client.address)).await.unwrap().status(), 200, "{path}");
    }
}

async fn unknown_paths_and_methods_are_answered_in_the_house_shape(app: &TestApp) {
    app.client.get("/v1/_unknown_path").await.error(404, None);
    app.client.get("/nothing").await.error(404, None);
    app.client.delete("/v1/uploads").await.error(405, None);
    app.client.delete("/v1/files").await.error(405, None);
}
