//! What a new process does to become the first process of a sandbox. Runs in the clone, which has
//! the helper's memory but one thread and namespaces of its own.

mod failure;
mod init;
mod lockdown;
mod network;
mod root;
mod system;

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

pub(crate) use self::failure::{Failure, Step};
pub(crate) use self::root::open_source;
pub(crate) use self::system::System;
use crate::helper::{Identity, Machine};
use crate::spec::Bindings;
use crate::wire::{self, Status};
use crate::{Network, Spec, sys};

/// What the helper says when the process has its ids and its cgroup.
pub(crate) const GO: &[u8] = b"go";

/// Everything the process needs, as the helper prepared it.
pub(crate) struct Plan<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) spec: &'a Spec,
    pub(crate) stdio: Stdio,
    pub(crate) status: &'a OwnedFd,
    /// To the helper: its end of file is the helper's death.
    pub(crate) sync: OwnedFd,
    /// The opened sources of the spec's mounts, if the helper had to open them.
    pub(crate) trees: Vec<OwnedFd>,
    /// What to write `0` into to be in the sandbox's cgroups, if it was not cloned into them.
    pub(crate) groups: &'a [File],
}

/// The program's descriptors, besides `/dev/null`.
pub(crate) struct Stdio {
    pub(crate) channel: OwnedFd,
    pub(crate) queue: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Becomes the sandbox; ends with it.
pub(crate) fn enter(plan: &Plan<'_>) -> ! {
    let Err(failure) = set_up(plan);
    let message = Status::Failed {
        step: failure.step,
        errno: failure.errno,
    };
    // Whoever asked may have given up; there is nobody else to tell.
    let _ = wire::send(plan.status, &message, &[]);
    sys::exit_now(1)
}

fn set_up(plan: &Plan<'_>) -> Result<Infallible, Failure> {
    let Plan { machine, spec, .. } = *plan;
    keep_own_descriptors(plan).step("close descriptors")?;
    enter_groups(plan.groups)?;
    await_go(&machine.identity, &plan.sync)?;
    // Before the user namespace hides who is who; an old kernel has no such namespace.
    let _ = sys::new_cgroup_namespace();
    let bindings = match &spec.network {
        Network::None => Some(Bindings::default()),
        Network::Relay(endpoints) => Some(Bindings::of(endpoints)),
        Network::Host => None,
    };
    if let Some(bindings) = &bindings {
        let listeners = network::set_up(&bindings.addresses)?;
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() {
            wire::send(plan.status, &Status::Listening, &fds).step("hand over the listeners")?;
        }
    }
    root::build(plan, bindings.as_ref())?;
    sys::set_hostname(&spec.hostname).step("set the host name")?;
    lockdown::limit(machine, &spec.limits)?;
    if spec.background {
        // A node that is itself behind others may not choose; its sandboxes are behind with it.
        let _ = sys::run_in_background();
    }
    lockdown::lock(machine)?;
    await_nothing(&plan.sync)?;
    init::run(plan)
}

/// Closes what the clone has of the helper's other business. The first four or five stay open, as nothing
/// that is opened on the way may take the numbers which the program is to find.
fn keep_own_descriptors(plan: &Plan<'_>) -> std::io::Result<()> {
    let Stdio {
        channel,
        queue,
        stdout,
        stderr,
    } = &plan.stdio;
    let own = [channel, stdout, stderr, plan.status, &plan.sync];
    let mut kept: Vec<_> = own
        .into_iter()
        .chain(queue)
        .chain(&plan.trees)
        .map(AsRawFd::as_raw_fd)
        .chain(plan.groups.iter().map(AsRawFd::as_raw_fd))
        .chain(0..=3 + i32::from(queue.is_some()))
        .collect();
    sys::close_all_but(&mut kept)
}

/// Closes all but what the program is to find and this one.
pub(crate) fn keep_only(own: &OwnedFd) -> std::io::Result<()> {
    let mut kept: Vec<_> = (0..=4).chain([own.as_raw_fd()]).collect();
    sys::close_all_but(&mut kept)
}

fn enter_groups(groups: &[File]) -> Result<(), Failure> {
    groups
        .iter()
        .try_for_each(|mut group| group.write_all(b"0"))
        .step("enter the cgroup")
}

/// Waits for the helper, then takes on the sandbox's user.
fn await_go(identity: &Identity, sync: &OwnedFd) -> Result<(), Failure> {
    let (length, _) = wire::recv_bytes(sync, &mut [0; GO.len()], 0).step("await the helper")?;
    if length == 0 {
        sys::exit_now(1);
    }
    if identity.user_namespace {
        sys::become_user(identity.inside_uid, identity.inside_gid).step("change the user")?;
    }
    sys::die_with_parent().step("bind to the helper's life")
}

/// Ends when the helper has died since `GO`, which may have been before this process was bound to
/// its life.
fn await_nothing(sync: &OwnedFd) -> Result<(), Failure> {
    let ready = sys::poll([sync.as_fd()], 0).step("look for the helper")?;
    if ready.is_some() {
        sys::exit_now(1);
    }
    Ok(())
}

/// How far a trial came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Trial {
    /// To all that a sandbox needs.
    Complete,
    /// To all but a `/proc` of its own.
    WithoutProc,
    /// To a step that was refused.
    Refused { step: String, errno: i32 },
}

/// Tries in a new process what may be refused, answers with a [`Trial`], and ends.
pub(crate) fn attempt(identity: &Identity, sync: &OwnedFd, groups: &[File]) -> ! {
    let base = enter_groups(groups)
        .and_then(|()| await_go(identity, sync))
        .and_then(|()| network::set_up(&[]).map(drop))
        .and_then(|()| root::attempt())
        .map(|()| root::attempt_proc().is_ok())
        // Last, as the mounts need root's rights where there is no user namespace.
        .and_then(|proc| lockdown::attempt(identity).map(|()| proc));
    let trial = match base {
        Err(Failure { step, errno }) => Trial::Refused { step, errno },
        Ok(false) => Trial::WithoutProc,
        Ok(true) => Trial::Complete,
    };
    // When the helper is gone, there is nobody to answer.
    let _ = wire::send(sync, &trial, &[]);
    sys::exit_now(0)
}
