//! The address under which clients reach the service.

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web::Data;
use url::Url;

use super::error::ApiError;

/// An `http` or `https` address, optionally with a path prefix, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// The error for a text that cannot be a [`PublicUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be an http or https address without user, query and fragment, such as https://files.example.com")]
pub struct BadPublicUrl;

impl FromStr for PublicUrl {
    type Err = BadPublicUrl;

    fn from_str(text: &str) -> Result<Self, BadPublicUrl> {
        let url = Url::parse(text).map_err(|_| BadPublicUrl)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host();
        let is_web = matches!(url.scheme(), "http" | "https");
        if is_plain && is_web { Ok(Self(url.as_str().trim_end_matches('/').to_owned())) } else { Err(BadPublicUrl) }
    }
}

impl PublicUrl {
    /// The configured address, or the one to which the request was sent: that of `Forwarded` or `X-Forwarded-Host` and
    /// `X-Forwarded-Proto`, which proxies set, or of `Host`. Only the caller sees it.
    ///
    /// # Errors
    /// 400 when the headers are not an address.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        if let Some(configured) = request.app_data::<Data<Self>>() {
            return Ok(configured.get_ref().clone());
        }
        let connection = request.connection_info();
        format!("{}://{}", connection.scheme(), connection.host()).parse().map_err(|_| {
            ApiError::malformed(
                "The Host or X-Forwarded-Host header is not an address, so no URL can be created. The operator can set \
                 WINDLASS_PUBLIC_URL.",
            )
        })
    }

    /// The address followed by a path that begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_plain_web_address() {
        for (text, url) in [
            ("https://files.example.com", "https://files.example.com"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("HTTPS://Example.com/windlass//", "https://example.com/windlass"),
        ] {
            assert_eq!(text.parse(), Ok(PublicUrl(url.to_owned())));
        }
        for text in
            ["", "files.example.com", "ftp://a", "https://", "https://u:p@a", "https://a?b", "https://a#b", "/a"]
        {
            assert_eq!(text.parse::<PublicUrl>(), Err(BadPublicUrl), "{text}");
        }
    }
}
