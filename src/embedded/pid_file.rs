//! Parses `postmaster.pid`, in which a server publishes its pid, port and status.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, cluster::if_exists};

/// The contents of the file, as last written by a running or killed server.
#[derive(Debug, PartialEq, Eq)]
pub struct PidFile {
    /// The server's process id; negative for a standalone backend, such as that of `initdb`.
    pub pid: i32,
    /// The port that the server listens on.
    pub port: u16,
    /// Whether the server accepts connections.
    pub ready: bool,
}

impl PidFile {
    /// The path of the file in a cluster's directory.
    pub fn path(cluster: &Path) -> PathBuf {
        cluster.join("postmaster.pid")
    }

    /// Reads the file in a cluster's directory. `None` if it does not exist or is incomplete.
    pub fn read(cluster: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(cluster);
        // Not a string: the file contains the path of the data directory, which need not be UTF-8.
        let bytes = if_exists(fs::read(&path)).map_err(Error::file(&path))?;
        Ok(bytes.and_then(|it| Self::parse(&String::from_utf8_lossy(&it))))
    }

    /// `None` if the server has not written enough of the file yet. The lines are: pid, cluster, start time, port,
    /// socket directory, address, shared memory key, status.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let port = lines.nth(2)?.trim().parse().ok()?;
        let ready = lines.nth(3).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, port, ready })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_stage_of_the_file() {
        let lines = ["4242", "/data/my postgres", "1763855515", "40001", "", "127.0.0.1", "  123456  0", "ready   "];
        let stage = |count: usize| PidFile::parse(&lines[..count].join("\n"));
        assert_eq!(stage(0), None);
        assert_eq!(stage(1), None);
        assert_eq!(stage(5), Some(PidFile { pid: 4242, port: 40001, ready: false }));
        assert_eq!(stage(8), Some(PidFile { pid: 4242, port: 40001, ready: true }));
    }

    #[test]
    fn is_ready_only_with_the_status_ready() {
        let with =
            |status| PidFile::parse(&format!("-7\n/d\n1\n5432\n\n*\n1 0\n{status}\n")).map(|it| (it.pid, it.ready));
        assert_eq!(with("starting"), Some((-7, false)));
        assert_eq!(with("stopping"), Some((-7, false)));
        assert_eq!(with("ready"), Some((-7, true)));
    }
}
