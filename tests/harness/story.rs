//! The story: the tutorial's commands, run as they stand on the page.
//!
//! `docs/tutorial.md` is the one source. Its `console` blocks hold the commands, and hidden
//! comments below a block say what the answer has to be. `make demo` runs it for people, and an
//! integration test runs it for the tests.

mod expect;
mod process;
mod script;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::process::{Background, Shell};
use self::script::{Part, Step};

/// How long what was started may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(60);

/// What a story is run with.
pub struct Story {
    /// The checkout; commands run there.
    pub root: PathBuf,
    /// Everything that the story makes lies here. It is made anew.
    pub work: PathBuf,
    /// Where `dispatch` lies.
    pub binaries: PathBuf,
    /// Leaves everything up, and leaves out what takes it down.
    pub keep: bool,
}

impl Story {
    /// Runs the tutorial from its first command to its last, and ends all that it started.
    /// `cancelled` ends it early.
    ///
    /// # Errors
    /// The first command that did not answer as the page says, or a process that went on after
    /// the end.
    pub fn run(&self, cancelled: &AtomicBool) -> Result<()> {
        let dispatch = self.binaries.join("dispatch");
        if !dispatch.is_file() {
            bail!(
                "{} is not there; 'cargo build' makes it",
                dispatch.display()
            );
        }
        let page = self.root.join("docs/tutorial.md");
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let parts = script::parse(&text).with_context(|| page.display().to_string())?;
        self.make_room()?;
        let mut shell = Shell::new(&self.root, &self.work, &self.binaries, cancelled)?;
        let mut started = Vec::new();
        let told = self.tell(&parts, &mut shell, &mut started);
        if self.keep && told.is_ok() {
            return self.leave(&started);
        }
        let ended = end(started);
        let left = process::wait_until_nothing_runs_in(&self.work, END_MAX);
        told.and(ended).and(left)
    }

    /// What an earlier story left up is ended, and what it left is removed.
    fn make_room(&self) -> Result<()> {
        let stop = self.work.join("stop");
        if stop.exists() {
            say(&format!(
                "The last story is still up; {} ends it.",
                stop.display()
            ));
            process::run_script(&stop)?;
        }
        if self.work.exists() {
            fs::remove_dir_all(&self.work)
                .with_context(|| format!("cannot remove {}", self.work.display()))?;
        }
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.work);
        made.with_context(|| format!("cannot make {}", self.work.display()))
    }

    fn tell(
        &self,
        parts: &[Part],
        shell: &mut Shell<'_>,
        started: &mut Vec<Background>,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut steps = 0;
        let mut endpoint = None;
        for part in parts {
            match part {
                Part::TakeDown if self.keep => break,
                Part::TakeDown => {}
                Part::Heading(text) => say(&format!("\n== {text}")),
                Part::Step(step) => {
                    let answer = self
                        .step(step, shell, started)
                        .with_context(|| format!("line {}: {}", step.line, step.command))?;
                    if step.command.starts_with("curl ") {
                        endpoint = answer;
                    }
                    steps += 1;
                }
            }
        }
        say(&format!(
            "\nAll {steps} commands answered as docs/tutorial.md says, in {:.0} s.",
            begun.elapsed().as_secs_f64()
        ));
        if let Some(answer) = endpoint {
            say(&format!(
                "What the endpoint answered:\n{}",
                answer.trim_end()
            ));
        }
        Ok(())
    }

    /// Takes one step; returns what it printed, unless it goes on.
    fn step(
        &self,
        step: &Step,
        shell: &mut Shell<'_>,
        started: &mut Vec<Background>,
    ) -> Result<Option<String>> {
        say(&format!("\n$ {}", step.command));
        if let Some(ready) = &step.background {
            started.push(shell.start(step, ready)?);
            return Ok(None);
        }
        let answer = shell.run(step)?;
        if answer.exit != step.exit {
            bail!("it ended with {}, not {}", answer.exit, step.exit);
        }
        expect::check(&step.expectations, &answer)?;
        Ok(Some(answer.stdout))
    }

    /// Says what is up, and how to end it.
    fn leave(&self, started: &[Background]) -> Result<()> {
        let stop = self.work.join("stop");
        fs::write(&stop, process::stop_script(started, END_MAX))?;
        fs::set_permissions(&stop, fs::Permissions::from_mode(0o755))?;
        say(&format!(
            "\nEverything is still up. To use it:\n\n  export DEMO={work}\n  export \
             DISPATCH_HOME=$DEMO/.dispatch\n  export PATH={bin}:$PATH\n\nTo stop it: {stop}\nTo \
             remove it, after that: rm -rf {work}",
            work = self.work.display(),
            bin = self.binaries.display(),
            stop = stop.display(),
        ));
        Ok(())
    }
}

/// Ends what was started, the last first.
fn end(started: Vec<Background>) -> Result<()> {
    let mut ended = Ok(());
    for background in started.into_iter().rev() {
        ended = ended.and(background.end(END_MAX));
    }
    ended
}

/// The directory of the executables that were built together with this one.
///
/// # Errors
/// When the running executable has no path.
pub fn binaries() -> Result<PathBuf> {
    let running = std::env::current_exe().context("the running executable has no path")?;
    let directory = running
        .parent()
        .context("an executable lies in a directory")?;
    // A test lies one below, in `deps`.
    let built = if directory.ends_with("deps") {
        directory.parent()
    } else {
        Some(directory)
    };
    Ok(built.context("`deps` lies in a directory")?.to_path_buf())
}

/// The checkout that this was built from.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A line for the person who watches. One who has gone is not missed.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
