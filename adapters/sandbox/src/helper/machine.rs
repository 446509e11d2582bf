//! What this machine allows, tried out once with a process that sets up as a sandbox does.

use std::io;
use std::os::fd::OwnedFd;

use libc::c_int;
use seccompiler::BpfProgram;

use super::cgroup::{Cgroups, Group};
use crate::helper::Identity;
use crate::inside::{self, Failure, System, Trial};
use crate::sys::{self, Clone};
use crate::{Capabilities, Limits, Network, Spec, seccomp, wire};

/// The machine as every sandbox finds it.
pub(crate) struct Machine {
    pub(crate) identity: Identity,
    pub(crate) cgroups: Cgroups,
    pub(crate) filters: Vec<BpfProgram>,
    pub(crate) system: System,
    pub(crate) proc: bool,
    /// Shows root's files as the sandboxes' own; for root only, where the kernel can.
    mount_ids: Option<OwnedFd>,
}

impl Machine {
    /// Finds out, or says why no sandbox can be had.
    pub(crate) fn probe() -> Result<Self, String> {
        let identity = Identity::of_launcher().map_err(|error| error.to_string())?;
        if identity.privileged {
            sys::drop_supplementary_groups().map_err(|error| error.to_string())?;
        }
        let filters = seccomp::filters().map_err(|error| error.to_string())?;
        let mut machine = Self {
            identity,
            cgroups: Cgroups::find(),
            filters,
            system: System::find(),
            proc: false,
            mount_ids: None,
        };
        let trial = match machine.attempt() {
            Err(_) | Ok(Trial::Refused { .. }) if machine.identity.privileged => {
                machine.identity = machine.identity.without_user_namespace();
                machine.attempt()
            }
            other => other,
        };
        machine.proc = match trial {
            Ok(Trial::Complete) => true,
            Ok(Trial::WithoutProc) => false,
            Ok(Trial::Refused { step, errno }) => {
                let error = io::Error::from_raw_os_error(errno);
                return Err(unsupported(&format!("{step}: {error}")));
            }
            Err(error) => return Err(unsupported(&error.to_string())),
        };
        if machine.identity.privileged {
            machine.mount_ids = machine.identity.mount_namespace().ok();
        }
        Ok(machine)
    }

    /// Has a process try what every sandbox does, in a cgroup if that works.
    fn attempt(&mut self) -> io::Result<Trial> {
        let Ok(group) = self.cgroups.create(&Limits::default(), false) else {
            return self.attempt_without_group();
        };
        let trial = self.attempt_in(&group);
        group.remove();
        match trial {
            Ok(Trial::Complete | Trial::WithoutProc) => trial,
            _ => self.attempt_without_group(),
        }
    }

    fn attempt_without_group(&mut self) -> io::Result<Trial> {
        self.cgroups.remove();
        self.cgroups = Cgroups::none();
        let group = self.cgroups.create(&Limits::default(), false)?;
        self.attempt_in(&group)
    }

    fn attempt_in(&self, group: &Group) -> io::Result<Trial> {
        let (sync, sync_inside) = wire::pair()?;
        let cloned = sys::clone(self.namespaces(&Network::None), group.clone_into())?;
        let (pid, pidfd) = match cloned {
            Clone::Child => {
                drop(sync);
                inside::attempt(&self.identity, &sync_inside, group.move_into())
            }
            Clone::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(sync_inside);
        let released = self
            .identity
            .map(pid)
            .and_then(|()| wire::send_bytes(&sync, inside::GO, &[]));
        if released.is_err() {
            sys::kill(&pidfd)?;
        }
        let trial = wire::recv::<Trial>(&sync);
        sys::wait_any(true)?;
        released?;
        let ended = || io::Error::other("the process on trial ended");
        trial?.map(|(trial, _)| trial).ok_or_else(ended)
    }

    /// The namespaces of a new sandbox.
    pub(crate) fn namespaces(&self, network: &Network) -> c_int {
        let mut kinds =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if self.identity.user_namespace {
            kinds |= libc::CLONE_NEWUSER;
        }
        match network {
            Network::None | Network::Relay(_) => kinds | libc::CLONE_NEWNET,
            Network::Host => kinds,
        }
    }

    /// The mounts' sources, which root has to open while it is root; otherwise none yet.
    pub(crate) fn open_trees(&self, spec: &Spec) -> Result<Vec<OwnedFd>, Failure> {
        if !self.identity.privileged {
            return Ok(Vec::new());
        }
        spec.sources()
            .map(|mount| inside::open_source(&mount, self.mount_ids.as_ref()))
            .collect()
    }

    /// The same in public words.
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            privileged: self.identity.privileged,
            host_uid: self.identity.host_uid,
            user_namespace: self.identity.user_namespace,
            proc: self.proc,
            idmapped_mounts: self.mount_ids.is_some(),
            cgroup: self.cgroups.kind(),
        }
    }
}

fn unsupported(what: &str) -> String {
    format!(
        "new namespaces are not to be had ({what}); as an ordinary user this needs unprivileged \
         user namespaces (sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone \
         1 on Debian, kernel.apparmor_restrict_unprivileged_userns 0 on Ubuntu) and Linux 5.12"
    )
}
