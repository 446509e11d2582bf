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
    /// Which cgroups bound memory and processes of a whole sandbox.
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
    },
    /// The unified hierarchy.
    V2 {
        /// The memory controller.
        memory: bool,
        /// The pids controller.
        pids: bool,
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
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, memory, pids) = match *self {
            Self::None => return f.write_str("no cgroup, rlimits only"),
            Self::V1 { memory, pids } => ("v1", memory, pids),
            Self::V2 { memory, pids } => ("v2", memory, pids),
        };
        let controllers = match (memory, pids) {
            (true, true) => "memory, pids",
            (true, false) => "memory",
            (false, true) => "pids",
            (false, false) => "no controllers",
        };
        write!(f, "cgroup {version} ({controllers})")
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
        Ok(())
    }
}
