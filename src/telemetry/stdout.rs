//! Standard output: what a command was asked for, and where the service listens.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::sync::mpsc;
use std::thread;

use super::OUTPUT_PATIENCE;

/// Why a command's output is not where it was to go.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written")]
pub struct Error(#[from] io::Error);

/// Writes a line of a command's output. A reader that has closed the pipe (`| head -1`) wants no more, which is no
/// error.
///
/// # Errors
/// When it cannot be written, such as to a full disk.
pub fn print(line: impl Display) -> Result<(), Error> {
    match deliver(line) {
        Err(Error(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The same for what must reach somebody: a closed pipe is an error, too.
///
/// # Errors
/// When it cannot be written.
pub fn deliver(line: impl Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Writes a line for whoever started the service. That nobody reads it is no reason not to serve: errors are
/// ignored, and a pipe that is full is waited for a moment only.
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
