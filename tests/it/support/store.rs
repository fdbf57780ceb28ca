//! The two kinds of store, and what is in them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore as _;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _, path};
use tempfile::TempDir;
use uuid::Uuid;

use super::tools;

const KEY: &str = "testkey";
const SECRET: &str = "testsecret";
const BUCKET: &str = "uploads";

/// The object with the store's identity.
pub const IDENTITY: &str = "windlass-store.json";

/// Where a test keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Directory,
    Bucket,
}

/// A store of one test's own.
pub enum Store {
    Directory(TempDir),
    Bucket { endpoint: String, prefix: String, objects: Arc<AmazonS3> },
}

/// An object that is there: its name and size.
pub type Listed = (String, u64);

/// What a Part's object is called.
pub fn object_name(part: &str) -> String {
    format!("parts/{}/{part}", &part[part.len() - 2..])
}

impl Store {
    /// A new store; nothing where what it needs is not installed.
    pub fn new(kind: StoreKind) -> Option<Self> {
        match kind {
            StoreKind::Directory => Some(Self::Directory(tempfile::tempdir().unwrap())),
            StoreKind::Bucket => {
                let endpoint = seaweedfs()?.to_owned();
                let prefix = format!("test-{}", Uuid::now_v7().simple());
                let objects = AmazonS3Builder::new()
                    .with_endpoint(&endpoint)
                    .with_allow_http(true)
                    .with_bucket_name(BUCKET)
                    .with_access_key_id(KEY)
                    .with_secret_access_key(SECRET)
                    .build()
                    .unwrap();
                Some(Self::Bucket { endpoint, prefix, objects: Arc::new(objects) })
            }
        }
    }

    /// The settings that make the program use it.
    pub fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Directory(root) => vec![("WINDLASS_STORE".into(), format!("file://{}", root.path().display()))],
            Self::Bucket { endpoint, prefix, .. } => vec![
                ("WINDLASS_STORE".into(), format!("s3://{BUCKET}/{prefix}")),
                ("AWS_ENDPOINT_URL".into(), endpoint.clone()),
                ("AWS_ACCESS_KEY_ID".into(), KEY.into()),
                ("AWS_SECRET_ACCESS_KEY".into(), SECRET.into()),
                ("AWS_REGION".into(), "us-east-1".into()),
            ],
        }
    }

    /// Every object but the store's identity, by name; also those that a crash left under another name.
    pub async fn list(&self) -> Vec<Listed> {
        let mut listed = match self {
            Self::Directory(root) => files_below(root.path(), root.path()),
            Self::Bucket { prefix, objects, .. } => {
                let prefix = path::Path::from(prefix.as_str());
                let found: Vec<_> = objects.list(Some(&prefix)).try_collect().await.unwrap();
                found
                    .into_iter()
                    .map(|it| (it.location.as_ref()[prefix.as_ref().len() + 1..].to_owned(), it.size))
                    .collect()
            }
        };
        listed.retain(|it| it.0 != IDENTITY);
        listed.sort();
        listed
    }

    /// Reads an object past the service, as text.
    pub async fn read(&self, name: &str) -> String {
        match self {
            Self::Directory(root) => fs::read_to_string(root.path().join(name)).unwrap(),
            Self::Bucket { prefix, objects, .. } => {
                let found = objects.get(&format!("{prefix}/{name}").into()).await.unwrap();
                String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()
            }
        }
    }

    /// How many multipart uploads are half-done below our prefix.
    pub async fn half_done(&self) -> usize {
        let Self::Bucket { prefix, objects, .. } = self else { return 0 };
        let options = SignedUrlOptions::new().with_query([("uploads", "")]);
        let root = path::Path::default();
        let url =
            objects.signed_url_opts("GET".parse().unwrap(), &root, Duration::from_mins(1), &options).await.unwrap();
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.text().await.unwrap().matches(&format!("<Key>{prefix}/")).count()
    }

    /// Writes an object past the service.
    pub async fn put(&self, name: &str, bytes: &'static str) {
        match self {
            Self::Directory(root) => write_file(&root.path().join(name), bytes),
            Self::Bucket { prefix, objects, .. } => {
                objects.put(&format!("{prefix}/{name}").into(), bytes.into()).await.unwrap();
            }
        }
    }

    /// Deletes an object past the service.
    pub async fn remove(&self, name: &str) {
        match self {
            Self::Directory(root) => fs::remove_file(root.path().join(name)).unwrap(),
            Self::Bucket { prefix, objects, .. } => {
                objects.delete(&format!("{prefix}/{name}").into()).await.unwrap();
            }
        }
    }

    /// Writes an object below another prefix that begins like this store's.
    pub async fn put_beside(&self, name: &str, bytes: &'static str) {
        match self {
            Self::Directory(root) => write_file(&beside(root).join(name), bytes),
            Self::Bucket { prefix, objects, .. } => {
                objects.put(&format!("{prefix}b/{name}").into(), bytes.into()).await.unwrap();
            }
        }
    }

    /// Whether that object is there; it is not any more afterwards.
    pub async fn is_beside(&self, name: &str) -> bool {
        match self {
            Self::Directory(root) => {
                let there = beside(root).join(name).exists();
                fs::remove_dir_all(beside(root)).unwrap();
                there
            }
            Self::Bucket { prefix, objects, .. } => {
                let path = format!("{prefix}b/{name}").into();
                objects.head(&path).await.is_ok() && objects.delete(&path).await.is_ok()
            }
        }
    }

    /// Begins a multipart upload past the service. Whether there is such a thing.
    pub async fn begin_multipart(&self, name: &str) -> bool {
        let Self::Bucket { prefix, objects, .. } = self else { return false };
        objects.create_multipart(&format!("{prefix}/{name}").into()).await.is_ok()
    }

    /// Which kind it is.
    pub fn kind(&self) -> StoreKind {
        match self {
            Self::Directory(_) => StoreKind::Directory,
            Self::Bucket { .. } => StoreKind::Bucket,
        }
    }

    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(root) => Some(root.path()),
            Self::Bucket { .. } => None,
        }
    }
}

