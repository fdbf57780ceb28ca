//! Downloads: whole, ranges, conditional requests, and missing or damaged bytes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::parts::noise;
use crate::support::audit::move_clock;
use crate::support::client::id;
use crate::support::store::object_name;
use crate::support::{Answer, TestApp};

crate::on_every_store! {
    a_download_is_an_attachment_of_plain_bytes;
    head_has_the_headers_of_get;
    ranges_across_parts_return_the_requested_bytes;
    a_range_outside_the_file_is_416;
    a_client_that_has_the_file_gets_304;
    if_range_with_another_etag_returns_the_whole_file;
    a_download_of_a_missing_object_never_looks_complete (WINDLASS_LEDGER_PART_BYTES = "0");
    a_download_of_a_large_part_is_cut_off_before_the_damaged_bytes;
    a_large_part_is_the_same_from_disk_and_from_the_page_cache;
    a_download_of_damaged_bytes_in_the_ledger_fails;
    ranges_across_ledger_and_store_return_the_requested_bytes (WINDLASS_LEDGER_PART_BYTES = "100");
    a_download_that_began_before_the_deletion_completes;
    pipelined_downloads_are_answered_in_order;
}

/// How many reads failed because an object was missing, was damaged, or the store failed.
async fn unreadable(app: &TestApp) -> [u64; 3] {
    let metrics = String::from_utf8(app.client.get("/metrics").await.body.to_vec()).unwrap();
    ["missing", "damaged", "store"].map(|reason| {
        let name = format!("windlass_objects_unreadable_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|it| it.strip_prefix(&name)).expect("it is exported").parse().unwrap()
    })
}

async fn get(app: &TestApp, file: &str, headers: &[(&str, &str)]) -> Answer {
    let request = app.client.request("GET".parse().unwrap(), &format!("/v1/files/{file}/content"));
    app.client.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn a_download_is_an_attachment_of_plain_bytes(app: &TestApp) {
    let answer = get(app, &app.client.file("<script>").await, &[]).await;
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"data.bin\""));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!((answer.header("content-length"), answer.header("accept-ranges")), (Some("8"), Some("bytes")));
}

