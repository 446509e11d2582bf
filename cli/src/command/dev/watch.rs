//! Notices that sources change.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// An editor writes a file in several steps, which follow upon each other sooner than this.
const QUIET: Duration = Duration::from_millis(10);

/// What is written without a pause is looked at nevertheless.
const RESTLESS_MAX: Duration = Duration::from_millis(100);

/// What is found in folders of sources, and is no source.
const NO_SOURCES: [&str; 3] = ["node_modules", "__pycache__", "target"];

/// Folders below which changes are noticed.
pub(super) struct Watch {
    notices: AsyncFd<OwnedFd>,
    folders: HashMap<i32, PathBuf>,
    /// The one file that matters, if it is one.
    only: Option<OsString>,
    /// When a change began that nobody was told of yet.
    began: Option<Instant>,
}

impl Watch {
    /// Begins to watch a file, or all below a directory.
    ///
    /// # Errors
    /// When it cannot be read, or the machine watches too much already.
    pub(super) fn on(path: &Path) -> Result<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe, and asks for no more than an OwnedFd guarantees"
        )]
        let notices = AsyncFd::new(inotify::init(flags)?)?;
        let mut watch = Self {
            notices,
            folders: HashMap::new(),
            only: None,
            began: None,
        };
        if path.is_dir() {
            watch.add(path)?;
            return Ok(watch);
        }
        // A file that an editor replaces is another one: its folder knows.
        let name = path.file_name().context("the source has no name")?;
        watch.only = Some(name.to_owned());
        match path.parent() {
            Some(folder) if folder != Path::new("") => watch.add_one(folder)?,
            _ => watch.add_one(Path::new("."))?,
        }
        Ok(watch)
    }

    /// Waits for a change and for the end of what belongs to it; says when it began. A wait that is
    /// given up loses nothing: the next one ends with the same change.
    ///
    /// # Errors
    /// When changes can no longer be noticed.
    pub(super) async fn changed(&mut self) -> Result<Instant> {
        let began = loop {
            match self.began {
                Some(began) => break began,
                None => self.notice().await?,
            }
        };
        loop {
            let quiet = (Instant::now() + QUIET).min(began + RESTLESS_MAX);
            match timeout_at(quiet, self.notice()).await {
                Ok(noticed) => noticed?,
                Err(_) => {
                    self.began = None;
                    return Ok(began);
                }
            }
        }
    }

    /// Waits for the next notices, and keeps in mind when one of them is about a source.
    async fn notice(&mut self) -> Result<()> {
        let mut ready = self.notices.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut matters = false;
        let mut new_folders = Vec::new();
        let mut reader = inotify::Reader::new(self.notices.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot watch the sources"),
            };
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                matters = true;
                continue;
            }
            let Some(name) = event.file_name() else {
                continue;
            };
            let name = std::ffi::OsStr::from_bytes(name.to_bytes());
            if !is_source(name) || self.only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            matters = true;
            let appeared = ReadFlags::CREATE | ReadFlags::MOVED_TO;
            if self.only.is_none()
                && kind.contains(ReadFlags::ISDIR)
                && kind.intersects(appeared)
                && let Some(folder) = self.folders.get(&event.wd())
            {
                new_folders.push(folder.join(name));
            }
        }
        ready.clear_ready();
        drop(ready);
        if matters {
            self.began.get_or_insert_with(Instant::now);
        }
        for folder in new_folders {
            // It may be gone again, and then nothing is to be watched there.
            if folder.is_dir() {
                self.add(&folder)?;
            }
        }
        Ok(())
    }

    /// Watches a folder and all below it.
    fn add(&mut self, folder: &Path) -> Result<()> {
        self.add_one(folder)?;
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() && is_source(&entry.file_name()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }

    fn add_one(&mut self, folder: &Path) -> Result<()> {
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::MOVE
            | WatchFlags::CREATE
            | WatchFlags::DELETE;
        let id = inotify::add_watch(self.notices.get_ref(), folder, what)
            .with_context(|| format!("cannot watch {}", folder.display()))?;
        self.folders.insert(id, folder.to_path_buf());
        Ok(())
    }
}

/// Whether a name is not one of an editor's or a tool's own.
fn is_source(name: &std::ffi::OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return true;
    };
    !name.starts_with('.') && !name.ends_with('~') && !NO_SOURCES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a machine under load takes to say that a file was written.
    const SOON: Duration = Duration::from_secs(20);

    async fn sees(watch: &mut Watch) {
        tokio::time::timeout(SOON, watch.changed())
            .await
            .expect("the change is noticed")
            .unwrap();
    }

    #[tokio::test]
    async fn a_file_is_watched_through_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.py");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::on(&file).unwrap();
        fs::write(dir.path().join("other.py"), "2").unwrap();
        fs::write(&file, "2").unwrap();
        sees(&mut watch).await;
        let new = dir.path().join(".f.py.swp");
        fs::write(&new, "3").unwrap();
        fs::rename(&new, &file).unwrap();
        sees(&mut watch).await;
    }

    #[tokio::test]
    async fn a_change_is_not_lost_to_a_wait_that_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::on(dir.path()).unwrap();
        fs::write(dir.path().join("f.py"), "1").unwrap();
        watch.notice().await.unwrap();
        // Its notice was taken by a wait that nobody waited out.
        sees(&mut watch).await;
    }

    #[tokio::test]
    async fn folders_that_appear_are_watched_and_those_of_tools_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("__pycache__")).unwrap();
        let mut watch = Watch::on(dir.path()).unwrap();
        fs::write(dir.path().join("__pycache__/f.pyc"), "1").unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        sees(&mut watch).await;
        fs::write(dir.path().join("lib/f.py"), "1").unwrap();
        sees(&mut watch).await;
        assert_eq!(watch.folders.len(), 2, "{:?}", watch.folders);
    }
}
