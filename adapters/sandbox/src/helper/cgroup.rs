//! Cgroups that bound memory, processes and processor time of a whole sandbox, version 1 or 2,
//! where writable.
//!
//! They are made below the launcher's own cgroup (version 2 may need a neighbour of it, as a group
//! with processes cannot hand controllers down), so that a limit set on Dispatch holds for them too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::{Cgroup, Limits};

/// The name of a launcher's own directory is this, its pid namespace, and its pid.
const PREFIX: &str = "dispatch-sandboxes-";

/// What the name of the directory ends with whose groups step back behind all others.
const BACKGROUND: &str = "-background";
/// The weight of all of these together, of version 1, where one process has 1024 by itself.
const BACKGROUND_SHARES: &str = "34";
/// The weight of each, of version 2, where others have 100.
const BACKGROUND_WEIGHT: &str = "3";

/// The period over which a share of the processor is kept to. The kernel's own default: a shorter
/// one costs more switches, a longer one lets a function stand still for longer.
const CPU_PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel takes.
const CPU_QUOTA_US_MIN: u64 = 1000;

/// One directory for each controller that can be had; version 2 has the same for all.
#[derive(Clone, Debug, Default)]
struct Places {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Places {
    /// Each directory once.
    fn all(&self) -> Vec<&PathBuf> {
        let mut all: Vec<&PathBuf> = [&self.memory, &self.pids, &self.cpu]
            .into_iter()
            .flatten()
            .collect();
        // At most three, and equal ones need not be neighbours.
        for index in (1..all.len()).rev() {
            if all[..index].contains(&all[index]) {
                all.remove(index);
            }
        }
        all
    }

    fn join(&self, name: &str) -> Self {
        let below = |base: &Option<PathBuf>| base.as_ref().map(|base| base.join(name));
        Self {
            memory: below(&self.memory),
            pids: below(&self.pids),
            cpu: below(&self.cpu),
        }
    }
}

/// The directories below which this launcher makes the groups of its sandboxes.
pub(crate) struct Cgroups {
    unified: bool,
    bases: Places,
    /// Of version 1: beside the own directory, as what is below that has a share of it.
    background: Option<PathBuf>,
    made: u64,
}

/// The group of one sandbox; without controllers, nothing.
pub(crate) struct Group {
    unified: bool,
    places: Places,
    entry: Entry,
}

/// How a new process comes into a group.
///
/// Not by its pid in `cgroup.procs`: that waits for every processor to come by, which takes
/// milliseconds. Being cloned into the group, or moving one's only thread, takes microseconds.
pub(crate) enum Entry {
    /// There is no group.
    None,
    /// The process itself writes `0` into these files, of version 1.
    Move(Vec<File>),
    /// The process is cloned into this directory, of version 2.
    Clone(File),
}

impl Cgroups {
    /// What can be had on this machine.
    pub(crate) fn find() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (own, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let first = |name| version_1(&own, &mounts, name).and_then(|dir| make_base(&dir));
        let bases = Places {
            memory: first("memory"),
            pids: first("pids"),
            cpu: first("cpu").filter(|base| has_quota(base)),
        };
        if !bases.all().is_empty() {
            return Self {
                unified: false,
                background: bases.cpu.as_deref().and_then(make_background),
                bases,
                made: 0,
            };
        }
        let base = version_2(&own, &mounts).and_then(|(root, own)| make_unified_base(&root, &own));
        let has = |name: &str| {
            let base = base.as_ref()?;
            let controllers = fs::read_to_string(base.join("cgroup.subtree_control")).ok()?;
            controllers
                .split_whitespace()
                .any(|word| word == name)
                .then(|| base.clone())
        };
        Self {
            unified: true,
            bases: Places {
                memory: has("memory"),
                pids: has("pids"),
                cpu: has("cpu"),
            },
            background: None,
            made: 0,
        }
    }

    /// No cgroups, whatever the machine has.
    pub(crate) fn none() -> Self {
        Self {
            unified: false,
            bases: Places::default(),
            background: None,
            made: 0,
        }
    }

