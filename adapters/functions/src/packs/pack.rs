//! A language pack: a folder with a manifest, a worker and a builder, and nothing of it in Rust.
//!
//! The folders below `packs/` are part of the program; a node's owner can add others. What the
//! manifest may say is described in `docs/languages.md`.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The manifest of every pack.
const MANIFEST: &str = "pack.yaml";
/// A worker and a builder are scripts; what is larger is no pack.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What a function can be begun with, in a pack's folder.
const TEMPLATE: &str = "template";

/// Files by name.
type Files = Vec<(String, Cow<'static, [u8]>)>;

type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

/// Every folder below `packs/`: its name, its files by name, and those of its template.
type Embedded = &'static [(&'static str, EmbeddedFiles, EmbeddedFiles)];
const EMBEDDED: Embedded = include!(concat!(env!("OUT_DIR"), "/packs.rs"));

/// A pack: its label, its manifest, all of its files, and those of its template.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) label: String,
    pub(crate) manifest: Manifest,
    pub(crate) files: Files,
    pub(crate) template: Files,
}

/// What a pack says of its language.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    /// What a person calls the language; its label, unless said.
    pub(crate) about: Option<String>,
    /// Other labels of base images that mean this language.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// The names that the interpreter may have in a folder of programs, best first.
    pub(crate) programs: Vec<String>,
    /// The command that installs the interpreter, for when there is none.
    pub(crate) install: String,
    /// Prints the interpreter's version, the folder it lives in and its own path.
    pub(crate) identify: Vec<String>,
    pub(crate) worker: WorkerFacts,
    pub(crate) source: SourceRule,
    pub(crate) handler: HandlerRule,
    pub(crate) layer: LayerMount,
    pub(crate) build: Option<Build>,
}

/// How a worker is started.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkerFacts {
    pub(crate) file: String,
    pub(crate) arguments: Vec<String>,
    /// Come first, where there is a memory limit.
    #[serde(default)]
    pub(crate) memory_arguments: Vec<String>,
    /// What a worker is expected to take, for the memory budget.
    pub(crate) megabytes: u64,
    /// Megabytes of address space that it needs beside its memory, if it can do with a bound.
    #[serde(default)]
    pub(crate) address_space: Option<u64>,
    /// Whether a worker can give each call a process of its own by itself.
    #[serde(default)]
    pub(crate) forks: bool,
    /// Whether a worker may be given orders ahead, as packets on its descriptor 4.
    #[serde(default)]
    pub(crate) queue: bool,
    #[serde(default)]
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) prepare: Option<Prepare>,
    /// Where a worker sees a folder for what it compiles of a function: one that finds it empty can
    /// write to it, all later ones of the same source only read, and are not sent the files again.
    pub(crate) compiled: Option<String>,
    /// Whether a worker can be told to compile a function and not load it. Its answer is kept, and
    /// every worker that serves is given it.
    #[serde(default)]
    pub(crate) compiles: bool,
}

/// A command that makes a faster form of the worker, once for each version of the interpreter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Prepare {
    /// What it makes in the folder `{out}`; stands for the worker from then on.
    pub(crate) file: String,
    pub(crate) command: Vec<String>,
    /// Whether there is no worker without it.
    #[serde(default)]
    pub(crate) required: bool,
}

/// What a function's source files are.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceRule {
    /// How their names end; none means that every file is one.
    pub(crate) suffixes: Vec<String>,
    /// How the names of those end that are recognised by them; the same, unless said.
    pub(crate) known: Option<Vec<String>>,
    /// The name of a single file that was given none.
    pub(crate) name: String,
    /// How much all the files of one function may be.
    #[serde(default = "source_megabytes")]
    pub(crate) megabytes: u64,
}

/// More than this unpacked belongs into a dependency layer.
fn source_megabytes() -> u64 {
    16
}

/// What a handler is called.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HandlerRule {
    /// The handler of a single file: `{path}` is the file, `{module}` the same without its ending
    /// and with dots for slashes.
    pub(crate) default: String,
    /// The handler that a bare `{name}` means in a single file, where that can be.
    pub(crate) member: Option<String>,
    /// The form in words, for the reason when it is another.
    pub(crate) form: String,
    /// What has to stand between two parts of it.
    pub(crate) separator: Option<String>,
    /// Whether what is before the separator, or all of it, is a path inside of the source.
    #[serde(default)]
    pub(crate) path: bool,
}

/// Where a dependency layer is mounted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LayerMount {
    /// Which of its folders; empty for all of it.
    #[serde(default)]
    pub(crate) folder: String,
    pub(crate) mount: String,
}

