//! What of the sandbox is in force on this machine, found out once when the helper starts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What this machine lets the launcher do. Namespaces, private root, dropped capabilities,
/// `no_new_privs`, seccomp and rlimits are always in force: without them the launcher does not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The launcher runs as root, and sandboxes as a user of their own on the host.
    pub privileged: bool,
    /// The user id of sandboxed processes, as the host sees it.
    pub host_uid: u32,
    /// Sandboxes have a user namespace of their own. Only root can do without one.
    pub user_namespace: bool,
    /// `/proc` shows the sandbox's own processes; otherwise it is empty.
    pub proc: bool,
    /// Mounts show what root owns as the sandbox's own; not needed by an ordinary user.
    pub idmapped_mounts: bool,
    /// Which cgroups bound memory, processes and processor time of a whole sandbox.
    pub cgroup: Cgroup,
}

/// The cgroup controllers that could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename_all = "snake_case")]
pub enum Cgroup {
    /// None is writable: only rlimits bound what a process uses.
    None,
    /// Version 1 hierarchies.
    V1 {
        /// The memory controller.
        memory: bool,
        /// The pids controller.
        pids: bool,
        /// The cpu controller, with quotas.
        cpu: bool,
    },
    /// The unified hierarchy.
    V2 {
        /// The memory controller.
        memory: bool,
        /// The pids controller.
        pids: bool,
        /// The cpu controller, with quotas.
        cpu: bool,
    },
}

impl Cgroup {
    /// Whether `Limits::memory_bytes` is kept to.
    pub fn bounds_memory(self) -> bool {
        matches!(
            self,
            Self::V1 { memory: true, .. } | Self::V2 { memory: true, .. }
        )
    }

    /// Whether `Limits::processes` is kept to by the whole sandbox, whatever its user.
    pub fn bounds_processes(self) -> bool {
        matches!(
            self,
            Self::V1 { pids: true, .. } | Self::V2 { pids: true, .. }
        )
    }

    /// Whether `Limits::cpu_hundredths` is kept to.
    pub fn bounds_cpu(self) -> bool {
        matches!(
            self,
            Self::V1 { cpu: true, .. } | Self::V2 { cpu: true, .. }
        )
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, has) = match *self {
            Self::None => return f.write_str("no cgroup, rlimits only"),
            Self::V1 { memory, pids, cpu } => ("v1", [memory, pids, cpu]),
            Self::V2 { memory, pids, cpu } => ("v2", [memory, pids, cpu]),
        };
        let named = ["memory", "pids", "cpu"].into_iter().zip(has);
        let controllers: Vec<&str> = named
            .filter(|(_, has)| *has)
            .map(|(name, _)| name)
            .collect();
        write!(f, "cgroup {version} ({})", controllers.join(", "))
    }
}

/// A limit that this machine does not keep to as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// Which limit.
    pub limit: Limit,
    /// What holds instead.
    pub instead: Instead,
}

/// A limit that needs a cgroup controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `Limits::memory_bytes`
    Memory,
    /// `Limits::processes`
    Processes,
    /// `Limits::cpu_hundredths`
    Cpu,
}

/// What holds in place of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// `Limits::address_space_bytes`, of each process by itself, if set.
    AddressSpaceOfEachProcess,
    /// An rlimit on all processes of the sandboxes' one user.
    ProcessesOfTheSameUser,
    /// Nothing.
    Nothing,
}

impl Capabilities {
    /// The limits that are not kept to here, or only in part; empty where all are.
    pub fn unenforced(&self) -> Vec<Unenforced> {
        let mut all = Vec::new();
        let mut add = |limit, instead| all.push(Unenforced { limit, instead });
        if !self.cgroup.bounds_memory() {
            add(Limit::Memory, Instead::AddressSpaceOfEachProcess);
        }
        // The rlimit counts within a user namespace, and so is as good as the controller there.
        if !self.cgroup.bounds_processes() && !self.user_namespace {
            add(Limit::Processes, Instead::ProcessesOfTheSameUser);
        }
        if !self.cgroup.bounds_cpu() {
            add(Limit::Cpu, Instead::Nothing);
        }
        all
    }
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, controller) = match self.limit {
            Limit::Memory => ("memory", "memory"),
            Limit::Processes => ("processes", "pids"),
            Limit::Cpu => ("cpu", "cpu"),
        };
        let instead = match self.instead {
            Instead::AddressSpaceOfEachProcess => {
                "only the address space of each process is bounded, and only for whom a bound is asked"
            }
            Instead::ProcessesOfTheSameUser => "all sandboxes share one bound",
            Instead::Nothing => "a function may take all there is",
        };
        write!(
            f,
            "{limit}: no writable cgroup with the {controller} controller; {instead}"
        )
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespaces = if self.user_namespace { "user, " } else { "" };
        write!(
            f,
            "namespaces ({namespaces}mount, pid, net, ipc, uts), seccomp, {}",
            self.cgroup
        )?;
        if !self.proc {
            f.write_str(", no /proc")?;
        }
        if self.privileged && !self.idmapped_mounts {
            f.write_str(", no id-mapped mounts")?;
        }
        for missing in self.unenforced() {
            write!(f, "; not enforced: {missing}")?;
        }
        Ok(())
    }
}
