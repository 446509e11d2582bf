//! The files of this checkout, as the rules look at them.

use std::fs;
use std::path::{Path, PathBuf};

/// What is made here and not kept, below any directory.
const NOT_OURS: &[&str] = &[".git", "target", ".tools", ".demo", "node_modules"];

/// A text file, by its path from the root of the checkout.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    pub(super) fn ends_with(&self, suffix: &str) -> bool {
        self.path.ends_with(suffix)
    }
}

/// The root of the checkout.
pub(super) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests lie in the checkout")
        .to_path_buf()
}

/// Every text file of the checkout.
pub(super) fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(
        found.len() > 100,
        "only {} files were found in {}",
        found.len(),
        root.display()
    );
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !NOT_OURS.iter().any(|skipped| name == *skipped) {
            walk(root, &path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).unwrap().display().to_string();
            found.push(File { path, text });
        }
    }
}
