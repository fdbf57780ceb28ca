//! The kinds of store, and access to their contents.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore as _;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{ObjectStore, ObjectStoreExt as _, path};
use tempfile::TempDir;
use uuid::Uuid;

use super::store_servers::{azurite, moto, seaweedfs};

pub const KEY: &str = "testkey";
pub const SECRET: &str = "testsecret";
pub const BUCKET: &str = "uploads";
pub const GOOGLE_BUCKET: &str = "googleuploads";

/// Azurite's well-known account and its key.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
pub const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The name of the object that holds the store's identity.
pub const IDENTITY: &str = "windlass-store.json";

/// The kind of store that a test uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Directory,
    /// An S3 bucket on SeaweedFS.
    Bucket,
    /// An S3 bucket on moto.
    Moto,
    /// A container on Azurite.
    Azure,
    /// A bucket accessed with Google's client. The server is moto, whose S3 API is what Google calls its XML API: of
    /// the available emulators of Google's store, gcp-storage-emulator 2026.7.19 responds to that API's list and
    /// multipart upload requests with 501, and fake-gcs-server 1.54 to its writes with 400.
    Google,
}

/// A store for one test.
pub enum Store {
    Directory(TempDir),
    Bucket {
        kind: StoreKind,
        settings: Vec<(String, String)>,
        prefix: String,
        objects: Arc<dyn ObjectStore>,
        s3: Option<Arc<AmazonS3>>,
    },
}

/// The name and size of an object in the store.
pub type Listed = (String, u64);

/// The name of a Part's object.
pub fn object_name(part: &str) -> String {
    format!("parts/{}/{part}", &part[part.len() - 2..])
}

impl Store {
    /// A new, empty store; `None` if its server is not installed.
    pub fn new(kind: StoreKind) -> Option<Self> {
        let prefix = format!("test-{}", Uuid::now_v7().simple());
        Some(match kind {
            StoreKind::Directory => Self::Directory(tempfile::tempdir().unwrap()),
            StoreKind::Bucket => Self::s3(kind, seaweedfs()?, prefix),
            StoreKind::Moto => Self::s3(kind, moto()?, prefix),
            StoreKind::Google => Self::google(moto()?, prefix),
            StoreKind::Azure => Self::azure(azurite()?, prefix),
        })
    }

    fn s3(kind: StoreKind, endpoint: &str, prefix: String) -> Self {
        let objects = Arc::new(s3_client(endpoint));
        let settings = [
            ("WINDLASS_STORE", &*format!("s3://{BUCKET}/{prefix}")),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ];
        Self::Bucket {
            kind,
            settings: owned(&settings),
            prefix,
            objects: Arc::<AmazonS3>::clone(&objects),
            s3: Some(objects),
        }
    }

    fn google(endpoint: &str, prefix: String) -> Self {
        // moto reads the requested service from the `Authorization` header.
        let token = "Credential=key/20260101/us-east-1/s3/aws4_request";
        let objects = GoogleCloudStorageBuilder::new()
            .with_base_url(endpoint)
            .with_bearer_token(token)
            .with_bucket_name(GOOGLE_BUCKET)
            .build()
            .unwrap();
        let settings = [
            ("WINDLASS_STORE", &*format!("gs://{GOOGLE_BUCKET}/{prefix}")),
            ("GOOGLE_BASE_URL", endpoint),
            ("GOOGLE_BEARER_TOKEN", token),
        ];
        Self::Bucket {
            kind: StoreKind::Google,
            settings: owned(&settings),
            prefix,
            objects: Arc::new(objects),
            s3: None,
        }
    }

