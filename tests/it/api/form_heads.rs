//! Headers of parts, byte for byte as known clients send them, and malformed ones.

use reqwest::Method;

use crate::support::client::id;
use crate::support::{Answer, TestApp};

crate::on_a_directory_and_s3! {
    file_names_of_known_clients_are_decoded_as_intended;
    names_in_charsets_with_byte_order_marks_or_escape_sequences_are_decoded;
    part_headers_are_parsed_as_the_rfcs_define;
    a_name_that_cannot_be_decoded_is_refused_with_the_reason;
    a_malformed_part_header_is_refused_with_the_reason;
    encoded_content_is_refused;
    several_files_in_one_field_are_refused;
    a_content_type_with_invalid_parameters_is_kept_without_them;
    a_charset_field_must_be_utf_8;
}

/// Sends a file of three bytes whose part has this header.
async fn send(app: &TestApp, head: impl AsRef<[u8]>) -> Answer {
    let body = [
        b"--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n--B\r\n",
        head.as_ref(),
        b"\r\n\r\nabc\r\n--B--\r\n",
    ]
    .concat();
    let request = app.client.request(Method::POST, "/v1/files");
    app.client.send(request.header("content-type", "multipart/form-data; boundary=B").body(body)).await
}

async fn disposition(app: &TestApp, rest: impl AsRef<[u8]>) -> Answer {
    send(app, [b"Content-Disposition: form-data; ", rest.as_ref()].concat()).await
}

#[track_caller]
fn refused(answer: &Answer, param: Option<&str>, words: &str) {
    let error = answer.error(400, param);
    assert!(error["message"].as_str().unwrap().contains(words), "'{words}' is not in {error}");
}

/// A client, the header that it sends, and the intended file name.
#[rustfmt::skip]
const CLIENTS: &[(&str, &str, &str)] = &[
    ("openai-python 3.54", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\\\b.txt\"\r\nContent-Type: text/plain", "a\\b.txt"),
    ("openai-python 3.54", "Content-Disposition: form-data; name=\"file\"; filename=\"\\\\\\\\srv\\\\x\"", "\\\\srv\\x"),
    ("openai-python 3.54", "Content-Disposition: form-data; name=\"file\"; filename=\"dir\\\\\"", "dir\\"),
    ("openai-python 3.54", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\\\%22b\"", "a\\\"b"),
    ("openai-python 3.54", "Content-Disposition: form-data; name=\"file\"; filename=\"你好.txt\"", "你好.txt"),
    ("openai-go", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\\\b.txt\"\r\nContent-Type: application/octet-stream", "a\\b.txt"),
    ("openai-go", "Content-Disposition: form-data; name=\"file\"; filename=\"say \\\"hi\\\".txt\"\r\nContent-Type: application/octet-stream", "say \"hi\".txt"),
    ("openai-node 7.57", "Content-Disposition: form-data; name=\"file\"; filename=\"dir\\\"\r\nContent-Type: application/octet-stream", "dir\\"),
    ("openai-node 7.57", "Content-Disposition: form-data; name=\"file\"; filename=\"a%22b.txt\"\r\nContent-Type: text/plain", "a\"b.txt"),
    ("a browser", "Content-Disposition: form-data; name=\"file\"; filename=\"C:\\fakepath\\x.txt\"\r\nContent-Type: text/plain", "C:\\fakepath\\x.txt"),
    ("a browser", "Content-Disposition: form-data; name=\"file\"; filename=\"\\\\server\\share\\x\"\r\nContent-Type: text/plain", "\\\\server\\share\\x"),
    ("OkHttp", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\b.txt\"\r\nContent-Type: text/plain\r\nContent-Length: 3", "a\\b.txt"),
    ("openai-dotnet", "Content-Type: text/plain\r\nContent-Disposition: form-data; name=file; filename=\"=?utf-8?B?5L2g5aW9LnR4dA==?=\"; filename*=utf-8''%E4%BD%A0%E5%A5%BD.txt", "你好.txt"),
    ("openai-dotnet", "Content-Disposition: form-data; name=file; filename=plain.txt; filename*=utf-8''plain.txt", "plain.txt"),
    ("Azure's agents SDK", "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''na%C3%AFve.txt", "naïve.txt"),
    ("Python's email", "Content-Type: text/plain\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\ncontent-disposition: form-data; name=\"file\"; filename*=utf-8''%E4%BD%A0%E5%A5%BD.txt", "你好.txt"),
    ("Python's email, folded", "Content-Disposition: form-data; name=\"file\";\r\n filename*0*=utf-8''%E4%BD%A0%E5;\r\n filename*1*=%A5%BD.txt", "你好.txt"),
    ("a mail library", "Content-Disposition: form-data; name=\"file\"; filename=\"=?UTF-8?Q?na=C3=AFve_?=\r\n =?UTF-8?Q?file.txt?=\"", "naïve file.txt"),
    ("a mail library", "Content-Disposition: form-data; name=\"file\"; filename=\"=?iso-8859-1?Q?caf=E9.txt?=\"", "café.txt"),
    ("curl 7.88", "Content-Disposition: form-data; name=\"file\"; filename=\"x\\y\"\r\nContent-Type: application/octet-stream", "x\\y"),
    ("curl 7.88 --form-escape", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\\"b\\\\c\"\r\nContent-Type: application/octet-stream", "a\"b\\c"),
    ("aiohttp", "Content-Disposition: form-data; name=\"file\"; filename=\"a\\\"b\"\r\nContent-Type: application/octet-stream", "a\"b"),
    ("async-openai", "Content-Disposition: form-data; name=\"file\"; filename=\"données.txt\"", "données.txt"),
    ("ruby-openai", "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Length: 3\r\nContent-Type: \r\nContent-Transfer-Encoding: binary", "a.txt"),
];

