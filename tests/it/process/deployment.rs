//! The compose file, as parsed by Docker Compose, and the paths that the chart requests. `./dev deploy-check` checks the
//! rest of `deploy`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{StoreKind, TestApp, tools};

#[test]
fn the_compose_file_is_valid_and_publishes_on_loopback_only() {
    let Some(compose) = tools::tool("venv/bin/docker-compose") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = Command::new(compose).args(["config", "--format", "json"]).current_dir(root).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let stack: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let services = stack["services"].as_object().unwrap();
    assert_eq!(services.len(), 3, "{:?}", services.keys());
    for (name, service) in services {
        assert!(service["healthcheck"].is_object() || name == "windlass", "{name} has no health check");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            assert_eq!(volume["type"], "volume", "{name} does not keep its data in a volume");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paths_that_the_chart_requests_exist() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/windlass/templates");
    let texts = fs::read_dir(templates).unwrap().map(|it| fs::read_to_string(it.unwrap().path()).unwrap());
    let text = texts.collect::<Vec<_>>().join("\n");
    let end = |it: &str| it.find([',', '}', '\n', ' ']).unwrap_or(it.len());
    let paths: BTreeSet<_> =
        text.split(" path: ").chain(text.split("{path: ")).filter(|it| it.starts_with('/')).collect();
    let paths: BTreeSet<_> = paths.into_iter().map(|it| &it[..end(it)]).collect();
    assert_eq!(paths, ["/livez", "/metrics", "/readyz"].into());
    for path in paths {
        let response = reqwest::get(format!("{}{path}", app.client.address)).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}
