//! Parsers for setting values: sizes, durations and validated strings.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use windlass_engine::db;
use windlass_engine::model::{ApiKey, LimitSetting, NotANewKey};
use windlass_types::{ByteCount, is_invisible};

/// The largest number of bytes that the ledger can represent.
pub const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

/// The longest name of a key, in characters.
const MOST_NAME_CHARS: usize = 200;

/// The longest accepted duration; adding a longer one to a timestamp may overflow.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Returns a parser for byte counts within `range`, with or without a unit: k, M and G are powers of 1000; Ki, Mi and
/// Gi are powers of 1024. An optional B may follow. Case is ignored.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<ByteCount, String> + Clone + Send + Sync + 'static {
    move |text| {
        let bytes =
            text.parse::<ByteSize>().map_err(|_| "is not a size: write it as 67108864, 64MiB or 10GB")?.as_u64();
        let (least, most) = (range.start(), range.end());
        match ByteCount::try_from(bytes) {
            Ok(count) if range.contains(&bytes) => Ok(count),
            Ok(_) | Err(_) if *most == MOST_BYTES => Err(format!("must be at least {least} bytes and below 8 EiB")),
            Ok(_) | Err(_) => Err(format!("must be {least} to {most} bytes")),
        }
    }
}

/// Returns a parser for whole numbers of at least `least`.
pub fn count(least: u64) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<u64>() {
        Ok(count) if (least..=MOST_BYTES).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(format!("must be a whole number of at least {least}")),
    }
}

/// Parses a limit of a project or a key: an amount as `parse` reads it, or `default` or `unlimited`.
pub fn limit<T: Into<u64>>(
    parse: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<LimitSetting, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        "default" => Ok(LimitSetting::Default),
        "unlimited" => Ok(LimitSetting::Unlimited),
        amount => parse(amount)
            .map(|it| LimitSetting::Most(it.into()))
            .map_err(|error| format!("{error}; or write `unlimited`, or `default` for that of the settings")),
    }
}

/// Parses a duration, such as `90s`, `10m` or `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let is_zero = text.trim_matches('0').is_empty();
    if !is_zero && text.bytes().all(|it| it.is_ascii_digit()) {
        return Err(format!("has no unit: write {text}s, {text}m or {text}h"));
    }
    match humantime::parse_duration(text) {
        Ok(it) if it > LONGEST => Err("is too long: the maximum is 100 years".to_owned()),
        Ok(it) => Ok(it),
        Err(error) => Err(format!("{error}; write it as 90s, 10m or 1h")),
    }
}

/// Parses a duration of at least one millisecond.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(it) if it < Duration::from_millis(1) => Err("must be at least 1ms, such as 30s or 1h".to_owned()),
        outcome => outcome,
    }
}

/// Parses a duration from 10 ms to an hour.
pub fn queue_wait(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(it) if !(Duration::from_millis(10)..=Duration::from_hours(1)).contains(&it) => {
            Err("must be 10ms to 1h, such as 5s".to_owned())
        }
        outcome => outcome,
    }
}

/// Validates a Postgres URL. The error does not contain the value, which may include a password.
pub fn database_url(text: &str) -> Result<String, String> {
    const RIGHT: &str = "is not a Postgres URL such as postgres://user:password@host:5432/name";
    if !["postgres://", "postgresql://"].iter().any(|it| text.starts_with(it)) {
        return Err(RIGHT.to_owned());
    }
    db::Server::check(text).map(|()| text.to_owned()).map_err(|error| format!("{RIGHT}: {error}"))
}

/// Validates an API key. The error does not contain the value.
pub fn api_key(text: &str) -> Result<ApiKey, NotANewKey> {
    ApiKey::chosen(text)
}

/// Validates a level, or levels per module. An unknown single word is rejected: `EnvFilter` would treat it as a module.
pub fn log_filter(text: &str) -> Result<String, String> {
    const RIGHT: &str = "write error, warn, info, debug, trace or off, also by module, such as \
                         info,windlass_engine::db=debug";
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    let mut lone_words = directives.iter().filter(|it| it.bytes().all(|it| it.is_ascii_alphanumeric()));
    if let Some(word) = lone_words.find(|it| it.parse::<LevelFilter>().is_err()) {
        return Err(format!("'{word}' is not a level: {RIGHT}"));
    }
    let filter = directives.join(",");
    match filter.parse::<EnvFilter>() {
        Ok(_) => Ok(filter),
        Err(error) => Err(format!("{error}: {RIGHT}")),
    }
}

