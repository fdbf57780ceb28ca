//! Splits a multipart body into its parts (RFC 2046, section 5.1.1) while it arrives in pieces.

use std::task::Poll;

use bytes::Bytes;
use memchr::memmem::{self, Finder};
use memchr::memrchr;

use super::unread::Unread;

/// The maximum size of a part's head.
const MOST_HEAD_BYTES: usize = 16 * 1024;

/// The maximum number of blanks between a boundary and the end of its line; RFC 2046 sets no limit.
const MOST_PADDING_BYTES: usize = 1024;

/// The error for a body that cannot be split into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A form whose lines all end in LF alone has no valid delimiters.
    #[error("a boundary line, or the line before the first one, ends in LF alone; lines must end in CRLF")]
    BareLf,
    /// See [`MOST_PADDING_BYTES`].
    #[error("a boundary is followed by more than {max} spaces or tabs", max = MOST_PADDING_BYTES)]
    Padding,
    /// See [`MOST_HEAD_BYTES`].
    #[error("a part's header has more than {max} bytes", max = MOST_HEAD_BYTES)]
    HeadTooLong,
}

/// Splits a body. It buffers only bytes that cannot be classified yet: the beginning of a head or of a boundary.
/// `Poll::Pending` means that it needs the next piece, see [`Self::push`].
pub struct Splitter {
    unread: Unread,
    delimiter: Finder<'static>,
    place: Place,
}

/// The position in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first delimiter.
    Preamble,
    /// At the end of a delimiter's line, which a head follows.
    Head,
    Content,
    /// After the last delimiter.
    Epilogue,
}

/// The classification of a line that begins with a boundary.
enum Line {
    /// More bytes are needed.
    Unfinished,
    /// Content that only begins like a delimiter.
    Content,
    /// A delimiter that is followed by this many blanks.
    Delimiter(usize),
    /// The last delimiter.
    Last,
}

