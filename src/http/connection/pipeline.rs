//! Limits pipelined requests, which a client sends before it has received the previous responses. The HTTP library
//! parses all bytes that it receives, and uses about 7 KiB per head, so it receives only a few heads at a time.

use std::cell::Cell;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Occurs in the first line of every head. If it also occurs elsewhere, fewer bytes than possible are parsed at a time.
static MARK: LazyLock<Finder> = LazyLock::new(|| Finder::new("HTTP/1."));

/// The maximum number of heads that are parsed at a time, and before the previous responses have been written.
const HEADS: usize = 4;

/// The same for bytes that may belong to a body, which may contain the mark, too.
const HEADS_IN_BODY: usize = 32;

/// The maximum number of bytes of further requests that are read before the previous responses have been written.
const BYTES: usize = 8 * 1024;

/// The heads and bytes passed to the parser since all responses were last written.
#[derive(Default)]
pub struct Pipeline {
    heads: Cell<usize>,
    bytes: Cell<usize>,
    is_cut: Cell<bool>,
}

impl Pipeline {
    /// Returns how many of these bytes may be parsed now; the caller passes the others again later.
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

    /// Whether the last call of [`Self::admit`] admitted only part of the bytes, so that they must be parsed before
    /// more are passed. Resets the flag.
    pub fn is_cut(&self) -> bool {
        self.is_cut.take()
    }

    /// Whether reading must pause until the responses have been written.
    pub fn is_full(&self) -> bool {
        self.heads.get() >= HEADS || self.bytes.get() >= BYTES
    }

    /// Resets the limits. Called when all responses have been written.
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
