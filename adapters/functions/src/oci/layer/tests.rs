//! Archives as builders write them, and as they should not be.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use super::super::manifest::digest_of;
use super::*;

/// An archive of entries: a name, a kind, a mode, a link's target and a content.
fn archive(entries: &[(&str, EntryType, u32, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        // By bytes: the builder's own way refuses the names that are tried here.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn file<'a>(
    name: &'a str,
    mode: u32,
    content: &'a str,
) -> (&'a str, EntryType, u32, &'a str, &'a str) {
    (name, EntryType::Regular, mode, "", content)
}

/// Takes apart what is in `blob`, which is the archive or a form of it.
fn unpacked(
    blob: &[u8],
    archive: &[u8],
    bytes_max: u64,
) -> Result<(tempfile::TempDir, Vec<Entry>), Failure> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    fs::write(&path, blob).expect("it is written");
    let into = folder.path().join("layer");
    fs::create_dir(&into).expect("it is made");
    unpack(&path, &digest_of(archive), &into, Bounds { bytes_max })?;
    let entries = index(&into)?;
    Ok((folder, entries))
}

#[test]
fn a_layer_is_read_whether_bare_or_compressed() {
    let bare = archive(&[file("etc/hello", 0o644, "hello")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bare).expect("memory");
    let zstd = zstd::encode_all(&bare[..], 1).expect("memory");
    for blob in [bare.clone(), gzip.finish().expect("memory"), zstd] {
        let (folder, entries) = unpacked(&blob, &bare, 1 << 20).expect("it is fine");
        assert_eq!(entries.len(), 1);
        let content = fs::read(content(&folder.path().join("layer"), 0)).expect("it is there");
        assert_eq!(content, b"hello");
    }
}

#[test]
fn modes_stay_but_for_the_bits_that_lend_rights() {
    let bare = archive(&[
        file("a", 0o6755, "x"),
        file("b", 0o1640, "x"),
        file("c", 0, "x"),
    ]);
    let (folder, _) = unpacked(&bare, &bare, 1 << 20).expect("it is fine");
    for (number, mode) in [(0, 0o755), (1, 0o640), (2, 0o400)] {
        let path = content(&folder.path().join("layer"), number);
        let found = fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(found & 0o7777, mode, "{number}");
    }
}

#[test]
fn markers_are_told_from_files() {
    let bare = archive(&[
        file("a/.wh.gone", 0, ""),
        file("a/.wh..wh..opq", 0, ""),
        file(".wh..wh.plnk", 0, ""),
        file("a/.whale", 0o644, ""),
    ]);
    let (_, entries) = unpacked(&bare, &bare, 1 << 20).expect("it is fine");
    let said: Vec<String> = entries
        .iter()
        .map(|entry| format!("{} {:?}", entry.path, entry.kind))
        .collect();
    assert_eq!(said, ["/a/gone Whiteout", "/a Opaque", "/a/.whale File(0)"]);
}

#[test]
fn devices_and_pipes_are_left_out() {
    let bare = archive(&[
        ("dev/sda", EntryType::Block, 0o666, "", ""),
        ("dev/tty", EntryType::Char, 0o666, "", ""),
        ("pipe", EntryType::Fifo, 0o666, "", ""),
    ]);
    let (_, entries) = unpacked(&bare, &bare, 1 << 20).expect("it is fine");
    assert_eq!(entries, []);
}

#[test]
fn long_names_are_read_in_both_their_forms() {
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, &name, io::empty())
        .expect("memory");
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    let other = format!("x{name}");
    builder
        .append_pax_extensions([("path", other.as_bytes())])
        .expect("memory");
    header.set_cksum();
    builder.append(&header, io::empty()).expect("memory");
    let bare = builder.into_inner().expect("memory");
    let (_, entries) = unpacked(&bare, &bare, 1 << 20).expect("it is fine");
    let names: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(names, [format!("/{name}"), format!("/{other}")]);
}

#[test]
fn names_and_hard_links_that_climb_are_refused() {
    let bare = archive(&[file("../../etc/passwd", 0o644, "x")]);
    assert!(unpacked(&bare, &bare, 1 << 20).is_err());
    let bare = archive(&[("a", EntryType::Link, 0o644, "../../etc/passwd", "")]);
    assert!(unpacked(&bare, &bare, 1 << 20).is_err());
}

#[test]
fn another_content_than_the_configuration_says_is_refused() {
    let bare = archive(&[file("a", 0o644, "right")]);
    let other = archive(&[file("a", 0o644, "wrong")]);
    let failure = unpacked(&other, &bare, 1 << 20).expect_err("it is another");
    assert!(
        failure.reason.contains("its configuration says"),
        "{failure}"
    );
}

#[test]
fn a_cut_archive_is_refused_wherever_it_is_cut() {
    let whole = archive(&[file("a", 0o644, &"x".repeat(3000)), file("b", 0o644, "y")]);
    for length in [100, 600, 2000, 3700, 4200] {
        assert!(
            unpacked(&whole[..length], &whole, 1 << 20).is_err(),
            "{length}"
        );
    }
}

#[test]
fn a_layer_that_grows_beyond_the_bound_is_stopped() {
    let bare = archive(&[file("a", 0o644, &"x".repeat(1 << 20))]);
    let small = zstd::encode_all(&bare[..], 1).expect("memory");
    let failure = unpacked(&small, &bare, 1 << 19).expect_err("it is too much");
    assert!(failure.reason.contains("which is the limit"), "{failure}");
}

#[test]
fn an_entry_that_describes_another_at_length_is_refused_unread() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let long = "x".repeat(70_000);
        let bare = archive(&[("a", kind, 0, "", &long), file("b", 0o644, "")]);
        let failure = unpacked(&bare, &bare, 1 << 20).expect_err("it is too long");
        assert!(failure.reason.contains("64 KiB"), "{failure}");
    }
}
