//! Python's layers: `requirements.txt` by uv or pip, wheels only, compiled ahead.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use adapter_sandbox::{Mount, Network};

use super::tool::{LAYER, Room, on_path};
use crate::error::Failure;

/// Options that say where packages come from; every other option could run a package's own code
/// at build time, or read files of the host.
const OPTIONS: [&str; 9] = [
    "--index-url",
    "-i ",
    "--extra-index-url",
    "--find-links",
    "-f ",
    "--trusted-host",
    "--prefer-binary",
    "--pre",
    "--no-index",
];

/// The lines that mean something; `None` when there are none.
pub(super) fn manifest(text: &str) -> Result<Option<String>, Failure> {
    let mut kept = Vec::new();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !is_allowed(line) {
            return Err(Failure::of(format!(
                "requirements.txt: {line:?}: only packages from an index can be installed, as wheels"
            )));
        }
        kept.push(line);
    }
    Ok((!kept.is_empty()).then(|| kept.join("\n") + "\n"))
}

fn is_allowed(line: &str) -> bool {
    if line.starts_with('-') {
        return OPTIONS.iter().any(|option| line.starts_with(option)) && !line.contains("file:");
    }
    // Direct references, version control and paths may be sources, which are built by their own code.
    let named = line.starts_with(|c: char| c.is_ascii_alphanumeric());
    named
        && !line.contains("://")
        && !line.split(';').next().unwrap_or_default().contains('@')
        && !line.split(';').next().unwrap_or_default().contains('/')
}

pub(super) async fn build(room: &Room<'_>, manifest: &str) -> Result<(), Failure> {
    room.furnish()?;
    room.write("requirements.txt", manifest)?;
    let python = room.base.interpreter.to_string_lossy().into_owned();
    match find(room).await? {
        Tool::Uv(uv) => {
            let arguments = [
                "pip",
                "install",
                "--python",
                &python,
                "--target",
                LAYER,
                "--only-binary",
                ":all:",
                "--link-mode",
                "copy",
                "--no-progress",
                "--cache-dir",
                "/cache/uv",
                "-r",
                "/build/requirements.txt",
            ];
            let mount = Mount::read_only(&uv, "/build-tool/uv");
            room.run(
                "uv",
                Path::new("/build-tool/uv"),
                &arguments,
                vec![mount],
                Network::Host,
            )
            .await?;
        }
        Tool::Module => {
            let arguments = [&["-m", "pip"], &PIP[..]].concat();
            room.run(
                "pip",
                &room.base.interpreter,
                &arguments,
                Vec::new(),
                Network::Host,
            )
            .await?;
        }
        Tool::Pip(pip) => {
            let arguments = [&["--python", &python], &PIP[..]].concat();
            room.run("pip", &pip, &arguments, prefix_mount(&pip), Network::Host)
                .await?;
        }
    }
    compile(room).await
}

const PIP: [&str; 15] = [
    "install",
    "--target",
    LAYER,
    "--only-binary=:all:",
    "--no-compile",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--no-warn-script-location",
    "--root-user-action=ignore",
    "--no-warn-conflicts",
    "--cache-dir",
    "/cache/pip",
    "-r",
    "/build/requirements.txt",
];

/// Compiles everything, so that a cold start reads and does not compile; a source's time stamp
/// does not matter, because the layer never changes.
async fn compile(room: &Room<'_>) -> Result<(), Failure> {
    let script = "import compileall,sys;\
        compileall.compile_dir(sys.argv[1],quiet=2,workers=1,\
        invalidation_mode=__import__('py_compile').PycInvalidationMode.UNCHECKED_HASH)";
    let arguments = ["-I", "-S", "-c", script, LAYER];
    room.run(
        "compileall",
        &room.base.interpreter,
        &arguments,
        Vec::new(),
        Network::None,
    )
    .await
}

enum Tool {
    Uv(PathBuf),
    /// The interpreter's own pip.
    Module,
    /// Another interpreter's pip.
    Pip(PathBuf),
}

async fn find(room: &Room<'_>) -> Result<Tool, Failure> {
    if let Some(uv) = room.tools.uv.clone().or_else(|| on_path("uv")) {
        return Ok(Tool::Uv(uv));
    }
    if room.tools.pip.is_none() && has_pip(&room.base.interpreter).await {
        return Ok(Tool::Module);
    }
    let pip = room
        .tools
        .pip
        .clone()
        .or_else(|| on_path("pip3"))
        .or_else(|| on_path("pip"));
    pip.map(Tool::Pip).ok_or_else(|| {
        Failure::of("neither uv nor pip was found on this node: install python3-pip or uv")
    })
}

async fn has_pip(interpreter: &Path) -> bool {
    let asked = tokio::process::Command::new(interpreter)
        .args([
            "-I",
            "-c",
            "import importlib.util,sys;sys.exit(not importlib.util.find_spec('pip'))",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    asked.is_ok_and(|status| status.success())
}

/// The installation that a pip program outside of the system's own folders belongs to.
fn prefix_mount(pip: &Path) -> Vec<Mount> {
    let prefix = pip
        .parent()
        .and_then(Path::parent)
        .filter(|p| !p.starts_with("/usr"));
    prefix
        .map(|prefix| Mount::read_only(prefix, prefix))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_requirements() {
        assert_eq!(manifest("\n# nothing\n  \n"), Ok(None));
        let kept = manifest("requests==2.32.3  # http\r\n\npsycopg2-binary\n").expect("is fine");
        assert_eq!(kept.as_deref(), Some("requests==2.32.3\npsycopg2-binary\n"));
    }

    #[test]
    fn what_could_run_code_or_read_the_host_is_refused() {
        for line in [
            "-e .",
            "--editable=.",
            "git+https://host/x",
            "./local",
            "/etc",
            "../x",
            "x @ https://host/x.tar.gz",
            "x@https://host/x.tar.gz",
            "file:///etc/passwd",
            "-r /etc/passwd",
            "-c other.txt",
            "--find-links=file:///etc",
            "--no-binary :all:",
        ] {
            assert!(manifest(line).is_err(), "{line}");
        }
        for line in [
            "a[b,c]>=1,<2; python_version < '3.12'",
            "--extra-index-url https://host/simple",
        ] {
            assert!(manifest(line).is_ok(), "{line}");
        }
    }
}
