//! The check of JSON lines: what it finds, and that it does not matter how the bytes come; beside `serde_json`.

use serde_json::{Map, Value};

use super::*;

/// The text in one piece.
fn whole(text: &[u8]) -> JsonLines {
    let mut lines = JsonLines::default();
    lines.take(text);
    lines.end();
    lines
}

/// The number of lines, or what is wrong, which is the same wherever the text is cut.
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
fn the_first_line_that_is_no_object_is_named_with_the_byte_and_what_would_be_right() {
    #[rustfmt::skip]
    let table: &[(&[u8], u64, &str)] = &[
        // Not an object.
        (b"[1]\n", 1, "byte 1 there is '[' instead of '{'"),
        (b"{}\n\"text\"\n", 2, "byte 1 there is '\"' instead of '{'"),
        (b"null", 1, "byte 1 there is 'n' instead of '{'"),
        (b"  5", 1, "byte 3 there is '5' instead of '{'"),
        // Blank.
        (b"\n", 1, "byte 1 there is the end of the line instead of '{'"),
        (b"\r\n{}", 1, "byte 2 there is the end of the line instead of '{'"),
        (b"{}\n\n{}\n", 2, "byte 1 there is the end of the line instead of '{'"),
        (b"{}\n\n", 2, "byte 1 there is the end of the line instead of '{'"),
        (b"{}\n  ", 2, "byte 3 there is the end of the file instead of '{'"),
        // More or less than one.
        (b"{} {}", 1, "byte 4 there is '{' instead of the end of the line"),
        (b"{},\n{}", 1, "byte 3 there is ',' instead of the end of the line"),
        (b"{}\r{}", 1, "byte 4 there is '{' instead of the end of the line"),
        (b"{\n\"a\":1}\n", 1, "byte 2 there is the end of the line instead of a name in double quotes or '}'"),
        (b"{\"a\":1\n}\n", 1, "byte 7 there is the end of the line instead of ',' or '}'"),
        (b"{\"a\":\"b\nc\"}", 1, "byte 8 there is the end of the line instead of a character"),
        (b"{}\n{\"a\":1", 2, "byte 7 there is the end of the file instead of ',' or '}'"),
        (b"{\"a\":tru", 1, "byte 9 there is the end of the file instead of the rest of 'true', 'false' or 'null'"),
        // Not JSON.
        (b"{'a':1}", 1, "byte 2 there is ''' instead of a name in double quotes or '}'"),
        (b"{\"a\" 1}", 1, "byte 6 there is '1' instead of ':'"),
        (b"{\"a\":}", 1, "byte 6 there is '}' instead of a value"),
        (b"{\"a\":NaN}", 1, "byte 6 there is 'N' instead of a value"),
        (b"{\"a\":1,}", 1, "byte 8 there is '}' instead of a name in double quotes"),
        (b"{\"a\":[1,]}", 1, "byte 9 there is ']' instead of a value"),
        (b"{\"a\":[1}", 1, "byte 8 there is '}' instead of ',' or ']'"),
        (b"{\"a\":{\"b\":1]}", 1, "byte 12 there is ']' instead of ',' or '}'"),
        (b"{\"a\":01}", 1, "byte 7 there is '1' instead of ',' or '}'"),
        (b"{\"a\":-}", 1, "byte 7 there is '}' instead of a digit"),
        (b"{\"a\":1.}", 1, "byte 8 there is '}' instead of a digit"),
        (b"{\"a\":1e+}", 1, "byte 9 there is '}' instead of a digit"),
        (b"{\"a\":truE}", 1, "byte 9 there is 'E' instead of the rest of"),
        (b"{\"a\":\"\\x\"}", 1, "byte 8 there is 'x' instead of the rest of an escape"),
        (b"{\"a\":\"\\u12g4\"}", 1, "byte 11 there is 'g' instead of a hexadecimal digit"),
        // Not text.
        (b"{\"a\":\"b\0c\"}", 1, "byte 8 there is 0x00 instead of a character (control characters are escaped)"),
        (b"{}\n\0", 2, "byte 1 there is 0x00 instead of '{'"),
        (b"{\"a\":\"\t\"}", 1, "byte 7 there is 0x09 instead of a character"),
        (b"{}\n{\"a\":\"caf\xe9\"}", 2, "byte 10 there is 0xE9 instead of UTF-8"),
        (b"{\"a\":\"\xe4\xbd\"}", 1, "byte 7 there is 0xE4 instead of UTF-8"),
        (b"{\"a\":\"\xe4\xbd\n", 1, "byte 7 there is 0xE4 instead of UTF-8"),
        (b"{\"a\":\"\xf0\x9f\xa6", 1, "byte 7 there is 0xF0 instead of UTF-8"),
        (b"{\"a\":\"\xed\xa0\x80\"}", 1, "byte 7 there is 0xED instead of UTF-8"),
        (b"{\"a\":\"\xc0\x80\"}", 1, "byte 7 there is 0xC0 instead of UTF-8"),
        (b"\xff\xfe{\0}\0", 1, "byte 1 there is 0xFF instead of '{'"),
        (b"\xef\xbb{}", 1, "byte 3 there is '{' instead of UTF-8"),
        (b"\xef\xbb\xbf[]", 1, "byte 1 there is '[' instead of '{'"),
        (b"{}\n\xef\xbb\xbf{}", 2, "byte 1 there is 0xEF instead of '{'"),
        (b"\x1f\x8b\x08\0", 1, "byte 1 there is 0x1F instead of '{'"),
    ];
    for (text, line, expected) in table {
        let text = text.to_vec();
        let error = outcome(&text).unwrap_err();
        let expected = format!("line {line} is not a JSON object: at its {expected}");
        assert!(error.starts_with(&expected), "{error}, not {expected}");
    }
}

