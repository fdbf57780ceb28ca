//! The API key of a request.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use windlass_engine::model::ApiKey;

use super::error::ApiError;

/// Header in which clients of Azure OpenAI send the key.
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Extracts the key of a request. Several headers may carry it, but they must agree: otherwise a proxy in front of this
/// service might authenticate a different key.
///
/// # Errors
/// 401 when there is no key, the headers do not agree, or the text cannot be a key.
pub fn of(headers: &HeaderMap) -> Result<ApiKey, ApiError> {
    let bearers = headers.get_all(AUTHORIZATION).map(bearer);
    let plain = headers.get_all(API_KEY).map(|it| it.to_str().ok().map(str::trim).filter(|it| !it.is_empty()));
    let mut keys = bearers.chain(plain);
    let key = keys.next().ok_or_else(ApiError::no_key)?;
    if keys.any(|it| it != key) {
        return Err(ApiError::different_keys());
    }
    let key = key.ok_or_else(ApiError::no_key)?;
    ApiKey::try_from(key.to_owned()).map_err(|_| ApiError::wrong_key())
}

fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, key) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(HeaderName, &str)]) -> Result<String, String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        of(&headers.collect()).map(|it| it.reveal().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_may_be_in_either_header_or_in_both() {
        for headers in [
            &[(AUTHORIZATION, "Bearer key")][..],
            &[(AUTHORIZATION, "bearer   key ")],
            &[(API_KEY, "key")],
            &[(API_KEY, " key ")],
            &[(API_KEY, "key"), (AUTHORIZATION, "Bearer key")],
            &[(API_KEY, "key"), (API_KEY, "key")],
        ] {
            assert_eq!(read(headers).as_deref(), Ok("key"), "{headers:?}");
        }
    }

    #[test]
    fn conflicting_or_missing_keys_are_refused() {
        for headers in [
            &[(AUTHORIZATION, "Bearer key"), (API_KEY, "other")][..],
            &[(AUTHORIZATION, "Bearer key"), (API_KEY, "")],
            &[(AUTHORIZATION, "Basic dXNlcjpwYXNz"), (API_KEY, "key")],
            &[(AUTHORIZATION, "Bearer key"), (AUTHORIZATION, "Bearer other")],
            &[(API_KEY, "key"), (API_KEY, "key2")],
        ] {
            let refused = read(headers).unwrap_err();
            assert!(refused.contains("must carry the same key"), "{headers:?}: {refused}");
        }
        for headers in [&[][..], &[(AUTHORIZATION, "key")], &[(AUTHORIZATION, "Basic key")], &[(API_KEY, " ")]] {
            let refused = read(headers).unwrap_err();
            assert!(refused.contains("didn't provide"), "{headers:?}: {refused}");
        }
    }
}
