//! Graceful shutdown: requests in flight finish, new connections are refused, and a second signal stops at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::program::Program;
use crate::support::{TestApp, eventually};

crate::on_a_directory_and_s3! {
    objects only:
    a_part_in_flight_is_finished_before_the_process_exits;
    a_part_that_does_not_end_in_time_is_cut_off_and_leaves_nothing
        (WINDLASS_SHUTDOWN_PATIENCE = "1s", WINDLASS_BODY_IDLE = "1h");
    a_file_that_is_cut_off_is_abandoned_before_the_process_exits
        (WINDLASS_SHUTDOWN_PATIENCE = "0s", WINDLASS_BODY_IDLE = "1h");
    no_connection_is_reset_by_a_shutdown (WINDLASS_SHUTDOWN_DELAY = "0s");
    the_service_is_not_ready_before_it_stops_accepting_connections (WINDLASS_SHUTDOWN_DELAY = "1h");
    a_second_signal_stops_at_once;
    other_signals_are_logged_and_ignored;
}

/// The end of a form, which is sent later.
const END: &[u8] = b"\r\n--B--\r\n";

/// Sends all but the end of a request, and waits until the service has begun to receive its bytes.
async fn begun(app: &TestApp, request: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    socket.write_all(&request[..request.len() - END.len()]).unwrap();
    eventually("a part is being received", async || count(app, "select count(*) from part").await > 0).await;
    socket
}

async fn begun_part(app: &TestApp, data: &[u8]) -> (String, TcpStream) {
    let upload = app.client.upload(data.len()).await;
    let socket = begun(app, &app.client.raw_part(&upload, data)).await;
    (upload, socket)
}

async fn count(app: &TestApp, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(&app.pool).await.unwrap()
}

async fn a_part_in_flight_is_finished_before_the_process_exits(app: &TestApp) {
    let (upload, mut socket) = begun_part(app, b"abcdef").await;
    app.program(|it| it.signal(Signal::SIGTERM));
    let address = app.client.socket_address();
    eventually("new connections are refused", async || TcpStream::connect(address).is_err()).await;
    // Longer than a server that does not wait would take to exit.
    tokio::time::sleep(Duration::from_secs(2)).await;
    socket.write_all(END).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let part = answer.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(app.program(Program::wait).success());
    app.kill_and_restart();
    let file = crate::support::client::id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"abcdef");
}

async fn a_part_that_does_not_end_in_time_is_cut_off_and_leaves_nothing(app: &TestApp) {
    // More than a chunk, so that some of it is in the store.
    let (upload, mut socket) = begun_part(app, &vec![b'x'; 12 * 1024 * 1024]).await;
    app.program(|it| it.signal(Signal::SIGTERM));
    // The client stays connected, so only the shutdown timeout ends the process.
    assert!(app.program(Program::wait).success());
    socket.write_all(END).ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    // The process itself has abandoned the part, which need not wait for the expiry of its upload.
    app.no_writer_is_busy().await;
    app.let_time_pass("2 minutes").await;
    app.sweep();
    assert_eq!((app.store.list().await, app.store.half_done().await), (vec![], 0));
    app.kill_and_restart();
    assert_eq!(app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"], json!([]));
}

async fn a_file_that_is_cut_off_is_abandoned_before_the_process_exits(app: &TestApp) {
    let _socket = begun(app, &app.client.raw_file("a", b"abcdef")).await;
    let mut ledger = app.pool.begin().await.unwrap();
    sqlx::query("select from upload for update").execute(&mut *ledger).await.unwrap();
    app.program(|it| it.signal(Signal::SIGTERM));
    eventually("the file is about to be abandoned", async || {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        count(app, waiting).await > 0
    })
    .await;
    // Longer than a process that does not wait would take to exit.
    tokio::time::sleep(Duration::from_secs(1)).await;
    ledger.commit().await.unwrap();
    assert!(app.program(Program::wait).success());
    assert_eq!(count(app, "select count(*) from upload where status = 'pending'").await, 0);
    app.kill_and_restart();
}

async fn the_service_is_not_ready_before_it_stops_accepting_connections(app: &TestApp) {
    app.program(|it| it.signal(Signal::SIGTERM));
    eventually("it is not ready", async || app.client.get("/readyz").await.status == 503).await;
    // On a new connection, as a load balancer opens them until it has noticed.
    let other = app.client.alone();
    assert_eq!(other.get("/readyz").await.json()["causes"][0]["code"], "shutting_down");
    assert_eq!(other.get("/livez").await.status, 200);
    let metrics = other.get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("windlass_ready 0"));
    let file = other.file("sent during the shutdown").await;
    // The probes continue, and do not make it ready again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(other.get("/readyz").await.json()["causes"].as_array().unwrap().len(), 1);
    app.program(|it| {
        it.signal(Signal::SIGTERM);
        assert_eq!(it.wait().code(), Some(130));
    });
    app.restart_with(&[("WINDLASS_SHUTDOWN_DELAY", "0s")]);
    assert_eq!(app.client.download(&file).await, b"sent during the shutdown");
    app.program(|it| it.signal(Signal::SIGTERM));
    assert!(app.program(Program::wait).success());
    app.kill_and_restart();
}

/// Sends requests, each on a new connection, until a connection is refused. Fails if one was accepted but not answered.
fn request_until_refused(address: &str) -> std::io::Result<()> {
    loop {
        let mut socket = match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            connected => connected?,
        };
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(format!("the answer is '{answer}'")));
        }
    }
}

async fn no_connection_is_reset_by_a_shutdown(app: &TestApp) {
    for _ in 0..5 {
        let address = app.client.socket_address().to_owned();
        let clients: Vec<_> = (0..24)
            .map(|_| {
                let address = address.clone();
                std::thread::spawn(move || request_until_refused(&address))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        app.program(|it| it.signal(Signal::SIGTERM));
        for client in clients {
            client.join().unwrap().unwrap();
        }
        assert!(app.program(Program::wait).success());
        app.kill_and_restart();
    }
}

async fn a_second_signal_stops_at_once(app: &TestApp) {
    let (_upload, _socket) = begun_part(app, b"abcdef").await;
    app.program(|it| {
        it.signal(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(100));
        it.signal(Signal::SIGTERM);
        assert_eq!(it.wait().code(), Some(130));
    });
    app.kill_and_restart();
    // The part is discarded when its upload expires.
    app.let_time_pass("2 hours").await;
    app.sweep();
}

async fn other_signals_are_logged_and_ignored(app: &TestApp) {
    let (upload, mut socket) = begun_part(app, b"abcdef").await;
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGXFSZ] {
        app.program(|it| it.signal(signal));
    }
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"] {
        eventually("the signal is logged", async || app.log().contains(name)).await;
    }
    socket.write_all(END).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    app.client.cancel(&upload).await.ok();
}
