//! Master keys: where they come from, and what they are used for.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The environment variable that is read instead of the file when it is set.
pub const MASTER_KEY_ENV: &str = "DISPATCH_MASTER_KEY";

/// Largest file of master keys that is read: a thousand versions fit.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Thirty-two secret bytes, wiped when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Why there are no master keys.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file could not be read.
    #[error("read the master key file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("write the master key file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error(
        "trust the master key file {path}: its mode is {mode:03o}, and others than its owner may \
         read it; run: chmod 600 {path}"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not what this program writes. The text itself is not shown.
    #[error("read master keys from {origin}, line {line}: {reason}")]
    Malformed {
        /// A file, or the environment variable.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The master keys of one installation: a version wraps data keys, older versions still unwrap.
pub struct MasterKeys(BTreeMap<u32, Key>);

impl MasterKeys {
    /// Reads the keys from `DISPATCH_MASTER_KEY` when it is set, else from the file at `path`:
    /// one line per version, `<version>:<base64 of 32 bytes>`. In the variable, commas part
    /// versions as well.
    ///
    /// # Errors
    /// `Read`, `Permissions` when the group or others may read the file, `Malformed`.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        match std::env::var(MASTER_KEY_ENV) {
            Ok(text) => Self::parse(&Zeroizing::new(text).replace(',', "\n"), MASTER_KEY_ENV),
            Err(_) => Self::read(path),
        }
    }

    /// Reads the keys from the file at `path`, whatever the environment says.
    ///
    /// # Errors
    /// As [`MasterKeys::load`].
    pub fn read(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        // The mode of the open file, not of whatever lies at the path a moment later.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Draws version 1 and writes it durably to a new file of mode 0600 at `path`.
    ///
    /// # Errors
    /// `Write`, also when a file is there already: it is never overwritten.
    pub fn create(path: &Path) -> Result<Self, MasterKeyError> {
        let keys = Self(BTreeMap::from([(1, draw())]));
        keys.write_new(path)
            .map_err(|source| MasterKeyError::Write {
                path: path.to_owned(),
                source,
            })?;
        Ok(keys)
    }

    /// Draws another version and adds it to the file at `path`, in one step. From then on it
    /// wraps; what older versions wrapped is still read.
    ///
    /// # Errors
    /// As [`MasterKeys::read`], and `Write`. After an error the file is as it was.
    pub fn rotate(path: &Path) -> Result<Self, MasterKeyError> {
        let mut keys = Self::read(path)?;
        keys.0.insert(keys.current().0 + 1, draw());
        let failed = |source| MasterKeyError::Write {
            path: path.to_owned(),
            source,
        };
        let next = path.with_extension("next");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        keys.write_new(&next).map_err(failed)?;
        fs::rename(&next, path).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        Ok(keys)
    }

    /// The version that wraps.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.current().0
    }

    /// The version that wraps, and the key that it wraps with.
    pub(crate) fn wrapping(&self) -> (u32, Key) {
        let (version, master) = self.current();
        (version, derive(master, b"dispatch/v1 wrap"))
    }

    /// The key that `version` wraps with.
    pub(crate) fn unwrapping(&self, version: u32) -> Option<Key> {
        self.0
            .get(&version)
            .map(|master| derive(master, b"dispatch/v1 wrap"))
    }

    /// What the key pairs that clients seal to are derived from, the one of the current version
    /// last.
    pub(crate) fn client_seeds(&self) -> impl Iterator<Item = Key> + '_ {
        self.0
            .values()
            .map(|master| derive(master, b"dispatch/v1 seal"))
    }

    fn current(&self) -> (u32, &Key) {
        let (version, key) = self
            .0
            .last_key_value()
            .expect("parsed and drawn keys are not empty");
        (*version, key)
    }

    fn parse(text: &str, origin: &str) -> Result<Self, MasterKeyError> {
        let mut keys = BTreeMap::new();
        let malformed = |line, reason| {
            Err(MasterKeyError::Malformed {
                origin: origin.to_owned(),
                line,
                reason,
            })
        };
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((version, key)) = line.split_once(':') else {
                return malformed(last, "want <version>:<base64 of 32 bytes>");
            };
            let Some(version) = version.parse::<u32>().ok().filter(|version| *version > 0) else {
                return malformed(last, "the version is no positive number");
            };
            let mut bytes = Key::default();
            if STANDARD.decode_slice(key, bytes.as_mut_slice()) != Ok(bytes.len()) {
                return malformed(last, "the key is not the base64 of 32 bytes");
            }
            if keys.insert(version, bytes).is_some() {
                return malformed(last, "the version is there twice");
            }
        }
        if keys.is_empty() {
            return malformed(last.max(1), "there is no key");
        }
        Ok(Self(keys))
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut text = Zeroizing::new(String::from(
            "# Dispatch's master keys. Whoever has them reads every secret; without them none \
             can be read.\n",
        ));
        // Room for all lines, so that growing leaves no copy behind.
        text.reserve(64 * self.0.len());
        for (version, key) in &self.0 {
            let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
            let _ = writeln!(text, "{version}:{}", encoded.as_str());
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_directory(path)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MasterKeys(versions {:?}, hidden)",
            self.0.keys().collect::<Vec<_>>()
        )
    }
}