async fn head_has_the_headers_of_get(app: &TestApp) {
    let path = format!("/v1/files/{}/content", app.client.file("0123456789").await);
    let (head, get) =
        (app.client.send(app.client.request("HEAD".parse().unwrap(), &path)).await, app.client.get(&path).await);
    assert_eq!((head.status, &*head.body), (get.status, &b""[..]));
    for name in ["content-length", "content-type", "etag", "content-disposition", "accept-ranges"] {
        assert!(head.header(name).is_some(), "{name}");
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

async fn ranges_across_parts_return_the_requested_bytes(app: &TestApp) {
    ranges_return_the_requested_bytes(app, &[100; 10]).await;
    ranges_return_the_requested_bytes(app, &[25; 40]).await;
}

async fn ranges_across_ledger_and_store_return_the_requested_bytes(app: &TestApp) {
    ranges_return_the_requested_bytes(app, &[60, 140, 50, 50, 200, 1, 1, 101, 97, 300]).await;
    let in_store = app.objects_in_the_ledger("true").await;
    assert_eq!((in_store.len(), app.store.list().await), (4, in_store));
}

/// Creates a File of a thousand bytes in Parts of these sizes, and requests ranges of it.
async fn ranges_return_the_requested_bytes(app: &TestApp, sizes: &[usize]) {
    let whole = noise(1000);
    let upload = app.client.upload(whole.len()).await;
    let (mut parts, mut rest) = (Vec::new(), &*whole);
    for size in sizes {
        let (part, later) = rest.split_at(*size);
        parts.push(app.client.part(&upload, part).await);
        rest = later;
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let file = id(&app.client.complete(&upload, &parts).await.ok()["file"]);
    let ranges = [
        ("bytes=0-0", 0..1),
        ("bytes=99-100", 99..101),
        ("bytes=100-199", 100..200),
        ("bytes=50-949", 50..950),
        ("bytes=999-", 999..1000),
        ("bytes=-1", 999..1000),
        ("bytes=-150", 850..1000),
        ("bytes=-5000", 0..1000),
        ("bytes=300-99999", 300..1000),
    ];
    for (asked, range) in ranges {
        let answer = get(app, &file, &[("range", asked)]).await;
        assert_eq!(answer.status.as_u16(), 206, "{asked}");
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes {}-{}/1000", range.start, range.end - 1)));
        assert!(answer.body == whole[range], "{asked}");
    }
    for whole_file in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=x"] {
        let answer = get(app, &file, &[("range", whole_file)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 1000), "{whole_file}");
    }
}

async fn a_range_outside_the_file_is_416(app: &TestApp) {
    let (file, empty) = (app.client.file("0123456789").await, app.client.file("").await);
    for (file, asked, range) in
        [(&file, "bytes=10-", "bytes */10"), (&file, "bytes=-0", "bytes */10"), (&empty, "bytes=0-", "bytes */0")]
    {
        let answer = get(app, file, &[("range", asked)]).await;
        answer.error(416, Some("range"));
        assert_eq!(answer.header("content-range"), Some(range));
    }
}

async fn a_client_that_has_the_file_gets_304(app: &TestApp) {
    let file = app.client.file("abc").await;
    let etag = get(app, &file, &[]).await.header("etag").unwrap().to_owned();
    for tags in [etag.clone(), format!("\"x\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
        let answer = get(app, &file, &[("if-none-match", &tags), ("range", "bytes=0-0")]).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, Some(&*etag)), "{tags}");
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    }
    assert_eq!(get(app, &file, &[("if-none-match", "\"x\"")]).await.status.as_u16(), 200);
}

async fn if_range_with_another_etag_returns_the_whole_file(app: &TestApp) {
    let file = app.client.file("0123456789").await;
    let etag = get(app, &file, &[]).await.header("etag").unwrap().to_owned();
    let part = get(app, &file, &[("range", "bytes=0-1"), ("if-range", &etag)]).await;
    assert_eq!((part.status.as_u16(), &*part.body), (206, &b"01"[..]));
    for other in ["\"x\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        let whole = get(app, &file, &[("range", "bytes=0-1"), ("if-range", other)]).await;
        assert_eq!((whole.status.as_u16(), whole.body.len()), (200, 10));
    }
}

async fn a_download_of_a_missing_object_never_looks_complete(app: &TestApp) {
    let Some(root) = app.store.directory() else { return };
    let upload = app.client.upload(6).await;
    let (a, b) = (app.client.part(&upload, "abc").await, app.client.part(&upload, "def").await);
    let file = id(&app.client.complete(&upload, &[&a, &b]).await.ok()["file"]);
    let path = root.join(object_name(&b));
    // If the download fails early, there may be no response head at all.
    let cut_off = || async {
        let request = app.client.request("GET".parse().unwrap(), &format!("/v1/files/{file}/content"));
        match request.send().await {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        }
    };
    std::fs::write(&path, "dxf").unwrap();
    assert!(cut_off().await, "a changed byte");
    std::fs::write(&path, "de").unwrap();
    assert!(cut_off().await, "a missing byte");
    std::fs::remove_file(&path).unwrap();
    assert!(cut_off().await, "a missing object");
    assert!(app.log().contains(&b), "the log does not name the object");
    assert_eq!(unreadable(app).await, [1, 2, 0]);
    std::fs::write(&path, "def").unwrap();
    assert!(!cut_off().await);

    let first = root.join(object_name(&a));
    std::fs::write(&first, "abx").unwrap();
    let error = get(app, &file, &[]).await.error(500, None);
    assert!(!error["message"].as_str().unwrap().contains("part_"), "the error shows an internal name");
    std::fs::write(&first, "abc").unwrap();
}

/// A File of one Part: its id, its bytes and the path of its object.
async fn file_of_one_part(app: &TestApp, root: &Path, length: usize) -> (String, Vec<u8>, PathBuf) {
    let whole = noise(length);
    let upload = app.client.upload(whole.len()).await;
    let part = app.client.part(&upload, whole.clone()).await;
    let file = id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    (file, whole, root.join(object_name(&part)))
}

async fn a_download_of_a_large_part_is_cut_off_before_the_damaged_bytes(app: &TestApp) {
    let Some(root) = app.store.directory() else { return };
    let (file, whole, path) = file_of_one_part(app, root, 7_000_001).await;
    let sound_bytes = || async {
        let request = app.client.request("GET".parse().unwrap(), &format!("/v1/files/{file}/content"));
        let mut answer = request.send().await.unwrap();
        let mut read = Vec::new();
        while let Some(bytes) = answer.chunk().await.ok().flatten() {
            read.extend_from_slice(&bytes);
        }
        assert!(whole.starts_with(&read), "a damaged byte was sent");
        read.len()
    };
    assert_eq!(sound_bytes().await, whole.len());
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert!((3_000_000..whole.len()).contains(&sound_bytes().await), "a changed byte");
    std::fs::write(&path, &whole[..5_000_000]).unwrap();
    assert!((3_000_000..=5_000_000).contains(&sound_bytes().await), "bytes are missing");
    assert_eq!(unreadable(app).await, [0, 2, 0]);
    assert_eq!(app.log().matches(" cannot be read: ").count(), 2);
    std::fs::write(&path, &whole).unwrap();
}

async fn a_large_part_is_the_same_from_disk_and_from_the_page_cache(app: &TestApp) {
    let Some(root) = app.store.directory() else { return };
    let (file, whole, path) = file_of_one_part(app, root, 60_000_001).await;
    for kept in [(0, 0), (0, 60_000_001), (30_000_000, 2_000_000), (2_500_000, 100_000)] {
        let object = File::open(&path).unwrap();
        object.sync_all().unwrap();
        posix_fadvise(&object, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        posix_fadvise(&object, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM).unwrap();
        let (at, length) = kept;
        object.read_exact_at(&mut vec![0; length], at).unwrap();
        assert!(app.client.download(&file).await == whole, "{length} bytes at {at} were in the page cache");
    }
}

async fn a_download_of_damaged_bytes_in_the_ledger_fails(app: &TestApp) {
    let file = app.client.file("these bytes").await;
    move_clock(&app.pool, "update part set content = 'those bytes'").await;
    get(app, &file, &[]).await.error(500, None);
    assert!(app.log().contains(" cannot be read: "));
    move_clock(&app.pool, "update part set content = null").await;
    get(app, &file, &[]).await.error(500, None);
    move_clock(&app.pool, "update part set content = 'these bytes'").await;
    assert_eq!(app.client.download(&file).await, b"these bytes");
}

async fn a_download_that_began_before_the_deletion_completes(app: &TestApp) {
    let whole = noise(30 * 1024 * 1024);
    let file = app.client.file(whole.clone()).await;
    let request = app.client.request("GET".parse().unwrap(), &format!("/v1/files/{file}/content"));
    let mut answer = request.send().await.unwrap();
    let mut read = answer.chunk().await.unwrap().unwrap().to_vec();
    app.client.delete(&format!("/v1/files/{file}")).await.ok();
    app.sweep();
    while let Some(bytes) = answer.chunk().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == whole);
}

async fn pipelined_downloads_are_answered_in_order(app: &TestApp) {
    let bodies =
        [noise(30 * 1024 * 1024), noise(10), Vec::new(), noise(200_000), noise(20_000), noise(3 * 1024 * 1024)];
    let mut asked = Vec::new();
    for body in &bodies {
        let path = format!("/v1/files/{}/content", app.client.file(body.clone()).await);
        asked.extend(app.client.raw("GET", &path, "text/plain", b""));
        asked.extend(app.client.raw("GET", "/v1/nothing", "text/plain", b""));
    }
    let mut socket = TcpStream::connect(app.client.socket_address()).unwrap();
    socket.write_all(&asked).unwrap();
    let mut next = move || {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        // Read slowly, so that the socket's buffers fill up and later responses wait in the program.
        for bytes in body.chunks_mut(1024 * 1024) {
            std::thread::sleep(Duration::from_millis(5));
            socket.read_exact(bytes).unwrap();
        }
        (head.lines().next().unwrap().to_owned(), body)
    };
    for body in &bodies {
        let (status, found) = next();
        assert!(status.ends_with("200 OK") && found == *body, "{status}, {} of {} bytes", found.len(), body.len());
        assert!(next().0.ends_with("404 Not Found"));
    }
}
