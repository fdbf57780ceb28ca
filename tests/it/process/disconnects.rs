//! Clients that disconnect at any byte and in any way: what was committed stays, everything else leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::client::id;
use crate::support::program::Program;
use crate::support::raw::chunked;
use crate::support::{TestApp, eventually, tools};

crate::on_a_directory_and_s3! {
    objects only:
    a_truncated_part_is_not_stored_and_a_complete_one_may_be;
    a_truncated_part_for_the_ledger_is_not_stored_and_a_complete_one_may_be (WINDLASS_LEDGER_PART_BYTES = "4096");
    a_truncated_file_is_not_created_and_a_complete_one_may_be;
    a_truncated_completion_changes_nothing_and_a_complete_one_may;
    a_disconnected_reader_leaves_nothing_open;
    a_form_completed_while_its_client_disconnects_is_not_reported_as_abandoned;
    many_disconnects_leak_no_task_thread_or_descriptor (WINDLASS_BUFFER_BYTES = "16777216");
}

const MIB: usize = 1024 * 1024;

/// More than two chunks of either store.
const LARGE: usize = 12 * MIB;

/// Number of concurrent clients.
const AT_ONCE: usize = 4;

/// How a client disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Shuts down its sending side and reads the response (FIN).
    HalfClose,
    /// Closes the socket (FIN, and RST in response to later data).
    Close,
    /// Resets the connection (RST).
    Reset,
}

const MANNERS: [Manner; 3] = [Manner::HalfClose, Manner::Close, Manner::Reset];

/// Sends the first bytes of a request and disconnects. Returns the status of the response, if there was one.
async fn send_and_disconnect(app: &TestApp, request: &[u8], at: usize, manner: Manner) -> Option<u16> {
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    // The service may have answered and closed already.
    socket.write_all(&request[..at]).await.ok();
    if fastrand::bool() {
        sleep(Duration::from_millis(fastrand::u64(0..10))).await;
    }
    match manner {
        Manner::HalfClose => {
            socket.shutdown().await.ok();
            let mut answer = Vec::new();
            let read = timeout(Duration::from_mins(1), socket.read_to_end(&mut answer)).await;
            read.unwrap().ok();
            return std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok();
        }
        Manner::Close => {}
        Manner::Reset => socket.set_zero_linger().unwrap(),
    }
    None
}

/// Bytes without line ends.
fn data(length: usize) -> Vec<u8> {
    let mut data = b"the quick brown fox ".repeat(length / 20 + 1);
    data.truncate(length);
    data
}

/// The positions at which a request is cut: around every line end and chunk boundary, and at random.
fn cuts(request: &[u8]) -> BTreeSet<usize> {
    let lines = request.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let chunks = [0, 1, MIB, 2 * MIB, 5 * MIB, 10 * MIB, request.len()];
    let anywhere = (0..tools::rounds()).map(|_| fastrand::usize(..request.len()));
    let around = |at: usize| [at.saturating_sub(1), at, at + 1, at + 2];
    lines.flat_map(around).chain(chunks).chain(anywhere).filter(|at| *at <= request.len()).collect()
}

/// For a small request, every cut in every manner; for a large one, the cuts from 1 MiB on, each in a random manner.
fn disconnects(request: &[u8]) -> Vec<(usize, Manner)> {
    if request.len() > MIB {
        return some_disconnects(request, MIB);
    }
    cuts(request).into_iter().flat_map(|at| MANNERS.map(|manner| (at, manner))).collect()
}

/// Every cut at or after the byte `from` in a random manner, and the end of the request in every manner.
fn some_disconnects(request: &[u8], from: usize) -> Vec<(usize, Manner)> {
    let cuts = cuts(request).into_iter().filter(|at| *at >= from);
    let mut disconnects: Vec<_> = cuts.map(|at| (at, fastrand::choice(MANNERS).unwrap())).collect();
    disconnects.extend(MANNERS.map(|manner| (request.len(), manner)));
    disconnects
}

async fn count(app: &TestApp, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(&app.pool).await.unwrap()
}

/// Waits until all work for disconnected clients has been abandoned, without moving the clock.
async fn all_is_abandoned(app: &TestApp) {
    app.no_writer_is_busy().await;
    eventually("no form is pending", async || {
        count(app, "select count(*) from upload where origin = 'form' and status = 'pending'").await == 0
    })
    .await;
}

/// Checks whether a request was done: it must have been if the response says so, and must not have been if it was not
/// sent completely.
fn is_consistent(request: &[u8], at: usize, manner: Manner, answered: Option<u16>, done: bool) {
    let whole = at == request.len();
    match (whole, manner) {
        (true, Manner::HalfClose) => assert_eq!((answered, done), (Some(200), true), "it waits for the response"),
        (true, Manner::Close | Manner::Reset) => {}
        (false, _) => {
            assert!(!done, "{at} of {} bytes, then {manner:?}", request.len());
            assert!(matches!(answered, None | Some(400 | 408)), "{answered:?} to {at} of {} bytes", request.len());
        }
    }
}