fn draw() -> Key {
    let mut key = Key::default();
    rand::fill(key.as_mut_slice());
    key
}

/// A key for one purpose. The master key is 32 uniformly random bytes, so a hash of it under a
/// label is as good; and no use sees what another uses.
fn derive(master: &Key, label: &[u8; 16]) -> Key {
    let mut hash = Sha256::new();
    hash.update(label);
    hash.update(master.as_slice());
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize());
    key
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        MasterKeys::parse(text, "here").unwrap_err().to_string()
    }

    #[test]
    fn a_created_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let made = MasterKeys::create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let read = MasterKeys::read(&path).unwrap();
        assert_eq!(read.wrapping(), made.wrapping());
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let before = MasterKeys::create(&path).unwrap();
        assert!(matches!(
            MasterKeys::create(&path),
            Err(MasterKeyError::Write { .. })
        ));
        assert_eq!(
            MasterKeys::read(&path).unwrap().wrapping(),
            before.wrapping()
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKeys::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = MasterKeys::read(&path).unwrap_err().to_string();
            assert!(
                text.contains(&format!("{mode:o}")) && text.contains("chmod 600"),
                "{text}"
            );
        }
    }

    #[test]
    fn rotation_adds_a_version_and_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let old = MasterKeys::create(&path).unwrap();
        let new = MasterKeys::rotate(&path).unwrap();
        assert_eq!((old.version(), new.version()), (1, 2));
        assert_eq!(new.unwrapping(1), old.unwrapping(1));
        assert_ne!(new.wrapping().1, old.wrapping().1);
        assert_eq!(MasterKeys::read(&path).unwrap().wrapping(), new.wrapping());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_malformed_text_is_refused_without_showing_it() {
        let key = STANDARD.encode([7; 32]);
        assert!(MasterKeys::parse(&format!("# words\n\n 3:{key}\n"), "here").is_ok());
        for (text, want) in [
            (String::new(), "line 1: there is no key"),
            ("# only words\n".into(), "line 1: there is no key"),
            (format!("1:{key}\nhunter2"), "line 2: want"),
            (format!("x:{key}"), "no positive number"),
            (format!("0:{key}"), "no positive number"),
            ("1:aHVudGVyMg==".into(), "not the base64 of 32 bytes"),
            (
                format!("1:{key}\n1:{key}"),
                "line 2: the version is there twice",
            ),
        ] {
            let shown = reason(&text);
            assert!(shown.contains(want), "{shown}");
            assert!(
                !shown.contains("hunter2") && !shown.contains(&key),
                "{shown}"
            );
        }
    }

    #[test]
    fn purposes_do_not_share_a_key() {
        let keys = MasterKeys::parse(&format!("1:{}", STANDARD.encode([7; 32])), "here").unwrap();
        assert_ne!(keys.client_seeds().next(), keys.unwrapping(1));
    }
}
