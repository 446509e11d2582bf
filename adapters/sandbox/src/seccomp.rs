//! The system calls a sandboxed program is refused.
//!
//! A list of what is denied: a function's interpreter and libraries may use anything that is not on
//! it. Refused calls fail with EPERM, as they would for lack of a capability, and do not kill.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch, sock_filter,
};

/// Numbers which the C library's bindings do not carry yet; the same on every architecture.
const SYS_OPEN_TREE_ATTR: i64 = 467;

/// Never allowed, whatever the arguments.
const DENIED: &[i64] = &[
    // mounts and roots
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // namespaces
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    // wide kernel surfaces that functions have no need of
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_lookup_dcookie,
    // longer turns on a processor, which neighbours wait for
    libc::SYS_sched_setattr,
    // the machine itself
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Answered as unknown, so that callers fall back to what can be filtered by its arguments: these
/// hide their flags behind a pointer, which a filter cannot follow.
const UNKNOWN: &[i64] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Every namespace flag of `clone`. CLONE_NEWTIME is not among them: its bit is the exit signal's.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What sockets may be made: others (VSOCK, ALG, packet ...) reach hypervisor, kernel or wire.
const SOCKET_FAMILIES: &[i32] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Which argument of a call is the mode of a file to be made or changed, and which, if any, says
/// by O_CREAT that there is one. On the host such a file may belong to root.
const MODES: &[(i64, u8, Option<u8>)] = &[
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (libc::SYS_fchmodat2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2, Some(1)),
];

/// The filters, compiled; all of them are to be installed.
pub(crate) fn filters() -> Result<Vec<BpfProgram>, BackendError> {
    let unknown = UNKNOWN.iter().map(|&call| (call, Vec::new())).collect();
    let mut filters = vec![
        compile(unknown, SeccompAction::Errno(libc::ENOSYS as u32))?,
        compile(denied()?, SeccompAction::Errno(libc::EPERM as u32))?,
    ];
    if cfg!(target_arch = "x86_64") {
        filters.push(no_second_abi());
    }
    Ok(filters)
}

fn compile(
    rules: BTreeMap<i64, Vec<Rule>>,
    action: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?.try_into()
}

fn denied() -> Result<BTreeMap<i64, Vec<Rule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        DENIED.iter().map(|&call| (call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for bit in bits(NEW_NAMESPACES) {
        namespaces.push(Rule::new(vec![has_bit(0, bit)?])?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    let other_family = SOCKET_FAMILIES
        .iter()
        .map(|&family| Condition::new(0, Length::Dword, Compare::Ne, family as u64))
        .collect::<Result<_, _>>()?;
    // The C library asks for the machine's own addresses by routing messages; the other protocols
    // lead to firewalls, audits and the like.
    let other_netlink = vec![
        Condition::new(0, Length::Dword, Compare::Eq, libc::AF_NETLINK as u64)?,
        Condition::new(2, Length::Dword, Compare::Ne, libc::NETLINK_ROUTE as u64)?,
    ];
    let sockets = vec![Rule::new(other_family)?, Rule::new(other_netlink)?];
    rules.insert(libc::SYS_socket, sockets);
    let fake_typing = Condition::new(1, Length::Dword, Compare::Eq, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![Rule::new(vec![fake_typing])?]);
    for &(call, mode, flags) in MODES {
        let mut set_id = Vec::new();
        for bit in bits(u64::from(libc::S_ISUID | libc::S_ISGID)) {
            let mut conditions = vec![has_bit(mode, bit)?];
            if let Some(flags) = flags {
                conditions.push(has_bit(flags, libc::O_CREAT as u64)?);
            }
            set_id.push(Rule::new(conditions)?);
        }
        rules.insert(call, set_id);
    }
    Ok(rules)
}

fn has_bit(argument: u8, bit: u64) -> Result<Condition, BackendError> {
    Condition::new(argument, Length::Dword, Compare::MaskedEq(bit), bit)
}

fn bits(mask: u64) -> impl Iterator<Item = u64> {
    (0..64)
        .map(|shift| 1 << shift)
        .filter(move |bit| mask & bit != 0)
}

/// Answers ENOSYS to the x32 numbers of x86-64, which name the same calls a second time.
fn no_second_abi() -> BpfProgram {
    const SECOND_ABI: u32 = 0x4000_0000;
    let load_number = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_greater_or_equal = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        line(load_number, 0, 0, 0),
        line(jump_if_greater_or_equal, 0, 1, SECOND_ABI),
        line(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        line(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_and_fit_into_the_kernels_limit() {
        let filters = filters().unwrap();
        assert!(filters.iter().all(|f| !f.is_empty() && f.len() < 4096));
    }

    #[test]
    fn the_bits_of_a_mask_are_its_bits() {
        assert_eq!(bits(0b1010).collect::<Vec<_>>(), [2, 8]);
    }
}
