//! Tests of the JSON lines check: its findings, however the text is split, and its agreement with `serde_json`.

use serde_json::{Map, Value};

use super::*;

/// Checks a text in one piece.
fn whole(text: &[u8]) -> JsonLines {
    let mut lines = JsonLines::default();
    lines.take(text);
    lines.end();
    lines
}

/// The number of lines, or the error. Asserts that it is the same wherever the text is split.
fn outcome(text: impl AsRef<[u8]>) -> Result<u64, String> {
    let text = text.as_ref();
    let found = whole(text);
    let cuts = (1..text.len()).map(|at| vec![&text[..at], &text[at..]]);
    for pieces in cuts.chain([text.chunks(1).collect()]) {
        let mut lines = JsonLines::default();
        for piece in &pieces {
            lines.take(piece);
        }
        lines.end();
        assert_eq!((&lines.bad, lines.objects), (&found.bad, found.objects), "{pieces:?}");
    }
    found.bad.map_or(Ok(found.objects), |it| Err(it.to_string()))
}

#[test]
fn lines_of_objects_are_counted_however_they_end() {
    for (text, count) in [
        ("", 0),
        ("\u{feff}", 0),
        ("{}", 1),
        ("{}\n", 1),
        ("{}\r\n", 1),
        ("{}\n{}", 2),
        ("{}\r\n{}\r\n", 2),
        ("\u{feff}{}\n{}\n", 2),
        (" \t{ \t\"a\" : [ 1 , { } ] } \t\r\n", 1),
        (r#"{"a":"","b":[],"c":{},"d":[[]],"e":null,"f":[true,false]}"#, 1),
        (r#"{"a":0,"b":-0,"c":10,"d":0.5,"e":1E5,"f":1e-05,"g":-1.50e+7,"h":[0,1e400,2]}"#, 1),
        (r#"{"\" \\ \/ \b \f \n \r \t \u00e9":"\ud83e\udd80 \ud800"}"#, 1),
        ("{\"é\":\"你好 🦀\u{7f}\u{85}\u{2028}\u{feff}\"}", 1),
        (r#"{"a":1,"a":2}"#, 1),
    ] {
        assert_eq!(outcome(text), Ok(count), "{text:?}");
    }
}

#[test]
fn the_first_invalid_line_is_reported_with_the_byte_and_what_was_expected() {
    #[rustfmt::skip]
    let table: &[(&[u8], u64, &str)] = &[
        // Not an object.
        (b"[1]\n", 1, "'{' but found '[' at byte 1"),
        (b"{}\n\"text\"\n", 2, "'{' but found '\"' at byte 1"),
        (b"null", 1, "'{' but found 'n' at byte 1"),
        (b"  5", 1, "'{' but found '5' at byte 3"),
        // Blank.
        (b"\n", 1, "'{' but found the end of the line at byte 1"),
        (b"\r\n{}", 1, "'{' but found the end of the line at byte 2"),
        (b"{}\n\n{}\n", 2, "'{' but found the end of the line at byte 1"),
        (b"{}\n\n", 2, "'{' but found the end of the line at byte 1"),
        (b"{}\n  ", 2, "'{' but found the end of the file at byte 3"),
        // More or less than one.
        (b"{} {}", 1, "the end of the line but found '{' at byte 4"),
        (b"{},\n{}", 1, "the end of the line but found ',' at byte 3"),
        (b"{}\r{}", 1, "the end of the line but found '{' at byte 4"),
        (b"{\n\"a\":1}\n", 1, "a name in double quotes or '}' but found the end of the line at byte 2"),
        (b"{\"a\":1\n}\n", 1, "',' or '}' but found the end of the line at byte 7"),
        (b"{\"a\":\"b\nc\"}", 1, "a character (control characters must be escaped) or the closing quote but found the end of the line at byte 8"),
        (b"{}\n{\"a\":1", 2, "',' or '}' but found the end of the file at byte 7"),
        (b"{\"a\":tru", 1, "the rest of 'true', 'false' or 'null' but found the end of the file at byte 9"),
        // Not JSON.
        (b"{'a':1}", 1, "a name in double quotes or '}' but found ''' at byte 2"),
        (b"{\"a\" 1}", 1, "':' but found '1' at byte 6"),
        (b"{\"a\":}", 1, "a value but found '}' at byte 6"),
        (b"{\"a\":NaN}", 1, "a value but found 'N' at byte 6"),
        (b"{\"a\":1,}", 1, "a name in double quotes but found '}' at byte 8"),
        (b"{\"a\":[1,]}", 1, "a value but found ']' at byte 9"),
        (b"{\"a\":[1}", 1, "',' or ']' but found '}' at byte 8"),
        (b"{\"a\":{\"b\":1]}", 1, "',' or '}' but found ']' at byte 12"),
        (b"{\"a\":01}", 1, "',' or '}' but found '1' at byte 7"),
        (b"{\"a\":-}", 1, "a digit but found '}' at byte 7"),
        (b"{\"a\":1.}", 1, "a digit but found '}' at byte 8"),
        (b"{\"a\":1e+}", 1, "a digit but found '}' at byte 9"),
        (b"{\"a\":truE}", 1, "the rest of 'true', 'false' or 'null' but found 'E' at byte 9"),
        (b"{\"a\":\"\\x\"}", 1, "an escape character such as 'n' but found 'x' at byte 8"),
        (b"{\"a\":\"\\u12g4\"}", 1, "a hexadecimal digit but found 'g' at byte 11"),
        // Not text.
        (b"{\"a\":\"b\0c\"}", 1, "a character (control characters must be escaped) or the closing quote but found 0x00 at byte 8"),
        (b"{}\n\0", 2, "'{' but found 0x00 at byte 1"),
        (b"{\"a\":\"\t\"}", 1, "a character (control characters must be escaped) or the closing quote but found 0x09 at byte 7"),
        (b"{}\n{\"a\":\"caf\xe9\"}", 2, "UTF-8 but found 0xE9 at byte 10"),
        (b"{\"a\":\"\xe4\xbd\"}", 1, "UTF-8 but found 0xE4 at byte 7"),
        (b"{\"a\":\"\xe4\xbd\n", 1, "UTF-8 but found 0xE4 at byte 7"),
        (b"{\"a\":\"\xf0\x9f\xa6", 1, "UTF-8 but found 0xF0 at byte 7"),
        (b"{\"a\":\"\xed\xa0\x80\"}", 1, "UTF-8 but found 0xED at byte 7"),
        (b"{\"a\":\"\xc0\x80\"}", 1, "UTF-8 but found 0xC0 at byte 7"),
        (b"\xff\xfe{\0}\0", 1, "'{' but found 0xFF at byte 1"),
        (b"\xef\xbb{}", 1, "UTF-8 but found '{' at byte 3"),
        (b"\xef\xbb\xbf[]", 1, "'{' but found '[' at byte 1"),
        (b"{}\n\xef\xbb\xbf{}", 2, "'{' but found 0xEF at byte 1"),
        (b"\x1f\x8b\x08\0", 1, "'{' but found 0x1F at byte 1"),
    ];
    for (text, line, expected) in table {
        let text = text.to_vec();
        let error = outcome(&text).unwrap_err();
        let expected = format!("line {line} is not a JSON object: expected {expected} of the line");
        assert_eq!(error, expected);
    }
}

#[test]
fn nesting_is_limited_as_in_serde_json_but_line_length_is_not() {
    let nested = |levels: usize, open: &str, end: &str| {
        format!("{{\"a\":{}1{}}}\n", open.repeat(levels - 1), end.repeat(levels - 1))
    };
    for (open, end) in [("[", "]"), ("{\"a\":", "}")] {
        for (levels, is_right) in [(1, true), (2, true), (127, true), (128, false), (100_000, false)] {
            let text = nested(levels, open, end);
            let error = whole(text.as_bytes()).bad.map(|it| it.to_string());
            assert_eq!(error.is_none(), is_right, "{levels}: {error:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), is_right, "{levels}");
            assert!(error.is_none_or(|it| it.contains("expected a value nested at most 127 levels deep")), "{levels}");
        }
    }
    let mut lines = JsonLines::default();
    lines.take(b"{\"a\":\"");
    for _ in 0..1000 {
        lines.take("é".repeat(50_000).as_bytes());
    }
    lines.take(b"\",\"b\":[0");
    for _ in 0..1000 {
        lines.take(", 1".repeat(1000).as_bytes());
    }
    lines.take(b"]}");
    lines.end();
    assert_eq!((lines.bad(), lines.objects()), (None, 1));
    assert!(lines.partial.capacity() < 100);
}

/// The finding of `serde_json`: the number of lines, or the first invalid one. `None` if it is stricter than the RFC.
fn reference(text: &[u8]) -> Option<Result<u64, u64>> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let mut lines: Vec<_> = text.split(|it| *it == b'\n').collect();
    if lines.last().is_some_and(|it| it.is_empty()) {
        lines.pop();
    }
    for (number, line) in (1..).zip(&lines) {
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(_) => {}
            // The RFC's grammar allows it.
            Err(error) if error.to_string().contains("number out of range") => return None,
            Err(_) => return Some(Err(number)),
        }
    }
    Some(Ok(lines.len() as u64))
}

/// The pieces that random texts are composed of.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "{", "}", "[", "]", ":", ",", "\"", "\\", "\n", "\r", " ", "\t", "0", "1", "9", "-", "+", ".", "e", "E", "a",
    "\\n", "\\u00", "0F", "true", "false", "null", "tru", "é", "好", "🦀", "\u{1}", "\u{0}", "{}", "{}\n", "\"a\"",
    "\"a\":", "{\"a\":1}\n", "{\"b\":[1,2.5e1,{}]}\n", "\u{feff}", "/",
];

#[test]
fn findings_agree_with_serde_json_for_random_text() {
    let mut rng = fastrand::Rng::with_seed(15);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..60_000 {
        let mut text = Vec::new();
        for _ in 0..rng.usize(..12) {
            text.extend_from_slice(rng.choice(PIECES).unwrap().as_bytes());
        }
        if rng.u8(..8) == 0 && !text.is_empty() {
            let at = rng.usize(..text.len());
            if rng.bool() {
                text[at] = rng.u8(0x80..);
            } else {
                text.remove(at);
            }
        }
        let Some(expected) = reference(&text) else { continue };
        let found = whole(&text);
        let found = found.bad.map_or(Ok(found.objects), |it| Err(it.line));
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&text));
        if expected.is_ok() { right += 1 } else { wrong += 1 }
    }
    assert!(right > 1000 && wrong > 1000, "{right} right, {wrong} wrong");
}