async fn file_names_of_known_clients_are_decoded_as_intended(app: &TestApp) {
    for (client, head, name) in CLIENTS {
        let file = send(app, head).await.ok();
        assert_eq!(file["filename"], *name, "{client}: {head:?}");
        assert_eq!(app.client.download(&id(&file)).await, b"abc", "{client}");
    }
}

async fn names_in_charsets_with_byte_order_marks_or_escape_sequences_are_decoded(app: &TestApp) {
    for (rest, name) in [
        ("filename*=utf-16''%FE%FF%4F%60", "你"),
        ("filename=\"=?utf-16?B?/v8AYQ==?=\"", "a"),
        ("filename=\"=?utf-8?B?77u/YQ==?= =?utf-8?B?77u/Yg==?=\"", "ab"),
        ("filename=\"=?iso-2022-jp?B?GyRCRnwbKEI=?= =?iso-2022-jp?B?GyRCS1wbKEI=?=\"", "日本"),
        ("filename*=iso-2022-jp''%1B$BF%7C%1B(B%1B$BK%5C%1B(B.txt", "日本.txt"),
    ] {
        let file = disposition(app, format!("name=file; {rest}")).await.ok();
        assert_eq!(file["filename"], name, "{rest}");
    }
}

async fn part_headers_are_parsed_as_the_rfcs_define(app: &TestApp) {
    for (head, name) in [
        ("CONTENT-DISPOSITION:Form-Data;FileName=a;Name=file", "a"),
        ("Content-Disposition : form-data ;\tname\t=\t\"file\" ;; filename = a.txt ;", "a.txt"),
        ("Content-Disposition:\r\n\tform-data;\r\n name=file\r\n ; filename=\"a\r\n b\"", "a b"),
        (
            "X-Name: ; name=x\r\nContent-Disposition: form-data; x=\"; name=x; filename=x\"; filename=\"a\"; name=\"file\"",
            "a",
        ),
        ("Content-Disposition: form-data; filename*=utf-8''b; name=file; filename=a", "b"),
        ("Content-Disposition: form-data; filename=a; filename*=\"UTF-8'en'b%20c\"; name=file", "b c"),
        ("Content-Disposition: form-data; name*=utf-8''file; filename=a", "a"),
        ("Content-Disposition: form-data; name=file; filename*1=\"c\"; filename*0=\"b\"; filename=a", "bc"),
        (
            "Content-Disposition: form-data; name=file; filename*1=\"?= =?utf-8?Q?c?=\"; filename*0=\"=?utf-8?Q?b\"",
            "bc",
        ),
        ("Content-Disposition: form-data; name=file; filename*0=\"a%2\"; filename*1=\"2b\"", "a\"b"),
        ("Content-Disposition: form-data; name=file", "upload"),
        ("Content-Disposition: form-data; name=file; filename=\"=?utf-8?B?\"", "=?utf-8?B?"),
    ] {
        assert_eq!(send(app, head).await.ok()["filename"], name, "{head:?}");
    }
}

