//! Requests as raw bytes, for tests that send them in pieces or incompletely.

use serde_json::json;

use super::Client;

impl Client {
    /// The address to connect to: `host:port`.
    pub fn socket_address(&self) -> &str {
        self.address.strip_prefix("http://").unwrap()
    }

    /// A complete request.
    pub fn raw(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nContent-Type: {content_type}\r\n\r\n",
            self.key,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// A request that adds a part.
    pub fn raw_part(&self, upload: &str, data: &[u8]) -> Vec<u8> {
        let path = format!("/v1/uploads/{upload}/parts");
        self.raw(
            "POST",
            &path,
            "multipart/form-data; boundary=B",
            &form(&[("name=\"data\"; filename=\"upload\"", data)]),
        )
    }

    /// A request that creates a file from a form.
    pub fn raw_file(&self, filename: &str, data: &[u8]) -> Vec<u8> {
        let file = format!("name=\"file\"; filename=\"{filename}\"");
        let body = form(&[("name=\"purpose\"", b"user_data"), (&file, data)]);
        self.raw("POST", "/v1/files", "multipart/form-data; boundary=B", &body)
    }

    /// A request that completes an upload.
    pub fn raw_complete(&self, upload: &str, parts: &[&str]) -> Vec<u8> {
        let path = format!("/v1/uploads/{upload}/complete");
        self.raw("POST", &path, "application/json", json!({ "part_ids": parts }).to_string().as_bytes())
    }
}

/// The same request with chunked transfer encoding instead of a `Content-Length`.
pub fn chunked(request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = request.split_at(end);
    let head: String =
        std::str::from_utf8(head).unwrap().lines().filter(|it| !it.is_empty()).fold(String::new(), |head, line| {
            if line.starts_with("Content-Length") { head } else { head + line + "\r\n" }
        });
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(20) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, content) in fields {
        body.extend_from_slice(format!("--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    body
}