    /// What there is, in public words.
    pub(crate) fn kind(&self) -> Cgroup {
        let Places { memory, pids, cpu } = &self.bases;
        let (memory, pids, cpu) = (memory.is_some(), pids.is_some(), cpu.is_some());
        match (memory || pids || cpu, self.unified) {
            (false, _) => Cgroup::None,
            (true, false) => Cgroup::V1 { memory, pids, cpu },
            (true, true) => Cgroup::V2 { memory, pids, cpu },
        }
    }

    /// Whether a process comes into its group by being cloned into it, and not later.
    pub(crate) fn are_cloned_into(&self) -> bool {
        self.unified && !self.bases.all().is_empty()
    }

    /// Makes the group of one sandbox, which may have to run in the background.
    pub(crate) fn create(&mut self, limits: &Limits, background: bool) -> io::Result<Group> {
        self.made += 1;
        let name = self.made.to_string();
        let mut places = self.bases.join(&name);
        match &self.background {
            Some(base) if background => places.cpu = Some(base.join(&name)),
            // A directory less to make, enter and remove.
            _ if limits.cpu_hundredths.is_none() && !self.unified => places.cpu = None,
            _ => {}
        }
        let mut group = Group {
            unified: self.unified,
            places,
            entry: Entry::None,
        };
        let mut made = group.make(limits, background);
        if matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            // What cleans up empty groups may have taken ours for one while it had no sandbox.
            group.remove();
            self.make_bases_again()?;
            made = group.make(limits, background);
        }
        if made.is_err() {
            group.remove();
        }
        made.map(|()| group)
    }

    fn make_bases_again(&self) -> io::Result<()> {
        for base in self.bases.all() {
            match fs::create_dir(base) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ if self.unified => hand_down(base),
                _ => {}
            }
        }
        if let Some(base) = &self.bases.cpu
            && self.background.is_some()
        {
            make_background(base);
        }
        Ok(())
    }

    /// Removes the launcher's own directories; those of its sandboxes must be gone.
    pub(crate) fn remove(&self) {
        for base in self.bases.all().into_iter().chain(&self.background) {
            // One that is left is found by the next launcher, see `make_base`.
            let _ = fs::remove_dir(base);
        }
    }
}

impl Group {
    fn make(&mut self, limits: &Limits, background: bool) -> io::Result<()> {
        for dir in self.places.all() {
            fs::create_dir(dir)?;
        }
        if let (Some(dir), Some(bytes)) = (&self.places.memory, limits.memory_bytes) {
            if self.unified {
                fs::write(dir.join("memory.max"), bytes.to_string())?;
                write_if_there(&dir.join("memory.swap.max"), "0")?;
            } else {
                fs::write(dir.join("memory.limit_in_bytes"), bytes.to_string())?;
                write_if_there(&dir.join("memory.memsw.limit_in_bytes"), &bytes.to_string())?;
            }
        }
        if let (Some(dir), Some(share)) = (&self.places.cpu, limits.cpu_hundredths) {
            let quota = (u64::from(share) * CPU_PERIOD_US / 100).max(CPU_QUOTA_US_MIN);
            if self.unified {
                fs::write(dir.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
            } else {
                fs::write(dir.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
                fs::write(dir.join("cpu.cfs_quota_us"), quota.to_string())?;
            }
        }
        if let (Some(dir), true, true) = (&self.places.cpu, background, self.unified) {
            write_if_there(&dir.join("cpu.weight"), BACKGROUND_WEIGHT)?;
        }
        if let Some(dir) = &self.places.pids {
            // One more, for the sandbox's first process.
            fs::write(dir.join("pids.max"), (limits.processes + 1).to_string())?;
        }
        self.entry = self.open_entry()?;
        Ok(())
    }

    fn open_entry(&self) -> io::Result<Entry> {
        let directories = self.places.all();
        if self.unified {
            return directories
                .first()
                .map_or(Ok(Entry::None), |d| Ok(Entry::Clone(File::open(d)?)));
        }
        let open = |dir: &PathBuf| File::options().write(true).open(dir.join("tasks"));
        directories
            .into_iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map(Entry::Move)
    }

    /// The group to be cloned into, of version 2.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match &self.entry {
            Entry::Clone(directory) => Some(directory.as_fd()),
            Entry::None | Entry::Move(_) => None,
        }
    }

