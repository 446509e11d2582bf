//! OCI images for tests: a registry as Debian packages it, and images of packages installed here.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a registry may take to listen.
const START_MAX: Duration = Duration::from_secs(20);

/// What a registry that asks for a login knows of its only user: `joe`, whose password is
/// [`PASSWORD`].
const USERS: &str = "joe:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// The password of `joe`.
pub const PASSWORD: &str = "open sesame";

/// A registry, which ends with this.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// Where it listens.
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// One that everybody may use.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as("")
    }

    /// One that only `joe` may use.
    #[must_use]
    pub fn start_with_login() -> Self {
        Self::start_as("auth: {htpasswd: {realm: a registry, path: USERS}}\n")
    }

    fn start_as(auth: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let (data, users) = (folder.path().join("data"), folder.path().join("users"));
        std::fs::write(&users, USERS).expect("it is written");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}'}}\n{}",
            data.display(),
            auth.replace("USERS", &users.display().to_string())
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).expect("it is written");
        let mut child = Command::new(program())
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: make setup installs it");
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(&address).is_err() {
            let ended = child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "the registry ended: {ended:?}");
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::yield_now();
        }
        Self {
            child,
            address,
            _folder: folder,
        }
    }
}

/// The one that set-up put into the checkout, unless one is installed.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("docker-registry"));
    let ours = repository().join(".tools/bin/docker-registry");
    let mut all = installed.chain([ours]);
    all.find(|file| file.is_file())
        .unwrap_or_else(|| "docker-registry".into())
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here
        .ancestors()
        .find(|dir| dir.join("Cargo.lock").is_file());
    root.expect("the tests lie in the repository").to_owned()
}

/// Runs a command that must succeed.
///
/// # Panics
/// When it does not.
pub fn must(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}: make setup installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Copies an image.
pub fn skopeo(arguments: &[&str]) {
    must(
        Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(["--dest-tls-verify=false", "--src-tls-verify=false"])
            .args(arguments),
    );
}

/// The languages of which there are images.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// Python and pip.
    Python,
    /// Node.
    Node,
    /// A JDK.
    Java,
    /// Nothing but a shell.
    Shell,
}

/// A layout `LANGUAGE` in this folder with an image of Debian's packages, tagged `one`.
#[must_use]
pub fn layout(folder: &Path, of: Of) -> PathBuf {
    let script = repository().join("adapters/functions/tests/images/image.sh");
    let (name, program, packages): (_, _, &[&str]) = match of {
        Of::Python => (
            "python",
            "python3",
            &["python3-minimal", "libpython3-stdlib", "python3-pip"],
        ),
        Of::Node => ("node", "node", &["libstdc++6", "=nodejs"]),
        Of::Java => ("java", "javac", &["openjdk-17-jdk-headless"]),
        Of::Shell => ("shell", "sh", &[]),
    };
    let layout = folder.join(name);
    must(
        Command::new("sh")
            .arg(script)
            .arg(&layout)
            .args(["one", program])
            .args(packages),
    );
    layout
}