/// How a manifest becomes a dependency layer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Build {
    /// What people call the manifest.
    pub(crate) manifest: String,
    /// What is found in a manifest that names any dependency, as a regular expression; every one
    /// does that is not empty, unless said.
    pub(crate) depends: Option<String>,
    /// Runs in the build sandbox.
    pub(crate) command: Vec<String>,
    /// Programs of this node that it can use, each found as `$TOOL_<NAME>`.
    #[serde(default)]
    pub(crate) tools: Vec<Tool>,
    /// Beginnings of the names of variables that are passed on to it.
    #[serde(default)]
    pub(crate) variables: Vec<String>,
    /// Variables that are not, whatever they begin with.
    #[serde(default)]
    pub(crate) withheld: Vec<String>,
    /// Configuration files that are copied from the home directory of the node's user.
    #[serde(default)]
    pub(crate) home_files: Vec<String>,
    /// Files and folders of the host that it sees besides.
    #[serde(default)]
    pub(crate) host_files: Vec<String>,
}

/// A program that a build may use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Whether the file is all of it, so that nothing around it need be seen.
    #[serde(default)]
    pub(crate) alone: bool,
}

impl Pack {
    /// The packs that are part of this program.
    pub(crate) fn embedded() -> Vec<Self> {
        let owned = |files: EmbeddedFiles| {
            let files = files.iter();
            files
                .map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes)))
                .collect()
        };
        let packs = EMBEDDED.iter().map(|(label, files, template)| {
            Self::new((*label).to_owned(), owned(files), owned(template))
                .expect("the tests read every embedded pack")
        });
        packs.collect()
    }

    /// The pack in a folder; its label is the folder's name.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let failed = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let label = folder.file_name().and_then(|name| name.to_str());
        let label = label.ok_or_else(|| failed(folder, &"its name is no label"))?;
        let files = read_files(folder)?;
        let template = folder.join(TEMPLATE);
        let template = match template.is_dir() {
            true => read_files(&template)?,
            false => Files::new(),
        };
        Self::new(label.to_owned(), files, template).map_err(|e| failed(folder, &e))
    }

    fn new(label: String, files: Files, template: Files) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if label.is_empty() || !label.chars().all(plain) {
            return Err(format!("{label:?} is no label"));
        }
        let manifest = files.iter().find(|(name, _)| name == MANIFEST);
        let (_, text) = manifest.ok_or_else(|| format!("it has no {MANIFEST}"))?;
        let manifest: Manifest =
            serde_norway::from_slice(text).map_err(|e| format!("{MANIFEST}: {e}"))?;
        let worker = &manifest.worker;
        if !files.iter().any(|(name, _)| *name == worker.file) {
            return Err(format!("it has no {}", worker.file));
        }
        if worker.megabytes == 0 || u32::try_from(worker.megabytes).is_err() {
            return Err("a worker takes megabytes".to_owned());
        }
        if manifest.identify.is_empty() || manifest.programs.is_empty() {
            return Err("it does not say what its interpreter is".to_owned());
        }
        let commands = worker.prepare.iter().map(|p| &p.command);
        let mut commands = commands.chain(manifest.build.iter().map(|b| &b.command));
        if commands.any(Vec::is_empty) {
            return Err("a command is empty".to_owned());
        }
        if let Some(depends) = manifest.build.as_ref().and_then(|b| b.depends.as_ref()) {
            regex::Regex::new(depends).map_err(|e| format!("build.depends: {e}"))?;
        }
        Ok(Self {
            label,
            manifest,
            files,
            template,
        })
    }
}

/// The files right in a folder, by name.
fn read_files(folder: &Path) -> Result<Files, String> {
    let failed = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut files = Files::new();
    for entry in fs::read_dir(folder).map_err(|e| failed(folder, &e))? {
        let path = entry.map_err(|e| failed(folder, &e))?.path();
        let metadata = fs::metadata(&path).map_err(|e| failed(&path, &e))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| metadata.is_file()) else {
            continue;
        };
        if metadata.len() > FILE_BYTES_MAX {
            return Err(failed(&path, &"too large for a part of a pack"));
        }
        let bytes = fs::read(&path).map_err(|e| failed(&path, &e))?;
        files.push((name.to_owned(), Cow::Owned(bytes)));
    }
    files.sort();
    Ok(files)
}

/// Puts values in the place of `{names}`.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_pack_is_whole() {
        let packs = Pack::embedded();
        assert!(packs.iter().any(|pack| pack.label == "python3"));
        let mut names: Vec<&String> = packs
            .iter()
            .flat_map(|p| p.manifest.aliases.iter().chain([&p.label]))
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "two packs have one name: {names:?}");
    }

    #[test]
    fn a_folder_that_is_no_pack_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let lua = folder.path().join("lua");
        fs::create_dir(&lua).expect("makes it");
        let said = Pack::read(&lua).expect_err("it is empty");
        assert!(said.ends_with("lua: it has no pack.yaml"), "{said}");
        fs::write(lua.join("pack.yaml"), "programs: [lua]\n").expect("writes");
        let said = Pack::read(&lua).expect_err("it says too little");
        assert!(said.contains("missing field"), "{said}");
    }
}