fn beside(root: &TempDir) -> PathBuf {
    let mut beside = root.path().as_os_str().to_owned();
    beside.push("b");
    beside.into()
}

fn write_file(path: &Path, bytes: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn files_below(root: &Path, directory: &Path) -> Vec<Listed> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(root, &path));
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push((name, path.metadata().unwrap().len()));
        }
    }
    found
}

/// The endpoint of one real SeaweedFS for the run; it ends with this process.
fn seaweedfs() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    SERVER
        .get_or_init(|| {
            let weed = tools::tool("venv/bin/weed")?;
            let (ready, endpoint) = mpsc::channel();
            thread::spawn(move || {
                let (endpoint, mut server) = start_seaweedfs(&weed);
                ready.send(endpoint).unwrap();
                // The server's life hangs on the thread that started it: this one never ends before it.
                server.wait().unwrap();
            });
            Some(endpoint.recv().unwrap())
        })
        .as_deref()
}

fn start_seaweedfs(weed: &PathBuf) -> (String, Child) {
    let directory = tools::scratch().join("seaweedfs");
    fs::create_dir_all(&directory).unwrap();
    let port = free_ports();
    let log = fs::File::create(directory.join("log")).unwrap();
    let server = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(weed)
        .args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"])
        .arg(format!("-dir={}", directory.display()))
        .args([format!("-s3.port={port}"), format!("-master.port={}", port + 1), format!("-volume.port={}", port + 2)])
        .args([format!("-filer.port={}", port + 3), format!("-admin.port={}", port + 4)])
        .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("GOMEMLIMIT", "600MiB"), ("GOGC", "50")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "SeaweedFS does not start: see {}", directory.display());
        thread::sleep(Duration::from_millis(50));
    }
    // It listens before it can keep anything.
    thread::sleep(Duration::from_secs(2));
    (format!("http://127.0.0.1:{port}"), server)
}

/// The first of five ports that are free, as are those ten thousand above (SeaweedFS uses both).
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() % 20_000 + 20_000;
        if (first..first + 5).all(|port| free(port) && free(port + 10_000)) {
            return first;
        }
    }
}