#[test]
fn nesting_is_bounded_as_serde_json_bounds_it_and_long_lines_are_not() {
    let nested = |levels: usize, open: &str, end: &str| {
        format!("{{\"a\":{}1{}}}\n", open.repeat(levels - 1), end.repeat(levels - 1))
    };
    for (open, end) in [("[", "]"), ("{\"a\":", "}")] {
        for (levels, is_right) in [(1, true), (2, true), (127, true), (128, false), (100_000, false)] {
            let text = nested(levels, open, end);
            let error = whole(text.as_bytes()).bad.map(|it| it.to_string());
            assert_eq!(error.is_none(), is_right, "{levels}: {error:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), is_right, "{levels}");
            assert!(error.is_none_or(|it| it.ends_with("nested no deeper (127 levels are the most)")), "{levels}");
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

/// What `serde_json` makes of it, where it judges as the RFC does.
fn reference(text: &[u8]) -> Option<Result<u64, u64>> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let mut lines: Vec<_> = text.split(|it| *it == b'\n').collect();
    if lines.last().is_some_and(|it| it.is_empty()) {
        lines.pop();
    }
    for (number, line) in (1..).zip(&lines) {
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(_) => {}
            // It is right by its grammar.
            Err(error) if error.to_string().contains("number out of range") => return None,
            Err(_) => return Some(Err(number)),
        }
    }
    Some(Ok(lines.len() as u64))
}

/// What random texts are made of.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "{", "}", "[", "]", ":", ",", "\"", "\\", "\n", "\r", " ", "\t", "0", "1", "9", "-", "+", ".", "e", "E", "a",
    "\\n", "\\u00", "0F", "true", "false", "null", "tru", "é", "好", "🦀", "\u{1}", "\u{0}", "{}", "{}\n", "\"a\"",
    "\"a\":", "{\"a\":1}\n", "{\"b\":[1,2.5e1,{}]}\n", "\u{feff}", "/",
];

#[test]
fn it_finds_what_serde_json_finds_in_any_text() {
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
