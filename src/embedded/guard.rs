//! What stands between windlass and Postgres's programs: takes on their user, ties them to windlass's life, and
//! becomes them.
//!
//! A process must do these things to itself, and what std runs between `fork` and `exec` has to be `unsafe`. So
//! windlass starts itself with a hidden subcommand, which does them in safe code and then execs the program.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    str::FromStr,
};

use nix::unistd::getppid;

use super::identity::Identity;

/// The hidden subcommand of windlass that is [`run`].
pub const SUBCOMMAND: &str = "postgres-guard";

/// Why the guard did not become the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else started it.
    #[error("`{SUBCOMMAND}` is for windlass itself")]
    Arguments,
    /// It may not be that user.
    #[error("cannot become the user that PostgreSQL is to run as")]
    Identity(#[source] io::Error),
    /// It could not be tied to windlass's life.
    #[error("cannot ask to be told of windlass's end")]
    DeathSignal(#[source] io::Error),
    /// There is nobody to run it for.
    #[error("the windlass process that started this one is gone")]
    Orphaned,
    /// The program does not start.
    #[error("cannot run {program}")]
    Exec { program: PathBuf, source: io::Error },
}

/// Becomes the program that the arguments after the subcommand describe; returns only if it cannot. The process
/// must still have a single thread.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Error {
    let Err(error) = become_program(arguments.into_iter());
    error
}

/// A command that runs a program of Postgres's under the guard. It needs an absolute path.
///
/// It gets none of our environment, where the secrets are; a directory anyone may be in; and a process group of its
/// own, for a Ctrl-C is for windlass, which stops Postgres last.
pub(super) fn command(guard: &Path, identity: Identity, program: &Path) -> Command {
    let mut command = Command::new(guard);
    command.arg(SUBCOMMAND).arg(process::id().to_string()).arg(identity.to_string()).arg(program);
    command.env_clear().env("LC_ALL", "C").current_dir("/").process_group(0).stdin(Stdio::null());
    command
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, Error> {
    let parent: i32 = parse(arguments.next().as_deref())?;
    let identity: Identity = parse(arguments.next().as_deref())?;
    let program: PathBuf = arguments.next().ok_or(Error::Arguments)?.into();

    system::become_user(identity).map_err(Error::Identity)?;
    // After the change of user, which would undo it.
    system::end_with_parent().map_err(Error::DeathSignal)?;
    // If the parent died before, nobody will tell us.
    if getppid().as_raw() != parent {
        return Err(Error::Orphaned);
    }
    let source = Command::new(&program).args(arguments).exec();
    Err(Error::Exec { program, source })
}

fn parse<T: FromStr>(argument: Option<&OsStr>) -> Result<T, Error> {
    argument.and_then(OsStr::to_str).and_then(|it| it.parse().ok()).ok_or(Error::Arguments)
}

#[cfg(target_os = "linux")]
mod system {
    use std::{fs, io};

    use nix::{
        sched::{CloneFlags, unshare},
        sys::{prctl, signal::Signal},
        unistd::{Gid, Uid, getegid, geteuid, setgid, setgroups, setuid},
    };

    use rustix::thread::{
        CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
        set_capabilities, set_capabilities_secure_bits,
    };

    use super::super::identity::{Account, Identity};

    pub fn become_user(identity: Identity) -> io::Result<()> {
        match identity {
            Identity::Own => Ok(()),
            Identity::Namespace(inside) => enter_namespace(inside),
            Identity::Switch(account) => switch_to(account),
            Identity::Pass(account) => {
                // The change of user shall not take every right away, and the kernel shall heed what is left also
                // where a program asks beforehand whether it may do something.
                set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
                switch_to(account)?;
                keep_right_of_way()
            }
        }
    }

    fn switch_to(Account { uid, gid }: Account) -> io::Result<()> {
        setgroups(&[Gid::from_raw(gid)])?;
        setgid(Gid::from_raw(gid))?;
        Ok(setuid(Uid::from_raw(uid))?)
    }

    /// Of all of root's rights keeps the least that opens directories, for the program we become as well.
    fn keep_right_of_way() -> io::Result<()> {
        let ours = capabilities(None)?.permitted;
        let ways = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];
        let way = ways.into_iter().find(|it| ours.contains(*it)).unwrap_or(CapabilitySet::empty());
        set_capabilities(None, CapabilitySets { effective: way, permitted: way, inheritable: way })?;
        Ok(configure_capability_in_ambient_set(way, true)?)
    }

    /// The kernel sends it to us, and to the program we become, when the thread that started us ends. To Postgres it
    /// means a fast shutdown.
    pub fn end_with_parent() -> io::Result<()> {
        Ok(prctl::set_pdeathsig(Signal::SIGINT)?)
    }

    fn enter_namespace(inside: Account) -> io::Result<()> {
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // The kernel lets no one map a group who could still drop the groups that keep him out of something.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{} {uid} 1", inside.uid))?;
        fs::write("/proc/self/gid_map", format!("{} {gid} 1", inside.gid))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use super::super::identity::Identity;

    /// Elsewhere windlass is run by developers, as themselves.
    pub fn become_user(identity: Identity) -> io::Result<()> {
        match identity {
            Identity::Own => Ok(()),
            Identity::Namespace(_) | Identity::Switch(_) | Identity::Pass(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// There is no such request: after a `kill -9` the next start ends the server that was left.
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
    pub fn end_with_parent() -> io::Result<()> {
        Ok(())
    }
}
