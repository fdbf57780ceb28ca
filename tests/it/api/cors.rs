//! `OPTIONS`, preflight requests, and the origins that may read responses.

use std::path::Path;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder};
use url::Url;

use crate::support::tcp_proxy::{Mode, TcpProxy};
use crate::support::{Answer, StoreKind, TestApp};

const PAGE: &str = "https://app.example.com";

async fn app(origins: Option<&str>) -> TestApp {
    let origins = origins.map(|it| ("WINDLASS_CORS_ORIGINS", it));
    TestApp::start(StoreKind::Directory, &[origins.unwrap_or(("WINDLASS_LEDGER_PATIENCE", "2s"))]).await.unwrap()
}

/// A request without a key.
fn request(app: &TestApp, method: &str, path: &str) -> RequestBuilder {
    reqwest::Client::new().request(method.parse().unwrap(), format!("{}{path}", app.client.address))
}

/// The preflight request that a browser sends for OpenAI's SDK in a page.
async fn preflight(app: &TestApp, origin: &str, path: &str) -> Answer {
    let request = request(app, "OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-stainless-arch,x-stainless-lang");
    Answer::from(request.send().await.unwrap()).await
}

async fn send(request: RequestBuilder) -> Answer {
    Answer::from(request.send().await.unwrap()).await
}

fn cors_headers(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).filter(|it| it.starts_with("access-control-") || *it == "vary").collect()
}

/// The members of list headers, in lower case.
fn members(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().flat_map(|it| it.to_str().unwrap().split(','));
    lines.map(|it| it.trim().to_ascii_lowercase()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn options_needs_no_key_and_lists_the_allowed_methods() {
    let app = app(None).await;
    for (path, allowed) in [
        ("/v1/uploads", &["get", "head", "post", "options"][..]),
        ("/v1/uploads/x/complete", &["post", "options"]),
        ("/v1/files/x", &["get", "head", "delete", "options"]),
        ("/openai/files/x/content", &["get", "head", "options"]),
        ("/openapi.json", &["get", "head", "options"]),
    ] {
        let answer = send(request(&app, "OPTIONS", path)).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
        assert_eq!(members(&answer.headers, "allow"), allowed, "{path}");
        assert!(answer.header("x-request-id").is_some());
        let refused = send(request(&app, "PATCH", path).bearer_auth(&app.client.key)).await;
        refused.error(405, None);
        assert_eq!(members(&refused.headers, "allow"), allowed, "{path}");
    }
    for path in ["/v1/nothing", "/v1", "/openai/v1/nothing", "/nothing"] {
        send(request(&app, "OPTIONS", path)).await.error(404, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_no_origin_is_allowed() {
    let app = app(None).await;
    let answer = preflight(&app, PAGE, "/v1/files").await;
    assert_eq!(answer.status, 204);
    assert_eq!(cors_headers(&answer.headers), [""; 0]);
    let answer = app.client.send(app.client.request(Method::GET, "/v1/files").header("origin", PAGE)).await;
    answer.ok();
    assert_eq!(cors_headers(&answer.headers), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_origin_may_send_the_requested_headers_and_read_those_that_sdks_need() {
    let app = app(Some("https://app.example.com, http://localhost:3000,null")).await;
    for page in [PAGE, "http://localhost:3000", "null"] {
        for path in ["/v1/files", "/v1/uploads/x/parts", "/openai/v1/files", "/v1/no/such/path"] {
            let answer = preflight(&app, page, path).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(page));
            assert_eq!(
                members(&answer.headers, "access-control-allow-headers"),
                ["authorization", "content-type", "x-stainless-arch", "x-stainless-lang"]
            );
            let methods = members(&answer.headers, "access-control-allow-methods");
            assert!(["get", "head", "post", "delete"].iter().all(|it| methods.contains(&(*it).to_owned())));
            assert!(answer.header("access-control-max-age").unwrap().parse::<u32>().unwrap() >= 600);
            assert!(members(&answer.headers, "vary").contains(&"origin".to_owned()));
        }
    }
    let file = app.client.file("0123456789").await;
    let download = app.client.request(Method::GET, &format!("/v1/files/{file}/content"));
    let answer = app.client.send(download.header("origin", PAGE).header("range", "bytes=2-4")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (206, &b"234"[..]));
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    let exposed = members(&answer.headers, "access-control-expose-headers");
    for name in ["x-request-id", "retry-after", "x-should-retry", "content-range", "content-disposition", "etag"] {
        assert!(exposed.contains(&name.to_owned()), "{name}: {exposed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_origin_is_not_allowed_and_responses_vary_by_origin() {
    let app = app(Some(PAGE)).await;
    for page in ["https://evil.example", "http://app.example.com", "https://app.example.com:8443", "null", "*"] {
        for answer in [
            preflight(&app, page, "/v1/files").await,
            app.client.send(app.client.request(Method::GET, "/v1/files").header("origin", page)).await,
        ] {
            assert!(answer.status.is_success());
            assert_eq!(cors_headers(&answer.headers), ["vary"], "{page}");
            assert_eq!(members(&answer.headers, "vary"), ["origin"], "{page}");
        }
    }
    let no_page = app.client.get("/v1/files").await;
    assert_eq!(members(&no_page.headers, "vary"), ["origin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_allows_every_origin() {
    let app = app(Some("*")).await;
    for page in [PAGE, "null", "https://evil.example"] {
        assert_eq!(preflight(&app, page, "/v1/files").await.header("access-control-allow-origin"), Some("*"));
        let answer = app.client.send(app.client.request(Method::GET, "/v1/files").header("origin", page)).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_cors_headers_even_before_authentication() {
    let app = app(Some(PAGE)).await;
    let mut url: Url = app.setting("DATABASE_URL").parse().unwrap();
    let postgres = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let wire = TcpProxy::to(postgres.parse().unwrap()).await;
    url.set_port(Some(wire.address.port())).unwrap();
    app.restart_with(&[("DATABASE_URL", url.as_str()), ("WINDLASS_LEDGER_PATIENCE", "2s")]);
    let shown = |answer: &Answer, status| {
        answer.error(status, None);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{status}");
        assert!(members(&answer.headers, "access-control-expose-headers").contains(&"x-request-id".to_owned()));
    };
    let page = |method: &str, path: &str| request(&app, method, path).header("origin", PAGE);
    shown(&send(page("GET", "/v1/files")).await, 401);
    shown(&send(page("GET", "/v1/files").bearer_auth("wrong")).await, 401);
    shown(&send(page("GET", "/v1/nothing").bearer_auth(&app.client.key)).await, 404);
    shown(&send(page("GET", "/nothing")).await, 404);
    shown(&send(page("PUT", "/v1/files").bearer_auth(&app.client.key)).await, 405);
    shown(&send(page("POST", "/v1/uploads").bearer_auth(&app.client.key).body("not json")).await, 400);
    wire.set(Mode::Refused);
    wire.cut();
    shown(&send(page("GET", "/v1/files").bearer_auth("unknown")).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_list_of_origins_fails_startup_with_a_hint() {
    for (origins, right) in [
        ("https://app.example.com/", "use https://app.example.com"),
        ("app.example.com", "scheme://host"),
        ("https://*.example.com", "list each origin"),
        ("*, https://app.example.com", "use it alone"),
    ] {
        let settings = [("WINDLASS_CORS_ORIGINS".to_owned(), origins.to_owned())];
        let refused = crate::support::program::command(&settings).current_dir(Path::new("/")).output().unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains("WINDLASS_CORS_ORIGINS") && text.contains(right), "{text}");
    }
}
