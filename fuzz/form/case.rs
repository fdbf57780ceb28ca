//! A fuzz case, made from arbitrary bytes: a boundary, a body, how it is split, and how it ends.

use bytes::Bytes;

/// Boundaries: short, long and unusual ones.
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

/// The fields that the form accepts. The first one, like `purpose`, has text as its content.
pub const KNOWN: &[&str] = &["purpose", "file", "data", "expires_after[anchor]"];

/// The length of a body, in bytes, beyond which no more tokens are added: longer bodies are only slower to parse.
const MOST_BYTES: usize = 2048;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The end is seen together with the last piece.
    AtOnce,
    /// The end is seen after the last piece.
    Later,
    /// The client disconnects.
    Broken,
}

/// A form and how it arrives.
pub struct Case {
    /// Index of the boundary in [`BOUNDARIES`].
    pub boundary: usize,
    /// How the body ends.
    pub ending: Ending,
    /// The whole body.
    pub body: Bytes,
    lengths: Vec<u8>,
}

impl Case {
    /// Decodes a case: first how it arrives, then the body, literally or as tokens (see [`assembled`]).
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

/// Expands tokens into a body: control characters stand for pieces of forms, other bytes for themselves.
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
            17 => format!("Content-Disposition: form-data; name=\"{}\"", pick(NAMES)),
            18 => format!("Content-Disposition: form-data; name=\"{}\"; filename=\"", pick(NAMES)),
            19 => {
                format!("Content-Disposition: form-data; name=\"{}\"; filename={}", pick(KNOWN), pick(FILENAMES))
            }
            20 => format!("content-disposition:Form-Data;FileName = {};\tNAME={}", pick(FILENAMES), pick(NAMES)),
            21 => format!("\r\nContent-Type:{}", pick(MIME_TYPES)),
            22 => format!("\r\n{}", pick(HEADERS)),
            23..=27 => {
                let name = KNOWN[usize::from(token - 23) % KNOWN.len()];
                format!("\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
            }
            28 => pick(PARAMETERS),
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

/// Names of fields, some of them encoded.
const NAMES: &[&str] = &[
    "purpose",
    "file",
    "data",
    "expires_after[anchor]",
    "_charset_",
    "=?utf-8?Q?file?=",
    "=?us-ascii?b?ZGF0YQ==?=",
    "unknown",
    "",
];

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
    "a b",
    "a\"b",
    "\"a\\b\"",
    "\"a\\\\b\"",
    "\"a\\",
    "\"dir\\\"",
    "\"C:\\\\a\\b\\\"c\"",
    "\"=?utf-8?B?5L2g5aW9?=\"",
    "\"=?utf-8?Q?a=E4=BD=A0_b?= =?utf-8?q?c?=\"",
    "\"=?utf-8?B?5L0=?= \t=?UTF-8?B?oA?= =?iso-8859-1?Q?=E9?= d\"",
    "\"=?utf-8?B?5L0?=\"",
    "\"=?x?Q?a?=\"",
    "\"=?utf-8?Q?=4?=\"",
    "\"=?utf-8?X?a?= =?=?utf-8?Q?a?=\"",
    "x; filename*=utf-8''%E4%BD%A0",
    "x; filename*=\"UTF-8'en'a'b%25\"",
    "x; filename*=iso-8859-1''%E9",
    "x; filename*=a",
    "x; filename*=utf-8''%",
    "x; filename*=utf-8''%E9",
    "x; filename*=klingon''a",
    "x; filename*0*=utf-8''%E4%BD; filename*1*=%A0; filename*2=%41",
    "x; filename*1=b; filename*0=\"a\"",
    "x; filename*1=b",
    "x; filename*0=a; filename*0*=''b",
    "x; filename=y",
    "x; filename*=utf-16''%FE%FF%4F%60",
    "x; filename*=utf-16''%FF%FE%60%4F",
    "x; filename*=utf-8''%EF%BB%BFa",
    "\"=?utf-16?B?/v8AYQ==?= =?UTF-16?B?//5iAA==?=\"",
    "\"=?utf-8?B?77u/YQ==?= =?utf-8?B?77u/Yg?=\"",
    "\"=?gb2312?B?xA==?= =?gb2312?B?47rD?=\"",
    "\"=?iso-2022-jp?B?GyRCRnwbKEI=?= =?iso-2022-jp?B?GyRCS1wbKEI=?=\"",
    "\"=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=\"",
    "x; filename*=iso-2022-jp''%1B$BF%7C%1B(B%1B$BK%5C%1B(B",
    "x; filename*0=\"=?utf-8?Q?a\"; filename*1=\"?=\"",
    "x; filename*0=a%2; filename*1=2b",
    "x; filename*0*=iso-8859-1''%E9; filename*1=é",
    "x; filename*0*=utf-8''%C3%A9; filename*1=é",
];

/// Pieces of a `Content-Disposition` header.
const PARAMETERS: &[&str] = &[
    "name=\"",
    "filename=\"",
    "; name=\"file\"",
    ";filename=\"",
    "; filename*=utf-8''",
    "; filename*0*=utf-8''",
    "; filename*1*=%",
    "; filename*2=\"",
    "; Name=\"",
    "\r\n\t",
    "\r\n ;",
    "\"; ",
    "\\\\",
    "\\\"",
    "=?utf-8?B?",
    "=?utf-8?Q?",
    "?=",
    "%22",
    "%E4%BD%A0",
];

const HEADERS: &[&str] = &[
    "Content-Length: 5",
    "Content-Transfer-Encoding: base64",
    "content-transfer-encoding : Binary",
    "Content-Transfer-Encoding:",
    "Content-Encoding: gzip",
    "Content-Encoding: identity",
    "Content-Encoding: identity , Identity",
    "Content-Type: a",
    "Content-Disposition: form-data; name=file",
    " folded",
    "X-Other: \u{e9}",
];

const MIME_TYPES: &[&str] = &[
    "",
    " ",
    " text/plain",
    "txt",
    " text/plain; charset=x ",
    " text/plain;\r\n\tcharset=x",
    "你好",
    " text/plain ; name=\"你好\"",
    " Multipart/Mixed; boundary=x",
];
