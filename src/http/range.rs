//! The byte range of a download (RFC 9110, section 14).

use actix_web::http::header::{HeaderMap, HeaderName, IF_RANGE, RANGE};
use windlass_engine::ByteRange;

/// The requested range. `None`, for the whole File, if there is no range, several or an invalid one, or if `If-Range`
/// does not match.
pub fn requested(headers: &HeaderMap, etag: &str) -> Option<ByteRange> {
    if text(headers, &IF_RANGE).is_some_and(|it| it.trim() != etag) {
        return None;
    }
    let (unit, range) = text(headers, &RANGE)?.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", "") => None,
        ("", count) => Some(ByteRange::Last(number(count)?)),
        (first, "") => Some(ByteRange::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::From(first, Some(last)))
        }
    }
}

/// A number that does not fit is beyond the end of every File.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn range(header: &str) -> Option<ByteRange> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(header).unwrap());
        requested(&headers, "\"x\"")
    }

    #[test]
    fn a_single_byte_range_is_parsed_and_anything_else_means_the_whole_file() {
        assert_eq!(range("bytes=0-0"), Some(ByteRange::From(0, Some(0))));
        assert_eq!(range("bytes=5-"), Some(ByteRange::From(5, None)));
        assert_eq!(range("bytes=-5"), Some(ByteRange::Last(5)));
        assert_eq!(range("Bytes=-5"), Some(ByteRange::Last(5)));
        assert_eq!(range("bytes=5-99999999999999999999999"), Some(ByteRange::From(5, Some(u64::MAX))));
        for whole in ["bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "0-1"] {
            assert_eq!(range(whole), None, "{whole}");
        }
    }
}
