//! Lists the language packs: every folder below `packs/`, with every file in it and those of its
//! template.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"));
    let packs = root.join("packs");
    println!("cargo::rerun-if-changed={}", packs.display());
    let mut text = String::from("&[\n");
    for folder in sorted(&packs)?.into_iter().filter(|p| p.is_dir()) {
        let _ = write!(text, "({:?}, ", name(&folder));
        files(&folder, &mut text)?;
        let template = folder.join("template");
        match template.is_dir() {
            true => files(&template, &mut text)?,
            false => text.push_str("&[], "),
        }
        text.push_str("),\n");
    }
    text.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says it"));
    fs::write(out.join("packs.rs"), text)
}

fn files(folder: &Path, text: &mut String) -> io::Result<()> {
    text.push_str("&[\n");
    for file in sorted(folder)?.into_iter().filter(|p| p.is_file()) {
        let _ = writeln!(text, "({:?}, include_bytes!({:?})),", name(&file), file);
    }
    text.push_str("], ");
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("it was listed");
    name.to_string_lossy().into_owned()
}
