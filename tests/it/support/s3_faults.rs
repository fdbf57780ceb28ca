//! A fault-injecting proxy in front of a real S3 server. Requests are forwarded unchanged, including their signatures,
//! unless a rule applies. It also acts as a plain HTTP proxy, to that server only.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::stream;

/// A fault to inject.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Responds with this status and S3 error code, without forwarding the request.
    Refuses(u16, &'static str),
    /// Forwards the request, and responds with a 500.
    DoesItAndFails,
    /// Responds with 200 and an error in the body, without forwarding the request.
    FailsWith200,
    /// Deletes nothing, and responds with 200 and an `InternalError` for each object.
    DeletesNothing,
    /// Deletes nothing, and responds with 200 and an `AccessDenied` for each object.
    Locks,
    /// Responds with a failure to delete an object that was not in the request.
    NamesAnother,
    /// Responds with 200 and this body, without forwarding the request.
    Answers(&'static str),
    /// Delays the request.
    IsLate(Duration),
    /// Changes the first byte of the request's body.
    FlipsASentByte,
    /// Changes the first byte of the response's body.
    FlipsAByte,
    /// Removes the last byte of the response's body, with a matching length.
    LosesAByte,
    /// Inserts a byte at the beginning of the response's body, with a matching length.
    GainsAByte,
}

/// A fault, and the requests to which it applies.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub method: &'static str,
    /// A substring of the path and query.
    pub about: &'static str,
    /// Number of matching requests that are forwarded unchanged before the fault applies.
    pub after: usize,
    /// Number of requests to which the fault applies.
    pub times: usize,
    pub fault: Fault,
}

/// The running proxy.
pub struct FaultyS3 {
    pub endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    rules: Mutex<Vec<Rule>>,
    /// The `x-amz-content-sha256` header of the last PUT.
    digest: Mutex<String>,
    http: reqwest::Client,
}

impl FaultyS3 {
    /// Starts a proxy in front of an endpoint. It runs until this process ends.
    pub fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (target, http) = (target.to_owned(), reqwest::Client::new());
        let shared = Arc::new(Shared { target, rules: Mutex::default(), digest: Mutex::default(), http });
        let (data, (ready, begun)) = (Data::from(Arc::clone(&shared)), mpsc::channel());
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let app = move || {
                    let any_size = PayloadConfig::new(usize::MAX);
                    App::new().app_data(data.clone()).app_data(any_size).default_service(web::to(pass_on))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run();
                ready.send(()).unwrap();
                server.await.unwrap();
            });
        });
        begun.recv().unwrap();
        Self { endpoint, shared }
    }

    /// Whether the body of the last PUT was signed.
    pub fn were_signed(&self) -> bool {
        let digest = self.shared.digest.lock().unwrap();
        assert!(!digest.is_empty(), "nothing was sent");
        *digest != "UNSIGNED-PAYLOAD"
    }

    /// Replaces all rules with this one.
    pub fn set(&self, rule: Rule) {
        *self.shared.rules.lock().unwrap() = vec![rule];
    }

    /// Adds a rule to the current ones.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().unwrap().push(rule);
    }

    /// Whether every rule has applied as often as it can.
    pub fn is_used_up(&self) -> bool {
        is_used_up(&self.shared.rules.lock().unwrap())
    }

    /// How many more times the rules can apply.
    pub fn times_left(&self) -> usize {
        self.shared.rules.lock().unwrap().iter().map(|it| it.times).sum()
    }

    /// Removes all rules. Returns whether each had applied as often as it could.
    pub fn heal(&self) -> bool {
        is_used_up(&std::mem::take(&mut *self.shared.rules.lock().unwrap()))
    }
}

fn is_used_up(rules: &[Rule]) -> bool {
    rules.iter().all(|it| it.times == 0)
}

