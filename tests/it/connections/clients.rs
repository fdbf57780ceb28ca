//! Real clients receive an early response and can send their next request.

use std::fs;
use std::process::{Command, Output};

use super::peer::app;
use crate::support::{TestApp, tools};

/// httpx with a generator as the body, then the OpenAI SDK.
const PYTHON: &str = r#"
import io, sys, httpx, openai

address, key = sys.argv[1:]
wrong = {"authorization": "Bearer a-wrong-key-of-a-client", "content-type": "multipart/form-data; boundary=B"}

def body(pieces):
    for _ in range(pieces):
        yield b"x" * 65536

with httpx.Client(timeout=60) as client:
    for pieces in (1, 5, 80):
        refused = client.post(f"{address}/v1/files", content=body(pieces), headers=wrong)
        assert refused.status_code == 401, refused
        listed = client.get(f"{address}/v1/files", headers={"authorization": f"Bearer {key}"})
        assert listed.status_code == 200, listed

sdk = openai.OpenAI(base_url=f"{address}/v1", api_key="a-wrong-key-of-a-client", max_retries=0, timeout=60)
for _ in range(3):
    try:
        sdk.files.create(file=("a.bin", io.BytesIO(b"x" * 5_000_000)), purpose="user_data")
        raise SystemExit("the file was accepted")
    except openai.AuthenticationError:
        pass
"#;

/// fetch with a stream as the body, which it sends in chunks.
const NODE: &str = r"
const [address, key] = process.argv.slice(1);
const wrong = { authorization: 'Bearer a-wrong-key-of-a-client', 'content-type': 'multipart/form-data; boundary=B' };
async function* body(pieces) {
    for (let i = 0; i < pieces; i++) yield new Uint8Array(65536);
}
for (const pieces of [1, 5, 80]) {
    const stream = ReadableStream.from(body(pieces));
    const refused = await fetch(`${address}/v1/files`, { method: 'POST', headers: wrong, body: stream, duplex: 'half' });
    if (refused.status !== 401) throw new Error(`refused with ${refused.status}`);
    await refused.text();
    const listed = await fetch(`${address}/v1/files`, { headers: { authorization: `Bearer ${key}` } });
    if (listed.status !== 200) throw new Error(`listed with ${listed.status}`);
    await listed.text();
}
";

async fn run(app: &TestApp, mut command: Command) -> Output {
    command.arg(&app.client.address).arg(&app.client.key);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_receives_an_early_response_to_a_generator_body() {
    let Some(python) = tools::tool("venv2/bin/python") else { return };
    let app = app(&[]).await;
    let mut command = Command::new(python);
    command.args(["-c", PYTHON]);
    let ran = run(&app, command).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_receives_an_early_response_to_a_stream_body() {
    let Some(node) = tools::tool("node") else { return };
    let app = app(&[]).await;
    let mut command = Command::new(node);
    command.args(["--input-type=module", "-e", NODE]);
    let ran = run(&app, command).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_receives_an_early_response_and_sends_the_next_request() {
    let Some(curl) = tools::program("curl") else { return };
    let app = app(&[]).await;
    let body = app.data_dir.path().join("body");
    for bytes in [10, 400_000, 5_000_000] {
        fs::write(&body, vec![b'x'; bytes]).unwrap();
        for framing in ["transfer-encoding: chunked", "x-framing: content-length"] {
            let files = format!("{}/v1/files", app.client.address);
            let mut command = Command::new(&curl);
            command.args(["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code} "]);
            command.args(["-H", "authorization: Bearer a-wrong-key-of-a-client", "-H", framing]);
            command.args(["-H", "content-type: multipart/form-data; boundary=B"]);
            command.arg("--data-binary").arg(format!("@{}", body.display())).arg(&files);
            command.args(["--next", "-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}"]);
            command.arg("-H").arg(format!("authorization: Bearer {}", app.client.key)).arg(&files);
            let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&ran.stdout), "401 200", "{bytes} bytes, {framing}: {ran:?}");
        }
    }
}
