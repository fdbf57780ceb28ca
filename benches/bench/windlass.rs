//! The program under measurement, with a Postgres that syncs and its own store.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;
use sqlx::{Executor as _, PgPool};
use tempfile::TempDir;

use crate::http::{Answer, Connection};
use crate::support::program::{self, Program};
use crate::support::store::Store;
use crate::support::{StoreKind, cluster};

/// The key of the default project.
pub const KEY: &str = "the-benchmarks-key";
/// The boundary of all forms.
pub const BOUNDARY: &str = "a-boundary-as-clients-make-them-0123456789";

/// A running Windlass.
pub struct Windlass {
    pub pool: PgPool,
    pub store: Store,
    program: Program,
    settings: BTreeMap<String, String>,
    data_dir: TempDir,
}

impl Windlass {
    /// Starts a Windlass that collects deleted data at once; `None` if the store's server is not installed.
    pub async fn start(kind: StoreKind, more: &[(&str, &str)]) -> Option<Self> {
        let store = Store::new(kind)?;
        let database = cluster::database().await;
        for sync_as_usual in ["alter system reset fsync", "select pg_reload_conf()"] {
            database.pool.execute(sync_as_usual).await.unwrap();
        }
        let data_dir = tempfile::tempdir().unwrap();
        let mut settings: BTreeMap<_, _> = store.settings().into_iter().collect();
        let own = [
            ("DATABASE_URL", &*database.url),
            ("WINDLASS_API_KEY", KEY),
            ("WINDLASS_DATA_DIR", data_dir.path().to_str().unwrap()),
            ("WINDLASS_SWEEP_INTERVAL", "1s"),
            ("WINDLASS_DELETION_GRACE", "0s"),
        ];
        settings.extend(own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = Self::serve(&settings, &data_dir);
        Some(Self { pool: database.pool, store, program, settings, data_dir })
    }

    fn serve(settings: &BTreeMap<String, String>, data_dir: &TempDir) -> Program {
        let settings: Vec<_> = settings.clone().into_iter().collect();
        Program::serve(&settings, &data_dir.path().join("log"), false)
    }

    /// Another process on the same database and store, with other settings.
    pub fn another(&self, more: &[(&str, &str)]) -> Program {
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self::serve(&settings, &self.data_dir)
    }

    pub fn pid(&self) -> Pid {
        self.program.pid()
    }

    /// A setting that the program was started with.
    pub fn setting(&self, name: &str) -> &str {
        &self.settings[name]
    }

    pub fn address(&self) -> &str {
        &self.program.address
    }

    /// A new client of the default project.
    pub fn client(&self) -> Client {
        self.client_with(KEY)
    }

    /// A client with another key.
    pub fn client_with(&self, key: &str) -> Client {
        let (connection, address) = (Connection::open(self.address()), self.address().to_owned());
        Client { connection, address, key: key.to_owned() }
    }

    /// Creates a key of another project.
    pub fn key_of(&self, project: &str) -> String {
        let settings: Vec<_> = self.settings.clone().into_iter().collect();
        let made = program::run(&settings, &["keys", "create", "--project", project]);
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Waits until no part is left in the ledger.
    pub async fn is_empty(&self) {
        let has_objects = "select exists (select from part)";
        while sqlx::query_scalar(has_objects).fetch_one(&self.pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A client on one connection.
pub struct Client {
    connection: Connection,
    address: String,
    key: String,
}

impl Client {
    /// Sends a JSON request, which must succeed. Returns the JSON of the response.
    pub fn json(&mut self, start: &str, body: &str) -> Value {
        let answer = self.ask(start, body);
        assert_eq!(answer.status, 200, "{start}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Sends a JSON request. The response may have any status.
    pub fn ask(&mut self, start: &str, body: &str) -> Answer {
        let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", self.key);
        self.connection.send(start, &headers, &[body.as_bytes()], true)
    }

    /// Creates an Upload. Returns its id.
    pub fn upload(&mut self, bytes: usize) -> String {
        let body = format!(
            "{{\"filename\":\"a file\",\"purpose\":\"user_data\",\"bytes\":{bytes},\"mime_type\":\"text/plain\"}}"
        );
        id(&self.json("POST /v1/uploads", &body))
    }

    /// Adds a Part. Returns its id. Retries after a 503.
    pub fn part(&mut self, upload: &str, bytes: &[u8]) -> String {
        let start = format!("POST /v1/uploads/{upload}/parts");
        let mut answer = self.form(&start, "data", bytes);
        while answer.status == 503 {
            std::thread::sleep(Duration::from_secs(1));
            self.connection = Connection::open(&self.address);
            answer = self.form(&start, "data", bytes);
        }
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        id(&serde_json::from_slice(&answer.body).unwrap())
    }

    /// Completes an Upload. Returns the File.
    pub fn complete(&mut self, upload: &str, parts: &[String], md5: Option<&str>) -> Value {
        let mut body = serde_json::json!({ "part_ids": parts });
        if let Some(md5) = md5 {
            body["md5"] = md5.into();
        }
        self.json(&format!("POST /v1/uploads/{upload}/complete"), &body.to_string())["file"].clone()
    }

    pub fn cancel(&mut self, upload: &str) {
        self.json(&format!("POST /v1/uploads/{upload}/cancel"), "");
    }

    pub fn delete(&mut self, file: &str) {
        self.json(&format!("DELETE /v1/files/{file}"), "");
    }

    /// Downloads a File, or a range of it, and discards the bytes. Returns their number.
    pub fn download(&mut self, file: &str, range: Option<(u64, u64)>) -> u64 {
        let range = range.map_or_else(String::new, |(first, last)| format!("range: bytes={first}-{last}\r\n"));
        let headers = format!("authorization: Bearer {}\r\n{range}", self.key);
        let answer = self.connection.send(&format!("GET /v1/files/{file}/content"), &headers, &[], false);
        assert!(matches!(answer.status, 200 | 206), "{}", answer.status);
        answer.length
    }

    /// Requests a File of `bytes` bytes. The caller reads the body from the connection.
    pub fn begin_download(mut self, file: &str, bytes: u64) -> Connection {
        let headers = format!("authorization: Bearer {}\r\n", self.key);
        assert_eq!(self.connection.ask(&format!("GET /v1/files/{file}/content"), &headers), bytes);
        self.connection
    }

    /// Sends a form with one field.
    fn form(&mut self, start: &str, name: &str, bytes: &[u8]) -> Answer {
        let headers =
            format!("authorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n", self.key);
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"upload\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        self.connection.send(start, &headers, &[head.as_bytes(), bytes, tail.as_bytes()], true)
    }
}

/// The `id` of an object in a response.
pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap().to_owned()
}