/// Validates a key's name: a single line without invisible characters.
pub fn key_name(text: &str) -> Result<String, &'static str> {
    let fits = (1..=MOST_NAME_CHARS).contains(&text.chars().count()) && !text.chars().any(is_invisible);
    let is_blank = text.trim().is_empty();
    if fits && !is_blank {
        Ok(text.to_owned())
    } else {
        Err("a key's name must have 1 to 200 characters, none of them control or invisible, and must not be blank")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_plain_or_have_a_unit() {
        let table = [
            ("0", 0),
            ("1", 1),
            ("67108864", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("64Mi", 64 << 20),
            ("64mib", 64 << 20),
            ("10GB", 10_000_000_000),
            ("10G", 10_000_000_000),
            ("512k", 512_000),
            ("512Ki", 512 << 10),
            ("1.5GiB", 3 << 29),
            ("100B", 100),
            ("9223372036854775807", MOST_BYTES),
        ];
        for (text, expected) in table {
            assert_eq!(size(0..=MOST_BYTES)(text).map(ByteCount::get), Ok(expected), "{text}");
        }
        let not_sizes =
            ["", "MiB", "-1", "64 M i B", "64MiBs", "1e3", "0x10", "1_000", "1,000", "NaN", "inf", "64 MB B", "½k"];
        for text in not_sizes {
            let refused = size(0..=MOST_BYTES)(text).unwrap_err();
            assert!(refused.contains("64MiB"), "{text}: {refused}");
        }
        for (text, range, right) in [
            ("0", 1..=MOST_BYTES, "at least 1 bytes"),
            ("9223372036854775808", 0..=MOST_BYTES, "below 8 EiB"),
            ("8EiB", 0..=MOST_BYTES, "below 8 EiB"),
            ("99999999999999999999999TB", 0..=MOST_BYTES, "below 8 EiB"),
            ("64KB", 0..=4096, "0 to 4096"),
        ] {
            let refused = size(range)(text).unwrap_err();
            assert!(refused.contains(right), "{text}: {refused}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("1h", 3600),
            ("1h 30m", 5400),
            ("1h30m", 5400),
            ("0", 0),
            ("0s", 0),
            ("1d", 86_400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, right) in [
            ("30", "30s, 30m or 30h"),
            ("", "1h"),
            ("s", "1h"),
            ("-1s", "1h"),
            ("1:30", "1h"),
            ("PT1H", "1h"),
            ("200y", "100 years"),
            ("99999999999999999999s", "1h"),
        ] {
            let refused = duration(text).unwrap_err();
            assert!(refused.contains(right), "{text}: {refused}");
        }
        assert!(
            positive_duration("0s").is_err() && positive_duration("999us").is_err() && positive_duration("1ms").is_ok()
        );
    }

    #[test]
    fn a_log_filter_is_a_level_or_levels_by_module() {
        for text in ["info", "INFO", "off", "warn,windlass::http=debug", "windlass=trace,info", "info, sqlx=warn"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["warning", "inof", "verbose", "info,debgu", "info=windlass", "windlass=loud"] {
            assert!(log_filter(text).unwrap_err().contains("error, warn, info, debug"), "{text}");
        }
    }

    #[test]
    fn an_invalid_database_url_is_rejected_and_not_echoed() {
        for text in ["postgres://u:p@h:5432/d", "postgresql://h/d", "postgres:///d?host=/run/postgresql"] {
            assert!(database_url(text).is_ok(), "{text}");
        }
        for (text, reason) in [
            ("mysql://u:secret@h/d", "such as postgres://"),
            ("host=h password=secret", "such as postgres://"),
            ("h:5432", "such as postgres://"),
            ("postgres://u:secret@h:port/d", "invalid port number"),
            ("postgres://u:secret@h/d?sslmode=verify_full", "verify_full"),
            ("postgres://u:secret@h/d?sslmode=require&sslrootcert=system", "requires sslmode=verify-full"),
            ("postgres://u:secret@h/d?hostaddr=secret.example&port=x", "invalid"),
        ] {
            let refused = database_url(text).unwrap_err();
            assert!(refused.contains(reason) && !refused.contains("secret"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_key_name_is_one_line_of_visible_characters() {
        for name in ["unnamed", "CI of team 7", "clé", "你好", &"x".repeat(200)] {
            assert_eq!(key_name(name).as_deref(), Ok(name));
        }
        for name in ["", " ", "a\nb", "\u{1b}[2J", "a\u{202e}b", "\u{200b}", &"x".repeat(201)] {
            assert!(key_name(name).unwrap_err().contains("1 to 200 characters"), "{name:?}");
        }
    }
}
