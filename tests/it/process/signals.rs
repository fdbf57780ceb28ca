//! Stopping: what runs comes to its end, what is new is refused, a second signal does not wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::program::Program;
use crate::support::{TestApp, eventually};

crate::on_both_stores! {
    a_part_that_is_under_way_is_finished_before_the_end;
    a_second_signal_stops_at_once;
}

/// Sends all but the end of a part, and waits until the service has begun to receive it.
async fn half_a_part(app: &TestApp) -> (String, TcpStream) {
    let upload = app.client.upload(6).await;
    let body = "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nabcdef\r\n--B--\r\n";
    let address = app.client.address.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/uploads/{upload}/parts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\n\r\n{}",
        app.client.key,
        body.len(),
        &body[..body.len() - "\r\n--B--\r\n".len()]
    );
    socket.write_all(head.as_bytes()).unwrap();
    eventually("a part is being received", async || {
        sqlx::query_scalar::<_, i64>("select count(*) from part").fetch_one(&app.pool).await.unwrap() > 0
    })
    .await;
    (upload, socket)
}

async fn a_part_that_is_under_way_is_finished_before_the_end(app: &TestApp) {
    let (upload, mut socket) = half_a_part(app).await;
    app.program(|it| it.signal(Signal::SIGTERM));
    let address = app.client.address.strip_prefix("http://").unwrap();
    eventually("nobody new is let in", async || TcpStream::connect(address).is_err()).await;
    // Longer than a server that does not wait would take to go.
    tokio::time::sleep(Duration::from_secs(2)).await;
    socket.write_all(b"\r\n--B--\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let part = answer.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(app.program(Program::wait).success());
    app.kill_and_restart();
    let file = crate::support::client::id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    assert_eq!(app.client.download(&file).await, b"abcdef");
}

async fn a_second_signal_stops_at_once(app: &TestApp) {
    let (_upload, _socket) = half_a_part(app).await;
    app.program(|it| {
        it.signal(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(100));
        it.signal(Signal::SIGTERM);
        assert_eq!(it.wait().code(), Some(130));
    });
    app.kill_and_restart();
    // What the process had begun is given up with its upload.
    app.let_time_pass("2 hours").await;
    app.sweep();
}
