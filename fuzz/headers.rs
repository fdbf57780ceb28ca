//! Parses the `Range` and `Authorization` headers as the API does and with simple references. The results must agree.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use windlass::http::{api_key, range};
use windlass_engine::ByteRange;

/// Size of the file that a range is resolved for.
const SIZE: u64 = 100;

/// What the headers with one value mean.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// The bytes that a download of [`SIZE`] bytes sends: `None` for all, an empty range for 416.
    pub range: Option<std::ops::Range<u64>>,
    /// The key.
    pub key: Option<String>,
}

/// Parses a header value; `None` if HTTP does not permit it.
///
/// # Panics
/// If a result differs from the reference.
pub fn check(value: &[u8]) -> Option<Reading> {
    let header = HeaderValue::from_bytes(value).ok()?;
    let headers: HeaderMap = [(RANGE, header.clone()), (AUTHORIZATION, header)].into_iter().collect();
    let range = range::requested(&headers, "\"file\"").map(within);
    let text = std::str::from_utf8(value).ok().filter(|it| it.bytes().all(|b| b == b'\t' || (b' '..0x7f).contains(&b)));
    assert_eq!(range, text.and_then(expected_range), "{value:?}");

    let key = api_key::of(&headers).ok().map(|it| it.reveal().to_owned());
    if let Some(key) = &key {
        let (scheme, rest) = text.and_then(|it| it.split_once(' ')).expect("a scheme and a key");
        assert_eq!((scheme.to_lowercase().as_str(), rest.trim()), ("bearer", &**key));
    }
    Some(Reading { range, key })
}

fn within(range: ByteRange) -> std::ops::Range<u64> {
    range.within(SIZE).unwrap_or_default()
}

/// By the grammar of RFC 9110, section 14.1.1, with white space where the parser permits it.
fn expected_range(value: &str) -> Option<std::ops::Range<u64>> {
    let value = value.trim();
    let unit = value.get(..6)?;
    if unit.to_lowercase() != "bytes=" {
        return None;
    }
    let numbers: Vec<_> = value[6..].splitn(2, '-').map(str::trim).collect();
    let [first, last] = numbers[..] else { return None };
    if !format!("{first}{last}").chars().all(|it| it.is_ascii_digit()) || first.len() + last.len() == 0 {
        return None;
    }
    // Longer numbers are beyond the end as well.
    let number = |digits: &str| {
        digits.chars().fold(0_u128, |sum, digit| (sum * 10 + u128::from(digit as u8 - b'0')).min(u64::MAX.into()))
    };
    let size = u128::from(SIZE);
    let (begin, end) = match (first, last) {
        ("", count) => (size - number(count).min(size), size),
        (first, "") => (number(first), size),
        (first, last) if number(first) > number(last) => return None,
        (first, last) => (number(first), (number(last) + 1).min(size)),
    };
    let narrow = |it| u64::try_from(it).unwrap();
    Some(if begin < end { narrow(begin)..narrow(end) } else { 0..0 })
}
