//! Decodes the value of a parameter: charsets, percent-encoding (RFC 8187, RFC 2231) and encoded words (RFC 2047).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use encoding_rs::{Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE};
use windlass_types::Shown;

/// The maximum number of characters of the request that an error message quotes.
const EXCERPT_CHARS: usize = 60;

/// The error for a value that cannot be decoded as text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// A plain value is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// The charset is not one of those in the Encoding standard.
    #[error("its charset '{0}' is not supported; send it as UTF-8")]
    UnknownCharset(String),
    /// An extended value, or an encoded word, is invalid in its charset.
    #[error("it is not valid in its charset '{0}'")]
    NotInCharset(String),
    /// An extended value without its two apostrophes.
    #[error("it is not of the form charset'language'text, such as utf-8''na%C3%AFve.txt")]
    NotExtended,
    /// A percent escape in an extended value is malformed.
    #[error("it has a '%' without two hexadecimal digits; send a literal '%' as %25")]
    Percent,
    /// A segment is missing or occurs twice, as in `filename*0` and `filename*2`.
    #[error("its segments are not numbered consecutively from 0 (RFC 2231)")]
    Segments,
    /// A plain segment next to an extended one contains bytes other than ASCII, and the charset is not UTF-8.
    #[error(
        "it mixes the charset '{0}' with bytes that are not percent-encoded; percent-encode every byte beyond ASCII \
         (RFC 2231), or send it all as UTF-8"
    )]
    RawBytes(String),
    /// An encoded word is malformed.
    #[error("the encoded word '{0}' cannot be decoded (RFC 2047)")]
    EncodedWord(String),
}

/// The beginning of a part of the request, for an error message.
pub fn excerpt(sent: &[u8]) -> String {
    let text = String::from_utf8_lossy(sent);
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", Shown(&text[..end])),
        None => Shown(&text).to_string(),
    }
}

/// Decodes a plain value: either encoded words, or the three percent escapes of browsers (HTML standard, section
/// 4.10.21.8).
///
/// # Errors
/// When the value is not UTF-8, or an encoded word cannot be decoded.
pub fn plain(value: &[u8]) -> Result<String, BadText> {
    let text = str::from_utf8(value).map_err(|_| BadText::NotUtf8)?;
    let decoded = with_encoded_words(text)?;
    Ok(decoded.unwrap_or_else(|| text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")))
}

/// Decodes the segments of a value, each paired with whether it is extended. A single extended segment is the value of
/// `name*`. If no segment is extended, they form a plain value.
///
/// # Errors
/// When the value cannot be decoded ([`BadText`]).
pub fn segmented<'a>(segments: impl IntoIterator<Item = (&'a [u8], bool)>) -> Result<String, BadText> {
    let segments: Vec<_> = segments.into_iter().collect();
    if segments.iter().all(|it| !it.1) {
        return plain(&segments.iter().map(|it| it.0).collect::<Vec<_>>().concat());
    }
    let raw = segments.iter().any(|(segment, extended)| !extended && !segment.is_ascii());
    let (mut charset, mut bytes) = (&b""[..], Vec::new());
    for (index, (mut segment, extended)) in segments.into_iter().enumerate() {
        if extended && index == 0 {
            let mut fields = segment.splitn(3, |it| *it == b'\'');
            let (Some(before), Some(_language), Some(text)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(BadText::NotExtended);
            };
            (charset, segment) = (before, text);
        }
        if extended {
            push_unescaped(&mut bytes, segment, b'%').ok_or(BadText::Percent)?;
        } else {
            bytes.extend_from_slice(segment);
        }
    }
    if raw && encoding_of(charset)? != UTF_8 {
        return Err(BadText::RawBytes(excerpt(charset)));
    }
    decode(charset, &bytes)
}

/// The encoding of a charset label; an empty label means UTF-8.
fn encoding_of(charset: &[u8]) -> Result<&'static Encoding, BadText> {
    let encoding = if charset.is_empty() { Some(UTF_8) } else { Encoding::for_label_no_replacement(charset) };
    encoding.ok_or_else(|| BadText::UnknownCharset(excerpt(charset)))
}

/// Decodes bytes in a charset.
fn decode(charset: &[u8], bytes: &[u8]) -> Result<String, BadText> {
    let (encoding, bytes) = without_mark(encoding_of(charset)?, bytes);
    let bytes = if encoding == ISO_2022_JP { without_idle_escapes(bytes).into() } else { Cow::from(bytes) };
    match encoding.decode_without_bom_handling_and_without_replacement(&bytes) {
        Some(text) => Ok(text.into_owned()),
        None => Err(BadText::NotInCharset(excerpt(if charset.is_empty() { b"utf-8" } else { charset }))),
    }
}

