//! The language packs: how each interpreter is found and started, and what its wrapper is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A language that this node can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// CPython 3.
    Python3,
    /// Node.js.
    Nodejs,
}

/// The folder that a wrapper is shown in, inside the sandbox.
pub(crate) const PACK_DIR: &str = "/dispatch";
/// Where a function's own files are written, inside the sandbox.
pub(crate) const FUNCTION_DIR: &str = "/tmp/function";

/// Where the files of a function's services are written, inside the sandbox: one folder for each
/// binding, one file for each of its keys (servicebinding.io, Application Projection).
pub(crate) const BINDINGS_DIR: &str = "/tmp/bindings";

impl Language {
    /// Reads the label of a base image: `python3`, `python`, `nodejs`, `nodejs6`, `node`.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        let plain = label.trim().to_ascii_lowercase();
        let name = plain.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        match name {
            "python" => Some(Self::Python3),
            "nodejs" | "node" => Some(Self::Nodejs),
            _ => None,
        }
    }

    /// The label that Dispatch's base images bear.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Python3 => "python3",
            Self::Nodejs => "nodejs",
        }
    }

    /// The names that the interpreter may have in a folder of programs, best first.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Python3 => &["python3"],
            Self::Nodejs => &["node", "nodejs"],
        }
    }

    /// The wrapper: its file name and its text.
    pub(crate) fn pack(self) -> (&'static str, &'static str) {
        match self {
            Self::Python3 => ("python3.py", include_str!("../packs/python3.py")),
            Self::Nodejs => ("nodejs.js", include_str!("../packs/nodejs.js")),
        }
    }

    /// The arguments that start the wrapper under a memory limit.
    pub(crate) fn arguments(self, pack: &str, memory_bytes: Option<u64>) -> Vec<String> {
        let wrapper = format!("{PACK_DIR}/{pack}");
        match self {
            // -I -S: nothing of the host's environment or site-packages is seen.
            Self::Python3 => ["-I", "-S", "-X", "utf8", &wrapper]
                .map(str::to_owned)
                .to_vec(),
            Self::Nodejs => {
                let mut arguments = vec!["--no-warnings".to_owned()];
                if let Some(bytes) = memory_bytes {
                    // V8 needs room beside its old space; without the flag it would rather die
                    // of the limit than collect.
                    arguments.push(format!("--max-old-space-size={}", (bytes >> 20) * 3 / 4));
                }
                arguments.push(wrapper);
                arguments
            }
        }
    }

    /// Where a dependency layer is mounted, and which of its folders: Node looks for packages in
    /// every `node_modules` above a module's own folder.
    pub(crate) fn layer_mount(self) -> (&'static str, &'static str) {
        match self {
            Self::Python3 => ("", "/layer"),
            Self::Nodejs => ("node_modules", "/node_modules"),
        }
    }

    /// What a worker is expected to take, for the memory budget.
    pub(crate) fn worker_bytes(self) -> u64 {
        match self {
            Self::Python3 => 12 << 20,
            Self::Nodejs => 48 << 20,
        }
    }

    /// The program text that prints an interpreter's version and the folder it lives in.
    pub(crate) fn identify(self) -> [&'static str; 2] {
        match self {
            Self::Python3 => [
                "-c",
                "import sys;print('%d.%d.%d'%sys.version_info[:3],sys.base_prefix,sys.executable,sep='\\n')",
            ],
            Self::Nodejs => [
                "-e",
                "console.log([process.versions.node,require('path').resolve(process.execPath,'../..'),process.execPath].join('\\n'))",
            ],
        }
    }
}

/// A base image as this node has it: the host's interpreter for its language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// The language.
    pub language: Language,
    /// The interpreter, on the host and inside every sandbox.
    pub interpreter: PathBuf,
    /// The folder that holds the interpreter and its library.
    pub prefix: PathBuf,
    /// The interpreter's version, such as `3.11.2`.
    pub version: String,
}

impl BaseImage {
    /// The name that the wrapper has when it is compiled for this very interpreter.
    pub(crate) fn compiled_pack(&self) -> Option<String> {
        match self.language {
            Language::Python3 => Some(format!("python-{}.pyc", self.version)),
            Language::Nodejs => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_the_labels_that_dispatch_used() {
        for label in ["python3", "python", "Python3.11"] {
            assert_eq!(Language::parse(label), Some(Language::Python3), "{label}");
        }
        for label in ["nodejs", "nodejs6", "node", "nodejs-20"] {
            assert_eq!(Language::parse(label), Some(Language::Nodejs), "{label}");
        }
        for label in ["powershell", "java", "", "3"] {
            assert_eq!(Language::parse(label), None, "{label}");
        }
    }
}
