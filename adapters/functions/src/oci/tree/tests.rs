//! What layers may say, and what comes of it.

use super::*;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: Path::parse(path.as_bytes()).expect("a plain name"),
        kind,
    }
}

fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory { mode: 0o755 })
}

fn file(path: &str, number: u32) -> Entry {
    entry(path, Kind::File(number))
}

fn symlink(path: &str, to: &str) -> Entry {
    entry(path, Kind::Symlink(Text::of(to.as_bytes())))
}

fn hard_link(path: &str, to: &str) -> Entry {
    let to = Path::parse(to.as_bytes()).expect("a plain name");
    entry(path, Kind::HardLink(to))
}

/// The root of layers whose files' contents are told by their numbers.
fn root(layers: &[&[Entry]]) -> Result<Directory, Failure> {
    let mut root = Directory::default();
    for layer in layers {
        root.apply(layer, &mut |number| {
            std::path::Path::new(&number.to_string()).into()
        })?;
    }
    Ok(root)
}

/// Every place of a root, in order: folders end in `/`, links in `@`.
fn listing(root: &Directory) -> Vec<String> {
    fn walk(folder: &Directory, prefix: &str, into: &mut Vec<String>) {
        for (name, node) in &folder.entries {
            let place = format!("{prefix}{}", name.to_string_lossy());
            match node {
                Node::Directory(folder) => {
                    into.push(format!("{place}/"));
                    walk(folder, &format!("{place}/"), into);
                }
                Node::File(content) => into.push(format!("{place}={}", content.display())),
                Node::Symlink(_) => into.push(format!("{place}@")),
            }
        }
    }
    let mut all = Vec::new();
    walk(root, "", &mut all);
    all
}

fn made(layers: &[&[Entry]]) -> Vec<String> {
    listing(&root(layers).expect("the layers are fine"))
}

#[test]
fn a_whiteout_hides_what_lower_layers_have_and_nothing_of_its_own() {
    let lower = [file("a/x", 1), file("a/y", 2), file("top", 3)];
    let upper = [
        file("a/x", 4),
        entry("a/x", Kind::Whiteout),
        entry("a/y", Kind::Whiteout),
        entry("top", Kind::Whiteout),
        entry("never/was", Kind::Whiteout),
    ];
    assert_eq!(made(&[&lower, &upper]), ["a/", "a/x=4"]);
}

#[test]
fn an_opaque_folder_keeps_only_what_its_own_layer_puts_there() {
    let lower = [file("a/b/x", 1), file("a/y", 2), file("c", 3)];
    let upper = [file("a/z", 4), entry("a", Kind::Opaque)];
    assert_eq!(made(&[&lower, &upper]), ["a/", "a/z=4", "c=3"]);
}

#[test]
fn a_whiteout_of_a_folder_takes_all_below_it() {
    let lower = [file("a/b/x", 1)];
    let upper = [entry("a", Kind::Whiteout), file("a/new", 2)];
    assert_eq!(made(&[&lower, &upper]), ["a/", "a/new=2"]);
}

#[test]
fn a_hard_link_is_the_same_content_even_of_a_lower_layer() {
    let lower = [file("a", 1)];
    let upper = [hard_link("b", "a"), file("c", 2), hard_link("d/e", "/c")];
    assert_eq!(
        made(&[&lower, &upper]),
        ["a=1", "b=1", "c=2", "d/", "d/e=2"]
    );
}

#[test]
fn a_hard_link_to_what_is_not_in_the_root_is_refused() {
    for to in ["etc/passwd", "/etc/shadow", "loop/x"] {
        let layer = [symlink("loop", "loop"), hard_link("b", to)];
        assert!(root(&[&layer]).is_err(), "{to}");
    }
    let layer = [directory("d"), hard_link("b", "d")];
    assert!(root(&[&layer]).is_err());
}

#[test]
fn a_name_that_climbs_is_refused_and_an_absolute_one_is_inside() {
    for name in ["../x", "a/../../x", "a/..", "a\0b"] {
        assert!(Path::parse(name.as_bytes()).is_err(), "{name:?}");
    }
    assert_eq!(
        made(&[&[file("/etc//./passwd", 1)]]),
        ["etc/", "etc/passwd=1"]
    );
}

#[test]
fn an_entry_below_a_link_stays_within_the_root() {
    let through = |to: &str| made(&[&[symlink("out", to), file("out/x", 1)]]);
    assert_eq!(through("/etc"), ["etc/", "etc/x=1", "out@"]);
    assert_eq!(through("../../../../tmp"), ["out@", "tmp/", "tmp/x=1"]);
    assert_eq!(through("/"), ["out@", "x=1"]);
    let chain = [
        directory("a"),
        symlink("a/up", ".."),
        symlink("far", "a/up/../../host"),
        file("far/x", 1),
    ];
    assert_eq!(
        made(&[&chain]),
        ["a/", "a/up@", "far@", "host/", "host/x=1"]
    );
}

#[test]
fn links_in_a_circle_are_refused() {
    let layer = [symlink("a", "b"), symlink("b", "a"), file("a/x", 1)];
    assert!(root(&[&layer]).is_err());
}

#[test]
fn a_merged_usr_takes_the_files_that_an_upper_layer_puts_below_the_link() {
    let lower = [directory("usr/bin"), symlink("bin", "usr/bin")];
    let upper = [file("bin/tool", 1)];
    assert_eq!(
        made(&[&lower, &upper]),
        ["bin@", "usr/", "usr/bin/", "usr/bin/tool=1"]
    );
}

#[test]
fn what_an_upper_layer_names_takes_the_place_of_another_kind() {
    let lower = [symlink("a", "/etc"), file("b", 1), file("c/x", 2)];
    let upper = [directory("a"), directory("b"), file("c", 3)];
    assert_eq!(made(&[&lower, &upper]), ["a/", "b/", "c=3"]);
    let below_a_file = [file("b/x", 4)];
    assert!(root(&[&lower, &below_a_file]).is_err());
}

#[test]
fn a_folder_that_is_named_again_keeps_its_entries() {
    let again = [entry("a", Kind::Directory { mode: 0o700 })];
    let root = root(&[&[file("a/x", 1)], &again]).expect("the layers are fine");
    assert_eq!(listing(&root), ["a/", "a/x=1"]);
    let Some(Node::Directory(folder)) = root.get(&["a".into()]) else {
        panic!("it is a folder");
    };
    assert_eq!(folder.mode, Some(0o700));
}

#[test]
fn names_that_are_no_text_come_back_as_they_were() {
    for bytes in [
        &b"plain"[..],
        b"100%",
        b"\xff\xfe",
        "f\u{151}\u{26}".as_bytes(),
        b"%2",
        b"a%25\xc3",
    ] {
        assert_eq!(Text::of(bytes).bytes(), bytes);
    }
    assert_ne!(Text::of(b"\xff"), Text::of(b"%ff"));
}