impl Splitter {
    /// A splitter for a body with this boundary, which contains no CR.
    pub fn new(boundary: &[u8]) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        // The first delimiter may be at the start of the body, where no CRLF precedes it.
        let mut unread = Unread::default();
        unread.push(Bytes::from_static(b"\r\n"));
        Self { unread, delimiter: Finder::new(&delimiter).into_owned(), place: Place::Preamble }
    }

    /// Adds the next piece of the body.
    pub fn push(&mut self, piece: Bytes) {
        if self.place != Place::Epilogue {
            self.unread.push(piece);
        }
    }

    /// The head of the next part, without the CRLF of its last line; `None` after the last part. Skips the rest of the
    /// previous part's content.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn head(&mut self) -> Result<Poll<Option<Bytes>>, Malformed> {
        loop {
            match self.place {
                Place::Preamble => {
                    if self.skip_preamble()?.is_pending() {
                        return Ok(Poll::Pending);
                    }
                }
                Place::Content => {
                    if self.until_delimiter()?.is_pending() {
                        return Ok(Poll::Pending);
                    }
                }
                Place::Head => return self.take_head().map(|head| head.map(Some)),
                Place::Epilogue => return Ok(Poll::Ready(None)),
            }
        }
    }

    /// The next bytes of the part's content; `None` at its end.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn content(&mut self) -> Result<Poll<Option<Bytes>>, Malformed> {
        if self.place == Place::Content { self.until_delimiter() } else { Ok(Poll::Ready(None)) }
    }

    /// Skips to the end of the first delimiter. One with a bare LF is an error, since the first part would be missing.
    fn skip_preamble(&mut self) -> Result<Poll<()>, Malformed> {
        let (bytes, delimiter) = (self.unread.bytes(), self.delimiter.needle());
        let mut before = bytes.len().saturating_sub(delimiter.len() - 1);
        for lf in memmem::find_iter(bytes, &delimiter[1..]) {
            let after = lf + delimiter.len() - 1;
            let line = Line::of(&bytes[after..])?;
            match line {
                Line::Content => {}
                Line::Unfinished => {
                    before = lf.saturating_sub(1);
                    break;
                }
                _ if !bytes[..lf].ends_with(b"\r") => return Err(Malformed::BareLf),
                Line::Delimiter(blanks) => {
                    self.pass_delimiter(after + blanks);
                    return Ok(Poll::Ready(()));
                }
                Line::Last => {
                    self.pass_last();
                    return Ok(Poll::Ready(()));
                }
            }
        }
        self.unread.take(before);
        Ok(Poll::Pending)
    }

    fn pass_delimiter(&mut self, length: usize) {
        self.unread.take(length);
        self.place = Place::Head;
    }

    fn pass_last(&mut self) {
        self.unread = Unread::default();
        self.place = Place::Epilogue;
    }

    /// The next bytes before a delimiter; `None` after consuming it.
    fn until_delimiter(&mut self) -> Result<Poll<Option<Bytes>>, Malformed> {
        let bytes = self.unread.bytes();
        let mut from = 0;
        let before = loop {
            let Some(at) = self.delimiter.find(&bytes[from..]).map(|it| from + it) else {
                break bytes.len() - self.partial_delimiter(bytes);
            };
            let after = at + self.delimiter.needle().len();
            match Line::of(&bytes[after..]) {
                Ok(Line::Content) => from = after,
                _ if at > 0 => break at,
                Ok(Line::Unfinished) => return Ok(Poll::Pending),
                Ok(Line::Delimiter(blanks)) => {
                    self.pass_delimiter(after + blanks);
                    return Ok(Poll::Ready(None));
                }
                Ok(Line::Last) => {
                    self.pass_last();
                    return Ok(Poll::Ready(None));
                }
                Err(error) => return Err(error),
            }
        };
        Ok(if before == 0 { Poll::Pending } else { Poll::Ready(Some(self.unread.take(before))) })
    }

    /// The number of bytes at the end that may be the beginning of a delimiter, whose only CR is its first byte.
    fn partial_delimiter(&self, bytes: &[u8]) -> usize {
        let delimiter = self.delimiter.needle();
        let last = &bytes[bytes.len().saturating_sub(delimiter.len() - 1)..];
        let partial = memrchr(b'\r', last).map_or(&[][..], |at| &last[at..]);
        if delimiter.starts_with(partial) { partial.len() } else { 0 }
    }

    fn take_head(&mut self) -> Result<Poll<Bytes>, Malformed> {
        const LINE_END: usize = b"\r\n".len();
        let bytes = self.unread.bytes();
        // The bytes start with the CRLF of the delimiter's line. In a part without headers, the empty line follows it.
        let end = memmem::find(bytes, b"\r\n\r\n");
        let earliest_end = end.unwrap_or_else(|| bytes.len().saturating_sub(3));
        if earliest_end > LINE_END + MOST_HEAD_BYTES {
            return Err(Malformed::HeadTooLong);
        }
        let Some(end) = end else { return Ok(Poll::Pending) };
        let mut head = self.unread.take(end + 2 * LINE_END);
        head.truncate(end);
        self.place = Place::Content;
        Ok(Poll::Ready(head.split_off(LINE_END.min(end))))
    }
}

