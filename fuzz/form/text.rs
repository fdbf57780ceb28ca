//! The reference's decoder for the text of a parameter. Each byte of the input is one `char`.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// The escape sequences of ISO-2022-JP.
const ESCAPES: [&str; 5] = ["\x1b(B", "\x1b(I", "\x1b(J", "\x1b$@", "\x1b$B"];

/// A value, or a segment of one (RFC 2231).
pub enum Value<'a> {
    /// Literal text.
    Plain(&'a str),
    /// Percent-encoded text (RFC 8187).
    Extended(&'a str),
}

/// Decodes the segments of a value together; `None` if that is not possible.
pub fn decoded(segments: &[Value<'_>]) -> Option<String> {
    let plains: Vec<_> =
        segments.iter().filter_map(|it| if let Value::Plain(text) = it { Some(*text) } else { None }).collect();
    if plains.len() == segments.len() {
        return plain(&plains.concat());
    }
    let (mut charset, mut bytes) = ("utf-8", Vec::new());
    for (index, segment) in segments.iter().enumerate() {
        match segment {
            Value::Plain(text) => bytes.extend(raw(text)),
            Value::Extended(text) if index == 0 => {
                let fields: Vec<_> = text.split('\'').collect();
                let [before, _, rest @ ..] = &fields[..] else { return None };
                if rest.is_empty() {
                    return None;
                }
                charset = if before.is_empty() { charset } else { before };
                bytes.extend(escaped_with('%', &rest.join("'"))?);
            }
            Value::Extended(text) => bytes.extend(escaped_with('%', text)?),
        }
    }
    let is_utf_8 = Encoding::for_label(charset.as_bytes()).is_some_and(|it| it.name() == "UTF-8");
    if is_utf_8 || plains.concat().is_ascii() { in_charset(charset, &bytes) } else { None }
}

/// Decodes a plain value: encoded words (RFC 2047), or else the three escapes of browsers.
pub fn plain(value: &str) -> Option<String> {
    let value = String::from_utf8(raw(value)).ok()?;
    let mut text = String::new();
    let mut word: Option<Word> = None;
    let mut between = String::new();
    let mut rest = &*value;
    let mut any = false;
    while !rest.is_empty() {
        let Some((next, after)) = Word::at(rest) else {
            let (char, after) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
            between += char;
            rest = after;
            continue;
        };
        (any, rest) = (true, after);
        let next = next?;
        let adjacent = between.chars().all(|it| it == ' ' || it == '\t');
        word = Some(match word.take() {
            Some(last) if adjacent && last.charset.eq_ignore_ascii_case(&next.charset) => {
                Word { charset: last.charset, run: [last.run, next.run].concat() }
            }
            last => {
                let first = last.is_none();
                text += &last.map_or(Some(String::new()), |it| it.text())?;
                text += if first || !adjacent { &between } else { "" };
                next
            }
        });
        between.clear();
    }
    if !any {
        return Some(value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"));
    }
    let last = word.map_or(Some(String::new()), |it| it.text())?;
    Some(text + &last + &between)
}

/// An encoded word and adjacent ones of the same charset.
struct Word {
    charset: String,
    run: Vec<Vec<u8>>,
}

impl Word {
    /// Splits off an encoded word at the beginning of a text, if there is one. The word is `None` if it is undecodable.
    fn at(text: &str) -> Option<(Option<Self>, &str)> {
        let fields: Vec<_> = text.splitn(5, '?').collect();
        let ["=", charset, encoding, encoded, rest] = fields[..] else { return None };
        let after = rest.strip_prefix('=')?;
        if charset.is_empty() || charset.contains(|it: char| !it.is_ascii_graphic()) {
            return None;
        }
        let bytes = match encoding {
            "B" | "b" => from_base64(encoded.trim_end_matches('=')),
            "Q" | "q" => escaped_with('=', &encoded.replace('_', " ").bytes().map(char::from).collect::<String>()),
            _ => return None,
        };
        let charset = charset.split('*').next().unwrap_or_default().to_owned();
        Some((bytes.map(|it| Self { charset, run: vec![it] }), after))
    }

    /// Decodes words that share a state (ISO-2022-JP) together, and others one by one, or together if that fails.
    fn text(&self) -> Option<String> {
        let together = in_charset(&self.charset, &self.run.concat());
        if Encoding::for_label(self.charset.as_bytes()).is_some_and(|it| it.name() == "ISO-2022-JP") {
            return together;
        }
        let each: Option<String> = self.run.iter().map(|it| in_charset(&self.charset, it)).collect();
        if each.is_some() { each } else { together }
    }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Option<Vec<_>> = text.chars().map(|it| alphabet.find(it)).collect();
    let bits = |digit: usize| (0..6).rev().map(move |it| u8::from(digit >> it & 1 == 1));
    let bits: Vec<u8> = digits?.into_iter().flat_map(bits).collect();
    let (bytes, padding) = bits.split_at(bits.len() / 8 * 8);
    let complete = padding.len() <= 4 && !padding.contains(&1);
    complete.then(|| bytes.chunks(8).map(|it| it.iter().fold(0, |byte, bit| byte << 1 | bit)).collect())
}

fn escaped_with(escape: char, text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split(escape);
    let mut bytes = raw(pieces.next()?);
    for piece in pieces {
        let digits = piece.get(..2).filter(|it| it.chars().all(|it| it.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(raw(&piece[2..]));
    }
    Some(bytes)
}

/// Decodes bytes in a charset, with a byte order mark or repeated escape sequences removed.
fn in_charset(charset: &str, bytes: &[u8]) -> Option<String> {
    let label = if charset.is_empty() { "utf-8" } else { charset };
    let encoding = Encoding::for_label_no_replacement(&raw(label))?;
    let marks: &[(&[u8], _)] = match encoding.name() {
        "UTF-8" => &[(b"\xef\xbb\xbf", encoding)],
        "UTF-16BE" | "UTF-16LE" => &[(b"\xfe\xff", UTF_16BE), (b"\xff\xfe", UTF_16LE)],
        _ => &[],
    };
    let marked = marks.iter().find_map(|(mark, encoding)| Some((*encoding, bytes.strip_prefix(*mark)?)));
    let (encoding, bytes) = marked.unwrap_or((encoding, bytes));
    let mut text: String = bytes.iter().copied().map(char::from).collect();
    while encoding.name() == "ISO-2022-JP" {
        let doubled = ESCAPES.iter().flat_map(|one| ESCAPES.map(|two| (format!("{one}{two}"), two)));
        let Some((both, last)) = doubled.into_iter().find(|it| text.contains(&it.0)) else { break };
        text = text.replace(&both, last);
    }
    encoding.decode_without_bom_handling_and_without_replacement(&raw(&text)).map(Cow::into_owned)
}

/// The bytes that the characters represent.
fn raw(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(u32::from(it)).unwrap_or(b'?')).collect()
}
