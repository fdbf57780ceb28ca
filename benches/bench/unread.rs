//! Clients that do not read their responses, or stop in the middle of their bodies: how much memory the program holds
//! for them.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Executor as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use crate::ingest::{BODY, random_body};
use crate::process::{peak_mib, reset_peak, resident_mib};
use crate::support::StoreKind;
use crate::table::Table;
use crate::windlass::{KEY, Windlass, id};

const LISTS: usize = 150;
const BODIES: usize = 1500;
const DOWNLOADS: usize = 300;

/// Long enough for all read-ahead to finish, and for waiting requests to be rejected.
const HELD_FOR: Duration = Duration::from_secs(25);

/// Runs this part and prints its table.
pub fn run() {
    let runtime = Runtime::new().unwrap();
    println!("clients that stop: the memory of the program, in MiB, within {HELD_FOR:?}");
    let mut table = Table::new(&["", "before", "peak"]);
    let windlass = runtime.block_on(Windlass::start(StoreKind::Directory, &[])).unwrap();
    let insert = "insert into upload (id, project_id, origin, filename, purpose, mime_type, bytes, expires_at)
         select gen_random_uuid(), project.id, 'client', repeat('🦀', 512), 'user_data', repeat('t', 255), n,
                now() + interval '1 hour'
         from project, generate_series(1, 10000) n";
    runtime.block_on(windlass.pool.execute(insert)).unwrap();
    let list = head("GET /v1/uploads", "");
    let peaks = runtime.block_on(held(&windlass, LISTS, list.as_bytes()));
    table.row(&format!("{LISTS} unread lists of 10,000 uploads with the longest names"), &peaks);

    let body = head(&format!("POST /v1/uploads/upload_{:032x}/complete", 1), "content-length: 1048576\r\n")
        + &" ".repeat(1_000_000);
    let peaks = runtime.block_on(held(&windlass, BODIES, body.as_bytes()));
    table.row(&format!("{BODIES} JSON bodies of 1 MiB without their ends"), &peaks);
    drop(windlass);

    if let Some(windlass) = runtime.block_on(Windlass::start(StoreKind::Bucket, &[])) {
        let (mut client, body) = (windlass.client(), random_body());
        let upload = client.upload(2 * BODY);
        let parts = [(); 2].map(|()| client.part(&upload, &body));
        let file = id(&client.complete(&upload, &parts, None));
        let download = head(&format!("GET /v1/files/{file}/content"), "");
        let peaks = runtime.block_on(held(&windlass, DOWNLOADS, download.as_bytes()));
        table.row(&format!("{DOWNLOADS} unread downloads of 128 MiB from SeaweedFS"), &peaks);
    }
    table.print();
}

fn head(start: &str, headers: &str) -> String {
    format!("{start} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{headers}\r\n")
}

/// The memory in MiB before, and its peak while `clients` clients have sent these bytes and do nothing else.
async fn held(windlass: &Windlass, clients: usize, sent: &[u8]) -> [String; 2] {
    let before = resident_mib(windlass.pid());
    reset_peak(windlass.pid());
    let clients = (0..clients).map(async |_| {
        let mut connection = connection(windlass.address()).await;
        // A client that is rejected early may not be able to send all of it.
        tokio::time::timeout(HELD_FOR, connection.write_all(sent)).await.ok();
        connection
    });
    let clients = join_all(clients).await;
    tokio::time::sleep(HELD_FOR).await;
    let peak = peak_mib(windlass.pid());
    drop(clients);
    [before, peak].map(|it| it.to_string())
}

/// A connection with a small receive buffer, so that the server can send little that is not read.
async fn connection(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address.trim_start_matches("http://").parse().unwrap()).await.unwrap()
}
