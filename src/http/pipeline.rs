//! Requests that a client sends before it has the responses to those before them. The HTTP library parses all that it
//! is given, and keeps some 7 KiB for each head, so it is given few at a time.

use std::cell::Cell;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What each head has in its first line. It also occurs elsewhere: then fewer bytes are parsed at a time than might be.
static MARK: LazyLock<Finder> = LazyLock::new(|| Finder::new("HTTP/1."));

/// How many heads are parsed at a time, and before the responses to those before them have been written.
const HEADS: usize = 4;

/// The same where they would follow a chunked body, or the end of a sized one: the mark may be part of the body.
const HEADS_IN_BODY: usize = 32;

/// How many bytes of further requests are read before the responses to those before them have been written.
const BYTES: usize = 8 * 1024;

/// What a connection has been given to parse since all responses were last written.
#[derive(Default)]
pub struct Pipeline {
    heads: Cell<usize>,
    bytes: Cell<usize>,
    is_cut: Cell<bool>,
}

impl Pipeline {
    /// How many of these bytes may be parsed at once; the others come next.
    pub fn admit(&self, read: &[u8], is_in_body: bool) -> usize {
        let most = if is_in_body { HEADS_IN_BODY } else { HEADS };
        let mut marks = MARK.find_iter(read);
        let heads = marks.by_ref().take(most).count();
        let admitted = marks.next().unwrap_or(read.len());
        self.is_cut.set(admitted < read.len());
        if !is_in_body {
            self.heads.set(self.heads.get() + heads);
            self.bytes.set(self.bytes.get() + admitted);
        }
        admitted
    }

    /// Whether the parser must see what it was given before it is given more.
    pub fn is_cut(&self) -> bool {
        self.is_cut.take()
    }

    /// Whether no more is read before a response has been written.
    pub fn is_full(&self) -> bool {
        self.heads.get() >= HEADS || self.bytes.get() >= BYTES
    }

    /// All responses have been written.
    pub fn flushed(&self) {
        self.heads.set(0);
        self.bytes.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn few_heads_are_parsed_at_a_time_and_none_are_lost() {
        let pipeline = Pipeline::default();
        let requests = HEAD.repeat(50);
        let (mut rest, mut times) = (requests.as_bytes(), 0);
        while !rest.is_empty() {
            let admitted = pipeline.admit(rest, false);
            assert!(admitted > 0 && admitted <= (HEADS + 1) * HEAD.len());
            assert_eq!(pipeline.is_cut(), admitted < rest.len());
            (rest, times) = (&rest[admitted..], times + 1);
        }
        assert_eq!(times, 13);
        assert!(pipeline.is_full());
        pipeline.flushed();
        assert!(!pipeline.is_full());
    }

    #[test]
    fn a_request_and_its_body_are_parsed_at_once() {
        let pipeline = Pipeline::default();
        let request = HEAD.to_owned() + &"x".repeat(3000);
        assert_eq!(pipeline.admit(request.as_bytes(), false), request.len());
        assert!(!pipeline.is_cut() && !pipeline.is_full());
    }
}