impl Shared {
    /// The fault for this request, if any. Updates the counters of the rule.
    fn fault(&self, request: &HttpRequest) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let uri = request.uri().to_string();
        let rule =
            rules.iter_mut().find(|it| request.method() == it.method && uri.contains(it.about) && it.times > 0)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }
}

async fn pass_on(shared: Data<Shared>, request: HttpRequest, mut body: Bytes) -> HttpResponse {
    if let Some(digest) = request.headers().get("x-amz-content-sha256").filter(|_| request.method() == "PUT") {
        digest.to_str().unwrap().clone_into(&mut shared.digest.lock().unwrap());
    }
    if request.method() == "PUT" && !request.headers().contains_key("content-length") {
        return error(StatusCode::LENGTH_REQUIRED, "MissingContentLength");
    }
    let fault = shared.fault(&request);
    match fault {
        Some(Fault::Refuses(status, code)) => return error(StatusCode::from_u16(status).unwrap(), code),
        Some(Fault::FailsWith200) => return error(StatusCode::OK, "InternalError"),
        Some(Fault::DeletesNothing) => return deletes_nothing(&String::from_utf8_lossy(&body), "InternalError"),
        Some(Fault::Locks) => return deletes_nothing(&String::from_utf8_lossy(&body), "AccessDenied"),
        Some(Fault::NamesAnother) => return deletes_nothing("<Key>another</Key>", "AccessDenied"),
        Some(Fault::Answers(body)) => return HttpResponse::Ok().content_type("application/xml").body(body),
        Some(Fault::IsLate(by)) => actix_web::rt::time::sleep(by).await,
        Some(Fault::FlipsASentByte) => body = [&[body[0] ^ 1], &body[1..]].concat().into(),
        Some(Fault::DoesItAndFails | Fault::FlipsAByte | Fault::LosesAByte | Fault::GainsAByte) | None => {}
    }
    // A request to a proxy has an absolute URI: drop its host.
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let url = format!("{}{path}", shared.target);
    let mut passed = shared.http.request(request.method().as_str().parse().unwrap(), url).body(body);
    for (name, value) in request.headers() {
        if name != "connection" && name != "content-length" {
            passed = passed.header(name.as_str(), value.as_bytes());
        }
    }
    let answer = passed.send().await.unwrap();
    let mut response = HttpResponse::build(StatusCode::from_u16(answer.status().as_u16()).unwrap());
    for (name, value) in answer.headers() {
        if !["connection", "transfer-encoding", "content-length"].contains(&name.as_str()) {
            response.append_header((name.as_str(), value.as_bytes()));
        }
    }
    let length = answer.headers().get("content-length").and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    let is_head = request.method() == "HEAD";
    let mut body = answer.bytes().await.unwrap().to_vec();
    match fault {
        Some(Fault::DoesItAndFails) => return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::FlipsAByte) => body[0] ^= 1,
        Some(Fault::LosesAByte) => drop(body.pop()),
        Some(Fault::GainsAByte) => body.insert(0, b'x'),
        Some(_) | None => {}
    }
    match length {
        Some(length) if is_head => {
            response.body(SizedStream::new(length, stream::empty::<Result<Bytes, Infallible>>()))
        }
        Some(_) | None => response.body(body),
    }
}

fn error(status: StatusCode, code: &str) -> HttpResponse {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault</Message></Error>"
    );
    HttpResponse::build(status).content_type("application/xml").body(body)
}

/// A `DeleteObjects` response that reports a failure for every object in the request.
fn deletes_nothing(request: &str, code: &str) -> HttpResponse {
    let keys = request.split("<Key>").skip(1).map(|it| it.split("</Key>").next().unwrap());
    let errors: Vec<_> = keys
        .map(|key| format!("<Error><Key>{key}</Key><Code>{code}</Code><Message>a fault</Message></Error>"))
        .collect();
    HttpResponse::Ok().content_type("application/xml").body(format!("<DeleteResult>{}</DeleteResult>", errors.concat()))
}
