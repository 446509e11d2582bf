//! Who sandboxed processes are, inside and on the host.
//!
//! As an ordinary user they are that user on the host, as a user namespace allows no other. As root
//! they must not be root there (a process of root's without capabilities may still write to
//! `/proc/sys`), so they get an id that nobody else has.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use crate::sys::{self, Clone};
use crate::{sys::WaitStatus, wire};

/// The user and group inside.
const INSIDE: u32 = 1000;
/// Above every range that distributions and service managers hand out.
const HOST_PREFERRED: u32 = 1_879_200_000;
/// `nobody`, for a launcher that runs in a container with few ids.
const HOST_FALLBACK: u32 = 65_534;

/// The ids of sandboxed processes.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The launcher is root.
    pub(crate) privileged: bool,
    /// Ids are mapped by a user namespace.
    pub(crate) user_namespace: bool,
    pub(crate) host_uid: u32,
    pub(crate) host_gid: u32,
    pub(crate) inside_uid: u32,
    pub(crate) inside_gid: u32,
}

impl Identity {
    /// The identity for this launcher's own user.
    pub(crate) fn of_launcher() -> io::Result<Self> {
        let privileged = sys::own_uid() == 0;
        let (host_uid, host_gid) = if privileged {
            let mapped = |file: &str| fs::read_to_string(file).map(|map| choose_host_id(&map));
            (mapped("/proc/self/uid_map")?, mapped("/proc/self/gid_map")?)
        } else {
            (sys::own_uid(), sys::own_gid())
        };
        Ok(Self {
            privileged,
            user_namespace: true,
            host_uid,
            host_gid,
            inside_uid: INSIDE,
            inside_gid: INSIDE,
        })
    }

    /// The same without a user namespace, which only root can do without.
    pub(crate) fn without_user_namespace(self) -> Self {
        let (inside_uid, inside_gid) = (self.host_uid, self.host_gid);
        Self {
            user_namespace: false,
            inside_uid,
            inside_gid,
            ..self
        }
    }

    /// Writes the id maps of a new process's user namespace.
    pub(crate) fn map(&self, pid: i32) -> io::Result<()> {
        if !self.user_namespace {
            return Ok(());
        }
        if !self.privileged {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        let map = |inside: u32, host: u32| format!("{inside} {host} 1\n");
        fs::write(
            format!("/proc/{pid}/uid_map"),
            map(self.inside_uid, self.host_uid),
        )?;
        fs::write(
            format!("/proc/{pid}/gid_map"),
            map(self.inside_gid, self.host_gid),
        )
    }

    /// A user namespace that shows files of root's as the sandboxes' own, for mounts.
    pub(crate) fn mount_namespace(&self) -> io::Result<OwnedFd> {
        let (sync, sync_inside) = wire::pair()?;
        match sys::clone(libc::CLONE_NEWUSER, None)? {
            Clone::Child => {
                // Keeps the namespace alive until the parent has hold of it.
                drop(sync);
                let _ = wire::recv_bytes(&sync_inside, &mut [0; 1], 0);
                sys::exit_now(0)
            }
            Clone::Parent { pid, pidfd: _ } => {
                let namespace = fs::write(
                    format!("/proc/{pid}/uid_map"),
                    format!("0 {} 1\n", self.host_uid),
                )
                .and_then(|()| {
                    fs::write(
                        format!("/proc/{pid}/gid_map"),
                        format!("0 {} 1\n", self.host_gid),
                    )
                })
                .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
                drop((sync, sync_inside));
                let _: Option<(i32, WaitStatus)> = sys::wait_any(true)?;
                namespace.map(OwnedFd::from)
            }
        }
    }
}

/// The preferred id where this namespace has it, else `nobody`.
fn choose_host_id(map: &str) -> u32 {
    let covers = |line: &str| {
        let mut numbers = line
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((first..first + count).contains(&u64::from(HOST_PREFERRED)))
    };
    let covered = map.lines().any(|line| covers(line) == Some(true));
    if covered {
        HOST_PREFERRED
    } else {
        HOST_FALLBACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_few_ids_uses_nobody() {
        assert_eq!(
            choose_host_id("         0     100000      65536\n"),
            HOST_FALLBACK
        );
        assert_eq!(
            choose_host_id("         0          0 4294967295\n"),
            HOST_PREFERRED
        );
    }
}
