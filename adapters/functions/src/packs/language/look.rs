//! How a language looks to whoever has sources and does not say what they are in.

use std::path::Path;
use std::sync::PoisonError;

use regex::Regex;

use super::{Language, PACKS};
use crate::packs::pack::fill;
use crate::packs::source::module;

impl Language {
    /// What a person calls it.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.manifest().about.as_deref().unwrap_or(self.label())
    }

    /// The language that a file is in, by its name. The pack that was added last comes first.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let packs = PACKS.read().unwrap_or_else(PoisonError::into_inner);
        let all = packs.iter().rev().map(|pack| Self(pack));
        let fits = |suffix: &String| name.len() > suffix.len() && name.ends_with(suffix.as_str());
        let source = |language: &Self| &language.manifest().source;
        let mut known = all.filter(|language| {
            let source = source(language);
            source
                .known
                .as_ref()
                .unwrap_or(&source.suffixes)
                .iter()
                .any(fits)
        });
        known.next()
    }

    /// What is called in a source file of this path, unless somebody says otherwise.
    #[must_use]
    pub fn handler_in(self, path: &str) -> String {
        let module = module(&self.manifest().source, path).unwrap_or_default();
        let values = [("path", path), ("module", &*module)];
        fill(&self.manifest().handler.default, &values)
    }

    /// The usual name of its list of dependencies, if it has such lists.
    #[must_use]
    pub fn dependencies(self) -> Option<&'static str> {
        let build = self.manifest().build.as_ref()?;
        Some(&build.manifest)
    }

    /// Whether a list of dependencies names any, as far as can be seen.
    #[must_use]
    pub fn depends(self, text: &str) -> bool {
        let build = self.manifest().build.as_ref();
        let Some(rule) = build.and_then(|build| build.depends.as_ref()) else {
            return !text.trim().is_empty();
        };
        let rule = Regex::new(rule).expect("a pack with another is refused");
        rule.is_match(text)
    }

    /// The files that a function can be begun with, by their names in its folder.
    pub fn template(self) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        let files = self.0.template.iter();
        files.map(|(name, bytes)| (name.as_str(), &**bytes))
    }
}

/// Adds every pack in a folder, for this process.
///
/// # Errors
/// When the folder cannot be read, or one in it is no pack.
pub fn add_packs(folder: &Path) -> Result<Vec<Language>, String> {
    let failed = |e| format!("{}: {e}", folder.display());
    let mut added = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            added.push(Language::add(&path)?);
        }
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(label: &str) -> Language {
        Language::parse(label).expect("is embedded")
    }

    #[test]
    fn a_file_tells_its_language_and_its_handler() {
        for (file, label, handler) in [
            ("handler.py", "python3", "handler.handle"),
            ("main.mjs", "nodejs", "./main.mjs"),
            ("Hello.java", "java", "Hello"),
            ("handler.ps1", "powershell", "./handler.ps1::handle"),
            ("handler.sh", "binary", "./handler.sh"),
            ("handler.wasm", "wasm", "./handler.wasm"),
        ] {
            let found = Language::of_file(file).expect("its ending is known");
            assert_eq!(found.label(), label);
            assert_eq!(found.handler_in(file), handler);
        }
        for file in ["README", "py", ".py", "notes.txt"] {
            assert_eq!(Language::of_file(file), None, "{file}");
        }
    }

    #[test]
    fn a_list_of_comments_names_no_dependencies() {
        for (label, none, some) in [
            ("python3", "# x==1\n\n", "# x\nx==1\n"),
            (
                "nodejs",
                "{\"name\": \"dependencies\", \"dependencies\": {}}",
                "{\"dependencies\": {\n\"x\": \"1\"}}",
            ),
            ("java", "<dependencies/>", "<dependency>"),
            ("powershell", "# x\n@{ }\n", "@{ x = '1' }"),
            ("powershell", "@{\n  # x = '1'\n}\n", "@{\n  x = '1'\n}"),
        ] {
            assert!(!language(label).depends(none), "{label}: {none}");
            assert!(language(label).depends(some), "{label}: {some}");
        }
    }
}
