//! The server's log file. It is also a lock that is held as long as any process of the server exists.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::Error;

/// How much of the log's end an error message quotes.
const TAIL_BYTES: u64 = 2_000;

/// The most bytes read per poll when following the log; older bytes are skipped.
const READ_BYTES: u64 = 64 * 1024;

/// The size at which the log is rotated; one previous log of this size is kept.
const ROTATED_BYTES: u64 = 16 * 1024 * 1024;

/// How much of the log is kept when the disk is full.
const KEPT_BYTES: u64 = 64 * 1024;

/// The open log file.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log for appending; creates it if it does not exist.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(Error::file(&path))?, path })
    }

    /// Tries to lock the log. `None` if another process holds the lock. [`Self::hand_to`] shares it with the server.
    pub fn try_lock(&self) -> Result<Option<()>, Error> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.error(error)),
        }
    }

    /// Redirects the output of a command to the log. The command and its child processes inherit the lock, and hold it
    /// until the last of them has exited.
    pub fn hand_to(&self, command: &mut Command) -> Result<(), Error> {
        let copy = || self.file.try_clone().map(Stdio::from).map_err(|error| self.error(error));
        command.stdout(copy()?).stderr(copy()?);
        Ok(())
    }

    /// The offset of the next line.
    pub fn end(&self) -> Result<u64, Error> {
        self.file.metadata().map(|it| it.len()).map_err(|error| self.error(error))
    }

    /// The log from the offset `from` on, limited to the last [`TAIL_BYTES`].
    pub fn tail(&self, from: u64) -> Result<String, Error> {
        let end = self.end()?;
        // The log is shorter if it was rotated.
        let from = if from > end { 0 } else { from };
        let bytes = self.read(from.max(end.saturating_sub(TAIL_BYTES)), end)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Returns the complete lines after `position`, and advances it past them. Reads at most the last [`READ_BYTES`].
    pub fn lines_after(&self, position: &mut u64) -> Result<Vec<String>, Error> {
        let end = self.end()?;
        // The log is shorter if it was truncated.
        let from = if *position > end { 0 } else { *position }.max(end.saturating_sub(READ_BYTES));
        let bytes = self.read(from, end)?;
        let whole = bytes.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        *position = from + whole as u64;
        Ok(String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect())
    }

    /// Copies the log to `postgres.log.1` and truncates it if it has reached [`ROTATED_BYTES`]. Returns whether it was
    /// truncated.
    pub fn rotate(&self) -> Result<bool, Error> {
        let length = self.end()?;
        if length < ROTATED_BYTES {
            return Ok(false);
        }
        let older = self.older();
        // The server has the file open, so it cannot be renamed. Lines written between the copy and the truncation are
        // lost.
        if let Err(error) = fs::copy(&self.path, &older) {
            fs::remove_file(&older).ok();
            // If there is no space for a copy, truncate a log of twice the size anyway.
            if length < 2 * ROTATED_BYTES {
                return Err(Error::file(&older)(error));
            }
        }
        self.file.set_len(0).map_err(|error| self.error(error))?;
        Ok(true)
    }

    /// Frees disk space: deletes the previous log and truncates this one to its last [`KEPT_BYTES`]. Returns whether
    /// any space was freed.
    pub fn shed(&self) -> Result<bool, Error> {
        let older = fs::remove_file(self.older()).is_ok();
        let end = self.end()?;
        if end <= 2 * KEPT_BYTES {
            return Ok(older);
        }
        let kept = self.read(end - KEPT_BYTES, end)?;
        self.file.set_len(0).map_err(|error| self.error(error))?;
        // If there is no space even for this, the log stays empty.
        io::Write::write_all(&mut &self.file, &kept).ok();
        Ok(true)
    }

    /// The error for a program that exited, quoting what was logged after `from`.
    pub fn ended(&self, program: &'static str, status: ExitStatus, from: u64) -> Error {
        self.quote(from, |log, tail| Error::Ended { program, status, log, tail })
    }

    /// The error for a server that did not stop in time, quoting what was logged after `from`.
    pub fn too_slow(&self, within: Duration, from: u64) -> Error {
        self.quote(from, |log, tail| Error::TooSlow { within, log, tail })
    }

    fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    fn read(&self, from: u64, end: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(from)).unwrap_or_default()];
        match self.file.read_exact_at(&mut bytes, from) {
            // The log was truncated in the meantime.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
            Err(error) => Err(self.error(error)),
            Ok(()) => Ok(bytes),
        }
    }

    fn quote(&self, from: u64, error: impl FnOnce(PathBuf, String) -> Error) -> Error {
        self.tail(from).map_or_else(|error| error, |tail| error(self.path.clone(), tail))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::file(&self.path)(source)
    }
}