type Framing = fn(&[u8]) -> Vec<u8>;

async fn a_truncated_part_is_not_stored_and_a_complete_one_may_be(app: &TestApp) {
    let plain: Framing = <[u8]>::to_vec;
    parts_are_cut_off(app, &[(30, plain), (30, chunked), (LARGE, plain)]).await;
}

async fn a_truncated_part_for_the_ledger_is_not_stored_and_a_complete_one_may_be(app: &TestApp) {
    // Also a part that turns out to be too large for the ledger.
    parts_are_cut_off(app, &[(30, <[u8]>::to_vec), (4100, <[u8]>::to_vec)]).await;
}

async fn parts_are_cut_off(app: &TestApp, parts: &[(usize, Framing)]) {
    for &(length, framed) in parts {
        let data = data(length);
        let request = framed(&app.client.raw_part(&app.client.upload(data.len()).await, &data));
        let disconnect = async |(at, manner): (usize, Manner)| {
            let upload = app.client.upload(data.len()).await;
            let request = framed(&app.client.raw_part(&upload, &data));
            let answered = send_and_disconnect(app, &request, at, manner).await;
            (upload, at, manner, answered)
        };
        let gone: Vec<_> =
            stream::iter(disconnects(&request)).map(disconnect).buffer_unordered(AT_ONCE).collect().await;
        all_is_abandoned(app).await;
        for (upload, at, manner, answered) in gone {
            let parts = app.client.get(&format!("/v1/uploads/{upload}/parts")).await.ok()["data"].clone();
            let parts: Vec<_> = parts.as_array().unwrap().iter().map(id).collect();
            assert!(parts.len() <= 1);
            is_consistent(&request, at, manner, answered, !parts.is_empty());
            if let [part] = &*parts {
                let file = id(&app.client.complete(&upload, &[part]).await.ok()["file"]);
                assert!(app.client.download(&file).await == data);
                app.client.delete(&format!("/v1/files/{file}")).await.ok();
            }
        }
    }
}

async fn a_truncated_file_is_not_created_and_a_complete_one_may_be(app: &TestApp) {
    for data in [data(30), data(LARGE)] {
        let request = app.client.raw_file("0000", &data);
        let disconnects: Vec<_> = disconnects(&request).into_iter().enumerate().collect();
        let disconnect = async |(number, (at, manner)): (usize, (usize, Manner))| {
            let filename = format!("{number:04}");
            let answered = send_and_disconnect(app, &app.client.raw_file(&filename, &data), at, manner).await;
            (filename, at, manner, answered)
        };
        let gone: Vec<_> = stream::iter(disconnects).map(disconnect).buffer_unordered(AT_ONCE).collect().await;
        all_is_abandoned(app).await;
        let files = app.client.get("/v1/files").await.ok()["data"].clone();
        for (filename, at, manner, answered) in gone {
            let made: Vec<_> = files.as_array().unwrap().iter().filter(|it| it["filename"] == *filename).collect();
            assert!(made.len() <= 1);
            is_consistent(&request, at, manner, answered, !made.is_empty());
            for file in made {
                assert!(app.client.download(&id(file)).await == data);
                app.client.delete(&format!("/v1/files/{}", id(file))).await.ok();
            }
        }
    }
}

async fn a_truncated_completion_changes_nothing_and_a_complete_one_may(app: &TestApp) {
    let data = data(30);
    let prepare = async || {
        let upload = app.client.upload(data.len()).await;
        let part = app.client.part(&upload, &*data).await;
        (app.client.raw_complete(&upload, &[&part]), upload, part)
    };
    let (request, ..) = prepare().await;
    let disconnect = async |(at, manner): (usize, Manner)| {
        let (request, upload, part) = prepare().await;
        let answered = send_and_disconnect(app, &request, at, manner).await;
        (upload, part, at, manner, answered)
    };
    let disconnects = some_disconnects(&request, 0);
    let gone: Vec<_> = stream::iter(disconnects).map(disconnect).buffer_unordered(AT_ONCE).collect().await;
    for (upload, part, at, manner, answered) in gone {
        let status = app.client.get(&format!("/v1/uploads/{upload}")).await.ok()["status"].clone();
        is_consistent(&request, at, manner, answered, status == "completed");
        // A client that has not received the response repeats the request.
        let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
        assert_eq!(app.client.download(&file).await, data);
    }
}

