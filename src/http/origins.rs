//! Parses and matches the origins that may use the API from a browser (Fetch standard, section 3.2).

use std::str::FromStr;

use url::Url;

/// The origins whose requests are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every origin.
    Any,
    /// These origins, each in the format that browsers send in `Origin`.
    Listed(Vec<String>),
}

/// The error for a text that is not a list of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCorsOrigins {
    /// The list is empty.
    #[error("the list is empty: specify at least one origin, such as https://app.example.com, or * for all")]
    Empty,
    /// `*` is combined with other origins.
    #[error("* cannot be combined with other origins: it already allows all of them, so use it alone")]
    AnyAndOthers,
    /// An origin contains a wildcard, as in `https://*.example.com`.
    #[error("'{0}' contains a wildcard: list each origin, or use * alone to allow all of them")]
    Wildcard(String),
    /// A URL with a path, a query, a fragment or user information.
    #[error("'{given}' is not just an origin: use {origin}")]
    MoreThanAnOrigin {
        /// The text of the list entry.
        given: String,
        /// The origin in it.
        origin: String,
    },
    /// Any other text that is not an origin.
    #[error("'{0}' is not an origin: use scheme://host or scheme://host:port, such as https://app.example.com")]
    NotAnOrigin(String),
}

impl CorsOrigins {
    /// Whether pages of `origin`, the value of an `Origin` header, are allowed.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|it| it == origin),
        }
    }
}

impl FromStr for CorsOrigins {
    type Err = BadCorsOrigins;

    /// Parses a list separated by commas, white space, or both.
    fn from_str(text: &str) -> Result<Self, BadCorsOrigins> {
        let listed: Vec<_> = text.split([',', ' ', '\t', '\r', '\n']).filter(|it| !it.is_empty()).collect();
        match listed[..] {
            [] => Err(BadCorsOrigins::Empty),
            ["*"] => Ok(Self::Any),
            _ if listed.contains(&"*") => Err(BadCorsOrigins::AnyAndOthers),
            _ => Ok(Self::Listed(listed.into_iter().map(origin).collect::<Result<_, _>>()?)),
        }
    }
}

/// Normalizes an origin to the format of browsers: lower case, Punycode, and without the scheme's default port.
fn origin(text: &str) -> Result<String, BadCorsOrigins> {
    // The origin of sandboxed frames and local files.
    if text == "null" {
        return Ok(text.to_owned());
    }
    if text.contains('*') {
        return Err(BadCorsOrigins::Wildcard(text.to_owned()));
    }
    let bad = || BadCorsOrigins::NotAnOrigin(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().filter(|it| !it.is_empty()).ok_or_else(bad)?;
    // Only web schemes have an origin in the URL standard; browser extensions and desktop shells use others.
    let origin = match (url.origin(), url.port()) {
        (origin, _) if origin.is_tuple() => origin.ascii_serialization(),
        (_, Some(port)) => format!("{}://{host}:{port}", url.scheme()),
        (_, None) => format!("{}://{host}", url.scheme()),
    };
    let (_, authority) = text.split_once("://").ok_or_else(bad)?;
    if authority.contains(['/', '\\', '?', '#', '@']) {
        return Err(BadCorsOrigins::MoreThanAnOrigin { given: text.to_owned(), origin });
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        match text.parse() {
            Ok(CorsOrigins::Listed(origins)) => origins,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn origins_are_normalized_to_the_format_of_browsers() {
        for (text, expected) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.COM", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://münchen.example", "https://xn--mnchen-3ya.example"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
            ("tauri://localhost", "tauri://localhost"),
            ("null", "null"),
        ] {
            assert_eq!(listed(text), [expected], "{text}");
        }
        let both = ["https://a.example", "https://b.example"];
        for text in ["https://a.example,https://b.example", " https://a.example ,\n https://b.example, "] {
            assert_eq!(listed(text), both, "{text:?}");
        }
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
    }

    #[test]
    fn an_invalid_origin_is_refused_with_a_hint() {
        for (text, right) in [
            ("", "https://app.example.com"),
            (" , ", "https://app.example.com"),
            ("app.example.com", "scheme://host"),
            ("localhost:3000", "scheme://host"),
            ("https://", "scheme://host"),
            ("https:app", "scheme://host"),
            ("file:///home/page.html", "scheme://host"),
            ("true", "scheme://host"),
            ("https://app.example.com/", "use https://app.example.com"),
            ("https://app.example.com:8443/path?query#fragment", "use https://app.example.com:8443"),
            ("https://user:password@app.example.com", "use https://app.example.com"),
            ("https://*.example.com", "list each origin"),
            ("*,https://app.example.com", "use it alone"),
            ("https://app.example.com:99999", "scheme://host"),
        ] {
            let refused = text.parse::<CorsOrigins>().unwrap_err().to_string();
            assert!(refused.contains(right), "{text}: {refused}");
        }
    }

    #[test]
    fn an_origin_is_allowed_only_if_it_matches_exactly() {
        let origins: CorsOrigins = "https://app.example.com, null".parse().unwrap();
        assert!(origins.allow("https://app.example.com") && origins.allow("null"));
        for other in [
            "",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example/https://app.example.com",
            "https://sub.app.example.com",
        ] {
            assert!(!origins.allow(other), "{other}");
        }
        assert!(CorsOrigins::Any.allow("https://evil.example") && CorsOrigins::Any.allow("null"));
    }
}
