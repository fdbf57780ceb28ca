//! More connections than the maximum: clients with a key are still served.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use reqwest::Method;
use tokio::time::timeout;

use super::peer::{PATIENCE, Peer, app, head};
use crate::support::{eventually, tools};

/// The default limit of open files for a process on many systems.
const DESCRIPTORS: usize = 1024;

/// The states in which a client without a key can leave a connection.
const HOLDS: [&str; 5] = [
    "",
    "G",
    "malformed\r\n\r\n",
    "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /v1/files HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
];

#[tokio::test]
async fn connections_without_a_key_do_not_lock_out_clients_with_one() {
    let app = app(&[("WINDLASS_MAX_CONNECTIONS", "40")]).await;
    let (upload, key) = (app.client.upload(5).await, format!("authorization: Bearer {}", app.client.key));
    // A client with a key is in the middle of sending a body.
    let request = app.client.raw_part(&upload, b"hello");
    let mut slow = Peer::connect(&app).await;
    assert!(slow.send(head("GET /v1/files", &[&key])).await);
    assert_eq!(slow.response().await.unwrap().status(), 200);
    assert!(slow.send(&request[..request.len() - 5]).await);
    for hold in HOLDS {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut peer = Peer::connect(&app).await;
            peer.send(hold).await;
            held.push(peer);
        }
        for _ in 0..5 {
            let mut peer = Peer::connect(&app).await;
            assert!(peer.send(head("GET /v1/files", &[&key])).await);
            let response = peer.response().await.unwrap_or_else(|| panic!("no response after {hold:?}"));
            assert_eq!(response.status(), 200, "after {hold:?}");
        }
        assert_eq!(app.client.alone().get("/readyz").await.status, 200);
    }
    assert!(slow.send(&request[request.len() - 5..]).await);
    assert_eq!(slow.response().await.unwrap().status(), 200);
    app.nothing_is_lost_and_nothing_is_left().await;
}

#[tokio::test]
async fn a_client_without_a_key_that_keeps_sending_requests_is_evicted_before_a_newer_one() {
    let app = app(&[("WINDLASS_MAX_CONNECTIONS", "40")]).await;
    let request = head("GET /livez", &[]);
    let mut busy = Peer::connect(&app).await;
    let mut newer = Peer::connect(&app).await;
    let mut others = Vec::new();
    for _ in 0..100 {
        if !busy.send(&request).await || busy.response().await.is_none() {
            break;
        }
        // Once it has a response, it has been accepted.
        let mut other = Peer::connect(&app).await;
        assert!(other.send(&request).await);
        assert_eq!(other.response().await.unwrap().status(), 200);
        others.push(other);
    }
    assert!(others.len() < 100, "the older connection was never evicted");
    assert!(newer.send(&request).await);
    assert_eq!(newer.response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_new_connection_can_authenticate_when_all_others_have() {
    let app = app(&[("WINDLASS_MAX_CONNECTIONS", "40")]).await;
    let request = head("GET /v1/files", &[&format!("authorization: Bearer {}", app.client.key)]);
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut peer = Peer::connect(&app).await;
        assert!(peer.send(&request).await);
        assert_eq!(peer.response().await.unwrap().status(), 200);
        idle.push(peer);
    }
    let mut new = Vec::new();
    for _ in 0..10 {
        new.push(Peer::connect(&app).await);
    }
    for peer in &mut new {
        assert!(peer.send(&request).await);
        assert_eq!(peer.response().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_burst_of_connections_queues_in_the_kernel_while_the_service_is_busy() {
    let app = app(&[]).await;
    let burst: usize = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    app.program(|it| it.signal(Signal::SIGSTOP));
    let mut peers = Vec::new();
    for _ in 0..burst.min(500) {
        // While the program is stopped, connections beyond the backlog are not established.
        peers.push(timeout(PATIENCE, Peer::connect(&app)).await.expect("a connection"));
    }
    app.program(|it| it.signal(Signal::SIGCONT));
    let mut last = peers.pop().unwrap();
    assert!(last.send(head("GET /livez", &[])).await);
    assert_eq!(last.response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn connections_use_only_a_share_of_the_file_descriptors() {
    let app = app(&[]).await;
    let pid = app.program(|it| it.pid());
    let limits = || fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let open_files: Vec<_> = limits()
        .lines()
        .find(|it| it.starts_with("Max open files"))
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(open_files[3], open_files[4], "the soft limit is raised to the hard one");
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\"");
    app.restart_under(&["bash", "-c", &script]);
    let mut held = Vec::new();
    for _ in 0..DESCRIPTORS + 100 {
        held.push(Peer::connect(&app).await);
    }
    let client = app.client.alone();
    let file = client.file(vec![1; 3 * 1024 * 1024]).await;
    assert_eq!(client.download(&file).await.len(), 3 * 1024 * 1024);
    let open = fs::read_dir(format!("/proc/{}/fd", app.program(|it| it.pid()))).unwrap().count();
    assert!(open < DESCRIPTORS, "{open} descriptors");
    drop(held);
    eventually("their connections are closed", async || {
        let metrics = client.send(client.request(Method::GET, "/metrics")).await;
        String::from_utf8_lossy(&metrics.body).lines().any(|it| it == "windlass_connections 1")
    })
    .await;
    app.nothing_is_lost_and_nothing_is_left().await;
}

/// A script that opens connections, sends the same bytes on each, and holds them until its standard input ends.
const HOLD: &str = r#"
import resource, socket, sys

address, port, count, length = sys.argv[1], *map(int, sys.argv[2:])
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
head = b"GET /livez HTTP/1.1\r\nhost: x\r\na: " + b"x" * length
held = []
for _ in range(count):
    connection = socket.create_connection((address, port))
    if length:
        try:
            connection.sendall(head)
        except OSError:
            pass
    held.append(connection)
print("held", flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn thousands_of_connections_take_little_memory() {
    let Some(python) = tools::tool("venv/bin/python") else { return };
    let app = app(&[]).await;
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", app.program(|it| it.pid()))).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    };
    let (address, port) = app.client.socket_address().split_once(':').unwrap();
    let before = resident();
    for (count, length) in [(3000, 0), (3000, 1), (3000, 30_000), (1000, 125_000)] {
        let mut holder = Command::new(&python)
            .args(["-c", HOLD, address, port, &count.to_string(), &length.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let held = resident() - before;
        // A quarter of the default memory for bodies (256 MiB).
        assert!(held < 64, "{count} connections with heads of {length} bytes take {held} MiB");
        assert_eq!(app.client.alone().get("/v1/files").await.status, 200);
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }
}
