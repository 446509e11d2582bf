//! What of a node's files is read, and what is not.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn only_what_really_lies_below_an_allowed_folder_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (inner, outer) = (folder.path().join("in"), folder.path().join("out"));
    for made in [&inner, &outer] {
        fs::create_dir(made).expect("it is made");
        fs::write(made.join("image.tar"), "").expect("it is written");
    }
    symlink(outer.join("image.tar"), inner.join("link")).expect("it is made");
    let folders = [inner.clone()];
    assert!(allowed(&inner.join("image.tar"), &folders).is_ok());
    for path in ["link", "../out/image.tar", "none"] {
        let failure = allowed(&inner.join(path), &folders).expect_err("it is outside");
        assert!(failure.reason.contains("worker.imageFolders"), "{failure}");
    }
    assert!(allowed(&inner.join("image.tar"), &[]).is_err());
}

#[test]
fn pipes_and_devices_are_no_archives() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("it runs").success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let failed = open_regular(path).expect_err("it is no file");
        assert!(failed.to_string().contains("no regular file"), "{failed}");
    }
}
