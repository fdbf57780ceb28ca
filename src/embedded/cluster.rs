//! The server's files: makes the cluster, and knows whether somebody is using it.

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
    identity::{Identity, ROOT},
    log::Log,
    pid_file::PidFile,
    poll,
};

const READY_FOR_OTHERS_WITHIN: Duration = Duration::from_secs(10);
const ORPHAN_ENDED_WITHIN: Duration = Duration::from_secs(30);
const PASSWORD_BYTES: usize = 32;

/// The role that owns everything; there is no other.
const ROLE: &str = "windlass";
/// The one that `initdb` makes, which saves us making one.
const DATABASE: &str = "postgres";

/// A data directory, as far as the server is concerned.
#[derive(Clone)]
pub struct Cluster {
    data_dir: PathBuf,
}

impl Cluster {
    /// Makes the data directory if it is missing.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(Error::file(data_dir))?;
        Ok(Self { data_dir: fs::canonicalize(data_dir).map_err(Error::file(data_dir))? })
    }

    /// The data directory, absolute and without links.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The cluster itself.
    pub fn dir(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// The directory in which a new cluster is created.
    pub fn new_dir(&self) -> PathBuf {
        self.data_dir.join("postgres.new")
    }

    /// The files that only the owner of the data directory may read, whether they exist or not.
    pub fn private_files(&self) -> [PathBuf; 4] {
        [self.lock_path(), self.log_path(), self.password_path(), self.data_dir.join("api-key")]
    }

    /// The lock of the process that owns the server, unless another process has it.
    pub fn try_lock(&self) -> Result<Option<File>, Error> {
        let path = self.lock_path();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(Error::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file(&path)(error)),
        }
    }

    /// The log, locked for the server to come: there is none now, and no trace of one. Only for the owner.
    pub fn log_without_server(&self) -> Result<Log, Error> {
        let log = Log::open(self.log_path())?;
        if log.try_lock()?.is_none() {
            tracing::info!("waiting for the PostgreSQL of an earlier windlass process to end");
            // Linux told it when its parent died. Elsewhere we do, and since the log is locked, it is still this pid.
            if let Some(orphan) = self.pid_file()?.filter(|it| !cfg!(target_os = "linux") && it.pid > 0) {
                let _may_be_gone = kill(Pid::from_raw(orphan.pid), Signal::SIGINT);
            }
            let locked = poll(ORPHAN_ENDED_WITHIN, || log.try_lock())?;
            locked.ok_or_else(|| Error::StillRunning(self.data_dir.clone()))?;
        }
        let stale = PidFile::path(&self.dir());
        if_there(fs::remove_file(&stale)).map_err(Error::file(&stale))?;
        Ok(log)
    }

    /// The major version that made the cluster, if there is one.
    pub fn major(&self) -> Result<Option<u32>, Error> {
        let path = self.dir().join("PG_VERSION");
        let read = if_there(fs::read_to_string(&path)).and_then(|text| {
            text.map(|text| text.trim().parse()).transpose().map_err(|_| io::ErrorKind::InvalidData.into())
        });
        read.map_err(Error::file(&path))
    }

    /// The user whose data directory it is; of a directory of root's, the user whose cluster it is.
    pub fn owner(&self) -> Result<u32, Error> {
        let owner = |path: &Path| if_there(fs::metadata(path)).map_err(Error::file(path));
        let outer = owner(&self.data_dir)?.map(|it| it.uid()).filter(|uid| *uid != ROOT.uid);
        let inner = owner(&self.dir())?.map(|it| it.uid());
        Ok(outer.or(inner).unwrap_or(ROOT.uid))
    }

    /// Lets the server at its files, whoever it ran as before, and whoever made them.
    pub fn give_to(&self, identity: Identity) -> Result<(), Error> {
        let files = [self.lock_path(), self.log_path(), self.password_path(), self.dir()];
        files.iter().filter(|it| it.exists()).try_for_each(|it| identity.give(it))
    }

    /// Makes the cluster, under a new password. Whoever is killed on the way leaves nothing that looks finished.
    ///
    /// # Errors
    /// Among others, if an upgrade has put an older cluster aside: its data must not appear to be lost.
    pub fn init(&self, identity: Identity, initdb: Command, log: &Log) -> Result<(), Error> {
        if let Some((_, aside)) = self.put_aside()? {
            return Err(Error::PutAside { data_dir: self.data_dir.clone(), aside });
        }
        tracing::info!(data_dir = %self.data_dir.display(), "making a PostgreSQL cluster");
        let password = self.password_path();
        write_password(&password).map_err(Error::file(&password))?;
        identity.give(&password)?;
        self.fill_new(identity, initdb, log)?;
        fs::rename(self.new_dir(), self.dir()).map_err(Error::file(&self.dir()))?;
        self.sync()
    }

    /// Creates a cluster in `postgres.new`, with the existing password. If that fails, nothing of it is left.
    pub fn fill_new(&self, identity: Identity, mut initdb: Command, log: &Log) -> Result<(), Error> {
        // Made here, because the user that fills it may not write to the data directory.
        let new = self.new_dir();
        self.remove_new()?;
        DirBuilder::new().mode(0o700).create(&new).map_err(Error::file(&new))?;
        identity.give(&new)?;

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

    /// Removes a new cluster that was not completed.
    pub fn remove_new(&self) -> Result<(), Error> {
        let new = self.new_dir();
        if_there(fs::remove_dir_all(&new)).map_err(Error::file(&new)).map(drop)
    }

    /// The newest cluster that an upgrade has put aside: its major version and its name.
    pub fn put_aside(&self) -> Result<Option<(u32, String)>, Error> {
        let entries = fs::read_dir(&self.data_dir).map_err(Error::file(&self.data_dir))?;
        let names = entries.flatten().filter_map(|it| it.file_name().into_string().ok());
        let clusters = names.filter_map(|name| Some((name.strip_prefix("postgres.")?.parse().ok()?, name)));
        Ok(clusters.max())
    }

    /// Syncs the data directory, so that renames in it survive a crash of the machine.
    pub fn sync(&self) -> Result<(), Error> {
        File::open(&self.data_dir).and_then(|dir| dir.sync_all()).map_err(Error::file(&self.data_dir))
    }

    /// The role's password.
    pub fn password(&self) -> Result<String, Error> {
        let path = self.password_path();
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        Ok(text.trim().to_owned())
    }

    /// What the server last said of itself.
    pub fn pid_file(&self) -> Result<Option<PidFile>, Error> {
        PidFile::read(&self.dir())
    }

    /// The port of the server that another process owns.
    pub fn port_of_other(&self) -> Result<u16, Error> {
        let ready = poll(READY_FOR_OTHERS_WITHIN, || Ok(self.pid_file()?.filter(|it| it.ready)))?;
        ready.map(|it| it.port).ok_or_else(|| Error::NotReady(self.data_dir.clone()))
    }

    /// The address of the server on this port, with the password in it.
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

pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
