//! A sandbox whose root is an image's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use adapter_sandbox::{Mount, Network, Spec};

use crate::support::{launcher, printed, run, shell};

/// A root with a shell, a few tools, the libraries that they need, and nothing else.
fn root() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in [
        "usr/bin",
        "etc",
        "dev",
        "tmp/of-the-image",
        "var/data",
        "opt",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in Spec::OVERLAID {
        fs::write(root.join("etc").join(name), "the image's own\n").unwrap();
    }
    for name in ["sh", "cat", "ls", "id"] {
        copy_program(name, root);
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("etc/mark"), "of the image").unwrap();
    symlink("/../../etc/shadow", root.join("way-out")).unwrap();
    symlink("/.host/etc/shadow", root.join("etc/way-out")).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Copies a program, and what `ldd` says that it is linked to, to the same places.
fn copy_program(name: &str, root: &Path) {
    let program = fs::canonicalize(Path::new("/bin").join(name)).unwrap();
    fs::copy(&program, root.join("usr/bin").join(name)).unwrap();
    let linked = Command::new("ldd").arg(&program).output().unwrap().stdout;
    let linked = String::from_utf8(linked).unwrap();
    for library in linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let to = root.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
}

fn shell_in(root: &Path, script: &str) -> Spec {
    let mut spec = shell(script);
    spec.root = Some(root.to_owned());
    spec
}

#[test]
fn only_the_image_is_there_and_nothing_of_the_host() {
    let folder = root();
    let seen = printed(&shell_in(
        folder.path(),
        "cat /etc/mark; echo; ls -A /; ls -A /usr; ls -A /tmp /run",
    ));
    assert!(seen.starts_with("of the image\n"), "{seen}");
    let names: Vec<&str> = seen.split_whitespace().collect();
    for name in ["bin", "dev", "opt", "proc", "tmp", "usr", "var"] {
        assert!(names.contains(&name), "{name}: {seen}");
    }
    for name in ["share", "home", "sys", ".host", ".image", "of-the-image"] {
        assert!(!names.contains(&name), "{name}: {seen}");
    }
}

#[test]
fn the_images_links_lead_nowhere_on_the_host() {
    let folder = root();
    let script = "cat /way-out || cat /etc/way-out || echo neither";
    assert_eq!(printed(&shell_in(folder.path(), script)).trim(), "neither");
}

#[test]
fn the_image_cannot_be_written_to() {
    let folder = root();
    let script = "for f in /x /etc/x /usr/bin/x /var/data/x /opt/x /etc/hosts; do \
        (echo x > $f) 2>/dev/null && echo $f; done; echo x > /tmp/x && cat /tmp/x";
    assert_eq!(printed(&shell_in(folder.path(), script)).trim(), "x");
    assert!(!folder.path().join("var/data/x").exists());
}

#[test]
fn users_and_hosts_are_the_sandboxs_own() {
    let folder = root();
    let script = "id -un; cat /etc/hosts /etc/nsswitch.conf; ls -l /dev/null";
    let seen = printed(&shell_in(folder.path(), script));
    assert!(seen.starts_with("sandbox\n127.0.0.1 localhost"), "{seen}");
    assert!(!seen.contains("the image's own"), "{seen}");
}

#[test]
fn mounts_lie_over_the_image_and_beside_it() {
    let folder = root();
    let layer = tempfile::tempdir().unwrap();
    fs::write(layer.path().join("file"), "of the layer\n").unwrap();
    fs::set_permissions(layer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = shell_in(folder.path(), "cat /layer/file /opt/file");
    spec.mounts.push(Mount::read_only(layer.path(), "/layer"));
    spec.mounts.push(Mount::read_only(layer.path(), "/opt"));
    assert_eq!(printed(&spec), "of the layer\nof the layer\n");
}

#[test]
fn the_hosts_way_to_find_names_is_seen_with_its_network() {
    let folder = root();
    let mut spec = shell_in(folder.path(), "cat /etc/hosts");
    spec.network = Network::Host;
    assert_eq!(printed(&spec), fs::read_to_string("/etc/hosts").unwrap());
}

#[test]
fn files_of_the_engine_alone_are_readable_in_the_image() {
    let folder = root();
    let secretive = folder.path().join("etc/mark");
    fs::set_permissions(secretive, fs::Permissions::from_mode(0o600)).unwrap();
    let output = run(&shell_in(folder.path(), "cat /etc/mark"));
    let capabilities = launcher().capabilities();
    if !capabilities.privileged || capabilities.idmapped_mounts {
        assert_eq!(output.stdout, "of the image", "{output:?}");
    }
}

#[test]
fn a_root_that_is_not_there_is_an_error() {
    let mut spec = shell("true");
    spec.root = Some("/no/such/root".into());
    assert!(launcher().spawn(&spec).is_err());
}