/// Removes a byte order mark, which also determines the byte order of UTF-16.
fn without_mark<'a>(encoding: &'static Encoding, bytes: &'a [u8]) -> (&'static Encoding, &'a [u8]) {
    match Encoding::for_bom(bytes) {
        Some((marked, length)) if encoding == marked || [encoding, marked].iter().all(|it| is_utf_16(it)) => {
            (marked, &bytes[length..])
        }
        _ => (encoding, bytes),
    }
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    [UTF_16BE, UTF_16LE].contains(&encoding)
}

/// Removes escape sequences of ISO-2022-JP that are directly followed by another one: they have no effect, but the
/// decoder rejects them.
fn without_idle_escapes(mut bytes: &[u8]) -> Vec<u8> {
    const ESCAPE: usize = b"\x1b(B".len();
    let escape = |it: &[u8]| matches!(it, [0x1b, b'(', b'B' | b'I' | b'J', ..] | [0x1b, b'$', b'@' | b'B', ..]);
    let mut kept = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        if escape(bytes) && escape(&bytes[ESCAPE..]) {
            bytes = &bytes[ESCAPE..];
            continue;
        }
        kept.push(*first);
        bytes = rest;
    }
    kept
}

/// Decodes the bytes of adjacent words of one charset.
fn decode_run(charset: &str, words: &[Vec<u8>]) -> Result<String, BadText> {
    let (charset, joined) = (charset.as_bytes(), words.concat());
    // A word that continues the state of the previous one would be decoded to a different text separately.
    if encoding_of(charset)? == ISO_2022_JP {
        return decode(charset, &joined);
    }
    // Some clients split a character between two words.
    let each: Result<String, _> = words.iter().map(|it| decode(charset, it)).collect();
    each.or_else(|_| decode(charset, &joined))
}

/// Appends bytes, decoding each escape and its two hexadecimal digits. `None` if the digits are missing.
fn push_unescaped(to: &mut Vec<u8>, mut bytes: &[u8], escape: u8) -> Option<()> {
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        if *first != escape {
            to.push(*first);
            continue;
        }
        let digits = rest.split_at_checked(2)?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        let byte = value(digits.0[0])? * 16 + value(digits.0[1])?;
        to.push(u8::try_from(byte).ok()?);
        bytes = digits.1;
    }
    Some(())
}

/// `=?charset?B?base64?=` or `=?charset?Q?quoted-printable?=`.
struct EncodedWord<'a> {
    before: &'a str,
    whole: &'a str,
    charset: &'a str,
    base64: bool,
    text: &'a str,
    after: &'a str,
}

impl<'a> EncodedWord<'a> {
    /// The first encoded word in a text.
    fn find(text: &'a str) -> Option<Self> {
        text.match_indices("=?").find_map(|(start, opening)| {
            let (charset, rest) = text[start + opening.len()..].split_once('?')?;
            let (encoding, rest) = rest.split_once('?')?;
            let (encoded, rest) = rest.split_once('?')?;
            let after = rest.strip_prefix('=')?;
            let base64 = encoding.eq_ignore_ascii_case("b");
            let token = !charset.is_empty() && charset.bytes().all(|it| it.is_ascii_graphic());
            (token && (base64 || encoding.eq_ignore_ascii_case("q"))).then(|| Self {
                before: &text[..start],
                whole: &text[start..text.len() - after.len()],
                // A language may follow the charset (RFC 2231, section 5).
                charset: charset.split('*').next().unwrap_or_default(),
                base64,
                text: encoded,
                after,
            })
        })
    }

    fn bytes(&self) -> Result<Vec<u8>, BadText> {
        let mut bytes = Vec::new();
        let decoded = if self.base64 {
            STANDARD_NO_PAD.decode_vec(self.text.trim_end_matches('='), &mut bytes).ok()
        } else {
            push_unescaped(&mut bytes, self.text.replace('_', " ").as_bytes(), b'=')
        };
        decoded.ok_or_else(|| BadText::EncodedWord(excerpt(self.whole.as_bytes())))?;
        Ok(bytes)
    }
}

/// Decodes the encoded words of a text; `None` if there are none. They are decoded in any position, since clients put
/// them where RFC 2047 does not allow them: into quoted strings and next to other text.
fn with_encoded_words(mut text: &str) -> Result<Option<String>, BadText> {
    let mut decoded = String::new();
    let mut run: Option<(&str, Vec<Vec<u8>>)> = None;
    while let Some(word) = EncodedWord::find(text) {
        let bytes = word.bytes()?;
        text = word.after;
        match &mut run {
            Some((charset, run)) if charset.eq_ignore_ascii_case(word.charset) && is_blank(word.before) => {
                run.push(bytes);
                continue;
            }
            Some((charset, run)) => decoded += &decode_run(charset, run)?,
            None => {}
        }
        if run.is_none() || !is_blank(word.before) {
            decoded += word.before;
        }
        run = Some((word.charset, vec![bytes]));
    }
    let Some((charset, run)) = run else { return Ok(None) };
    Ok(Some(decoded + &decode_run(charset, &run)? + text))
}

