//! A client that uses little processor time: bodies are written from one buffer, and responses are counted and
//! discarded.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// Requests with smaller bodies are sent with one system call.
const SMALL_BYTES: usize = 64 * 1024;

/// A persistent connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// A response.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Empty if it was discarded.
    pub body: Vec<u8>,
    /// The length of the body in bytes.
    pub length: u64,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| &*it.1)
    }
}

impl Connection {
    /// Opens a connection to `http://host:port`.
    pub fn open(address: &str) -> Self {
        let host = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::with_capacity(1 << 18, stream), host }
    }

    /// Sends a request whose body is in pieces, and reads the whole response. `keep`: store its body instead of
    /// discarding it.
    pub fn send(&mut self, start: &str, headers: &str, body: &[&[u8]], keep: bool) -> Answer {
        let length: usize = body.iter().map(|it| it.len()).sum();
        let head = format!("{start} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n{headers}\r\n", self.host);
        let socket = self.stream.get_mut();
        if length < SMALL_BYTES {
            socket.write_all(&[head.as_bytes(), &body.concat()].concat()).unwrap();
        } else {
            socket.write_all(head.as_bytes()).unwrap();
            for piece in body {
                socket.write_all(piece).unwrap();
            }
        }
        self.answer(keep).unwrap()
    }

    /// Sends a request without a body and reads only the head of the response. Returns its `Content-Length`.
    pub fn ask(&mut self, start: &str, headers: &str) -> u64 {
        let head = format!("{start} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.host);
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
        self.head().unwrap().header("content-length").unwrap().parse().unwrap()
    }

    /// Reads the next bytes of a body.
    pub fn read(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).unwrap();
    }

    fn head(&mut self) -> io::Result<Answer> {
        let status = self.line()?.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer { status, headers, body: Vec::new(), length: 0 })
    }

    fn answer(&mut self, keep: bool) -> io::Result<Answer> {
        let mut answer = self.head()?;
        if answer.status == 204 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = u64::from_str_radix(self.line()?.trim(), 16).map_err(io::Error::other)?;
                self.take(size, keep, &mut answer)?;
                self.line()?;
                if size == 0 {
                    return Ok(answer);
                }
            }
        }
        let length = answer.header("content-length").map_or(0, |it| it.parse().unwrap());
        self.take(length, keep, &mut answer)?;
        Ok(answer)
    }

    fn take(&mut self, length: u64, keep: bool, answer: &mut Answer) -> io::Result<()> {
        let end = answer.length + length;
        while answer.length < end {
            let available = self.stream.fill_buf()?;
            let taken = available.len().min(usize::try_from(end - answer.length).unwrap_or(usize::MAX));
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if keep {
                answer.body.extend_from_slice(&available[..taken]);
            }
            self.stream.consume(taken);
            answer.length += taken as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
