//! Bodies that are made to be hard to parse: each is stored byte for byte or refused, and none is buffered.

use futures_util::stream;
use reqwest::Body;

use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    content_that_resembles_boundaries_is_read_back_unchanged;
    a_boundary_split_at_any_byte_is_recognized;
    white_space_after_a_boundary_is_ignored;
    text_before_and_after_the_fields_is_skipped_up_to_a_limit;
    an_overlong_boundary_is_refused;
}

const BOUNDARY: &str = "0123456789abcdef0123456789abcdef";

/// Sends a form that adds a part, in pieces of `piece` bytes.
async fn send(app: &TestApp, upload: &str, form: Vec<u8>, piece: usize) -> Answer {
    let pieces: Vec<_> = form.chunks(piece).map(|it| Ok::<_, std::io::Error>(it.to_vec())).collect();
    let request = app
        .client
        .request("POST".parse().unwrap(), &format!("/v1/uploads/{upload}/parts"))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    app.client.send(request.body(Body::wrap_stream(stream::iter(pieces)))).await
}

fn form(before: &str, content: &[u8], after: &str) -> Vec<u8> {
    let head = format!("{before}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"x\"\r\n\r\n");
    [head.as_bytes(), content, after.as_bytes()].concat()
}

fn plain_form(content: &[u8]) -> Vec<u8> {
    form(&format!("--{BOUNDARY}"), content, &format!("\r\n--{BOUNDARY}--\r\n"))
}

/// Uploads content as a file of one part, and downloads it again.
async fn round_trip(app: &TestApp, content: &[u8], piece: usize) -> Vec<u8> {
    let upload = app.client.upload(content.len()).await;
    let part = crate::support::client::id(&send(app, &upload, plain_form(content), piece).await.ok());
    let file = crate::support::client::id(&app.client.complete(&upload, &[&part]).await.ok()["file"]);
    app.client.download(&file).await
}

async fn content_that_resembles_boundaries_is_read_back_unchanged(app: &TestApp) {
    let almost = format!("\r\n--{}", &BOUNDARY[..BOUNDARY.len() - 1]);
    let floods =
        ["\r", "\n", "\r\n", "\r\n-", "\r\n--", "--", &almost, &format!("{almost}\r"), &format!("--{BOUNDARY}")];
    for flood in floods {
        let content = flood.as_bytes().repeat(1_000_000 / flood.len());
        for piece in [1_460, 65_536] {
            assert!(round_trip(app, &content, piece).await == content, "{flood:?} in pieces of {piece}");
        }
    }
}

async fn a_boundary_split_at_any_byte_is_recognized(app: &TestApp) {
    let content = format!("\r\n--{}\r\n\r", &BOUNDARY[1..]);
    let form = plain_form(content.as_bytes());
    let upload = app.client.upload(content.len()).await;
    for at in 1..form.len() {
        let answer = send(app, &upload, form.clone(), at.max(form.len() - at)).await.ok();
        assert_eq!(answer["bytes"], content.len(), "split at {at}");
    }
}

async fn white_space_after_a_boundary_is_ignored(app: &TestApp) {
    let upload = app.client.upload(5).await;
    let padded = form(&format!("--{BOUNDARY} \t "), b"hello", &format!("\r\n--{BOUNDARY}--\r\n"));
    assert_eq!(send(app, &upload, padded, 1_460).await.ok()["bytes"], 5);
}

async fn text_before_and_after_the_fields_is_skipped_up_to_a_limit(app: &TestApp) {
    let upload = app.client.upload(5).await;
    let before = |bytes: usize| {
        form(&format!("{}\r\n--{BOUNDARY}", "p".repeat(bytes)), b"hello", &format!("\r\n--{BOUNDARY}--\r\n"))
    };
    let after = |bytes: usize| {
        form(&format!("--{BOUNDARY}"), b"hello", &format!("\r\n--{BOUNDARY}--\r\n{}", "e".repeat(bytes)))
    };
    for short in [before(10_000), after(10_000)] {
        assert_eq!(send(app, &upload, short, 65_536).await.ok()["bytes"], 5);
    }
    for long in [before(3_000_000), after(3_000_000)] {
        send(app, &upload, long, 65_536).await.error(400, None);
    }
}

async fn an_overlong_boundary_is_refused(app: &TestApp) {
    let upload = app.client.upload(5).await;
    for length in [201, 20_000] {
        let boundary = "b".repeat(length);
        let request = app
            .client
            .request("POST".parse().unwrap(), &format!("/v1/uploads/{upload}/parts"))
            .header("content-type", format!("multipart/form-data; boundary={boundary}"))
            .body(form(&format!("--{boundary}"), b"hello", &format!("\r\n--{boundary}--\r\n")));
        app.client.send(request).await.error(400, None);
    }
}
