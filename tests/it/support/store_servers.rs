//! The servers of the buckets: at most one of each kind per test run, which ends with this process.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use reqwest::RequestBuilder;

use super::store::{AZURE_ACCOUNT, AZURE_KEY, BUCKET, GOOGLE_BUCKET, KEY, SECRET};
use super::tools;

/// The endpoint of a real SeaweedFS, or `None` if it is not installed.
pub fn seaweedfs() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER.get_or_init(|| Some(run_seaweedfs(tools::tool("venv/bin/weed")?))).as_deref()
}

/// The endpoint of moto, another implementation of S3. It does not verify signatures.
pub fn moto() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER.get_or_init(|| Some(run(tools::tool("stores/bin/moto_server")?, start_moto))).as_deref()
}

/// The endpoint of Azurite, Microsoft's emulator of Azure Blob Storage.
pub fn azurite() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    let program = || {
        tools::tool("node")?;
        tools::tool("azurite/node_modules/azurite/dist/src/blob/main.js")
    };
    SERVER.get_or_init(|| Some(run(program()?, start_azurite))).as_deref()
}

/// Starts a server on a dedicated thread: a server is killed when the thread that started it ends, and this one
/// waits for it.
fn run(program: PathBuf, start: fn(&Path) -> (String, Child)) -> String {
    let (ready, endpoint) = mpsc::channel();
    thread::spawn(move || {
        let (endpoint, mut server) = start(&program);
        ready.send(endpoint).unwrap();
        server.wait().unwrap();
    });
    endpoint.recv().unwrap()
}

/// As [`run`], but a server that ends before the tests do is started again on its data, since hundreds of tests share
/// it; the end of its log says why it ended.
fn run_seaweedfs(weed: PathBuf) -> String {
    let port = free_ports();
    let (ready, started) = mpsc::channel();
    thread::spawn(move || {
        loop {
            let mut server = start_seaweedfs(&weed, port);
            // Only the first start is waited for.
            let _ = ready.send(());
            let status = server.wait().unwrap();
            let log = fs::read(tools::scratch().join("seaweedfs/log")).unwrap_or_default();
            let end = log.len().saturating_sub(8 << 10);
            eprintln!("SeaweedFS ended ({status}) and is started again: {}", String::from_utf8_lossy(&log[end..]));
        }
    });
    started.recv().unwrap();
    format!("http://127.0.0.1:{port}")
}

fn start_seaweedfs(weed: &Path, port: u16) -> Child {
    let server = start("seaweedfs", port, |command, directory| {
        command
            .arg(weed)
            .args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"])
            .arg("-s3.domainName=store.invalid")
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"])
            // By default, the number of volumes depends on the free space of the disk.
            .args(["-master.volumeSizeLimitMB=256", "-volume.max=200"])
            .arg(format!("-dir={}", directory.display()))
            .args([format!("-s3.port={port}"), format!("-master.port={}", port + 1)])
            .args([format!("-volume.port={}", port + 2), format!("-filer.port={}", port + 3)])
            .arg(format!("-admin.port={}", port + 4))
            .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)])
            .envs([("GOMEMLIMIT", "600MiB"), ("GOGC", "50")]);
    });
    // It listens before it is ready to store objects.
    thread::sleep(Duration::from_secs(2));
    server
}

fn start_moto(program: &Path) -> (String, Child) {
    let port = free_port();
    let server = start("moto", port, |command, _| {
        command.arg(program).args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    });
    let endpoint = format!("http://127.0.0.1:{port}");
    send(|client| client.put(format!("{endpoint}/{GOOGLE_BUCKET}")));
    (endpoint, server)
}

/// A separate moto for one test, over TLS with this certificate and key; it ends with the calling thread.
pub fn moto_over_tls(certificate: &Path, key: &Path) -> Option<(String, Child)> {
    let program = tools::tool("stores/bin/moto_server")?;
    let port = free_port();
    let server = start("moto-tls", port, |command, _| {
        command.arg(program).args(["-H", "127.0.0.1", "-p", &port.to_string(), "-s", "-c"]).arg(certificate);
        command.arg("-k").arg(key);
    });
    Some((format!("https://localhost:{port}"), server))
}

fn start_azurite(program: &Path) -> (String, Child) {
    let port = free_port();
    let server = start("azurite", port, |command, _| {
        command
            .arg(tools::dev_dir().join("node"))
            .arg(program)
            // Azurite does not support the API version that the client requests.
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"])
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    });
    let endpoint = format!("http://127.0.0.1:{port}");
    send(|client| make_container(&client, &endpoint));
    (endpoint, server)
}

/// Starts a server and waits until it listens.
fn start(name: &str, port: u16, arguments: impl FnOnce(&mut Command, &Path)) -> Child {
    let directory = tools::scratch().join(name);
    fs::create_dir_all(&directory).unwrap();
    let log = fs::File::create(directory.join("log")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).current_dir(&directory).stdin(Stdio::null());
    arguments(&mut command, &directory);
    let server = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "{name} does not listen: see {}", directory.display());
        thread::sleep(Duration::from_millis(50));
    }
    server
}

/// The request that creates the container, signed with the account key.
fn make_container(client: &reqwest::Client, endpoint: &str) -> RequestBuilder {
    let date = DateTime::<Utc>::from(SystemTime::now()).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let (version, resource) = ("2021-08-06", format!("/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"));
    let signed = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n{resource}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(AZURE_KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    client
        .put(format!("{endpoint}/{AZURE_ACCOUNT}/{BUCKET}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", version)
        .header("authorization", format!("SharedKey {AZURE_ACCOUNT}:{signature}"))
}

/// Sends a request that must succeed, from a thread without a runtime.
fn send(request: impl FnOnce(reqwest::Client) -> RequestBuilder) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer =
        runtime.block_on(async { request(reqwest::Client::new()).header("content-length", 0).send().await.unwrap() });
    assert!(answer.status().is_success(), "{answer:?}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The first of five consecutive free ports; those 10,000 above are free as well (SeaweedFS uses both).
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let first = free_port() % 20_000 + 20_000;
        if (first..first + 5).all(|port| free(port) && free(port + 10_000)) {
            return first;
        }
    }
}
