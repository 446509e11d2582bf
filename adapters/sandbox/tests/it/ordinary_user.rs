//! The same, as an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use adapter_sandbox::{Cgroup, Error, Launcher, LauncherConfig};

use crate::support::{finish, is_root, launcher, launcher_program, python};

const AS_NOBODY: &[&str] = &[
    "/usr/bin/setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Copies a program to where everybody can run it.
fn publish(program: &Path, dir: &Path) -> String {
    let copy = dir.join(program.file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy.to_str().unwrap().to_owned()
}

#[test]
fn every_test_passes_as_an_ordinary_user() {
    if !is_root() {
        // Then this very run is the proof.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let helper = publish(&launcher_program(), dir.path());
    let suite = publish(&std::env::current_exe().unwrap(), dir.path());
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    fs::set_permissions(&scratch, Permissions::from_mode(0o777)).unwrap();

    let command = AS_NOBODY
        .iter()
        .map(|&word| word.to_owned())
        .chain([helper.clone()]);
    match Launcher::start(LauncherConfig::new(command)) {
        Ok(launcher) => {
            let capabilities = launcher.capabilities();
            assert!(!capabilities.privileged && capabilities.user_namespace);
        }
        Err(Error::Unsupported { reason }) => {
            assert!(reason.contains("unprivileged user namespaces"), "{reason}");
            return;
        }
        Err(other) => panic!("{other}"),
    }

    let output = Command::new(AS_NOBODY[0])
        .args(&AS_NOBODY[1..])
        .args([&suite, "--test-threads=2"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", &scratch)
        .env("SANDBOX_TEST_LAUNCHER", &helper)
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains(" 0 ignored; 0 measured; 0 filtered out"),
        "{text}"
    );
}

#[test]
fn what_is_in_force_is_told() {
    let capabilities = launcher().capabilities();
    assert_eq!(capabilities.privileged, is_root());
    assert!(
        !is_root() || capabilities.host_uid != 0,
        "root's sandboxes are not root"
    );
    if capabilities.cgroup == Cgroup::None {
        assert!(capabilities.to_string().contains("rlimits only"));
    }
}

/// Runs its arguments as a root, or as the user in `$1`, for whom the machine has no (further)
/// user namespaces: in one whose limit of them is 0. Only real root can set that up.
const WITHOUT_USER_NAMESPACES: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
child_ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert libc.unshare(0x10000000 | 0x00020000) == 0
    os.write(child_ready[1], b'x')
    os.read(mapped[0], 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open('/proc/sys/user/max_user_namespaces', 'w') as f: f.write('0')
    user = int(sys.argv[1])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.execv(sys.argv[2], sys.argv[2:])
os.read(child_ready[0], 1)
for file in ('uid_map', 'gid_map'):
    with open(f'/proc/{child}/{file}', 'w') as f: f.write('0 0 65536')
os.write(mapped[1], b'x')
# The child alone is to hold the launcher's socket.
os.close(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

fn start_without_user_namespaces(user: &str) -> Result<Launcher, Error> {
    // A copy, as the build's directory may be out of that user's reach.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let helper = publish(&launcher_program(), dir.path());
    let python = ["/usr/bin/python3", "-I", "-c", WITHOUT_USER_NAMESPACES];
    Launcher::start(LauncherConfig::new(
        python.into_iter().chain([user, &helper]),
    ))
}

#[test]
fn root_does_without_user_namespaces_where_there_are_none() {
    if !is_root() {
        return;
    }
    let launcher = start_without_user_namespaces("0").unwrap();
    let capabilities = launcher.capabilities();
    assert!(
        capabilities.privileged && !capabilities.user_namespace,
        "{capabilities}"
    );
    let script = "
import os, socket
status = open('/proc/self/status').read()
assert 'CapEff:\\t0000000000000000' in status and 'Seccomp:\\t2' in status, status
assert os.getppid() == 1 and not os.path.exists('/etc/shadow')
try: socket.create_connection(('192.0.2.1', 80))
except OSError as e: print(os.getuid(), e.errno)
";
    let output = finish(launcher.spawn(&python(script)).unwrap());
    assert_eq!(output.stdout, "65534 101\n", "{output:?}");
    assert!(output.exit.success());
}

#[test]
fn an_ordinary_user_without_user_namespaces_is_told_what_is_missing() {
    if !is_root() {
        return;
    }
    match start_without_user_namespaces("1000") {
        Err(Error::Unsupported { reason }) => assert!(reason.contains("max_user_namespaces")),
        other => panic!("{other:?}"),
    }
}
