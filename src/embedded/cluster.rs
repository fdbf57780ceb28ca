//! The cluster's files in the data directory: creates the cluster, and locks it against other processes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Error,
    log::Log,
    pid_file::PidFile,
    poll,
    run_as::{ROOT, RunAs},
};

/// The timeout for the server of another process to become ready.
const READY_FOR_OTHERS_WITHIN: Duration = Duration::from_secs(10);
/// The timeout for the server of a killed process to exit.
const ORPHAN_ENDED_WITHIN: Duration = Duration::from_mins(2);
/// The number of random bytes in the password.
const PASSWORD_BYTES: usize = 32;

/// The only role, a superuser.
const ROLE: &str = "windlass";
/// The database that `initdb` creates.
const DATABASE: &str = "postgres";

/// The PostgreSQL files of a data directory.
#[derive(Clone)]
pub struct Cluster {
    data_dir: PathBuf,
}

impl Cluster {
    /// Opens a data directory; creates it if it does not exist.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(Error::file(data_dir))?;
        Ok(Self { data_dir: fs::canonicalize(data_dir).map_err(Error::file(data_dir))? })
    }

    /// The data directory, as an absolute path without symlinks.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of the cluster.
    pub fn dir(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// The directory in which a new cluster is created.
    pub fn new_dir(&self) -> PathBuf {
        self.data_dir.join("postgres.new")
    }

    /// The files that only the owner of the data directory may read. They need not exist.
    pub fn private_files(&self) -> [PathBuf; 4] {
        [self.lock_path(), self.log_path(), self.password_path(), self.data_dir.join("api-key")]
    }

    /// Acquires the lock that the owner of the server holds. `None` if another process holds it.
    pub fn try_lock(&self) -> Result<Option<File>, Error> {
        let path = self.lock_path();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(Error::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file(&path)(error)),
        }
    }

    /// Opens and locks the log, which proves that no server runs, and removes a stale pid file. Waits for the server of
    /// a killed windlass process to exit. The caller must hold the lock of [`Self::try_lock`].
    ///
    /// # Errors
    /// [`Error::StillRunning`] when that server does not exit in time, or an I/O error.
    pub fn log_without_server(&self) -> Result<Log, Error> {
        let log = Log::open(self.log_path())?;
        if log.try_lock()?.is_none() {
            tracing::info!("waiting for the PostgreSQL of an earlier windlass process to exit");
            // On Linux, the kernel sent it a signal when its parent died; elsewhere, it is sent here. The log is
            // locked, so the server is alive and the pid has not been reused.
            if let Some(orphan) = self.pid_file()?.filter(|it| !cfg!(target_os = "linux") && it.pid > 0) {
                let _may_be_gone = kill(Pid::from_raw(orphan.pid), Signal::SIGINT);
            }
            let locked = poll(ORPHAN_ENDED_WITHIN, || log.try_lock())?;
            locked.ok_or_else(|| Error::StillRunning(self.data_dir.clone()))?;
        }
        let stale = PidFile::path(&self.dir());
        if_exists(fs::remove_file(&stale)).map_err(Error::file(&stale))?;
        Ok(log)
    }

    /// The major version that created the cluster. `None` if there is no cluster.
    pub fn major(&self) -> Result<Option<u32>, Error> {
        let path = self.dir().join("PG_VERSION");
        let read = if_exists(fs::read_to_string(&path)).and_then(|text| {
            text.map(|text| text.trim().parse()).transpose().map_err(|_| io::ErrorKind::InvalidData.into())
        });
        read.map_err(Error::file(&path))
    }

    /// The uid of the data directory's owner; if that is root, of the cluster's owner.
    pub fn owner(&self) -> Result<u32, Error> {
        let owner = |path: &Path| if_exists(fs::metadata(path)).map_err(Error::file(path));
        let outer = owner(&self.data_dir)?.map(|it| it.uid()).filter(|uid| *uid != ROOT.uid);
        let inner = owner(&self.dir())?.map(|it| it.uid());
        Ok(outer.or(inner).unwrap_or(ROOT.uid))
    }

    /// Changes the owner of the cluster, the lock, the log and the password file to the user that the server runs as.
    pub fn give_to(&self, run_as: RunAs) -> Result<(), Error> {
        let files = [self.lock_path(), self.log_path(), self.password_path(), self.dir()];
        files.iter().filter(|it| it.exists()).try_for_each(|it| run_as.give(it))
    }

    /// Creates the cluster, with a new password. Atomic: if the process is killed, the next call starts over.
    ///
    /// # Errors
    /// [`Error::PutAside`] when an interrupted upgrade has put an older cluster aside, since an empty one would look
    /// like a loss of data. Also when a file cannot be written or `initdb` fails.
    pub fn init(&self, run_as: RunAs, initdb: Command, log: &Log) -> Result<(), Error> {
        if let Some((_, aside)) = self.put_aside()? {
            return Err(Error::PutAside { data_dir: self.data_dir.clone(), aside });
        }
        tracing::info!(data_dir = %self.data_dir.display(), "creating a PostgreSQL cluster");
        let password = self.password_path();
        write_password(&password).map_err(Error::file(&password))?;
        run_as.give(&password)?;
        self.fill_new(run_as, initdb, log)?;
        fs::rename(self.new_dir(), self.dir()).map_err(Error::file(&self.dir()))?;
        self.sync()
    }

    /// Creates a cluster in `postgres.new`, with the existing password. It is removed if `initdb` fails.
    pub fn fill_new(&self, run_as: RunAs, mut initdb: Command, log: &Log) -> Result<(), Error> {
        // Created here, because the user that runs `initdb` may lack write access to the data directory.
        let new = self.new_dir();
        self.remove_new()?;
        DirBuilder::new().mode(0o700).create(&new).map_err(Error::file(&new))?;
        run_as.give(&new)?;

        initdb.arg("-D").arg(&new).arg("--pwfile").arg(self.password_path()).args(["--username", ROLE]);
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]);
        log.hand_to(&mut initdb)?;
        let from = log.end()?;
        let status = initdb.status().map_err(Error::system("run windlass itself"))?;
        if status.success() {
            return Ok(());
        }
        self.remove_new()?;
        Err(log.ended("initdb", status, from))
    }

    /// Removes an incomplete `postgres.new`, if there is one.
    pub fn remove_new(&self) -> Result<(), Error> {
        let new = self.new_dir();
        if_exists(fs::remove_dir_all(&new)).map_err(Error::file(&new)).map(drop)
    }

    /// The newest cluster that an upgrade has put aside: its major version and its directory name.
    pub fn put_aside(&self) -> Result<Option<(u32, String)>, Error> {
        let entries = fs::read_dir(&self.data_dir).map_err(Error::file(&self.data_dir))?;
        let names = entries.flatten().filter_map(|it| it.file_name().into_string().ok());
        let clusters = names.filter_map(|name| Some((name.strip_prefix("postgres.")?.parse().ok()?, name)));
        Ok(clusters.max())
    }

    /// Syncs the data directory, so that renames in it survive a crash of the operating system.
    pub fn sync(&self) -> Result<(), Error> {
        File::open(&self.data_dir).and_then(|dir| dir.sync_all()).map_err(Error::file(&self.data_dir))
    }

    /// Reads the password of the role.
    pub fn password(&self) -> Result<String, Error> {
        let path = self.password_path();
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        Ok(text.trim().to_owned())
    }

    /// The contents of the server's `postmaster.pid`, if it exists.
    pub fn pid_file(&self) -> Result<Option<PidFile>, Error> {
        PidFile::read(&self.dir())
    }

    /// Waits until the server that another process owns is ready, and returns its port.
    ///
    /// # Errors
    /// [`Error::NotReady`] after [`READY_FOR_OTHERS_WITHIN`].
    pub fn port_of_other(&self) -> Result<u16, Error> {
        let ready = poll(READY_FOR_OTHERS_WITHIN, || Ok(self.pid_file()?.filter(|it| it.ready)))?;
        ready.map(|it| it.port).ok_or_else(|| Error::NotReady(self.data_dir.clone()))
    }

    /// The URL of the server on this port, including the password.
    pub fn url(&self, port: u16) -> Result<String, Error> {
        Ok(format!("postgres://{ROLE}:{}@127.0.0.1:{port}/{DATABASE}", self.password()?))
    }

    fn lock_path(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    fn password_path(&self) -> PathBuf {
        self.data_dir.join("postgres-password")
    }
}

fn write_password(path: &Path) -> io::Result<()> {
    let mut random = [0; PASSWORD_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for byte in random {
        write!(file, "{byte:02x}")?;
    }
    file.sync_all()
}

/// Maps the error `NotFound` to `None`.
pub(super) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
