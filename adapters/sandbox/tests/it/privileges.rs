//! What a sandboxed program may ask of the kernel.

use crate::support::{printed, python, shell};

/// Calls by number, and prints the error's number of each.
const CALLS: &str = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *[ctypes.c_long(a) for a in arguments])
    return ctypes.get_errno()
";

#[test]
fn there_are_no_capabilities_and_a_filter() {
    let status = printed(&shell("cat /proc/self/status"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{status}"
        );
    }
    assert!(
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_that_would_widen_the_sandbox_are_refused() {
    let script = format!(
        "{CALLS}
EPERM, ENOSYS = 1, 38
refused = dict(mount=165, umount2=166, pivot_root=155, chroot=161, unshare=272, setns=308,
    ptrace=101, bpf=321, io_uring_setup=425, io_uring_enter=426, keyctl=250, add_key=248,
    perf_event_open=298, kexec_load=246, init_module=175, finit_module=313, userfaultfd=323,
    open_tree=428, move_mount=429, fsopen=430, mount_setattr=442, process_vm_writev=311,
    open_by_handle_at=304, reboot=169, sethostname=170)
for name, number in refused.items():
    assert call(number, 0, 0, 0, 0, 0) == EPERM, name
for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
    assert call(56, flag | 17, 0, 0, 0, 0) == EPERM, hex(flag)
assert call(435, 0, 0) == ENOSYS, 'clone3'
assert call(437, 0, 0, 0, 0) == ENOSYS, 'openat2'
assert call(0x40000000 + 39) == ENOSYS, 'the second numbering'
"
    );
    printed(&python(&script));
}

#[test]
fn sockets_are_of_the_internet_or_local() {
    let script = "
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX): socket.socket(family).close()
for family, kind in ((40, 1), (38, 5), (17, 3)):
    try: socket.socket(family, kind)
    except PermissionError: pass
    else: raise SystemExit(f'family {family}')
";
    printed(&python(script));
}

#[test]
fn a_file_cannot_be_made_to_lend_its_owners_rights() {
    let script = "
import os
os.close(os.open('/tmp/plain', os.O_CREAT | os.O_WRONLY, 0o755))
os.chmod('/tmp/plain', 0o700)
attempts = [lambda: os.chmod('/tmp/plain', 0o4755), lambda: os.chmod('/tmp/plain', 0o2755),
    lambda: os.open('/tmp/other', os.O_CREAT | os.O_WRONLY, 0o4755),
    lambda: os.mknod('/tmp/third', 0o104755)]
for number, attempt in enumerate(attempts):
    try: attempt()
    except PermissionError: pass
    else: raise SystemExit(number)
";
    printed(&python(script));
}

#[test]
fn the_first_process_cannot_be_looked_into_or_killed() {
    let script = "
import os, signal
assert not os.path.exists('/proc/1/environ')
assert os.getppid() == 1
os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGTERM)
print('alive')
";
    assert_eq!(printed(&python(script)), "alive\n");
}
