//! A sandbox that was cloned before anybody asked for one, and waits to hear what it is to be.
//!
//! Namespaces are most of what the kernel does for a sandbox, above all that of the network; this much
//! earlier they cost nobody a wait. It is in no cgroup and has no program, and sees nothing that any
//! other sandbox would not see before its set-up.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::inside::{self, Plan, Stdio};
use crate::sys::{self, Clone};
use crate::wire::{self, FDS_MAX, PACKET_BYTES_MAX};
use crate::{Network, Spec};

/// The process that waits.
pub(super) struct Spare {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) sync: OwnedFd,
}

/// What it is told, with descriptors in this order: channel, output, error, status, queue, trees, groups.
#[derive(Serialize)]
struct Assignment<'a> {
    queue: bool,
    trees: usize,
    spec: &'a Spec,
}

#[derive(Deserialize)]
struct Assigned {
    queue: bool,
    trees: usize,
    spec: Spec,
}

impl Spare {
    /// Clones one, where that can be: an ordinary user's sandbox opens its mounts by itself, in the
    /// mount namespace as it was when it was cloned, and version 2 of cgroups wants to be cloned into.
    pub(super) fn make(machine: &Machine) -> Option<Self> {
        if !machine.identity.privileged || machine.cgroups.are_cloned_into() {
            return None;
        }
        let (sync, sync_inside) = wire::pair().ok()?;
        match sys::clone(machine.namespaces(&Network::None), None).ok()? {
            Clone::Child => {
                drop(sync);
                stand_by(machine, sync_inside)
            }
            Clone::Parent { pid, pidfd } => {
                let spare = Self { pid, pidfd, sync };
                if super::prepare(&machine.identity, pid).is_err() {
                    // What it is will be seen when it is reaped.
                    let _ = sys::kill(&spare.pidfd);
                }
                Some(spare)
            }
        }
    }

    /// Whether it can become that.
    pub(super) fn suits(spec: &Spec) -> bool {
        !matches!(spec.network, Network::Host)
    }

    /// Tells it what it is to be.
    pub(super) fn assign(
        &self,
        spec: &Spec,
        stdio: &Stdio,
        status: &OwnedFd,
        trees: &[OwnedFd],
        groups: &[File],
    ) -> io::Result<()> {
        let Stdio {
            channel,
            queue,
            stdout,
            stderr,
        } = stdio;
        let assignment = Assignment {
            queue: queue.is_some(),
            trees: trees.len(),
            spec,
        };
        let packet = serde_json::to_vec(&assignment)?;
        let fds: Vec<BorrowedFd<'_>> = [channel, stdout, stderr, status]
            .into_iter()
            .chain(queue)
            .chain(trees)
            .map(AsFd::as_fd)
            .chain(groups.iter().map(AsFd::as_fd))
            .collect();
        if packet.len() > PACKET_BYTES_MAX || fds.len() > FDS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        wire::send_bytes(&self.sync, &packet, &fds)
    }
}

/// Waits, and becomes what it is told; ends with the helper.
fn stand_by(machine: &Machine, sync: OwnedFd) -> ! {
    let assigned = inside::keep_only(&sync).and_then(|()| hear(&sync));
    let Ok(Some((assigned, mut fds))) = assigned else {
        sys::exit_now(1)
    };
    let stdio_count = 4 + usize::from(assigned.queue);
    if fds.len() < stdio_count + assigned.trees {
        sys::exit_now(1);
    }
    let groups: Vec<File> = fds
        .drain(stdio_count + assigned.trees..)
        .map(File::from)
        .collect();
    let trees: Vec<OwnedFd> = fds.drain(stdio_count..).collect();
    let mut first = fds.into_iter();
    let mut next = || first.next().unwrap_or_else(|| sys::exit_now(1));
    let (channel, stdout, stderr, status) = (next(), next(), next(), next());
    let queue = assigned.queue.then(next);
    inside::enter(&Plan {
        machine,
        spec: &assigned.spec,
        stdio: Stdio {
            channel,
            queue,
            stdout,
            stderr,
        },
        status: &status,
        sync,
        trees,
        groups: &groups,
    })
}

fn hear(sync: &OwnedFd) -> io::Result<Option<(Assigned, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let (length, fds) = wire::recv_bytes(sync, &mut buffer, 0)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}
