//! The same, as an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use adapter_sandbox::{Cgroup, Error, Launcher, LauncherConfig};

use crate::support::{is_root, launcher, launcher_program};

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
