//! A bucket with an untrusted TLS certificate: rejected, trusted explicitly, or not verified.

use crate::support::certificate::Certificate;
use crate::support::store_servers::moto_over_tls;
use crate::support::{StoreKind, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_refused_unless_verification_is_off() {
    let Some(app) = TestApp::start(StoreKind::Directory, &[]).await else { return };
    let Some(certificate) = Certificate::for_localhost() else { return };
    let Some((endpoint, mut server)) = moto_over_tls(&certificate.path(), &certificate.key()) else { return };
    let bucket = [
        ("WINDLASS_STORE", "s3://uploads/a"),
        ("AWS_ENDPOINT_URL", &*endpoint),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let fsck = |more: &[(&str, &str)]| {
        let checked = app.run_with(&[&bucket[..], more].concat(), &["fsck"]);
        (checked.status.success(), String::from_utf8(checked.stderr).unwrap())
    };
    let (succeeded, log) = fsck(&[]);
    assert!(!succeeded && log.contains("is not trusted") && log.contains("SSL_CERT_FILE"), "{log}");
    let file = certificate.path();
    // Creating the bucket, probing checksums and listing uploads use a second HTTP client, which must trust it, too.
    let trusted = ("SSL_CERT_FILE", file.to_str().unwrap());
    let (succeeded, log) = app.link(&[&bucket[..], &[trusted]].concat());
    assert!(succeeded, "{log}");
    let (succeeded, log) = fsck(&[trusted]);
    assert!(succeeded, "{log}");
    let (succeeded, log) = fsck(&[("AWS_ALLOW_INVALID_CERTIFICATES", "true")]);
    assert!(succeeded, "{log}");
    let plain = endpoint.replace("https://", "http://");
    let (succeeded, log) = fsck(&[("AWS_ENDPOINT_URL", &plain)]);
    assert!(!succeeded, "{log}");
    let forbidden = [("AWS_ENDPOINT_URL", &*plain), ("AWS_ALLOW_HTTP", "false")];
    assert!(fsck(&forbidden).1.contains("AWS_ALLOW_HTTP"));
    server.kill().unwrap();
    server.wait().unwrap();
}
