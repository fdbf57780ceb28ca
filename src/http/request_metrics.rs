//! Metrics of requests: how many of each operation are in flight and were served with which status, how long they took,
//! and how many bytes were received and sent.

use std::time::Duration;

use actix_web::http::Method;
use metrics::{counter, gauge, histogram};

use super::PREFIXES;

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight;

impl InFlight {
    /// Begins to count a request.
    pub fn begin() -> Self {
        gauge!("windlass_http_requests_in_flight").increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!("windlass_http_requests_in_flight").decrement(1);
    }
}

/// What a request was, as labels with few distinct values, whatever clients send.
#[derive(Debug)]
pub struct Operation {
    method: &'static str,
    route: String,
}

impl Operation {
    /// The operation of a route's pattern; `None` for a request that matches none. Its prefix is always `/v1`.
    pub fn new(method: &Method, pattern: Option<&str>) -> Self {
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
        let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
        let method = known.iter().position(|it| it == method).map_or("other", |at| methods[at]);
        let route = pattern.map_or_else(
            || "none".to_owned(),
            |pattern| {
                let path = PREFIXES.iter().find_map(|prefix| pattern.strip_prefix(prefix));
                path.map_or_else(|| pattern.to_owned(), |path| format!("{}{path}", PREFIXES[0]))
            },
        );
        Self { method, route }
    }

    /// The method and the route.
    pub fn names(&self) -> (&'static str, &str) {
        (self.method, &self.route)
    }

    /// Records a request. `status` is `aborted` if the client disconnected before the end of the response.
    pub fn record(self, status: &str, duration: Duration, bytes_in: u64, bytes_out: u64) {
        let Self { method, route } = self;
        let labels = [("method", method.to_owned()), ("route", route)];
        histogram!("windlass_http_request_duration_seconds", &labels).record(duration);
        counter!("windlass_http_request_body_bytes_total", &labels).increment(bytes_in);
        counter!("windlass_http_response_body_bytes_total", &labels).increment(bytes_out);
        let [method, route] = labels;
        let labels = [method, route, ("status", status.to_owned())];
        counter!("windlass_http_requests_total", &labels).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_few_distinct_labels() {
        for (pattern, route) in [
            (Some("/openai/v1/files/{id}"), "/v1/files/{id}"),
            (Some("/openai/files/{id}"), "/v1/files/{id}"),
            (Some("/v1/files"), "/v1/files"),
            (Some("/metrics"), "/metrics"),
            (None, "none"),
        ] {
            assert_eq!(Operation::new(&Method::GET, pattern).route, route);
        }
        let made_up = Method::from_bytes(b"MADE-UP").unwrap();
        assert_eq!(Operation::new(&made_up, None).method, "other");
    }
}
