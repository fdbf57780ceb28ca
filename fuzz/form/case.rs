//! What a case is: a boundary, a body, where it is cut, and how it ends; made from any bytes.

use bytes::Bytes;

/// Boundaries short, long and odd.
pub const BOUNDARIES: [&str; 8] = [
    "B",
    "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "-",
    "--",
    "aaBaaBaa",
    "jm8Jp==_=CVu",
    "form-data; name",
    "0123456789012345678901234567890123456789012345678901234567890123456789",
];

/// The fields that are known; the first is a text, as `purpose` is.
pub const KNOWN: &[&str] = &["purpose", "file", "data", "expires_after[anchor]"];

/// More is only slower.
const MOST_BYTES: usize = 2048;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// That it ends is known together with its last piece.
    AtOnce,
    /// That it ends is known later.
    Later,
    /// The client goes away.
    Broken,
}

/// A form and the way it comes.
pub struct Case {
    /// Which of [`BOUNDARIES`] its header has.
    pub boundary: usize,
    /// How it ends.
    pub ending: Ending,
    /// All of it.
    pub body: Bytes,
    lengths: Vec<u8>,
}

impl Case {
    /// The case that these bytes stand for: how it comes, then the body as it is or as tokens.
    pub fn new(input: &[u8]) -> Self {
        let (how, rest) = input.split_at(input.len().min(2));
        let byte = |at: usize| usize::from(how.get(at).copied().unwrap_or_default());
        let (lengths, text) = rest.split_at(rest.len().min(byte(1) % 32));
        let boundary = byte(0) % BOUNDARIES.len();
        let ending = [Ending::AtOnce, Ending::AtOnce, Ending::Later, Ending::Broken][byte(0) / 8 % 4];
        let body = if byte(0) < 224 { assembled(text, BOUNDARIES[boundary]) } else { text.to_vec() };
        Self { boundary, ending, body: body.into(), lengths: lengths.to_vec() }
    }

    /// The body in pieces, some of which may be empty.
    pub fn pieces(&self) -> Vec<Bytes> {
        let mut rest = self.body.clone();
        let mut pieces: Vec<_> =
            self.lengths.iter().map(|it| rest.split_to(rest.len().min(usize::from(*it)))).collect();
        pieces.push(rest);
        pieces
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?} after {:?}", BOUNDARIES[self.boundary], self.ending, self.pieces())
    }
}

/// Control characters stand for what forms are made of, other bytes for themselves.
fn assembled(tokens: &[u8], boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut tokens = tokens.iter().copied();
    while let Some(token) = tokens.next() {
        if body.len() > MOST_BYTES {
            break;
        }
        let mut pick = |from: &[&str]| from[usize::from(tokens.next().unwrap_or_default()) % from.len()].to_owned();
        let text = match token {
            0 => "\r\n".to_owned(),
            1 => "\r".to_owned(),
            2 => "\n".to_owned(),
            3 => "\r\n\r\n".to_owned(),
            4 => "--".to_owned(),
            5 => format!("--{boundary}"),
            6 => format!("\r\n--{boundary}"),
            7 | 8 => format!("\r\n--{boundary}\r\n"),
            9 | 10 => format!("\r\n--{boundary}--\r\n"),
            11 => format!("\r\n--{}", &boundary[..boundary.len() - 1]),
            12 => format!("\r\n-{boundary}--"),
            13 => format!("\r\n--{}!", &boundary[..boundary.len() - 1]),
            14 => format!("\n--{boundary}\r\n"),
            15 => format!("\r--{boundary}\r\n"),
            16 => format!("\r\n--{boundary} \t\r\n"),
            17 => format!("Content-Disposition: form-data; name=\"{}\"", pick(KNOWN)),
            18 => format!("Content-Disposition: form-data; name=\"{}\"; filename=\"", pick(KNOWN)),
            19 => format!("Content-Disposition: form-data; name=\"{}\"; filename={}", pick(KNOWN), pick(FILENAMES)),
            20 => format!("content-disposition:form-data; filename={}; name={}", pick(FILENAMES), pick(KNOWN)),
            21 => format!("\r\nContent-Type:{}", pick(MIME_TYPES)),
            22 => format!("\r\nContent-Length: {}", pick(KNOWN)),
            23..=27 => {
                let name = KNOWN[usize::from(token - 23) % KNOWN.len()];
                format!("\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
            }
            28 => format!("{}=\"", pick(&["name", "filename", "; name", "; filename", "; filename*", "; Name"])),
            29 => "\u{fffd}".to_owned(),
            30 => pick(&["\0", "\t", "\x0c", "\x1f", "\u{7f}", "\u{80}"]),
            31 => "x".repeat(usize::from(tokens.next().unwrap_or_default())),
            byte => {
                body.push(byte);
                continue;
            }
        };
        body.extend_from_slice(text.as_bytes());
    }
    body
}

const FILENAMES: &[&str] = &[
    "\"a\"",
    "a",
    "\"\"",
    "",
    "\"你好\"",
    "\"a%22b%0D\"",
    "\"a\\\"b\"",
    "\"a\\\\\"",
    "\"a;b\"",
    "\"a",
    "\"my name=x\"",
];

const MIME_TYPES: &[&str] = &["", " ", " text/plain", "txt", " text/plain; charset=x ", "你好"];
