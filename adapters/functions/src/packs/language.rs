//! Languages: handles to the packs that this node has.

mod look;

pub use look::add_packs;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::oci::Root;
use crate::packs::pack::{Manifest, Pack, WorkerFacts, fill};

/// The folder that a pack is shown in, inside the sandbox.
pub(crate) const PACK_DIR: &str = "/dispatch";
/// Where a function's own files are written, inside the sandbox.
pub(crate) const FUNCTION_DIR: &str = "/tmp/function";

/// Where the files of a function's services are written, inside the sandbox: one folder for each
/// binding, one file for each of its keys (servicebinding.io, Application Projection).
pub(crate) const BINDINGS_DIR: &str = "/tmp/bindings";

/// Every pack that this process knows. A pack is never given up, so that a handle can be a
/// reference; there are as many as an owner adds at start.
static PACKS: LazyLock<RwLock<Vec<&'static Pack>>> = LazyLock::new(|| {
    let packs = Pack::embedded().into_iter();
    RwLock::new(packs.map(|pack| &*Box::leak(Box::new(pack))).collect())
});

/// A language that this node can run: a handle to its pack.
#[derive(Clone, Copy)]
pub struct Language(&'static Pack);

impl Language {
    /// Reads the label of a base image: `python3`, `python`, `nodejs`, `nodejs6`, `node`, …: a
    /// pack's own label or one of its aliases, with or without a version behind it.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        let whole = label.trim().to_ascii_lowercase();
        let bare = |name: &str| {
            let version = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
            name.trim_end_matches(version).to_owned()
        };
        let packs = PACKS.read().unwrap_or_else(PoisonError::into_inner);
        let named = |same: &dyn Fn(&str) -> bool| {
            let found = packs.iter().find(|pack| {
                same(&pack.label) || pack.manifest.aliases.iter().any(|alias| same(alias))
            });
            found.map(|pack| Self(pack))
        };
        let stem = bare(&whole);
        named(&|name| name == whole)
            .or_else(|| named(&|name| !stem.is_empty() && bare(name) == stem))
    }

    /// All of them, by label.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let packs = PACKS.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Self> = packs.iter().map(|pack| Self(pack)).collect();
        all.sort_by_key(|language| language.label());
        all
    }

    /// Adds the pack in a folder to those of this process; it takes the place of one with the same
    /// label.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub fn add(folder: &Path) -> Result<Self, String> {
        let pack: &'static Pack = Box::leak(Box::new(Pack::read(folder)?));
        let mut packs = PACKS.write().unwrap_or_else(PoisonError::into_inner);
        packs.retain(|known| known.label != pack.label);
        packs.push(pack);
        Ok(Self(pack))
    }

    /// The label that Dispatch's base images bear.
    #[must_use]
    pub fn label(self) -> &'static str {
        &self.0.label
    }

    pub(crate) fn manifest(self) -> &'static Manifest {
        &self.0.manifest
    }

    pub(crate) fn files(self) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        let files = self.0.files.iter();
        files.map(|(name, bytes)| (name.as_str(), &**bytes))
    }

    /// Where the pack's files are on this node, under the folder of all packs.
    pub(crate) fn folder(self, packs: &Path) -> PathBuf {
        packs.join(self.label())
    }

    /// The arguments that start the worker, which is at `worker` in its folder, under a memory
    /// limit.
    pub(crate) fn arguments(self, worker: &str, memory_bytes: Option<u64>) -> Vec<String> {
        let facts = &self.manifest().worker;
        let worker = format!("{PACK_DIR}/{worker}");
        let mut values = vec![
            ("worker".to_owned(), worker),
            ("pack".to_owned(), PACK_DIR.to_owned()),
        ];
        let mut arguments: Vec<&String> = Vec::new();
        if let Some(bytes) = memory_bytes {
            let share = |percent| (bytes >> 20) * percent / 100;
            let shares = (1..=100).map(|p| (format!("memory:{p}"), share(p).to_string()));
            values.extend(shares);
            arguments.extend(&facts.memory_arguments);
        }
        arguments.extend(&facts.arguments);
        let values: Vec<(&str, &str)> = values
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        arguments.into_iter().map(|a| fill(a, &values)).collect()
    }

    /// What a worker is expected to take, for the memory budget.
    pub(crate) fn worker_bytes(self) -> u64 {
        self.manifest().worker.megabytes << 20
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl PartialEq for Language {
    fn eq(&self, other: &Self) -> bool {
        self.label() == other.label()
    }
}

impl Eq for Language {}

impl Hash for Language {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.label().hash(state);
    }
}