async fn a_name_that_cannot_be_decoded_is_refused_with_the_reason(app: &TestApp) {
    for (rest, words) in [
        (&b"name=file; filename=\"caf\xe9.txt\""[..], "The file name cannot be read: it is not UTF-8 text"),
        (b"name=file; filename*=caf.txt", "charset'language'text"),
        (b"name=file; filename*=utf-8''caf%E9; filename=cafe", "not valid in its charset 'utf-8'"),
        (b"name=file; filename*=utf-8''100%", "'%' without two hexadecimal digits"),
        (b"name=file; filename*=klingon''a", "charset 'klingon' is not supported"),
        (b"name=file; filename=\"=?klingon?Q?a?=\"", "charset 'klingon' is not supported"),
        (b"name=file; filename=\"=?utf-8?B?a?=\"", "'=?utf-8?B?a?=' cannot be decoded"),
        (b"name=file; filename=\"=?utf-8?Q?caf=E9?=\"", "not valid in its charset 'utf-8'"),
        (b"name=file; filename*0=a; filename*2=b", "numbered consecutively from 0"),
        (
            b"name=file; filename*0*=iso-8859-1''%E9; filename*1=\"\xc3\xa9\"",
            "percent-encode every byte beyond ASCII (RFC 2231), or send it all as UTF-8",
        ),
        (b"name=file; filename*=utf-8''a%00b", "control characters, but this one has U+0000"),
        (b"name=file; filename=\"a%0D%0Ab\"", "control characters, but this one has U+000D"),
        (b"name=file; filename=\"a\tb\"", "control characters, but this one has U+0009"),
        (b"name=file; filename*=utf-8''", "cannot be empty"),
    ] {
        refused(&disposition(app, rest).await, Some("file"), words);
    }
}

async fn a_malformed_part_header_is_refused_with_the_reason(app: &TestApp) {
    for (head, words) in [
        (&b""[..], "has no Content-Disposition header"),
        (b"Content-Type: text/plain", "has no Content-Disposition header"),
        (b"Content-Disposition: attachment; name=file", "is 'attachment'; it must be 'form-data'"),
        (b"Content-Disposition: name=file; filename=a", "is 'name=file'; it must be 'form-data'"),
        (b"Content-Disposition: form-data; name=\"caf\xe9\"", "name of a field cannot be read: it is not UTF-8"),
        (b"Content-Disposition: form-data; name=file; filename=\"a", "quotes of its parameter 'filename' do not match"),
        (b"Content-Disposition: form-data; name=file; filename=\"a\"b\"", "quotes of its parameter 'filename' do not"),
        (
            b"Content-Disposition: form-data; name=file; filename=a; FILENAME=b",
            "parameter 'filename' is given more than once",
        ),
        (b"Content-Disposition: form-data; name=file; filename", "'filename' is not a parameter"),
        (
            b"Content-Disposition: form-data; name=file\r\nContent-Disposition: form-data; name=file",
            "two Content-Dispos",
        ),
        (
            b"Content-Disposition: form-data; name=file\r\nno colon",
            "'no colon' in a part's header is not of the form 'Name: value'",
        ),
        (b"Content-Disposition: form-data; name=file\nContent-Type: a", "ends in LF alone; lines must end in CRLF"),
        (b"Content-Disposition: form-data; name=file\0", "control character U+0000"),
        (b"X: \x1b[1m\r\nContent-Disposition: form-data; name=file", "control character U+001B"),
    ] {
        refused(&send(app, head).await, None, words);
    }
    refused(&disposition(app, "filename=a").await, Some(""), "Unknown parameter: ''");
    let long = |bytes: usize| format!("Content-Disposition: form-data; name=file\r\nX: {}", "x".repeat(bytes));
    send(app, long(16_000)).await.ok();
    for bytes in [17_000, 100_000] {
        refused(&send(app, long(bytes)).await, None, "part's header has more than 16384 bytes");
    }
}

