//! Roots on a file system, and when they go.

use super::super::manifest::digest_of;
use super::*;

/// A store with one layer, of a file, a link out of the root and a folder nobody may enter.
fn store() -> (tempfile::TempDir, Store, Note, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("it opens");
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, mode, link: Option<&str>, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if let Some(link) = link {
            header.set_link_name_literal(link).expect("a short name");
        }
        builder
            .append_data(&mut header, name, content.as_bytes())
            .expect("memory");
    };
    add("bin/tool", tar::EntryType::Regular, 0o755, None, "tool");
    add("same", tar::EntryType::Link, 0o755, Some("bin/tool"), "");
    add(
        "out",
        tar::EntryType::Symlink,
        0o777,
        Some("/../../etc"),
        "",
    );
    add("closed", tar::EntryType::Directory, 0o000, None, "");
    let archive = builder.into_inner().expect("memory");
    let blob = folder.path().join("blob");
    fs::write(&blob, &archive).expect("it is written");
    let diff_id = digest_of(&archive);
    store
        .keep_layer(&blob, &diff_id, 1 << 20)
        .expect("it is fine");
    let note = Note {
        env: vec![("PATH".into(), "/none:/out:/bin".into())],
        layers: vec![diff_id],
    };
    (folder, store, note, digest_of(b"a manifest"))
}

#[test]
fn a_root_is_the_layers_files_under_their_names() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, store, note, digest) = store();
    store.keep_root(&digest, &note).expect("it is made");
    let root = store
        .root(&digest)
        .expect("it is read")
        .expect("it is there");
    let inode = |name: &str| {
        fs::metadata(root.path.join(name))
            .expect("it is there")
            .ino()
    };
    assert_eq!(inode("bin/tool"), inode("same"));
    assert_eq!(
        fs::read_link(root.path.join("out")).expect("a link"),
        Path::new("/../../etc")
    );
    assert!(root.path.join("etc/hosts").is_file());
    assert_eq!(root.on_path("tool"), [Path::new("/bin/tool")]);
}

#[test]
fn links_of_a_root_are_followed_within_it() {
    let (_folder, store, note, digest) = store();
    store.keep_root(&digest, &note).expect("it is made");
    let root = store
        .root(&digest)
        .expect("it is read")
        .expect("it is there");
    let hosts = root.path.join("etc/hosts");
    assert_eq!(root.find(Path::new("/out/hosts")), Some(hosts));
    assert_eq!(root.find(Path::new("/out/shadow")), None);
}

#[test]
fn what_nothing_uses_goes_after_its_time_and_not_before() {
    let (_folder, store, note, digest) = store();
    store.keep_root(&digest, &note).expect("it is made");
    let nobody = |_: &str| false;
    let (now, later) = (Duration::ZERO, Duration::from_secs(3600));
    assert_eq!(store.sweep(&nobody, later), Ok(0), "it is young");
    assert_eq!(
        store.sweep(&|used| used == digest, now),
        Ok(0),
        "it is used"
    );
    let root = store.root(&digest).expect("it is read");
    assert_eq!(
        store.sweep(&nobody, now),
        Ok(0),
        "it is in somebody's hands"
    );
    drop(root);
    assert_eq!(store.sweep(&nobody, now), Ok(2), "a root and its layer");
    assert_eq!(store.root(&digest), Ok(None));
    assert!(!store.has_layer(&note.layers[0]));
}

#[test]
fn a_root_is_never_removed_from_under_its_users() {
    let (_folder, store, note, digest) = store();
    std::thread::scope(|scope| {
        let user = || {
            for _ in 0..200 {
                // Another thread may remove the layer between the two; then this is no user.
                let _ = store.keep_root(&digest, &note);
                if let Ok(Some(root)) = store.root(&digest) {
                    assert!(root.path.join("bin/tool").is_file());
                    std::thread::yield_now();
                    assert!(
                        root.path.join("bin/tool").is_file(),
                        "it went while it was used"
                    );
                }
            }
        };
        let users = [scope.spawn(user), scope.spawn(user)];
        while !users.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.sweep(&|_| false, Duration::ZERO).expect("it sweeps");
        }
    });
}

#[test]
fn what_was_begun_and_not_finished_is_gone_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("it opens");
    let begun = store.scratch().expect("it is made").keep();
    fs::write(begun.join("half"), "x").expect("it is written");
    drop(store);
    Store::open(folder.path()).expect("it opens");
    assert!(!begun.exists());
}

#[test]
fn a_layer_that_is_here_is_given_to_those_alone_who_have_it() {
    let (folder, store, note, _) = store();
    let (mine, other) = (folder.path().join("blob"), folder.path().join("other"));
    fs::write(&other, [0; 1024]).expect("it is written");
    let diff_id = &note.layers[0];
    assert!(store.keep_layer(&mine, diff_id, 1 << 20).is_ok());
    assert!(store.keep_layer(&other, diff_id, 1 << 20).is_err());
}

#[test]
fn layers_of_an_image_that_is_being_made_are_not_removed() {
    let (_folder, store, note, _) = store();
    let store = Arc::new(store);
    let pin = store.pin(&note.layers);
    assert_eq!(store.sweep(&|_| false, Duration::ZERO), Ok(0));
    drop(pin);
    assert_eq!(store.sweep(&|_| false, Duration::ZERO), Ok(1));
}