impl Line {
    /// Classifies a line by the bytes that follow the boundary.
    fn of(rest: &[u8]) -> Result<Self, Malformed> {
        let blanks = rest.iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
        if blanks > MOST_PADDING_BYTES {
            return Err(Malformed::Padding);
        }
        match &rest[blanks..] {
            [] | [b'\r'] => Ok(Self::Unfinished),
            [b'\r', b'\n', ..] => Ok(Self::Delimiter(blanks)),
            [b'\n', ..] => Err(Malformed::BareLf),
            [b'-'] if blanks == 0 => Ok(Self::Unfinished),
            [b'-', b'-', ..] if blanks == 0 => Ok(Self::Last),
            _ => Ok(Self::Content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heads and contents, and the outcome: `None` if the body has no last delimiter.
    type Parts = (Vec<(Vec<u8>, Vec<u8>)>, Option<Result<(), Malformed>>);

    fn split<'a>(boundary: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Parts {
        let mut splitter = Splitter::new(boundary.as_bytes());
        let mut pieces = pieces.into_iter();
        let mut parts: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut in_content = false;
        loop {
            let next = if in_content { splitter.content() } else { splitter.head() };
            match next {
                Err(error) => return (parts, Some(Err(error))),
                Ok(Poll::Pending) => match pieces.next() {
                    Some(piece) => splitter.push(Bytes::copy_from_slice(piece)),
                    None => return (parts, None),
                },
                Ok(Poll::Ready(Some(bytes))) if in_content => parts.last_mut().unwrap().1.extend(bytes),
                Ok(Poll::Ready(None)) if in_content => in_content = false,
                Ok(Poll::Ready(Some(head))) => {
                    parts.push((head.to_vec(), Vec::new()));
                    in_content = true;
                }
                Ok(Poll::Ready(None)) => return (parts, Some(Ok(()))),
            }
        }
    }

    /// The parts of a body. Checks that they are the same for the whole body, for each split in two, and for single
    /// bytes.
    fn parts(boundary: &str, body: &str) -> Parts {
        let whole = split(boundary, [body.as_bytes()]);
        for at in 0..=body.len() {
            let (one, two) = body.as_bytes().split_at(at);
            assert_eq!(split(boundary, [one, two]), whole, "cut at {at}: {body:?}");
        }
        assert_eq!(split(boundary, body.as_bytes().chunks(1)), whole, "single bytes: {body:?}");
        whole
    }

    #[track_caller]
    fn check(boundary: &str, body: &str, expected: &[(&str, &str)]) {
        let (parts, outcome) = parts(boundary, body);
        let parts: Vec<_> =
            parts.iter().map(|it| (str::from_utf8(&it.0).unwrap(), str::from_utf8(&it.1).unwrap())).collect();
        assert_eq!((&*parts, outcome), (expected, Some(Ok(()))), "{body:?}");
    }

    #[test]
    fn parts_are_the_same_wherever_the_body_is_cut() {
        check("B", "--B\r\nh\r\n\r\ncontent\r\n--B--", &[("h", "content")]);
        check(
            "B",
            "--B\r\na\r\n\r\n1\r\n--B\r\nb: c\r\nd\r\n\r\n\r\n2\r\n\r\n--B--\r\n",
            &[("a", "1"), ("b: c\r\nd", "\r\n2\r\n")],
        );
        check("B", "--B--", &[]);
        check("--", "----\r\nh\r\n\r\n\r\n---\r\n------", &[("h", "\r\n---")]);
    }

    #[test]
    fn a_part_may_lack_a_head_or_content() {
        check("B", "--B\r\n\r\nx\r\n--B--", &[("", "x")]);
        check("B", "--B\r\n\r\n\r\n--B\r\nh\r\n\r\n\r\n--B--", &[("", ""), ("h", "")]);
    }

    #[test]
    fn preamble_and_epilogue_are_skipped() {
        check("B", "\r\n--B\r\nh\r\n\r\nx\r\n--B--", &[("h", "x")]);
        check(
            "B",
            "This is --B\r\n or\r\n--Bx\r\n--B\r\nh\r\n\r\nx\r\n--B--\r\n--B\r\ni\r\n\r\ny\r\n--B--",
            &[("h", "x")],
        );
        check("B", "--B\r\nh\r\n\r\nx\r\n--B--\n", &[("h", "x")]);
    }

    #[test]
    fn blanks_may_follow_a_boundary() {
        check("B", "--B \t\r\nh\r\n\r\nx\r\n--B  \r\ni\r\n\r\ny\r\n--B--  \r\n", &[("h", "x"), ("i", "y")]);
        let padded = |blanks: usize| format!("--B{}\r\nh\r\n\r\nx\r\n--B--", " ".repeat(blanks));
        check("B", &padded(MOST_PADDING_BYTES), &[("h", "x")]);
        assert_eq!(parts("B", &padded(MOST_PADDING_BYTES + 1)).1, Some(Err(Malformed::Padding)));
    }

    #[test]
    fn a_line_that_only_begins_like_a_delimiter_is_content() {
        for content in [
            "\r\n--Bx",
            "\r\n--B1\r\n",
            "\r\n--B-",
            "\r\n--B-x-",
            "\r\n--B \tx",
            "\r\n--B --",
            "\r\n--B\rx",
            "\r\n--",
            "\r\n-B--",
            "--B\r\n",
            "\n--B--",
            "\r--B--",
            "\r",
            "\r\n",
            "\r\r\n",
            "\r\n\r\n--b",
            "\r\n--\r\n--\r\n",
            "\n\n\n",
        ] {
            check("B", &format!("--B\r\nh\r\n\r\n{content}\r\n--B--"), &[("h", content)]);
        }
    }

    #[test]
    fn lines_that_end_in_lf_alone_are_refused() {
        assert_eq!(parts("B", "--B\nh\n\nx\n--B--\n").1, Some(Err(Malformed::BareLf)));
        assert_eq!(parts("B", "--B\r\nh\r\n\r\nx\r\n--B \nh\r\n\r\ny\r\n--B--").1, Some(Err(Malformed::BareLf)));
        assert_eq!(parts("B", "--B\r\nh\n\nx\n--B--\n").1, None);
        let form = "--B\r\nh\r\n\r\nx\r\n--B\r\ni\r\n\r\ny\r\n--B--";
        for preamble in ["\n", "\n\n", "\r\r\n\n", "junk\n", "\r\n--B-\n", "--B\n\r\n", "\n--B--\r\n", "\n--B \n\n"] {
            assert_eq!(
                parts("B", &format!("{preamble}{form}")),
                (vec![], Some(Err(Malformed::BareLf))),
                "{preamble:?}"
            );
        }
        for preamble in ["\n\r\n", "\n--Bx\r\n", "\n--B-\r\n", "\n--\r\n", "a\n--B\rb\n\r\n", "\n--B - \n\r\n"] {
            check("B", &format!("{preamble}{form}"), &[("h", "x"), ("i", "y")]);
        }
    }

    #[test]
    fn a_body_without_a_last_delimiter_never_ends() {
        let body = "--B\r\nh\r\n\r\nx\r\n--B--";
        for end in 0..body.len() {
            assert_eq!(parts("B", &body[..end]).1, None, "{:?}", &body[..end]);
        }
        assert_eq!(parts("C", body).1, None);
    }

    #[test]
    fn the_head_of_a_part_is_bounded() {
        let head = |bytes: usize| format!("--B\r\n{}\r\n\r\nx\r\n--B--", "h".repeat(bytes));
        for size in [1000, usize::MAX] {
            let outcome = |body: &str| split("B", body.as_bytes().chunks(size)).1;
            assert_eq!(outcome(&head(MOST_HEAD_BYTES)), Some(Ok(())));
            assert_eq!(outcome(&head(MOST_HEAD_BYTES + 1)), Some(Err(Malformed::HeadTooLong)));
        }
        let endless = "h".repeat(MOST_HEAD_BYTES * 2);
        assert_eq!(split("B", [b"--B\r\n", endless.as_bytes()]).1, Some(Err(Malformed::HeadTooLong)));
    }

    #[test]
    fn content_is_not_copied_and_few_bytes_are_held_back() {
        let mut splitter = Splitter::new(b"B");
        splitter.push(Bytes::from_static(b"--B\r\nh\r\n\r\n"));
        assert_eq!(splitter.head(), Ok(Poll::Ready(Some(Bytes::from_static(b"h")))));
        let piece = Bytes::from(vec![b'x'; 1000]);
        splitter.push(piece.clone());
        let Ok(Poll::Ready(Some(content))) = splitter.content() else { panic!("content was held back") };
        assert_eq!((content.as_ptr(), content.len()), (piece.as_ptr(), piece.len()));
        let hostile = b"\r\n--B \t\t\tx\r\n--\r\n--B-".repeat(10_000);
        let mut most = 0;
        for piece in hostile.chunks(997) {
            splitter.push(Bytes::copy_from_slice(piece));
            while let Ok(Poll::Ready(Some(_))) = splitter.content() {}
            most = most.max(splitter.unread.bytes().len());
        }
        assert!((1..20).contains(&most), "{most}");
    }
}