    /// Files into which the new process writes `0`, of version 1.
    pub(crate) fn move_into(&self) -> &[File] {
        match &self.entry {
            Entry::Move(files) => files,
            Entry::None | Entry::Clone(_) => &[],
        }
    }

    /// Gives up what only the start needs.
    pub(crate) fn entered(&mut self) {
        self.entry = Entry::None;
    }

    /// Whether the kernel has killed a process of this group for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self
            .places
            .memory
            .as_ref()
            .and_then(|dir| fs::read_to_string(dir.join(file)).ok());
        let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok();
        text.is_some_and(|text| text.lines().find_map(count).unwrap_or(0) > 0)
    }

    /// Removes the group; `false` when that has to be tried again.
    pub(crate) fn remove(&self) -> bool {
        self.places
            .all()
            .into_iter()
            .fold(true, |all, dir| match fs::remove_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => false,
                _ => all,
            })
    }
}

/// Whether shares of the processor can be bounded here; not every kernel was built for it.
fn has_quota(base: &Path) -> bool {
    let quota = File::options()
        .write(true)
        .open(base.join("cpu.cfs_quota_us"));
    if quota.is_err() {
        let _ = fs::remove_dir(base);
    }
    quota.is_ok()
}

fn write_if_there(file: &Path, text: &str) -> io::Result<()> {
    let opened = File::options().write(true).open(file);
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The directory of the launcher's own group in the version 1 hierarchy of `controller`.
fn version_1(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let is_it = |list: &str| list.split(',').any(|word| word == controller);
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        parts.next().filter(|_| is_it(controllers))
    })?;
    let mount = mounts.lines().filter_map(Mounted::parse);
    mount
        .filter(|m| m.kind == "cgroup" && is_it(m.options))
        .find_map(|m| m.directory(path))
}

/// Mount point and own directory of the unified hierarchy.
fn version_2(own: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut mount = mounts
        .lines()
        .filter_map(Mounted::parse)
        .filter(|m| m.kind == "cgroup2");
    mount.find_map(|m| Some((PathBuf::from(m.point), m.directory(path)?)))
}

/// One line of `mountinfo`.
struct Mounted<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mounted<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        let (root, point, kind) = (before.next()?, before.next()?, after.next()?);
        Some(Self {
            root,
            point,
            kind,
            options: after.nth(1)?,
        })
    }

    /// Where the group `path` is in this mount, which may show a part of the hierarchy only.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some(Path::new(self.point).join(below))
    }
}

/// What the names of the directories of launchers begin with whose pids mean something here. The
/// same groups can be seen from other pid namespaces, where all our launchers seem to be dead.
fn prefix_here() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits = |c: &char| c.is_ascii_digit();
    let namespace: String = link.to_string_lossy().chars().filter(digits).collect();
    format!("{PREFIX}{namespace}-")
}

/// Makes this launcher's directory in `dir`, and removes what launchers that were killed left.
fn make_base(dir: &Path) -> Option<PathBuf> {
    let prefix = prefix_here();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let pid = pid.map(|pid| pid.strip_suffix(BACKGROUND).unwrap_or(pid));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let inner = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            for group in inner.filter(|inner| inner.path().is_dir()) {
                let _ = fs::remove_dir(group.path());
            }
            let _ = fs::remove_dir(entry.path());
        }
    }
    let base = dir.join(format!("{prefix}{}", std::process::id()));
    match fs::create_dir(&base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
        _ => Some(base),
    }
}

