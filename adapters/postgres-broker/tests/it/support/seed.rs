//! State directories in which initdb need not run: it takes longer than all the rest of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Kept with what else the build makes.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("broker-templates")
}

/// A state directory with the template that an earlier test has left, if one has. A broker that has
/// no use for it makes its own.
pub(crate) fn seeded_state() -> TempDir {
    let state = tempfile::tempdir().unwrap();
    if kept().exists() {
        copy(&kept(), &state.path().join("servers"));
    }
    state
}

/// Keeps the template of a broker that has stopped.
pub(super) fn keep(state_dir: &Path) {
    let entries = fs::read_dir(state_dir.join("servers"))
        .into_iter()
        .flatten()
        .flatten();
    let mut templates = entries.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with(".template-")
    });
    let Some(template) = templates.next().filter(|_| !kept().exists()) else {
        return;
    };
    let parent = kept().with_file_name("");
    fs::create_dir_all(&parent).unwrap();
    let made = tempfile::tempdir_in(parent).unwrap();
    let complete = made.path().join("servers");
    fs::create_dir(&complete).unwrap();
    copy(&template.path(), &complete.join(template.file_name()));
    // Another test may have been first.
    let _ = fs::rename(complete, kept());
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}
