//! The wrapper process that runs PostgreSQL's programs: it switches the user, sets the parent-death signal, and then
//! execs the program.
//!
//! A process can only do these things to itself, and `Command::pre_exec`, which runs code between `fork` and `exec`, is
//! `unsafe`. So windlass starts itself with a hidden subcommand that does them in safe code.

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

use super::run_as::RunAs;

/// The hidden subcommand of windlass that calls [`run`].
pub const SUBCOMMAND: &str = "postgres-guard";

/// Why the wrapper could not exec the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are invalid: it was not started by windlass.
    #[error("`{SUBCOMMAND}` is for internal use only")]
    Arguments,
    /// The user could not be switched.
    #[error("cannot switch to the user that PostgreSQL runs as")]
    RunAs(#[source] io::Error),
    /// The parent-death signal could not be set.
    #[error("cannot set the parent-death signal")]
    DeathSignal(#[source] io::Error),
    /// The parent process has already exited.
    #[error("the windlass process that started this one has exited")]
    Orphaned,
    /// The program could not be executed.
    #[error("cannot run {program}")]
    Exec { program: PathBuf, source: io::Error },
}

/// Execs the program that the arguments after the subcommand describe. Returns only on an error. The process must have
/// a single thread.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Error {
    let Err(error) = become_program(arguments.into_iter());
    error
}

/// A command that runs a program of PostgreSQL in the wrapper. `program` must be an absolute path.
///
/// The environment is cleared, since it contains secrets. The working directory is `/`, which every user can access.
/// The process group is a new one, because Ctrl-C must not reach PostgreSQL: windlass stops it last.
pub(super) fn command(guard: &Path, run_as: RunAs, program: &Path) -> Command {
    let mut command = Command::new(guard);
    command.arg(SUBCOMMAND).arg(process::id().to_string()).arg(run_as.to_string()).arg(program);
    command.env_clear().env("LC_ALL", "C").current_dir("/").process_group(0).stdin(Stdio::null());
    command
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, Error> {
    let parent: i32 = parse(arguments.next().as_deref())?;
    let run_as: RunAs = parse(arguments.next().as_deref())?;
    let program: PathBuf = arguments.next().ok_or(Error::Arguments)?.into();

    system::become_user(run_as).map_err(Error::RunAs)?;
    // After switching the user, which clears the setting.
    system::end_with_parent().map_err(Error::DeathSignal)?;
    // If the parent died before that, no signal is sent.
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

    use super::super::run_as::{Account, RunAs};

    pub fn become_user(run_as: RunAs) -> io::Result<()> {
        match run_as {
            RunAs::Own => Ok(()),
            RunAs::Namespace(inside) => enter_namespace(inside),
            RunAs::Switch(account) => switch_to(account),
            RunAs::Pass(account) => {
                // Keeps the capabilities when the uid changes. `access(2)`, with which programs check permissions in
                // advance, takes them into account only with this bit set.
                set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
                switch_to(account)?;
                keep_search_capability()
            }
        }
    }

    fn switch_to(Account { uid, gid }: Account) -> io::Result<()> {
        setgroups(&[Gid::from_raw(gid)])?;
        setgid(Gid::from_raw(gid))?;
        Ok(setuid(Uid::from_raw(uid))?)
    }

    /// Drops all capabilities except the weakest available one that allows traversing any directory, which is kept
    /// across the exec (as an ambient capability).
    fn keep_search_capability() -> io::Result<()> {
        let ours = capabilities(None)?.permitted;
        let candidates = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];
        let kept = candidates.into_iter().find(|it| ours.contains(*it)).unwrap_or(CapabilitySet::empty());
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
        Ok(configure_capability_in_ambient_set(kept, true)?)
    }

    /// Makes the kernel send SIGINT to this process, also after the exec, when the thread that started it exits.
    /// PostgreSQL performs a fast shutdown on SIGINT.
    pub fn end_with_parent() -> io::Result<()> {
        Ok(prctl::set_pdeathsig(Signal::SIGINT)?)
    }

    fn enter_namespace(inside: Account) -> io::Result<()> {
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // Without CAP_SETGID in the parent namespace, this is required before `gid_map` is written: user_namespaces(7).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{} {uid} 1", inside.uid))?;
        fs::write("/proc/self/gid_map", format!("{} {gid} 1", inside.gid))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use super::super::run_as::RunAs;

    /// Switching the user is supported on Linux only.
    pub fn become_user(run_as: RunAs) -> io::Result<()> {
        match run_as {
            RunAs::Own => Ok(()),
            RunAs::Namespace(_) | RunAs::Switch(_) | RunAs::Pass(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Not supported: after a `kill -9`, the next start stops the remaining server.
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
    pub fn end_with_parent() -> io::Result<()> {
        Ok(())
    }
}