/// Makes the directory whose groups run in the background, for a launcher that has `base`.
fn make_background(base: &Path) -> Option<PathBuf> {
    let mut name = base.file_name()?.to_owned();
    name.push(BACKGROUND);
    let dir = base.with_file_name(name);
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    if fs::write(dir.join("cpu.shares"), BACKGROUND_SHARES).is_err() {
        let _ = fs::remove_dir(&dir);
        return None;
    }
    Some(dir)
}

/// The same in the unified hierarchy: in the own group, or the nearest above it, that hands down
/// the controllers.
fn make_unified_base(root: &Path, own: &Path) -> Option<PathBuf> {
    own.ancestors()
        .take_while(|dir| dir.starts_with(root))
        .find_map(|dir| {
            hand_down(dir);
            let controllers = fs::read_to_string(dir.join("cgroup.subtree_control")).ok()?;
            if !controllers
                .split_whitespace()
                .any(|word| matches!(word, "memory" | "pids" | "cpu"))
            {
                return None;
            }
            let base = make_base(dir)?;
            hand_down(&base);
            Some(base)
        })
}

/// Asks for each controller by itself, as a list is refused whole.
fn hand_down(dir: &Path) {
    for controller in ["+memory", "+pids", "+cpu"] {
        // Refused in a group that has processes; then a group above it is tried.
        let _ = write_if_there(&dir.join("cgroup.subtree_control"), controller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/\n8:pids:/docker/ab\n4:cpu,memory:/docker/ab/x\n0::/a/b\n";
    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd
31 25 0:27 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory
32 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hierarchy_of_which_a_part_is_mounted_is_followed() {
        let memory = version_1(OWN, MOUNTS, "memory").unwrap();
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/x"));
        let pids = version_1(OWN, MOUNTS, "pids").unwrap();
        assert_eq!(pids, Path::new("/sys/fs/cgroup/pids/docker/ab"));
        assert_eq!(version_1(OWN, MOUNTS, "freezer"), None);
    }

    #[test]
    fn the_unified_hierarchy_is_found_beside_the_others() {
        let (root, own) = version_2(OWN, MOUNTS).unwrap();
        assert_eq!(root, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(own, Path::new("/sys/fs/cgroup/unified/a/b"));
    }

    #[test]
    fn the_nearest_group_that_hands_controllers_down_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("slice/scope");
        fs::create_dir_all(&own).unwrap();
        // Only the slice has the file, as if the scope's could not be written.
        // Its first bytes are those that asking for a controller overwrites in a plain file.
        fs::write(
            root.path().join("slice/cgroup.subtree_control"),
            "------- memory pids",
        )
        .unwrap();
        let base = make_unified_base(root.path(), &own);
        assert_eq!(
            base.unwrap().parent(),
            Some(root.path().join("slice").as_path())
        );
    }

    #[test]
    fn a_directory_that_somebody_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("own");
        let mut cgroups = Cgroups {
            unified: true,
            bases: Places {
                pids: Some(base.clone()),
                ..Places::default()
            },
            background: None,
            made: 0,
        };
        let limits = crate::Limits::default();
        cgroups.create(&limits, false).unwrap();
        assert!(base.join("1").is_dir());
        fs::remove_dir_all(&base).unwrap();
        cgroups.create(&limits, false).unwrap();
        assert!(base.join("2").is_dir());
    }

    #[test]
    fn what_a_dead_launcher_left_is_removed_and_a_live_one_is_let_be() {
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join(format!("{}4294967295", prefix_here()));
        let live = dir.path().join(format!("{}1", prefix_here()));
        let elsewhere = dir.path().join(format!("{PREFIX}1-4294967295"));
        let behind = |of: &Path| PathBuf::from(format!("{}{BACKGROUND}", of.display()));
        fs::create_dir_all(dead.join("1")).unwrap();
        for dir in [&live, &elsewhere, &behind(&dead), &behind(&live)] {
            fs::create_dir(dir).unwrap();
        }
        make_base(dir.path()).unwrap();
        assert!(!dead.exists() && live.exists() && elsewhere.exists());
        assert!(!behind(&dead).exists() && behind(&live).exists());
    }
}
