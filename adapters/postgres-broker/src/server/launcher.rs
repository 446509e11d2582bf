//! Running PostgreSQL programs as a user who is not root.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::Error;

/// The directory that a program works in, as it sees it: an open file descriptor. PostgreSQL's user
/// need not be able to walk the path to it, so the state directory may lie below a private home.
pub(super) const DIRECTORY: &str = "/proc/self/fd/9";

/// Opens the directory, steps out of it (older versions try to come back to where they were started,
/// and complain when they cannot), and becomes the program.
const ENTER: &str = "exec 9<. && cd / && exec \"$@\"";

/// Who owns the files of servers and runs their processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Launcher {
    /// The broker's own user.
    Own,
    /// The broker is root; they are somebody else's.
    As { uid: u32, gid: u32 },
}

impl Launcher {
    /// Chooses the user: nobody else unless the broker is root.
    pub(super) fn choose(configured: Option<&str>) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let candidates = configured.map_or(vec!["postgres", "nobody"], |name| vec![name]);
        candidates
            .iter()
            .find_map(|name| look_up(&passwd, name))
            .map(|(uid, gid)| Self::As { uid, gid })
            .ok_or_else(|| Error::NoUser {
                name: candidates.join(" or "),
            })
    }

    /// A command that works in a directory, which it is to call [`DIRECTORY`]. It has a process
    /// group of its own, so that a Ctrl-C in the terminal is the broker's to handle.
    pub(super) fn command(&self, directory: &Path, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ENTER, "sh"]);
        if let Self::As { uid, gid } = self {
            command.arg("setpriv");
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"));
            command.args(["--clear-groups", "--"]);
        }
        command
            .arg(program)
            .args([OsStr::new("-D"), OsStr::new(DIRECTORY)])
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_MESSAGES", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    /// Gives a file or directory to the user.
    pub(super) fn own(&self, path: &Path) -> std::io::Result<()> {
        match *self {
            Self::Own => Ok(()),
            Self::As { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }
}

fn look_up(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let ids = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        // PostgreSQL refuses root under any name.
        (ids.0 != 0).then_some(ids)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name_and_root_is_none_of_them() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:9:9::/:/bin/sh\n\
                      postgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(look_up(passwd, "postgres"), Some((101, 104)));
        assert_eq!(look_up(passwd, "root"), None);
        assert_eq!(look_up(passwd, "post"), None);
    }
}
