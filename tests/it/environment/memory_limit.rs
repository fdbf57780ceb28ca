//! The service in a container with a memory limit, or without usable shared memory.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::multipart::{Form, Part};

use crate::support::embedded::{Embedded, log_of, settings};
use crate::support::program::Program;
use crate::support::{Client, eventually, tools};

const LIMIT: u64 = 300 * 1024 * 1024;

/// A cgroup with a memory limit, removed on drop once no process is left in it.
struct Group(PathBuf);

impl Group {
    /// Creates one, or returns `None` if that is not permitted.
    fn new() -> Option<Self> {
        let made = Self::v1().or_else(Self::v2);
        if made.is_none() {
            eprintln!("skipped: no control group with a memory limit can be created");
        }
        made
    }

    fn v1() -> Option<Self> {
        Self::below(Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
    }

    fn v2() -> Option<Self> {
        Self::below(Path::new("/sys/fs/cgroup"), "memory.max")
    }

    fn below(root: &Path, limit: &str) -> Option<Self> {
        let group = Self(root.join(format!("windlass-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(limit), LIMIT.to_string()).ok()?;
        Some(group)
    }

    fn file(&self, names: [&str; 2]) -> String {
        names.iter().find_map(|it| fs::read_to_string(self.0.join(it)).ok()).unwrap()
    }

    /// The number of OOM kills in the group.
    fn kills(&self) -> u64 {
        let events = self.file(["memory.oom_control", "memory.events"]);
        let line = events.lines().find_map(|it| it.strip_prefix("oom_kill "));
        line.map_or(0, |it| it.parse().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

fn option(data_dir: &Path, name: &str) -> String {
    let options = fs::read_to_string(data_dir.join("postgres/postmaster.opts")).unwrap();
    options.split(&format!("{name}=")).nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Returns 1 if the file was stored, else 0. On a busy machine some requests may be rejected or time out.
async fn is_stored(client: &Client, bytes: Vec<u8>) -> u32 {
    let form = Form::new().text("purpose", "user_data").part("file", Part::bytes(bytes).file_name("data.bin"));
    let sent = client.request(Method::POST, "/v1/files").multipart(form).send().await;
    u32::from(sent.is_ok_and(|it| it.status().is_success()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_300_mib_survives_heavy_load() {
    let Some(group) = Group::new() else { return };
    let outer = tempfile::tempdir().unwrap();
    let data_dir = outer.path().join("data");
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display());
    let enter = ["sh", "-c", &enter];
    let program = Program::serve_under(&enter, &settings(&data_dir), &log_of(&data_dir), true);
    let key = fs::read_to_string(data_dir.join("api-key")).unwrap();
    let client = Client::new(&program.address, key.trim());
    let service = Embedded { program, client, data_dir: data_dir.clone() };
    assert_eq!(option(&data_dir, "shared_buffers"), "37MB");
    assert!(service.log().contains("buffers_mib=75") && service.log().contains("memory_mib=300"), "{}", service.log());

    let postmaster = service.postmaster();
    let client = &service.client;
    let senders = (0..24_u8).map(|number| async move {
        let mut stored = is_stored(client, vec![number; 24 * 1024 * 1024]).await;
        stored += is_stored(client, vec![number; 24 * 1024 * 1024]).await;
        for _ in 0..40 {
            stored += is_stored(client, b"a small one".to_vec()).await;
        }
        stored
    });
    let stored: u32 = futures_util::future::join_all(senders).await.into_iter().sum();
    assert!(stored > 100, "{stored} files");
    assert_eq!((group.kills(), service.postmaster()), (0, postmaster), "{}", service.log());
    service.stop();
    eventually("the group is empty", async || group.file(["cgroup.procs", "cgroup.procs"]).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_shared_memory_works() {
    // `initdb` before PostgreSQL 16 requires shared memory.
    let is_new = tools::pg_bin().and_then(|it| tools::pg_major(&it)).is_some_and(|it| it >= 16);
    if !nix::unistd::geteuid().is_root() || !is_new {
        return;
    }
    for shared in ["size=64k", "size=64k,mode=0000"] {
        let outer = tempfile::tempdir().unwrap();
        let data_dir = outer.path().join("data");
        let enter = format!("mount -t tmpfs -o {shared} tmpfs /dev/shm && exec \"$0\" \"$@\"");
        let enter = ["unshare", "--mount", "sh", "-c", &enter];
        let program = Program::serve_under(&enter, &settings(&data_dir), &log_of(&data_dir), true);
        let key = fs::read_to_string(data_dir.join("api-key")).unwrap();
        let client = Client::new(&program.address, key.trim());
        let file = client.file("kept").await;
        assert_eq!(client.download(&file).await, b"kept");
        Embedded { program, client, data_dir }.stop();
    }
}
