//! Memory limit of this process and its child processes.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{SysconfVar, sysconf};

/// Memory limit in bytes: the machine's physical memory or the lowest limit of the control groups (v1 or v2) of this
/// process, whichever is less. `u64::MAX` if neither can be determined.
pub fn limit() -> u64 {
    let of_system = |it| sysconf(it).ok().flatten().and_then(|it| u64::try_from(it).ok());
    let machine = of_system(SysconfVar::_PHYS_PAGES).zip(of_system(SysconfVar::PAGE_SIZE));
    let machine = machine.map(|(pages, bytes)| pages.saturating_mul(bytes));
    let groups = limit_of_groups(|path| fs::read_to_string(path).ok());
    machine.into_iter().chain(groups).min().unwrap_or(u64::MAX)
}

/// The lowest limit of the control groups that contain this process.
fn limit_of_groups(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let hierarchies = mounts.lines().filter_map(Hierarchy::parse);
    let files = hierarchies.flat_map(|it| it.limit_files(&groups));
    files.filter_map(|file| read(&file)?.trim().parse().ok()).min()
}

/// A mounted control group hierarchy that can limit memory.
struct Hierarchy<'a> {
    mounted_at: &'a Path,
    /// The control group that is mounted at `mounted_at`.
    root: &'a str,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl<'a> Hierarchy<'a> {
    /// Parses a line of `mountinfo`: `id parent device root mounted_at options [optional…] - type source options`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mounted_at) = (mount.next()?, mount.next()?);
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if kind.next_back()?.split(',').any(|it| it == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self { mounted_at: Path::new(mounted_at), root, version })
    }

    /// The limit files of this process's control group and of each of its ancestors below the mount point.
    fn limit_files(&self, groups: &str) -> Vec<PathBuf> {
        let names: &[&str] = match self.version {
            Version::V1 => &["memory.limit_in_bytes"],
            Version::V2 => &["memory.max", "memory.high"],
        };
        let own = self.own_group(groups);
        let seen = own.ancestors().take_while(|it| it.starts_with(self.mounted_at));
        seen.flat_map(|group| names.iter().map(|name| group.join(name))).collect()
    }

    /// The directory of this process's control group. The mount point if the group is outside of the mounted tree: in a
    /// container, the group's path is often the one on the host, while the mount point is the group itself.
    fn own_group(&self, groups: &str) -> PathBuf {
        let is_own = |controllers: &str| match self.version {
            Version::V1 => controllers.split(',').any(|it| it == "memory"),
            Version::V2 => controllers.is_empty(),
        };
        let group = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            is_own(controllers).then_some(path)
        });
        let below = group.and_then(|it| Path::new(it).strip_prefix(self.root).ok());
        let below = below.filter(|it| !it.components().any(|part| part.as_os_str() == ".."));
        below.map_or_else(|| self.mounted_at.to_owned(), |below| self.mounted_at.join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit if exactly these files exist.
    fn limit_with(files: &[(&str, &str)]) -> Option<u64> {
        limit_of_groups(|path| files.iter().find(|it| Path::new(it.0) == path).map(|it| it.1.to_owned()))
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "24 1 8:1 / / rw - ext4 /dev/vda rw\n35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn the_lowest_limit_of_a_group_and_its_ancestors_applies() {
        let files = [
            ("/proc/self/mountinfo", V2),
            ("/proc/self/cgroup", "0::/pods.slice/one/box\n"),
            ("/sys/fs/cgroup/pods.slice/one/box/memory.max", "max\n"),
            ("/sys/fs/cgroup/pods.slice/one/box/memory.high", "500\n"),
            ("/sys/fs/cgroup/pods.slice/one/memory.max", "400\n"),
            ("/sys/fs/cgroup/pods.slice/memory.max", "600\n"),
        ];
        assert_eq!(limit_with(&files), Some(400));
        assert_eq!(limit_with(&files[..4]), Some(500), "memory.high counts as a limit");
        assert_eq!(limit_with(&files[..3]), None);
    }

    #[test]
    fn a_container_is_limited_by_the_group_at_its_mount_point() {
        let limit = ("/sys/fs/cgroup/memory.max", "300");
        for group in ["0::/\n", "0::/../other\n"] {
            assert_eq!(limit_with(&[("/proc/self/mountinfo", V2), ("/proc/self/cgroup", group), limit]), Some(300));
        }
    }

    #[test]
    fn version_1_is_read_from_the_hierarchy_of_the_memory_controller() {
        let limit = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n");
        for group in ["4:cpu,memory:/docker/abc\n1:cpu:/x\n0::/\n", "4:memory:/elsewhere\n"] {
            let files = [("/proc/self/mountinfo", V1), ("/proc/self/cgroup", group), limit];
            assert_eq!(limit_with(&files), Some(314_572_800));
        }
        let below = ("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "7");
        let files = [("/proc/self/mountinfo", V1), ("/proc/self/cgroup", "4:memory:/docker/abc/inner\n"), limit, below];
        assert_eq!(limit_with(&files), Some(7));
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limit_with(&[]), None);
        assert_eq!(limit_with(&[("/proc/self/mountinfo", "garbage\n - \n"), ("/proc/self/cgroup", ":\n")]), None);
    }
}
