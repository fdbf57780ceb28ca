//! The server's log, which is also the lock that says whether any process of the server is left.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::Error;

/// How much of it an error quotes.
const TAIL_BYTES: u64 = 2_000;

/// An open log.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens it to append to it.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(Error::file(&path))?, path })
    }

    /// Locks it, if nobody else has it: [`Self::hand_to`] shares the lock with the server.
    pub fn try_lock(&self) -> Result<Option<()>, Error> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.error(error)),
        }
    }

    /// Lets a command, and everything it starts, write to it; they hold the lock until the last of them is gone.
    pub fn hand_to(&self, command: &mut Command) -> Result<(), Error> {
        let copy = || self.file.try_clone().map(Stdio::from).map_err(|error| self.error(error));
        command.stdout(copy()?).stderr(copy()?);
        Ok(())
    }

    /// Where the next line will be.
    pub fn end(&self) -> Result<u64, Error> {
        self.file.metadata().map(|it| it.len()).map_err(|error| self.error(error))
    }

    /// What was written from there on, or the last of it.
    pub fn tail(&self, from: u64) -> Result<String, Error> {
        let from = from.max(self.end()?.saturating_sub(TAIL_BYTES));
        let mut bytes = Vec::new();
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(TAIL_BYTES).read_to_end(&mut bytes));
        read.map_err(|error| self.error(error))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// The error that a program ended, with what it said from there on.
    pub fn ended(&self, program: &'static str, status: ExitStatus, from: u64) -> Error {
        self.quote(from, |log, tail| Error::Ended { program, status, log, tail })
    }

    /// The error that the server took too long, with what it said from there on.
    pub fn too_slow(&self, what: &'static str, within: Duration, from: u64) -> Error {
        self.quote(from, |log, tail| Error::TooSlow { what, within, log, tail })
    }

    fn quote(&self, from: u64, error: impl FnOnce(PathBuf, String) -> Error) -> Error {
        self.tail(from).map_or_else(|error| error, |tail| error(self.path.clone(), tail))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::File { path: self.path.clone(), source }
    }
}
