//! Settings as users write them, passed to the real program.

use std::net::TcpStream;

use crate::support::program::{self, Program};
use crate::support::{cluster, eventually};

async fn settings(more: &[(&str, &str)]) -> (tempfile::TempDir, Vec<(String, String)>) {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = [
        ("DATABASE_URL", cluster::database().await.url.replace("postgres://", " postgresql://") + "\n"),
        ("WINDLASS_DATA_DIR", data_dir.path().display().to_string()),
        ("WINDLASS_DATABASE_CONNECTIONS", "2".to_owned()),
    ];
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let settings = settings.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value));
    let settings = settings.collect();
    (data_dir, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_listens_on_a_name_a_port_or_every_interface() {
    for (written, prefix, reached_at) in [
        ("localhost:0", "http://", "127.0.0.1"),
        (":0", "http://", "127.0.0.1"),
        ("0", "http://127.0.0.1:", "127.0.0.1"),
        ("0.0.0.0:0", "http://0.0.0.0:", "127.0.0.1"),
    ] {
        let (data_dir, settings) = settings(&[("WINDLASS_LISTEN", written)]).await;
        let program = Program::serve(&settings, &data_dir.path().join("log"), false);
        assert!(program.address.starts_with(prefix), "{written}: {}", program.address);
        let port: u16 = program.address.rsplit(':').next().unwrap().parse().unwrap();
        // A name may resolve to its IPv6 address first.
        let reached = TcpStream::connect((reached_at, port)).or_else(|_| TcpStream::connect(("::1", port)));
        assert!(reached.is_ok(), "{written}: {}", program.address);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_variables_count_as_unset_and_unknown_ones_are_logged() {
    let empty = [
        ("WINDLASS_STORE", ""),
        ("WINDLASS_API_KEY", ""),
        ("WINDLASS_UPLOAD_LIFETIME", " "),
        ("WINDLASS_LOG", ""),
        ("WINDLASS_LOG_FORMAT", "json\n"),
        ("WINDLASS_DATA_DIRECTORY", "/elsewhere"),
    ];
    let (data_dir, settings) = settings(&empty).await;
    let log_path = data_dir.path().join("log");
    let program = Program::serve(&settings, &log_path, true);
    assert!(program.key_line.as_ref().unwrap().contains("API key"), "no key is shown, although the variable is empty");
    let warning = "the environment variable WINDLASS_DATA_DIRECTORY is not a setting; did you mean WINDLASS_DATA_DIR?";
    eventually("the log has a warning", async || std::fs::read_to_string(&log_path).unwrap().contains(warning)).await;
}

#[test]
fn all_invalid_settings_are_reported_together_with_hints() {
    let wrong =
        [("WINDLASS_LISTEN", "localhost"), ("WINDLASS_SWEEP_INTERVAL", "30"), ("DATABASE_URL", "mysql://secret")];
    let settings = wrong.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let refused = program::run(&settings, &["migrate"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    for expected in ["WINDLASS_LISTEN is 'localhost': has no port", "write 30s", "DATABASE_URL: is not a Postgres URL"]
    {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}
