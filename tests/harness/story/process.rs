//! Runs the commands of a story in a shell, and ends what they leave running.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::say;
use super::script::Step;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long output may still come after a command has ended: a child of it may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What is remembered from one command to the next: the environment and the directory.
const REMEMBER: &str = "\nstory_exit=$?\n{ export -p; printf 'cd %q\\n' \"$PWD\"; } >\"$STORY\"\n\
                        exit $story_exit\n";

/// A shell in the checkout, in which `dispatch` is the one that was built.
pub(super) struct Shell<'a> {
    work: PathBuf,
    memory: PathBuf,
    path: OsString,
    root: PathBuf,
    cancelled: &'a AtomicBool,
}

/// What a command answered.
pub(super) struct Answer {
    pub(super) exit: i32,
    pub(super) stdout: String,
    /// Standard output and error, as they came.
    pub(super) all: String,
}

/// A command that goes on.
pub(super) struct Background {
    command: String,
    child: Child,
}

impl<'a> Shell<'a> {
    pub(super) fn new(
        root: &Path,
        work: &Path,
        binaries: &Path,
        cancelled: &'a AtomicBool,
    ) -> Result<Self> {
        let before = std::env::var_os("PATH").unwrap_or_default();
        let first = [binaries.to_path_buf(), root.join(".tools/bin")];
        let path = std::env::join_paths(first.into_iter().chain(std::env::split_paths(&before)))?;
        Ok(Self {
            work: work.to_path_buf(),
            memory: work.join("environment"),
            path,
            root: root.to_path_buf(),
            cancelled,
        })
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-c"])
            .arg(format!(
                "set -a\n[ ! -e \"$STORY\" ] || . \"$STORY\"\n{script}"
            ))
            .current_dir(&self.root)
            .env("PATH", &self.path)
            .env("DEMO", &self.work)
            .env("DISPATCH_HOME", self.work.join(".dispatch"))
            .env("STORY", &self.memory)
            .stdin(Stdio::null())
            // A group of its own: it is ended as a whole, and Ctrl-C is for the story.
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            // The story is told with what it says itself, not with what its teller has set.
            let told = name.to_string_lossy();
            let ours = ["DISPATCH_HOME", "DISPATCH_NATS_SERVER"];
            if told.starts_with("DISPATCH_") && !ours.contains(&&*told) {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Runs a command to its end, and shows what it says while it says it.
    pub(super) fn run(&mut self, step: &Step) -> Result<Answer> {
        let mut command = self.command(&format!("{}{REMEMBER}", step.command));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().context("standard output is piped")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        for (is_stdout, pipe) in [
            (true, Box::new(stdout) as Box<dyn Read + Send>),
            (false, Box::new(stderr)),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send((is_stdout, line)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut answer = Answer {
            exit: 0,
            stdout: String::new(),
            all: String::new(),
        };
        let deadline = Instant::now() + step.within;
        let mut ended = None;
        loop {
            match lines.recv_timeout(LOOK) {
                Ok((is_stdout, line)) => {
                    say(&line);
                    answer.all.push_str(&line);
                    answer.all.push('\n');
                    if is_stdout {
                        answer.stdout.push_str(&line);
                        answer.stdout.push('\n');
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            match (ended, child.try_wait()?) {
                (None, Some(status)) => ended = Some((Instant::now(), status)),
                (Some((at, status)), _) if at.elapsed() > LAST_WORDS => {
                    answer.exit = status.code().unwrap_or(-1);
                    return Ok(answer);
                }
                _ => {}
            }
            let late = Instant::now() > deadline;
            if ended.is_none() && (late || self.cancelled.load(Ordering::SeqCst)) {
                let group = child.id();
                signal_group("KILL", group);
                child.wait()?;
                bail!(if late {
                    format!("it has not ended after {:?}", step.within)
                } else {
                    "the story was cancelled".into()
                });
            }
        }
    }

    /// Starts a command that goes on, and waits until it says that it is ready.
    pub(super) fn start(&mut self, step: &Step, ready: &str) -> Result<Background> {
        let log = self.work.join(format!("line-{}.log", step.line));
        let out = File::create(&log)?;
        let mut command = self.command(&format!("exec {}", step.command));
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        let mut background = Background {
            command: step.command.clone(),
            child,
        };
        let mut shown = 0;
        let deadline = Instant::now() + step.within;
        loop {
            let text = fs::read_to_string(&log)?;
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for line in text[shown..whole].lines() {
                say(line);
            }
            shown = whole;
            if text[..whole].contains(ready) {
                say(&format!("(it goes on; its log is {})", log.display()));
                return Ok(background);
            }
            let problem = match background.child.try_wait()? {
                Some(status) => format!("it ended ({status}) before it said '{ready}'"),
                None if Instant::now() > deadline => format!("it has not said '{ready}'"),
                None if self.cancelled.load(Ordering::SeqCst) => "the story was cancelled".into(),
                None => {
                    thread::sleep(LOOK);
                    continue;
                }
            };
            let _ = background.end(super::END_MAX);
            bail!(problem);
        }
    }
}

impl Background {
    /// Asks it to end, and waits for that; kills it after `patience`, which is an error.
    pub(super) fn end(mut self, patience: Duration) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            bail!("'{}' ended before it was asked to", self.command);
        }
        signal_group("TERM", self.child.id());
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("'{}' ended badly: {status}", self.command),
                None => thread::sleep(LOOK),
            }
        }
        signal_group("KILL", self.child.id());
        self.child.wait()?;
        bail!(
            "'{}' did not end within {patience:?} and was killed",
            self.command
        )
    }
}

/// Signals a process and all of its group.
fn signal_group(signal: &str, group: u32) {
    // One that has gone meanwhile is what was wanted.
    let _ = Command::new("bash")
        .args(["-c", &format!("kill -{signal} -- -{group}")])
        .stderr(Stdio::null())
        .status();
}

/// A script that ends what was started, the last first, and waits for it.
pub(super) fn stop_script(started: &[Background], patience: Duration) -> String {
    let groups: Vec<String> = started
        .iter()
        .rev()
        .map(|b| format!("-{}", b.child.id()))
        .collect();
    format!(
        "#!/bin/bash\n# Ends what the story left up.\nfor group in {groups}; do\n    kill -TERM -- \
         \"$group\" 2>/dev/null\ndone\nfor group in {groups}; do\n    tries=0\n    while kill -0 -- \
         \"$group\" 2>/dev/null; do\n        tries=$((tries + 1))\n        [ \"$tries\" -gt {} ] && \
         kill -KILL -- \"$group\"\n        sleep 1\n    done\ndone\nrm -f \"$0\"\necho stopped\n",
        patience.as_secs(),
        groups = groups.join(" "),
    )
}

/// Runs a script to its end.
pub(super) fn run_script(script: &Path) -> Result<()> {
    let status = Command::new(script).status()?;
    if !status.success() {
        bail!("{} ended with {status}", script.display());
    }
    Ok(())
}

/// Waits until no process works in a directory, or names it.
pub(super) fn wait_until_nothing_runs_in(directory: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = running_in(directory)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("these still run: {}", left.join("; "));
        }
        thread::sleep(LOOK);
    }
}

/// Processes younger than this one that work in the directory or name it. Older ones are somebody
/// else's: a person's shell may stand there.
fn running_in(directory: &Path) -> Result<Vec<String>> {
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_path_buf());
    let named = directory.display().to_string();
    let born = started(Path::new("/proc/self"));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let id = process
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_process = id.chars().all(|c| c.is_ascii_digit());
        if !is_process || id == std::process::id().to_string() || started(&process) < born {
            continue;
        }
        // A process may end while it is looked at.
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let inside =
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&directory));
        if !words.is_empty() && (inside || words.contains(&named)) {
            found.push(format!("{id} {}", words.trim()));
        }
    }
    Ok(found)
}