async fn encoded_content_is_refused(app: &TestApp) {
    let head = |header: &str| format!("{header}\r\nContent-Disposition: form-data; name=file; filename=a");
    for (header, words) in [
        ("Content-Transfer-Encoding: base64", "'Content-Transfer-Encoding: base64'"),
        ("content-transfer-encoding:\r\n Quoted-Printable", "'Content-Transfer-Encoding: Quoted-Printable'"),
        ("Content-Transfer-Encoding: x-unknown", "'Content-Transfer-Encoding: x-unknown'"),
        ("Content-Encoding: gzip", "'Content-Encoding: gzip'"),
    ] {
        refused(&send(app, head(header)).await, Some("file"), words);
    }
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 0, "nothing was stored");
    for header in [
        "Content-Transfer-Encoding: 7bit",
        "Content-Transfer-Encoding: 8BIT",
        "Content-Transfer-Encoding: Binary",
        "Content-Encoding: identity",
        "Content-Encoding: identity, Identity",
    ] {
        send(app, head(header)).await.ok();
    }
    let upload = app.client.upload(4).await;
    let part = b"--B\r\nContent-Disposition: form-data; name=\"data\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--B--";
    let request = app.client.request(Method::POST, &format!("/v1/uploads/{upload}/parts"));
    let answer =
        app.client.send(request.header("content-type", "multipart/form-data; boundary=B").body(&part[..])).await;
    refused(&answer, Some("data"), "'Content-Transfer-Encoding: base64'");
}

async fn several_files_in_one_field_are_refused(app: &TestApp) {
    let words = "is sent as 'multipart/mixed' without a file name";
    let form_type = "multipart/form-data; boundary=B";
    let several = |name: &str, more: &str| {
        format!("Content-Disposition: form-data; name={name}{more}\r\nContent-Type: Multipart/Mixed; boundary=C")
    };
    refused(&send(app, several("file", "")).await, Some("file"), words);
    app.no_writer_is_busy().await;
    assert_eq!(app.client.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 0, "nothing was stored");
    let file = send(app, several("file", "; filename=page.mht")).await.ok();
    assert_eq!((&file["filename"], app.client.download(&id(&file)).await), (&"page.mht".into(), b"abc".to_vec()));

    let upload = app.client.upload(3).await;
    let part = async |more: &str| {
        let body = format!("--B\r\n{}\r\n\r\nabc\r\n--B--", several("data", more));
        let request = app.client.request(Method::POST, &format!("/v1/uploads/{upload}/parts"));
        app.client.send(request.header("content-type", form_type).body(body)).await
    };
    refused(&part("").await, Some("data"), words);
    part("; filename=upload").await.ok();
}

async fn a_content_type_with_invalid_parameters_is_kept_without_them(app: &TestApp) {
    let head = |sent: &str| format!("Content-Disposition: form-data; name=file; filename=a\r\nContent-Type: {sent}");
    for sent in ["text/plain; name=\"日本\"", &format!("text/plain; name={}", "x".repeat(255))] {
        send(app, head(sent)).await.ok();
    }
    for (sent, shown) in
        [("日本", "'日本'"), ("a\u{202e}b; c=d", "'a\\u{202e}b; c=d'"), ("; name=日本", "'; name=日本'")]
    {
        refused(
            &send(app, head(sent)).await,
            Some("file"),
            &format!("The content type {shown} cannot be used: a MIME"),
        );
    }
}

async fn a_charset_field_must_be_utf_8(app: &TestApp) {
    let charset = |charset: &str| {
        format!(
            "Content-Disposition: form-data; name=\"_charset_\"\r\n\r\n{charset}\r\n--B\r\nContent-Disposition: form-data; name=\"file\""
        )
    };
    send(app, charset("UTF-8")).await.ok();
    for (other, shown) in [("iso-8859-1", "iso-8859-1"), ("a\u{202e}b", "a\\u{202e}b")] {
        let words = format!("'_charset_' must be 'utf-8', but was '{shown}'.");
        refused(&send(app, charset(other)).await, Some("_charset_"), &words);
    }
}
