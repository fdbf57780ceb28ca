//! The processor time and memory of processes, from `/proc`.

use std::fs;

use nix::unistd::Pid;

/// The processor time of a process and its descendants, in seconds, with a resolution of 10 ms.
pub fn cpu_seconds(pid: Pid) -> f64 {
    family(pid).into_iter().map(own_cpu_seconds).sum()
}

/// The processor time of a process without its descendants, in seconds.
pub fn own_cpu_seconds(pid: Pid) -> f64 {
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap();
    own_ticks(pid) / f64::from(u32::try_from(ticks_per_second).unwrap())
}

/// Resets the memory peak of a process and its descendants.
pub fn reset_peak(pid: Pid) {
    for it in family(pid) {
        fs::write(format!("/proc/{it}/clear_refs"), "5").ok();
    }
}

/// The sum of the memory peaks of a process and its descendants since the last reset, in MiB.
pub fn family_peak_mib(pid: Pid) -> u64 {
    family(pid).into_iter().map(peak_mib).sum()
}

fn own_ticks(pid: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything; user and system time are the 14th and 15th field.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).map(|it| it.parse::<f64>().unwrap()).sum()
}

fn family(pid: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|it| Pid::from_raw(it.parse().unwrap()));
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

/// The resident memory of a process, in MiB.
pub fn resident_mib(pid: Pid) -> u64 {
    status(pid, "VmRSS:") / 1024
}

/// The peak of a process's resident memory since the last reset, in MiB.
pub fn peak_mib(pid: Pid) -> u64 {
    status(pid, "VmHWM:") / 1024
}

fn status(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
