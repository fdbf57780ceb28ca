//! The compose file, read by Compose itself.

use std::path::Path;
use std::process::Command;

use crate::support::tools;

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
            assert_eq!(volume["type"], "volume", "{name} keeps its data in a volume");
        }
    }
}
