//! Settings of traces, most of them the standard variables of OpenTelemetry.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use actix_web::http::header::{HeaderName, HeaderValue};
use clap::{Args, ValueEnum};
use percent_encoding::percent_decode_str;
use url::Url;

/// Where traces are sent, and what.
#[derive(Debug, Args)]
pub struct TraceOptions {
    /// Where traces are sent, with OTLP over HTTP: the address of an OpenTelemetry collector, such as
    /// `http://127.0.0.1:4318`, to which `/v1/traces` is appended. If not set, there are no traces.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<OtlpEndpoint>,
    /// The protocol of the collector; no other is supported.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = "http/protobuf")]
    otlp_protocol: OtlpProtocol,
    /// Headers of the requests to the collector, such as `authorization=Bearer%20KEY`, separated by commas.
    #[arg(long, global = true, hide = true, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    otlp_headers: Option<OtlpHeaders>,
    /// A file with headers of the requests to the collector, separated by commas: `authorization=Bearer%20KEY`, with
    /// values as in a URL. They can be set in the variable OTEL_EXPORTER_OTLP_HEADERS instead, which has no flag.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_HEADERS_FILE")]
    otlp_headers_file: Option<PathBuf>,
    /// The name of this service in traces.
    #[arg(long, global = true, env = "OTEL_SERVICE_NAME", default_value = "windlass")]
    service_name: String,
    /// Which share of the requests is traced, from 0 to 1. A request with a `traceparent` is traced if that says so.
    #[arg(long, global = true, env = "WINDLASS_TRACE_RATIO", default_value = "1")]
    trace_ratio: Ratio,
}

impl TraceOptions {
    /// The settings of traces; `None` if there are none.
    pub fn traces(&self) -> Option<Traces> {
        let _ = (self.otlp_protocol, &self.otlp_headers_file);
        Some(Traces {
            endpoint: self.otlp_endpoint.clone()?,
            headers: self.otlp_headers.clone().unwrap_or_default(),
            service_name: self.service_name.clone(),
            ratio: self.trace_ratio,
        })
    }
}

/// Where traces are sent, and what.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// Headers of the requests to it.
    pub headers: OtlpHeaders,
    /// The name of this service.
    pub service_name: String,
    /// The share of the requests that is traced.
    pub ratio: Ratio,
}

/// The supported protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OtlpProtocol {
    /// Protobuf in the bodies of HTTP requests.
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// The address of a collector, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl OtlpEndpoint {
    /// The URL for traces.
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl FromStr for OtlpEndpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be an http or https address without user, query and fragment, such as \
                                http://127.0.0.1:4318; secrets belong in OTEL_EXPORTER_OTLP_HEADERS";
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_plain = url.has_host() && !has_user && url.query().is_none() && url.fragment().is_none();
        let is_web = matches!(url.scheme(), "http" | "https");
        if is_plain && is_web { Ok(Self(url.as_str().trim_end_matches('/').to_owned())) } else { Err(EXPECTED) }
    }
}

/// Headers, whose values may be secrets.
#[derive(Clone, Default)]
pub struct OtlpHeaders(HashMap<String, String>);

impl OtlpHeaders {
    /// The headers by name.
    pub fn reveal(&self) -> HashMap<String, String> {
        self.0.clone()
    }
}

impl std::fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromStr for OtlpHeaders {
    type Err = &'static str;

    /// The messages do not quote the text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be headers such as authorization=Bearer%20KEY, separated by commas";
        let header = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            HeaderValue::from_str(&value).is_ok().then(|| (name.as_str().to_owned(), value))
        };
        let pairs = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        pairs.map(header).collect::<Option<_>>().map(Self).ok_or(EXPECTED)
    }
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// The share.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio = text.parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
        ratio.map(Self).ok_or("must be a number from 0 to 1, such as 0.1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_with_encoded_values() {
        let headers: OtlpHeaders = "Authorization=Bearer%20a%2Cb, x-team = files,".parse().unwrap();
        assert_eq!(headers.0["authorization"], "Bearer a,b");
        assert_eq!((&*headers.0["x-team"], headers.0.len()), ("files", 2));
        assert!(!format!("{headers:?}").contains("Bearer"));
        for text in ["secret", "a b=c", "a=%0a", "=b"] {
            assert!(!text.parse::<OtlpHeaders>().unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_plain_address_and_a_ratio_a_share() {
        let endpoint: OtlpEndpoint = "https://collector.example.com/otlp/".parse().unwrap();
        assert_eq!(endpoint.traces(), "https://collector.example.com/otlp/v1/traces");
        for text in ["collector:4318", "grpc://a", "http://u:p@a", "http://a?key=b"] {
            assert!(text.parse::<OtlpEndpoint>().is_err(), "{text}");
        }
        assert_eq!("0.25".parse(), Ok(Ratio(0.25)));
        for text in ["-1", "1.1", "NaN", "25%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }
}