/// Whether the text is empty or white space, which is not part of the decoded text between two encoded words.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|it| matches!(it, b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extended(value: &str) -> Result<String, BadText> {
        segmented([(value.as_bytes(), true)])
    }

    #[test]
    fn plain_values_are_utf_8_with_the_three_escapes_of_browsers() {
        assert_eq!(plain("你好%22%0D%0A%20%2".as_bytes()), Ok("你好\"\r\n%20%2".to_owned()));
        assert_eq!(plain(b"caf\xe9"), Err(BadText::NotUtf8));
    }

    #[test]
    fn extended_values_are_percent_encoded_in_a_charset() {
        assert_eq!(extended("utf-8''%E4%BD%A0%e5%a5%bd.txt").as_deref(), Ok("你好.txt"));
        assert_eq!(extended("UTF-8'en'a'b%25").as_deref(), Ok("a'b%"));
        assert_eq!(extended("iso-8859-1''caf%E9").as_deref(), Ok("café"));
        assert_eq!(extended("gb2312''%C4%E3%BA%C3").as_deref(), Ok("你好"));
        assert_eq!(extended("''%E4%BD%A0").as_deref(), Ok("你"));
        assert_eq!(extended("utf-8''你").as_deref(), Ok("你"));
        assert_eq!(extended("utf-8''caf%E9"), Err(BadText::NotInCharset("utf-8".to_owned())));
        assert_eq!(extended("klingon''x"), Err(BadText::UnknownCharset("klingon".to_owned())));
        assert_eq!(extended("\u{202e}''x"), Err(BadText::UnknownCharset("\\u{202e}".to_owned())));
        for value in ["a.txt", "utf-8'a.txt", ""] {
            assert_eq!(extended(value), Err(BadText::NotExtended), "{value}");
        }
        for value in ["utf-8''100%", "utf-8''%4", "utf-8''%zz", "utf-8''%+1"] {
            assert_eq!(extended(value), Err(BadText::Percent), "{value}");
        }
    }

    #[test]
    fn segments_are_joined_before_they_are_decoded() {
        let segments = [(&b"utf-8''%E4%BD"[..], true), (b"%A0", true), (b" 100%41.txt", false)];
        assert_eq!(segmented(segments).as_deref(), Ok("你 100%41.txt"));
        assert_eq!(segmented([(&b"it's 'a"[..], false), (b"'%41", true)]).as_deref(), Ok("it's 'a'A"));
    }

    #[test]
    fn encoded_words_are_decoded_in_both_encodings_and_any_charset() {
        for (value, text) in [
            ("=?utf-8?B?5L2g5aW9LnR4dA==?=", "你好.txt"),
            ("=?UTF-8?b?5L2g5aW9LnR4dA?=", "你好.txt"),
            ("=?utf-8*zh?B?5L2g?=", "你"),
            ("=?utf-8?Q?=E4=BD=A0_=e5=a5=bd=3F?=", "你 好?"),
            ("=?iso-8859-1?q?caf=E9?=.txt", "café.txt"),
            ("=?us-ascii?Q?a_b?=", "a b"),
            ("=?gb2312?B?xOO6ww==?=", "你好"),
            ("=?utf-8?Q?a?= \t=?utf-8?Q?b?= =?iso-8859-1?Q?c?=", "abc"),
            ("=?utf-8?Q?a?= x =?utf-8?Q?b?= y", "a x b y"),
            ("=?utf-8?B?5L0=?= =?utf-8?B?oA==?=", "你"),
            ("x=?utf-8?Q??=", "x"),
            ("=?utf-8?Q?a%22b?=%22", "a%22b%22"),
        ] {
            assert_eq!(plain(value.as_bytes()).as_deref(), Ok(text), "{value}");
        }
    }

    #[test]
    fn a_byte_order_mark_determines_the_byte_order_and_is_removed() {
        for (value, text) in [
            ("utf-16''%FE%FF%4F%60", "你"),
            ("utf-16''%FF%FE%60%4F", "你"),
            ("utf-16be''%FE%FF%4F%60", "你"),
            ("utf-16''%60%4F", "你"),
            ("utf-8''%EF%BB%BFa", "a"),
            ("utf-8''%EF%BB%BF%EF%BB%BFa", "\u{feff}a"),
            ("iso-8859-1''%FE%FF", "þÿ"),
        ] {
            assert_eq!(extended(value).as_deref(), Ok(text), "{value}");
        }
        assert_eq!(extended("utf-8''%FE%FF%4F%60"), Err(BadText::NotInCharset("utf-8".to_owned())));
        for (value, text) in [
            ("=?utf-16?B?/v8AYQ==?=", "a"),
            ("=?utf-8?B?77u/YQ==?=", "a"),
            ("=?utf-16?B?/v8AYQ==?= =?utf-16?B?//5iAA==?=", "ab"),
            ("=?utf-8?B?77u/YQ==?= =?utf-8?B?77u/Yg==?=", "ab"),
        ] {
            assert_eq!(plain(value.as_bytes()).as_deref(), Ok(text), "{value}");
        }
    }

    #[test]
    fn iso_2022_jp_may_have_redundant_escapes_and_state_across_words() {
        for (value, text) in [
            ("=?iso-2022-jp?B?GyRCRnwbKEI=?= =?iso-2022-jp?B?GyRCS1wbKEI=?=", "日本"),
            ("=?iso-2022-jp?B?GyRCRnwbKEI=?==?ISO-2022-JP?Q?.txt?=", "日.txt"),
            // The text was encoded as a whole and then cut: within a character, and between two characters.
            ("=?iso-2022-jp?B?GyRCRg==?= =?iso-2022-jp?B?fEtcGyhC?=", "日本"),
            ("=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=", "日本"),
        ] {
            assert_eq!(plain(value.as_bytes()).as_deref(), Ok(text), "{value}");
        }
        for (value, text) in [
            ("iso-2022-jp''%1B$BF%7C%1B(B%1B$BK%5C%1B(B.txt", "日本.txt"),
            ("iso-2022-jp''%1B(B%1B(J%1B$BF%7CK%5C%1B(B", "日本"),
            ("iso-2022-jp''%1B$BF%7C%1B(J%1B(B", "日"),
        ] {
            assert_eq!(extended(value).as_deref(), Ok(text), "{value}");
        }
        assert_eq!(extended("iso-2022-jp''%1B%1B(B"), Err(BadText::NotInCharset("iso-2022-jp".to_owned())));
    }

    #[test]
    fn segments_that_are_all_plain_are_one_plain_value() {
        assert_eq!(segmented([(&b"=?utf-8?Q?"[..], false), (b"a?= =?utf-8?Q?b?=", false)]).as_deref(), Ok("ab"));
        assert_eq!(segmented([(&b"%"[..], false), (b"22%41", false)]).as_deref(), Ok("\"%41"));
        assert_eq!(segmented([(&b"\xe4\xbd"[..], false), (b"\xa0", false)]).as_deref(), Ok("你"));
        assert_eq!(segmented([(&b"caf\xe9"[..], false)]), Err(BadText::NotUtf8));
    }

    #[test]
    fn a_plain_segment_next_to_an_extended_one_is_ascii_or_utf_8() {
        for charset in ["", "utf-8", "UTF8"] {
            let first = format!("{charset}''%E4%BD%A0");
            assert_eq!(segmented([(first.as_bytes(), true), ("好".as_bytes(), false)]).as_deref(), Ok("你好"));
        }
        assert_eq!(segmented([("你".as_bytes(), false), (b"%E5%A5%BD", true)]).as_deref(), Ok("你好"));
        assert_eq!(segmented([(&b"gb2312''%C4%E3"[..], true), (b".txt", false)]).as_deref(), Ok("你.txt"));
        for charset in ["gb2312", "us-ascii"] {
            let first = format!("{charset}''a");
            let outcome = segmented([(first.as_bytes(), true), ("好".as_bytes(), false)]);
            assert_eq!(outcome, Err(BadText::RawBytes(charset.to_owned())));
        }
    }

    #[test]
    fn text_that_only_resembles_an_encoded_word_is_kept() {
        for value in ["=?", "=?utf-8?B?", "=?utf-8?X?YQ==?=", "=?utf-8?B?YQ==", "=??B?YQ==?=", "a=?b?=c", "=?u 8?Q?a?="]
        {
            assert_eq!(plain(value.as_bytes()).as_deref(), Ok(value));
        }
    }

    #[test]
    fn an_encoded_word_that_cannot_be_decoded_is_an_error() {
        let word = |it: &str| Err(BadText::EncodedWord(it.to_owned()));
        for value in ["=?utf-8?B?a?=", "=?utf-8?B?YQ ==?=", "=?utf-8?Q?=4?=", "=?utf-8?Q?=zz?="] {
            assert_eq!(plain(value.as_bytes()), word(value));
        }
        assert_eq!(plain(b"=?klingon?Q?a?="), Err(BadText::UnknownCharset("klingon".to_owned())));
        assert_eq!(plain(b"=?utf-8?Q?=E9?="), Err(BadText::NotInCharset("utf-8".to_owned())));
    }
}
