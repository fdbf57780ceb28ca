//! The origins whose web pages may use the API from a browser, as an operator lists them (the Fetch standard, 3.2).

use std::str::FromStr;

use url::Url;

/// The origins whose requests are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every origin.
    Any,
    /// These origins, each as a browser writes it in `Origin`.
    Listed(Vec<String>),
}

/// Why a text is not a list of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigins {
    /// The list is empty.
    #[error("the list is empty: specify at least one origin, such as https://app.example.com, or * for all")]
    Empty,
    /// `*` together with other origins.
    #[error("* cannot be combined with other origins: it already allows all of them, so use it alone")]
    AnyAndOthers,
    /// Something like `https://*.example.com`.
    #[error("'{0}' contains a wildcard: list each origin, or use * alone to allow all of them")]
    Wildcard(String),
    /// It has a path, a query, a fragment, or a user as well.
    #[error("'{given}' is not just an origin: use {origin}")]
    MoreThanAnOrigin {
        /// What was written.
        given: String,
        /// The part of it that is an origin.
        origin: String,
    },
    /// Anything else.
    #[error("'{0}' is not an origin: use scheme://host or scheme://host:port, such as https://app.example.com")]
    NotAnOrigin(String),
}

impl Origins {
    /// Whether pages of the origin in this `Origin` header are allowed.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|it| it == origin),
        }
    }
}

impl FromStr for Origins {
    type Err = BadOrigins;

    /// Reads a list separated by commas, white space, or both.
    fn from_str(text: &str) -> Result<Self, BadOrigins> {
        let listed: Vec<_> = text.split([',', ' ', '\t', '\r', '\n']).filter(|it| !it.is_empty()).collect();
        match listed[..] {
            [] => Err(BadOrigins::Empty),
            ["*"] => Ok(Self::Any),
            _ if listed.contains(&"*") => Err(BadOrigins::AnyAndOthers),
            _ => Ok(Self::Listed(listed.into_iter().map(origin).collect::<Result<_, _>>()?)),
        }
    }
}

/// An origin as a browser writes it: lower case, Punycode, and without the scheme's default port.
fn origin(text: &str) -> Result<String, BadOrigins> {
    // The origin of sandboxed frames and local files.
    if text == "null" {
        return Ok(text.to_owned());
    }
    if text.contains('*') {
        return Err(BadOrigins::Wildcard(text.to_owned()));
    }
    let bad = || BadOrigins::NotAnOrigin(text.to_owned());
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
        return Err(BadOrigins::MoreThanAnOrigin { given: text.to_owned(), origin });
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        match text.parse() {
            Ok(Origins::Listed(origins)) => origins,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn origins_are_kept_as_browsers_write_them() {
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
        assert_eq!("*".parse(), Ok(Origins::Any));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_would_be_right() {
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
            let refused = text.parse::<Origins>().unwrap_err().to_string();
            assert!(refused.contains(right), "{text}: {refused}");
        }
    }

    #[test]
    fn an_origin_is_allowed_when_it_is_the_same_to_the_last_character() {
        let origins: Origins = "https://app.example.com, null".parse().unwrap();
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
        assert!(Origins::Any.allow("https://evil.example") && Origins::Any.allow("null"));
    }
}
