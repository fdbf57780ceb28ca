//! Forms of the database's address: IPv6, a name with several addresses, a name verified by TLS.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::support::pooler::{Pooler, programs};
use crate::support::{cluster, program, tools};

/// Forwards connections to the server, or accepts them and never responds.
async fn relay(listener: TcpListener, server: Option<SocketAddr>) {
    let mut kept = Vec::new();
    while let Ok((mut client, _)) = listener.accept().await {
        match server {
            Some(server) => drop(tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            })),
            None => kept.push(client),
        }
    }
}

fn address(url: &Url) -> SocketAddr {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
}

/// Runs `keys list` on a database URL: whether it succeeded, and its standard error.
async fn lists_keys(url: &Url, more: &[(&str, &str)]) -> (bool, String) {
    let mut settings = vec![("DATABASE_URL".to_owned(), url.to_string())];
    settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let output = tokio::task::spawn_blocking(move || program::run(&settings, &["keys", "list"])).await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_address_is_accepted() {
    let database = cluster::database().await;
    let mut url: Url = database.url.parse().unwrap();
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(relay(listener, Some(address(&url))));
    url.set_host(Some("[::1]")).unwrap();
    url.set_port(Some(port)).unwrap();
    let (listed, log) = lists_keys(&url, &[]).await;
    assert!(listed, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_addresses_of_a_name_the_one_that_responds_is_used() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can use a private hosts file");
        return;
    }
    let database = cluster::database().await;
    let mut url: Url = database.url.parse().unwrap();
    // The resolver returns the closest address first: 127.0.0.1, where nothing responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let responding = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(relay(responding, Some(address(&url))));
    tokio::spawn(relay(silent, None));
    url.set_host(Some("database.test")).unwrap();
    url.set_port(Some(port)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 database.test\n127.0.0.2 database.test\n").unwrap();
    // A separate mount namespace keeps this hosts file private.
    let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let settings = [("DATABASE_URL".to_owned(), url.to_string())];
    let listing = move || {
        let under = ["unshare", "--mount", "sh", "-c", &script];
        program::command_under(&under, &settings).args(["keys", "list"]).output().unwrap()
    };
    let listed = tokio::task::spawn_blocking(listing).await.unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

/// Creates a CA (`ca.pem`) and a certificate for `localhost` that it has signed (`cert.pem`, `key.pem`).
fn certificate(openssl: &Path, folder: &Path) {
    fs::write(folder.join("extensions"), "subjectAltName = DNS:localhost\nbasicConstraints = CA:false\n").unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -set_serial 7 -days 2 -extfile extensions -out cert.pem",
    ] {
        let made = Command::new(openssl).current_dir(folder).args(arguments.split(' ')).output().unwrap();
        assert!(made.status.success(), "{arguments}: {made:?}");
    }
    for (name, mode) in [(".", 0o755), ("key.pem", 0o644)] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_authority_that_the_system_trusts_is_accepted() {
    let Some(openssl) = tools::program("openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    certificate(&openssl, folder.path());
    let Some(pooler_program) = programs().into_iter().next() else { return };
    let database = cluster::database().await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(
        "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}",
        file("cert.pem"),
        file("key.pem")
    );
    let authority = file("ca.pem");
    let pooler = Pooler::start(&pooler_program, &database.url, "session", &tls).await;
    let mut url: Url = pooler.url.parse().unwrap();
    url.set_host(Some("localhost")).unwrap();
    let known = [("SSL_CERT_FILE", authority.as_str())];
    let with = |query: &str| {
        let mut url = url.clone();
        url.set_query(Some(query));
        url
    };
    for (query, more, expected) in [
        ("sslrootcert=system", &known[..], true),
        ("sslrootcert=system&sslmode=verify-full", &known[..], true),
        ("sslmode=verify-full", &known[..], true),
        ("sslmode=verify-full", &[][..], false),
        ("sslrootcert=system", &[][..], false),
        ("sslrootcert=system&sslmode=require", &known[..], false),
    ] {
        let (listed, text) = lists_keys(&with(query), more).await;
        assert_eq!(listed, expected, "{query}, {more:?}: {text}");
        assert!(!text.contains("waiting for the database"), "{text}");
    }
}
