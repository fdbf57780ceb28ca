//! What a process has used, as the kernel tells.

use std::fs;

use nix::unistd::Pid;

/// The memory it holds now, in MiB.
pub fn resident_mib(pid: Pid) -> u64 {
    status(pid, "VmRSS:") / 1024
}

/// The most memory it has held, in MiB.
pub fn peak_mib(pid: Pid) -> u64 {
    status(pid, "VmHWM:") / 1024
}

fn status(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