/// Requests a file, reads some of the response slowly, and disconnects. Returns what was read.
async fn read_and_disconnect(app: &TestApp, file: &str, until: usize, manner: Manner) -> Vec<u8> {
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    let request = app.client.raw("GET", &format!("/v1/files/{file}/content"), "text/plain", b"");
    socket.write_all(&request).await.unwrap();
    if manner == Manner::HalfClose {
        socket.shutdown().await.unwrap();
    }
    let (mut read, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    while read.len() < until {
        let length = socket.read(&mut piece).await.unwrap();
        if length == 0 {
            break;
        }
        read.extend_from_slice(&piece[..length]);
        if fastrand::u8(..) < 8 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    if manner == Manner::Reset {
        socket.set_zero_linger().unwrap();
    }
    read
}

/// The resources that a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    /// Descriptors of files in the store.
    objects: usize,
    threads: usize,
}

impl Held {
    fn by(app: &TestApp) -> Self {
        let process = app.program(|it| format!("/proc/{}", it.pid()));
        let descriptors: Vec<_> = fs::read_dir(format!("{process}/fd"))
            .unwrap()
            // A descriptor may have been closed meanwhile.
            .filter_map(|it| fs::read_link(it.unwrap().path()).ok())
            .collect();
        Self {
            descriptors: descriptors.len(),
            objects: descriptors
                .iter()
                .filter(|it| app.store.directory().is_some_and(|root| it.starts_with(root)))
                .count(),
            threads: fs::read_dir(format!("{process}/task")).unwrap().count(),
        }
    }

    /// Waits until the process holds no object and not many more descriptors and threads than before. The number of
    /// pooled connections and idle threads may have grown by a few, whatever the number of clients.
    async fn is_not_exceeded_by(&self, app: &TestApp) {
        const A_FEW: usize = 16;
        eventually("no more resources are held than before", async || {
            let now = Self::by(app);
            now.objects == 0 && now.descriptors <= self.descriptors + A_FEW && now.threads <= self.threads + A_FEW
        })
        .await;
    }
}

async fn a_disconnected_reader_leaves_nothing_open(app: &TestApp) {
    let data = data(LARGE);
    let file = app.client.file(&*data).await;
    let read = async |(until, manner)| (manner, read_and_disconnect(app, &file, until, manner).await);
    let readers = |count| {
        let disconnects =
            (0..count).map(|_| (fastrand::usize(1..LARGE), fastrand::choice([Manner::Close, Manner::Reset]).unwrap()));
        stream::iter(disconnects.collect::<Vec<_>>()).map(read).buffer_unordered(AT_ONCE)
    };
    readers(AT_ONCE).count().await;
    let before = Held::by(app);
    readers(3 * tools::rounds()).count().await;
    before.is_not_exceeded_by(app).await;
    // A client that only shuts down its sending side receives the whole response.
    let (_, answer) = read((usize::MAX, Manner::HalfClose)).await;
    assert!(answer.ends_with(&data) && answer.len() > data.len());
}

/// The memory for bodies is so small that a dozen leaked tasks would use it up.
async fn many_disconnects_leak_no_task_thread_or_descriptor(app: &TestApp) {
    let (small, large) = (data(30), data(LARGE));
    let file = app.client.file(&*large).await;
    let disconnect = async |_| {
        let manner = fastrand::choice(MANNERS).unwrap();
        let upload = app.client.upload(30).await;
        let request = match fastrand::u8(..10) {
            0 => app.client.raw_part(&upload, &large),
            1 => app.client.raw_file("large", &large),
            2..5 => app.client.raw_part(&upload, &small),
            5..8 => app.client.raw_file("small", &small),
            8 => app.client.raw_complete(&upload, &[]),
            _ => {
                read_and_disconnect(app, &file, fastrand::usize(1..LARGE), manner).await;
                return;
            }
        };
        send_and_disconnect(app, &request, fastrand::usize(..request.len()), manner).await;
    };
    let disconnects = |count| stream::iter(0..count).map(disconnect).buffer_unordered(2 * AT_ONCE);
    disconnects(20).count().await;
    all_is_abandoned(app).await;
    let before = Held::by(app);
    disconnects(12 * tools::rounds()).count().await;
    all_is_abandoned(app).await;
    before.is_not_exceeded_by(app).await;
    let upload = app.client.upload(LARGE).await;
    let part = app.client.part(&upload, large).await;
    app.client.complete(&upload, &[&part]).await.ok();
}

async fn a_form_completed_while_its_client_disconnects_is_not_reported_as_abandoned(app: &TestApp) {
    // The completion waits for this lock, and holds the row lock for which the cancellation waits.
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("lock table file in share mode").execute(&mut *other).await.unwrap();
    let mut socket = TcpStream::connect(app.client.socket_address()).await.unwrap();
    socket.write_all(&app.client.raw_file("f", b"bytes")).await.unwrap();
    let waiting = |what: &'static str| async move {
        let waits =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
                     and query ilike '%' || $1 || '%' and pid <> pg_backend_pid()";
        eventually(what, async || {
            sqlx::query_scalar::<_, i64>(waits).bind(what).fetch_one(&app.pool).await.unwrap() == 1
        })
        .await;
    };
    waiting("not_listed").await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    waiting("update pending_upload set status = 'cancelled'").await;
    other.rollback().await.unwrap();
    eventually("the file is created", async || count(app, "select count(*) from file").await == 1).await;
    all_is_abandoned(app).await;
    app.program(|it| it.signal(nix::sys::signal::Signal::SIGTERM));
    assert!(app.program(Program::wait).success(), "the process did not shut down cleanly");
    let log = app.log();
    assert!(!log.contains("abandoned form"), "{log}");
    app.kill_and_restart();
}
