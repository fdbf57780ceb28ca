//! Standard output: the results of commands, and the address that the service listens on.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::sync::mpsc;
use std::thread;

use super::OUTPUT_PATIENCE;

/// A command's output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written")]
pub struct Error(#[from] io::Error);

impl Error {
    /// Whether the reader of a pipe has closed it.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes a line of a command's output. A pipe that the reader has closed (`| head -1`) is not an error.
///
/// # Errors
/// When the line cannot be written, for example to a full disk.
pub fn print(line: impl Display) -> Result<(), Error> {
    match deliver(line) {
        Err(error) if error.is_closed_pipe() => Ok(()),
        written => written,
    }
}

/// Like [`print()`], for output that must not get lost: a closed pipe is an error, too.
///
/// # Errors
/// When the line cannot be written.
pub fn deliver(line: impl Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Writes a line for the operator who starts the service. Errors are ignored, and a full pipe blocks for at most a
/// second, so that the service starts in any case.
pub fn announce(line: String) {
    let (done, written) = mpsc::channel();
    let write = move || {
        deliver(line).ok();
        done.send(()).ok();
    };
    if thread::Builder::new().name("announcement".to_owned()).spawn(write).is_ok() {
        written.recv_timeout(OUTPUT_PATIENCE).ok();
    }
}
