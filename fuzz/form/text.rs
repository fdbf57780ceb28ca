//! The text of a parameter, as the reference decodes it. Each byte of what was sent is a character.

use std::borrow::Cow;

use encoding_rs::Encoding;

/// A value, or a segment of one.
pub enum Value<'a> {
    /// It means itself.
    Plain(&'a str),
    /// It is percent-encoded.
    Extended(&'a str),
}

/// The text of segments, which are decoded together.
pub fn decoded(segments: &[Value<'_>]) -> Option<String> {
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
    in_charset(charset, &bytes)
}

/// The text of a value as it is.
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
                Word { charset: last.charset, bytes: [last.bytes, next.bytes].concat() }
            }
            last => {
                let first = last.is_none();
                text += &last.map_or(Some(String::new()), |it| in_charset(&it.charset, &it.bytes))?;
                text += if first || !adjacent { &between } else { "" };
                next
            }
        });
        between.clear();
    }
    if !any {
        return Some(value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"));
    }
    let last = word.map_or(Some(String::new()), |it| in_charset(&it.charset, &it.bytes))?;
    Some(text + &last + &between)
}

/// An encoded word.
struct Word {
    charset: String,
    bytes: Vec<u8>,
}

impl Word {
    /// The word with which a text begins, if it does, and what follows. The word is nothing if it cannot be decoded.
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
        Some((bytes.map(|bytes| Self { charset, bytes }), after))
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

/// Which charsets there are, and what they mean, is left to the library that knows them all.
fn in_charset(charset: &str, bytes: &[u8]) -> Option<String> {
    let label = if charset.is_empty() { "utf-8" } else { charset };
    let encoding = Encoding::for_label_no_replacement(&raw(label))?;
    encoding.decode_without_bom_handling_and_without_replacement(bytes).map(Cow::into_owned)
}

/// The bytes that the characters stand for.
fn raw(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(u32::from(it)).unwrap_or(b'?')).collect()
}