impl Serialize for Language {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.label())
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let label = String::deserialize(from)?;
        Self::parse(&label).ok_or_else(|| {
            serde::de::Error::custom(format!("this node has no language pack for {label}"))
        })
    }
}

/// What bounds the memory of each language's workers where there is no cgroup.
pub(crate) fn memory_bounds() -> String {
    let all = Language::all();
    let of = |bound: fn(&WorkerFacts) -> bool, what: &str| {
        let bounded = all.iter().filter(|l| bound(&l.manifest().worker));
        let names: Vec<&str> = bounded.map(|l| l.label()).collect();
        (!names.is_empty()).then(|| format!("{what} ({})", names.join(", ")))
    };
    let parts = [
        of(
            |facts| facts.address_space.is_some(),
            "the address space of each process",
        ),
        of(
            |facts| facts.address_space.is_none() && !facts.memory_arguments.is_empty(),
            "the heap of each interpreter and nothing beside it",
        ),
        of(
            |facts| facts.address_space.is_none() && facts.memory_arguments.is_empty(),
            "nothing",
        ),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A base image as this node has it: an interpreter for its language, the host's or an image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// The language.
    pub language: Language,
    /// The interpreter, inside every sandbox; without a root also on the host.
    pub interpreter: PathBuf,
    /// The folder that holds the interpreter and its library.
    pub prefix: PathBuf,
    /// The interpreter's version, such as `3.11.2`.
    pub version: String,
    /// What is the sandbox's root; none shows the host's own programs.
    #[serde(skip)]
    pub root: Option<Root>,
}

impl BaseImage {
    /// What the pack's worker is when it is prepared for this very interpreter, in its folder.
    pub(crate) fn prepared_worker(&self) -> Option<String> {
        let prepare = self.language.manifest().worker.prepare.as_ref()?;
        Some(format!("{}/{}", self.variant(), prepare.file))
    }

    /// What tells this interpreter from others of its language: its version, and whose it is.
    pub(crate) fn variant(&self) -> String {
        let digest = self
            .root
            .as_ref()
            .and_then(|root| root.digest.split_once(':'));
        match digest {
            Some((_, digits)) => format!("{}-{digits}", self.version),
            None => self.version.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_the_labels_that_dispatch_used() {
        for (label, language) in [
            ("python3", "python3"),
            ("python", "python3"),
            ("Python3.11", "python3"),
            ("nodejs", "nodejs"),
            ("nodejs6", "nodejs"),
            ("node", "nodejs"),
            ("nodejs-20", "nodejs"),
        ] {
            let found = Language::parse(label).map(Language::label);
            assert_eq!(found, Some(language), "{label}");
        }
        for label in ["cobol", "", "3", "pytho", "python3x"] {
            assert_eq!(Language::parse(label), None, "{label}");
        }
    }

    #[test]
    fn what_bounds_memory_without_cgroups_is_said_of_every_language() {
        let said = memory_bounds();
        let of = |label: &str| {
            let named = |part: &&str| {
                part.contains(&format!("({label}")) || part.contains(&format!(", {label}"))
            };
            let part = said.split("; ").find(named);
            part.unwrap_or_else(|| panic!("{label} is not in {said}"))
        };
        for language in Language::all() {
            of(language.label());
        }
        for label in ["binary", "python3"] {
            assert!(of(label).starts_with("the address space"), "{said}");
        }
        for label in ["java", "nodejs"] {
            assert!(of(label).starts_with("the heap"), "{said}");
        }
        assert!(of("powershell").starts_with("nothing"), "{said}");
    }

    #[test]
    fn a_share_of_the_memory_limit_can_be_an_argument() {
        let node = Language::parse("nodejs").expect("is embedded");
        let arguments = node.arguments("worker.js", Some(512 << 20));
        assert_eq!(
            arguments,
            [
                "--max-old-space-size=384",
                "--no-warnings",
                "/dispatch/worker.js"
            ]
        );
        assert_eq!(
            node.arguments("worker.js", None),
            ["--no-warnings", "/dispatch/worker.js"]
        );
    }
}
