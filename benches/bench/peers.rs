//! Other servers that store files, each in the setup that its documentation recommends.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::http::Connection;
use crate::support::tools;

/// A server to compare with.
pub struct Peer {
    pub name: &'static str,
    pub address: String,
    kind: Kind,
    process: Child,
    folder: TempDir,
}

/// The protocol of a peer.
#[derive(Clone, Copy)]
enum Kind {
    /// `PUT /name`.
    Put,
    /// The tus protocol, version 1.0.0, with its uploads below this path.
    Tus(&'static str),
    /// `POST /v1/files`, as at OpenAI.
    Form,
}

/// A request for one body.
pub struct Request {
    pub start: String,
    pub headers: &'static str,
    /// What precedes and what follows the body.
    pub around: [&'static str; 2],
}

impl Peer {
    /// Starts every peer that is installed.
    pub fn all() -> Vec<Self> {
        [Self::nginx(), tus_node(), tus_python(), ogx()].into_iter().flatten().collect()
    }

    /// nginx with `dav_methods`, the simplest way to receive a file. It does not sync files.
    pub fn nginx() -> Option<Self> {
        let path = tools::path();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), tools::dev_dir().join("nginx/usr/sbin")]);
        let Some(program) = places.map(|it| it.join("nginx")).find(|it| it.is_file()) else {
            return skipped("nginx");
        };
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        Some(Self::start("nginx PUT, not synced", Kind::Put, |folder, port| {
            let at = folder.display();
            let mut config = String::new();
            write!(
                config,
                "{user} worker_processes 2; daemon off; pid {at}/pid; error_log {at}/error.log;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{ access_log off; sendfile on; client_max_body_size 0; client_body_buffer_size 1m;\n\
                 client_body_temp_path {at}/body; proxy_temp_path {at}/t1; fastcgi_temp_path {at}/t2;\n\
                 uwsgi_temp_path {at}/t3; scgi_temp_path {at}/t4;\n\
                 server {{ listen 127.0.0.1:{port}; root {at}/files; dav_methods PUT; }} }}"
            )
            .unwrap();
            fs::write(folder.join("nginx.conf"), config).unwrap();
            let mut command = Command::new(&program);
            command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder);
            command
        }))
    }

    fn start(name: &'static str, kind: Kind, command: impl FnOnce(&Path, u16) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir(folder.path().join("files")).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = command(folder.path(), port)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(began.elapsed() < Duration::from_mins(1), "{name} does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { name, address: format!("http://127.0.0.1:{port}"), kind, process, folder }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// The directory in which it stores files.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The requests that send `count` bodies of `bytes` bytes each.
    pub fn requests(&self, count: usize, bytes: usize) -> Vec<Request> {
        match self.kind {
            Kind::Put => (0..count)
                .map(|it| Request { start: format!("PUT /body-{it}"), headers: "", around: ["", ""] })
                .collect(),
            Kind::Form => {
                let request = || Request {
                    start: "POST /v1/files".to_owned(),
                    headers: "content-type: multipart/form-data; boundary=--a-boundary\r\n",
                    around: [
                        "----a-boundary\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n\
                         ----a-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"body\"\r\n\r\n",
                        "\r\n----a-boundary--\r\n",
                    ],
                };
                (0..count).map(|_| request()).collect()
            }
            Kind::Tus(path) => {
                let mut connection = Connection::open(&self.address);
                let begin = format!("tus-resumable: 1.0.0\r\nupload-length: {bytes}\r\n");
                let begun = (0..count).map(|_| {
                    let answer = connection.send(&format!("POST {path}"), &begin, &[], false);
                    assert_eq!(answer.status, 201, "{}", self.name);
                    let location = answer.header("location").unwrap();
                    let path = location.find("//").map_or(location, |at| {
                        let after_scheme = &location[at + 2..];
                        &after_scheme[after_scheme.find('/').unwrap()..]
                    });
                    Request {
                        start: format!("PATCH {path}"),
                        headers: "tus-resumable: 1.0.0\r\nupload-offset: 0\r\ncontent-type: application/offset+octet-stream\r\n",
                        around: ["", ""],
                    }
                });
                begun.collect()
            }
        }
    }

    /// Checks that it has stored `count` bodies of `bytes` bytes each, and deletes them.
    pub fn check_and_clear(&self, count: usize, bytes: usize) {
        let files = fs::read_dir(self.files()).unwrap().map(|it| it.unwrap().path());
        let mut whole = 0;
        for file in files.filter(|it| it.is_file()) {
            whole += usize::from(fs::metadata(&file).unwrap().len() == bytes as u64);
            fs::remove_file(file).unwrap();
        }
        assert_eq!(whole, count, "{} has not stored all bodies", self.name);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        kill(self.pid(), Signal::SIGTERM).ok();
        self.process.wait().ok();
    }
}

/// The reference server of the tus protocol, for Node.
fn tus_node() -> Option<Peer> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tus.mjs");
    let node = tools::dev_dir().join("node");
    if !node.exists() || !script.with_file_name("node_modules").is_dir() {
        return skipped("@tus/server");
    }
    Some(Peer::start("@tus/server, file store", Kind::Tus("/files"), |folder, port| {
        let mut command = Command::new(node);
        command.arg(script).arg(folder.join("files")).arg(port.to_string());
        command
    }))
}

/// A tus server on `FastAPI`.
fn tus_python() -> Option<Peer> {
    let python = tools::dev_dir().join("peers/bin/python");
    if !python.exists() {
        return skipped("tuspyserver");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tus.py");
    Some(Peer::start("tuspyserver", Kind::Tus("/files/"), |folder, port| {
        let mut command = Command::new(python);
        command.arg(script).arg(folder.join("files")).arg(port.to_string());
        command
    }))
}

/// OGX with only its Files API and local file system: each body is one File.
fn ogx() -> Option<Peer> {
    let program = tools::dev_dir().join("ogx/bin/ogx");
    if !program.exists() {
        println!("skipped: OGX needs Python 3.12 or newer; with one, `./dev bench` installs it");
        return None;
    }
    Some(Peer::start("OGX, POST /v1/files, local files", Kind::Form, |folder, port| {
        let template = include_str!("../peers/ogx.yaml");
        let config = template.replace("FOLDER", &folder.display().to_string()).replace("PORT", &port.to_string());
        fs::write(folder.join("ogx.yaml"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("run").arg(folder.join("ogx.yaml")).arg("--insecure").current_dir(folder).env("HOME", folder);
        command
    }))
}

fn skipped(name: &str) -> Option<Peer> {
    println!("skipped: {name} is not installed; `./dev bench` installs it");
    None
}
