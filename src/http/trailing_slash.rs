//! Ignores a single trailing slash. Several trailing slashes, or empty segments, make a different path.

use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;

/// Removes a single trailing slash from the path of the request.
pub fn removed(mut request: ServiceRequest) -> ServiceRequest {
    if let Some(uri) = without_slash(request.uri()) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    request
}

/// The URI without the slash; `None` if there is none to remove.
fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|it| !it.is_empty() && !it.ends_with('/'))?;
    let shorter = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(shorter.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_is_removed_and_nothing_else() {
        let table = [
            ("/v1/files/", "/v1/files"),
            ("/v1/files/?after=a/", "/v1/files?after=a/"),
            ("/livez/?", "/livez?"),
            ("http://host:1/v1/files/?a", "http://host:1/v1/files?a"),
        ];
        for (written, expected) in table {
            assert_eq!(without_slash(&written.parse().unwrap()).map(|it| it.to_string()).as_deref(), Some(expected));
        }
        for kept in ["/", "//", "/v1/files", "/v1/files//", "/v1//files", "/v1/files?after=/", "/v1/files%2F", "*"] {
            assert_eq!(without_slash(&kept.parse().unwrap()), None, "{kept}");
        }
    }
}