    fn azure(endpoint: &str, prefix: String) -> Self {
        let account = format!("{endpoint}/{AZURE_ACCOUNT}");
        let objects = MicrosoftAzureBuilder::new()
            .with_account(AZURE_ACCOUNT)
            .with_access_key(AZURE_KEY)
            .with_endpoint(account.clone())
            .with_allow_http(true)
            .with_container_name(BUCKET)
            .build()
            .unwrap();
        let settings = [
            ("WINDLASS_STORE", &*format!("az://{BUCKET}/{prefix}")),
            ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT),
            ("AZURE_STORAGE_USE_EMULATOR", "true"),
            ("AZURITE_BLOB_STORAGE_URL", endpoint),
        ];
        Self::Bucket {
            kind: StoreKind::Azure,
            settings: owned(&settings),
            prefix,
            objects: Arc::new(objects),
            s3: None,
        }
    }

    /// The settings with which the program uses this store.
    pub fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Directory(root) => vec![("WINDLASS_STORE".into(), format!("file://{}", root.path().display()))],
            Self::Bucket { settings, .. } => settings.clone(),
        }
    }

    /// Lists all objects except the store's identity, sorted by name, including any leftovers of a crash.
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

    /// Reads an object as text, bypassing the service.
    pub async fn read(&self, name: &str) -> String {
        match self {
            Self::Directory(root) => fs::read_to_string(root.path().join(name)).unwrap(),
            Self::Bucket { prefix, objects, .. } => {
                let found = objects.get(&format!("{prefix}/{name}").into()).await.unwrap();
                String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()
            }
        }
    }

    /// The number of unfinished multipart uploads under this store's prefix. Azure has none: uncommitted blocks cannot
    /// be listed, and expire after a week.
    pub async fn half_done(&self) -> usize {
        let Self::Bucket { prefix, settings, s3, kind, .. } = self else { return 0 };
        let url = match (kind, s3) {
            (_, Some(objects)) => {
                let options = SignedUrlOptions::new().with_query([("uploads", "")]);
                let root = path::Path::default();
                let method = "GET".parse().unwrap();
                objects.signed_url_opts(method, &root, Duration::from_mins(1), &options).await.unwrap().to_string()
            }
            (StoreKind::Google, None) => format!("{}/{GOOGLE_BUCKET}?uploads", settings[1].1),
            (_, None) => return 0,
        };
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.text().await.unwrap().matches(&format!("<Key>{prefix}/")).count()
    }

    /// Writes an object, bypassing the service.
    pub async fn put(&self, name: &str, bytes: &'static str) {
        match self {
            Self::Directory(root) => write_file(&root.path().join(name), bytes),
            Self::Bucket { prefix, objects, .. } => {
                objects.put(&format!("{prefix}/{name}").into(), bytes.into()).await.unwrap();
            }
        }
    }

    /// Deletes an object, bypassing the service.
    pub async fn remove(&self, name: &str) {
        match self {
            Self::Directory(root) => fs::remove_file(root.path().join(name)).unwrap(),
            Self::Bucket { prefix, objects, .. } => {
                objects.delete(&format!("{prefix}/{name}").into()).await.unwrap();
            }
        }
    }

    /// Writes an object under another prefix, which begins with this store's prefix.
    pub async fn put_beside(&self, name: &str, bytes: &'static str) {
        match self {
            Self::Directory(root) => write_file(&beside(root).join(name), bytes),
            Self::Bucket { prefix, objects, .. } => {
                objects.put(&format!("{prefix}b/{name}").into(), bytes.into()).await.unwrap();
            }
        }
    }

    /// Returns whether the object written by [`Self::put_beside`] still exists, and deletes it.
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

    /// Begins a multipart upload, bypassing the service. Returns false for a store whose uploads cannot be listed.
    pub async fn begin_multipart(&self, name: &str) -> bool {
        let Self::Bucket { prefix, s3: Some(s3), .. } = self else { return false };
        s3.create_multipart(&format!("{prefix}/{name}").into()).await.is_ok()
    }

    /// The kind of this store.
    pub fn kind(&self) -> StoreKind {
        match self {
            Self::Directory(_) => StoreKind::Directory,
            Self::Bucket { kind, .. } => *kind,
        }
    }

    /// The root directory; `None` for a bucket.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(root) => Some(root.path()),
            Self::Bucket { .. } => None,
        }
    }
}

/// A client of one of the tests' S3 servers, bypassing the service.
pub fn s3_client(endpoint: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_access_key_id(KEY)
        .with_secret_access_key(SECRET)
        .build()
        .unwrap()
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
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
