//! Behind the proxies in `deploy`, with TLS: what the SDK for Python sends arrives, and addresses are the proxy's.

use std::fs;
use std::path::Path;

use crate::support::certificate::Certificate;
use crate::support::program::free_port;
use crate::support::proxy::Proxy;
use crate::support::{StoreKind, TestApp, tools};

/// A configuration from `deploy`, with each text replaced, which must occur in it.
fn configuration(path: &str, replacements: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)).unwrap();
    replacements.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{path} does not contain {from}");
        text.replace(from, to)
    })
}

/// Runs the client against the proxy.
async fn the_sdk_works(app: &TestApp, address: &str, certificate: &Certificate) {
    let Some(python) = tools::tool("venv/bin/python") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/python/behind_tls.py");
    let certificate = certificate.path();
    let arguments = [script.as_os_str(), address.as_ref(), app.client.key.as_ref(), certificate.as_os_str()];
    let ran = tokio::process::Command::new(python).args(arguments).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_caddy_works() {
    let Some(caddy) = tools::tool("caddy/usr/bin/caddy") else { return };
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let Some(certificate) = Certificate::for_localhost() else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let address = format!("https://localhost:{port}");
    let site = format!("{address} {{\n\ttls {} {}\n", certificate.path().display(), certificate.key().display());
    let upstream = app.client.address.replace("http://", "");
    let site = configuration("caddy/Caddyfile", &[("files.example.com {\n", &site), ("127.0.0.1:8080", &upstream)]);
    // No listener other than the site's.
    let file = folder.path().join("Caddyfile");
    fs::write(&file, format!("{{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}}\n{site}"))
        .unwrap();
    let _proxy = Proxy::start(&caddy, &["run", "--config", "Caddyfile"], folder.path(), port);
    the_sdk_works(&app, &address, &certificate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_nginx_works() {
    let Some(nginx) = tools::tool("nginx/usr/sbin/nginx") else { return };
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let Some(certificate) = Certificate::for_localhost() else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let upstream = app.client.address.replace("http://", "");
    let (pem, key) = (certificate.path(), certificate.key());
    let listen = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; #",
        pem.display(),
        key.display()
    );
    let replicas = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"].map(|it| (it, &*upstream));
    let site = configuration("nginx/windlass.conf", &[&replicas[..], &[("listen 127.0.0.1:8080;", &listen)]].concat());
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|it| format!("{it}_temp_path {it};"));
    let file = folder.path().join("nginx.conf");
    let around = format!(
        "{user} daemon off; pid pid; error_log error.log; events {{}}\nhttp {{ access_log off; {}",
        temporary.concat()
    );
    fs::write(&file, format!("{around}\n{site}\n}}\n")).unwrap();
    let arguments = ["-p", folder.path().to_str().unwrap(), "-c", "nginx.conf"];
    let _proxy = Proxy::start(&nginx, &arguments, folder.path(), port);
    the_sdk_works(&app, &format!("https://localhost:{port}"), &certificate).await;
}
