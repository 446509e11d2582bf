//! Killed at any moment, the views are found as they were after some step: never a position
//! without its rows, never rows without their position.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use engine_model::*;

use super::fixture::*;
use crate::events::EventFold;
use crate::store::Stream;

const DIRECTORY: &str = "DISPATCH_TEST_CRASH_DIRECTORY";

/// Commits of the tape; each round of a killed child folds a few hundred.
const LENGTH: usize = 6000;

/// How often the child is killed.
const ROUNDS: u32 = 6;

/// Commits after which the child asks for what it folded to be on disk.
const FLUSH_EVERY: u64 = 64;

/// Ever the same tape: the story's events, of a few resources in turn.
fn tape() -> Tape {
    let story = story();
    let mut tape = Tape::default();
    for n in 0..LENGTH {
        let taken = &story.0[n % story.0.len()].commit;
        let (kind, events) = (taken.key.kind, taken.events.clone());
        tape.commit(kind, &format!("r{}", n / story.0.len() % 5), events);
    }
    tape
}

/// Not a test: what the test below starts and kills.
#[test]
#[ignore = "the child process of another test"]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let tree = tree(Path::new(&dir), Stream::Events);
    let mut fold = EventFold::open(tree.clone()).unwrap();
    let done = usize::try_from(fold.position().seq.0).unwrap();
    for step in tape().0[done..].chunks(3) {
        step.iter()
            .for_each(|recorded| fold.fold(recorded).unwrap());
        let Seq(seq) = fold.commit(0).unwrap().seq;
        if seq % FLUSH_EVERY < 3 {
            tree.flush().unwrap();
            println!("\nflushed {seq}");
        }
    }
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a child fold until it has said `lines` times that its work is on disk, then kills it in
/// the middle of the next. Returns the last position that it said.
fn fold_and_be_killed(dir: &Path, lines: u32) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let victim = Victim(child);
    let said = out.lines().map_while(Result::ok);
    let flushed = said.filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
    let last = flushed
        .take(lines as usize)
        .last()
        .expect("the child folds");
    drop(victim);
    last
}

#[test]
fn a_killed_view_is_found_as_it_was_after_some_step() {
    let dir = tempfile::tempdir().unwrap();
    let tape = tape();
    let mut expected = House::empty();
    let mut before = 0;
    for round in 1..=ROUNDS {
        let said = fold_and_be_killed(dir.path(), 2 * round);
        let tree = tree(dir.path(), Stream::Events);
        let Seq(found) = EventFold::open(tree.clone()).unwrap().position().seq;
        assert!(found >= said, "{said} was on disk, and {found} was found");
        let found = usize::try_from(found).unwrap();
        assert!(
            found > before && found < LENGTH,
            "the child was killed at work"
        );
        expected.fold(&tape.0[before..found]);
        assert_eq!(
            dump(&tree),
            expected.dump(),
            "round {round}, position {found}"
        );
        before = found;
    }
}