/// When a process started, in the kernel's ticks.
fn started(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything; 20 words further on stands the start.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_goes_on_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let at_once = Duration::ZERO;
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(directory.path())
            .spawn()
            .unwrap();
        // The kernel wakes the parent of a new program a moment before the program has its words.
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = loop {
            match wait_until_nothing_runs_in(directory.path(), at_once) {
                Err(found) => break found,
                Ok(()) => assert!(Instant::now() < deadline, "it was never found"),
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.to_string().contains("sleep 60"), "{found}");
        wait_until_nothing_runs_in(directory.path(), at_once).unwrap();
    }

    #[test]
    fn what_is_left_up_is_ended_by_its_script() {
        let (directory, never) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let mut shell = Shell::new(
            Path::new("/"),
            directory.path(),
            Path::new("/nowhere"),
            &never,
        )
        .unwrap();
        let goes_on = "bash -c 'echo ready; sleep 60 & wait'";
        let mut background = shell.start(&Step::new(1, goes_on.into()), "ready").unwrap();
        let patience = Duration::from_secs(10);
        let script = stop_script(std::slice::from_ref(&background), patience);
        let waiting = thread::spawn(move || background.child.wait().unwrap());
        let status = Command::new("bash").args(["-c", &script]).status().unwrap();
        assert!(status.success());
        assert!(
            !waiting.join().unwrap().success(),
            "it was ended by a signal"
        );
    }

    #[test]
    fn what_a_command_sets_is_there_for_the_next_one() {
        let (directory, never) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let (root, work) = (Path::new("/"), directory.path());
        let mut shell = Shell::new(root, work, Path::new("/nowhere"), &never).unwrap();
        let mut run = |command: &str| shell.run(&Step::new(1, command.into())).unwrap();
        assert_eq!(run("cd usr; NAME='two words'; false").exit, 1);
        let answer = run("echo \"$NAME in $PWD\"; echo aside >&2");
        assert_eq!(answer.stdout, "two words in /usr\n");
        assert!(answer.all.contains("aside"));
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let (directory, never) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let mut shell = Shell::new(
            Path::new("/"),
            directory.path(),
            Path::new("/nowhere"),
            &never,
        )
        .unwrap();
        let mut step = Step::new(1, "sleep 60".into());
        step.within = Duration::from_millis(100);
        assert!(shell.run(&step).is_err());
        wait_until_nothing_runs_in(directory.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_command_that_goes_on_is_ready_when_it_says_so() {
        let (directory, never) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let mut shell = Shell::new(
            Path::new("/"),
            directory.path(),
            Path::new("/nowhere"),
            &never,
        )
        .unwrap();
        let goes_on =
            "bash -c 'trap \"exit 0\" TERM; echo I am ready; while :; do sleep 0.05; done'";
        let background = shell
            .start(&Step::new(1, goes_on.into()), "am ready")
            .unwrap();
        background.end(Duration::from_secs(10)).unwrap();
        assert!(
            shell
                .start(&Step::new(2, "true".into()), "am ready")
                .is_err()
        );
    }
}
