//! What a process has used, as the kernel tells.

use std::fs;

use nix::unistd::Pid;

/// The seconds of a processor that it and its children have used, to the hundredth.
pub fn cpu_seconds(pid: Pid) -> f64 {
    family(pid).into_iter().map(own_cpu_seconds).sum()
}

/// The seconds that it itself has used.
pub fn own_cpu_seconds(pid: Pid) -> f64 {
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap();
    own_ticks(pid) / f64::from(u32::try_from(a_second).unwrap())
}

/// Forgets the peak so far, of it and its children.
pub fn reset_peak(pid: Pid) {
    for it in family(pid) {
        fs::write(format!("/proc/{it}/clear_refs"), "5").ok();
    }
}

/// The most memory that it and its children have held since then, in MiB, as if all at once.
pub fn family_peak_mib(pid: Pid) -> u64 {
    family(pid).into_iter().map(peak_mib).sum()
}

fn own_ticks(pid: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).map(|it| it.parse::<f64>().unwrap()).sum()
}

fn family(pid: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|it| Pid::from_raw(it.parse().unwrap()));
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

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
