//! The head of a part, as the reference reads it: its headers, and what they say of names.

use windlass::domain::{Filename, MimeType};

/// More are refused.
const MOST_HEADERS: usize = 32;

/// The headers of one part.
pub struct Head<'a>(Vec<(&'a [u8], &'a [u8])>);

/// What a part is called.
pub struct Names {
    /// The field's name; empty if it has none.
    pub name: String,
    /// The file's name, where that can be one.
    pub filename: Option<String>,
}

impl<'a> Head<'a> {
    /// The headers; nothing if they are none.
    pub fn read(head: &'a [u8]) -> Option<Self> {
        let mut headers = Vec::new();
        // Laxer than RFC 5322: a line may end in a bare LF. What follows an empty line that does is passed over.
        for line in head.split(|it| *it == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_at(line.iter().position(|it| *it == b':')?);
            let value = trimmed(&value[1..]);
            let legal = |it: &u8| *it == b'\t' || (*it >= b' ' && *it != 0x7f);
            if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().all(legal) {
                return None;
            }
            headers.push((name, value));
        }
        (headers.len() <= MOST_HEADERS).then_some(Self(headers))
    }

    /// The last of that name counts.
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().rfind(|it| it.0.eq_ignore_ascii_case(name.as_bytes())).map(|it| it.1)
    }

    /// The content type, where that can be one.
    pub fn mime_type(&self) -> Option<String> {
        match self.get("content-type") {
            None | Some([]) => Some("application/octet-stream".to_owned()),
            Some(text) => std::str::from_utf8(text).ok()?.parse::<MimeType>().ok().map(|it| it.as_str().to_owned()),
        }
    }

    /// What the part is called. Nothing if that is not written plainly: multer finds `name` and `filename`
    /// by searching, in the texts of others as well, so that it may see what strictly is not there.
    pub fn names(&self) -> Option<Names> {
        let parameters = parameters(self.get("content-disposition").unwrap_or_default())?;
        let get =
            |name: &str| parameters.iter().find(|it| it.0 == name.as_bytes()).map(|it| String::from_utf8(it.1.clone()));
        let filename = match get("filename") {
            None => Some("upload".to_owned()),
            Some(text) => text.ok().map(|it| it.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")),
        };
        let filename = filename.and_then(|it| it.parse::<Filename>().ok()).map(|it| it.as_str().to_owned());
        Some(Names { name: get("name").and_then(Result::ok).unwrap_or_default(), filename })
    }
}

/// The parameters of a disposition, if it is `form-data; key=token; key="text"; ...`, with no escape but
/// `\"`, no key twice, and the word `name` nowhere but in keys.
fn parameters(disposition: &[u8]) -> Option<Vec<(&[u8], Vec<u8>)>> {
    let mut parameters: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let end = disposition.iter().position(|it| *it == b';').unwrap_or(disposition.len());
    let (kind, mut rest) = disposition.split_at(end);
    while let Some(parameter) = rest.strip_prefix(b";") {
        let parameter = trimmed(parameter);
        let (key, value) = parameter.split_at(parameter.iter().position(|it| *it == b'=')?);
        let (text, after) = value_of(&value[1..])?;
        if !key.iter().all(u8::is_ascii_lowercase) || parameters.iter().any(|it| it.0 == key) {
            return None;
        }
        parameters.push((key, text));
        rest = trimmed(after);
    }
    let keys = parameters.iter().filter(|it| [&b"name"[..], b"filename"].contains(&it.0)).count();
    let words = disposition.windows(4).filter(|it| it.eq_ignore_ascii_case(b"name")).count();
    (rest.is_empty() && kind.iter().copied().all(is_token) && words == keys).then_some(parameters)
}

/// A parameter's value, and what follows it.
fn value_of(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let (token, after) = rest.split_at(rest.iter().take_while(|it| is_token(**it)).count());
        return Some((token.to_vec(), after));
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return Some((text, bytes.as_slice())),
            b'\\' if bytes.next()? == &b'"' => text.push(b'"'),
            b'\\' => return None,
            byte => text.push(*byte),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
