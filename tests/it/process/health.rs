//! `windlass health`, against the real service and against servers that respond otherwise.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;

use crate::support::program::{self, Program};
use crate::support::{StoreKind, TestApp};

/// Runs `windlass health` for a service on this address.
fn health(listen: &str, arguments: &[&str]) -> Output {
    program::run(&[("WINDLASS_LISTEN".to_owned(), listen.to_owned())], &[&["health"], arguments].concat())
}

/// What it printed to standard error, if its exit status is 1.
fn complaint(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_is_healthy_and_a_killed_one_is_not() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let listen = app.client.address.replace("http://", "");
    let port = listen.rsplit(':').next().unwrap();
    for listen in [&listen, &format!("0.0.0.0:{port}"), &format!(":{port}"), &format!("localhost:{port}"), port] {
        for arguments in [&[][..], &["--ready"]] {
            let output = health(listen, arguments);
            assert!(output.status.success(), "{listen}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    app.program(Program::kill);
    assert!(complaint(health(&listen, &[])).contains(&format!("no response from http://{listen}/livez")));
    assert!(complaint(health(&listen, &["--ready"])).contains("/readyz"));
}

#[test]
fn only_a_response_of_200_is_healthy() {
    let table: [(&str, Option<&str>); 7] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.0 200 OK\r\n\r\n", None),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\nthe store does not respond", Some("the store does not respond")),
        ("HTTP/1.1 2000\r\n\r\n", Some("returned 2000")),
        ("HTTP/1.1\r\n\r\n", Some("returned")),
        ("SSH-2.0-OpenSSH_9.2 200 \r\n", Some("no response")),
        ("", Some("no response")),
    ];
    for (response, expected) in table {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = server.local_addr().unwrap().to_string();
        let answering = std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut request = [0; 1024];
            let length = client.read(&mut request).unwrap();
            client.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let output = health(&listen, &[]);
        assert!(answering.join().unwrap().starts_with("GET /livez HTTP/1.0\r\n"), "{response}");
        match expected {
            None => assert!(output.status.success(), "{response}"),
            Some(expected) => assert!(complaint(output).contains(expected), "{response}"),
        }
    }
}

#[test]
fn a_service_that_accepts_and_never_responds_is_not_healthy() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = server.local_addr().unwrap().to_string();
    assert!(complaint(health(&listen, &[])).contains("no response"));
}

#[test]
fn an_address_without_a_fixed_port_cannot_be_checked() {
    assert!(complaint(health("127.0.0.1:0", &[])).contains("set WINDLASS_LISTEN to the address of the service"));
}
