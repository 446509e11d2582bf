//! `dispatch dev`: from an edit to its answer.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;

use adapter_sandbox::{Signal, signal};
use harness::process::{Dispatch, eventually};

/// A session of `dispatch dev`, which is ended with the test.
struct Session {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Session {
    fn of(dispatch: &Dispatch, words: &[&str]) -> Self {
        // One pipe for both, so that their lines keep their order.
        let (reader, writer) = std::io::pipe().unwrap();
        let child = dispatch
            .command()
            .arg("dev")
            .args(words)
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .expect("the binary runs");
        let said = Arc::default();
        listen(reader, &said);
        Self { child, said }
    }

    /// Waits until it has said `what`, and forgets everything up to then.
    fn hears(&self, what: &str) {
        let said = || self.said.lock().expect("nobody panics with it").clone();
        eventually(&format!("'{what}' is said"), || said().contains(what));
        let mut said = self.said.lock().expect("nobody panics with it");
        let end = said.find(what).expect("it was said") + what.len();
        said.drain(..end);
    }

    fn ends(mut self) -> i32 {
        signal(self.child.id(), Signal::Interrupt);
        let status = self.child.wait().expect("it is a child");
        status.code().unwrap_or(-1)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.said.lock().map(|said| said.clone());
            harness::say(&format!("--- dev ---\n{}", said.unwrap_or_default()));
        }
    }
}

fn listen(stream: impl Read + Send + 'static, said: &Arc<Mutex<String>>) {
    let said = said.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut said = said.lock().expect("nobody panics with it");
            *said = format!("{said}{line}\n");
        }
    });
}

#[test]
fn an_edit_is_served_and_run_and_an_error_is_shown_with_the_persons_own_line() {
    let dispatch = Dispatch::up();
    let file = dispatch.file(
        "greets.py",
        "def handle(context, payload):\n    return 'one'\n",
    );
    let session = Session::of(&dispatch, &[&file, "--input", r#"{"name": "Jon"}"#, "--rm"]);
    session.hears("Served greets in ");
    session.hears("\"one\"");

    let broken = "def handle(context, payload):\n    return payload['name'\n";
    fs::write(&file, broken).unwrap();
    session.hears("greets: ERROR: ");
    session.hears("SyntaxError: ");
    session.hears("greets.py, line 2");
    session.hears("the version before goes on serving");

    let raises =
        "def handle(context, payload):\n    print('so far')\n    return payload['absent']\n";
    fs::write(&file, raises).unwrap();
    session.hears("stdout | so far");
    session.hears("FunctionError: 'absent'");
    session.hears("File \"greets.py\", line 3, in handle");

    // Replaced, as editors do it.
    let new = dispatch.file(
        "new",
        "def handle(context, payload):\n    return payload['name']\n",
    );
    fs::rename(new, &file).unwrap();
    session.hears("\"Jon\"");

    // It is a function like any other.
    let ran = dispatch.cli(&["exec", "greets", "--wait", "--input", r#"{"name": "Ann"}"#]);
    assert_eq!(ran.json()["output"], "Ann", "{ran:?}");
    session.hears("of somebody else");

    // What others' runs print is told while they go on.
    let waits = "import time\ndef handle(context, payload):\n    if payload.get('name'):\n        \
                 return payload['name']\n    print('begun')\n    time.sleep(3600)\n";
    fs::write(&file, waits).unwrap();
    session.hears("\"Jon\"");
    let run = dispatch.cli(&["exec", "greets", "--json"]).json();
    session.hears("begun");
    let run = run["name"].as_str().expect("it has a name");
    let going = dispatch.get("runs", "greets");
    let own = |known: &&serde_json::Value| known["name"] == run;
    let going = going.as_array().and_then(|runs| runs.iter().find(own));
    assert!(
        going.is_some_and(|run| run["finishedTime"].is_null()),
        "{going:?}"
    );
    let _ = dispatch.cli(&["cancel", run]).ok();

    assert_eq!(session.ends(), 0);
    let gone = dispatch.cli(&["get", "function", "greets"]);
    assert!(gone.err.contains("[not-found]"), "{gone:?}");
}

#[test]
fn a_directory_is_served_with_its_own_dependencies_and_what_was_there_before_stays() {
    let dispatch = Dispatch::up();
    let dir = dispatch.scratch().join("adds");
    fs::create_dir(&dir).unwrap();
    fs::write(
        dir.join("main.py"),
        "import lib\n\ndef handle(context, payload):\n    return lib.answer()\n",
    )
    .unwrap();
    fs::write(dir.join("lib.py"), "def answer():\n    return 1\n").unwrap();
    let path = dir.display().to_string();
    let words = ["dev", &path, "--max", "2", "--input", "1"];
    let session = Session::of(&dispatch, &words[1..]);
    session.hears("Served adds");
    session.hears("1\n");
    assert_eq!(dispatch.get("function", "adds")["workers"]["max"], 2);
    fs::write(dir.join("lib.py"), "def answer():\n    return 2\n").unwrap();
    session.hears("Served adds");
    session.hears("2\n");
    // A list of dependencies that cannot be had.
    fs::write(dir.join("requirements.txt"), "../nowhere\n").unwrap();
    session.hears("Building adds-deps of requirements.txt");
    session.hears("adds: requirements.txt: ");
    assert_eq!(session.ends(), 0);

    // A second session takes over what the first one left.
    fs::remove_file(dir.join("requirements.txt")).unwrap();
    let session = Session::of(&dispatch, &[&path, "--input", "1"]);
    session.hears("2\n");
    assert_eq!(dispatch.get("function", "adds")["workers"]["max"], 2);
    assert_eq!(session.ends(), 0);
    let _ = dispatch.cli(&["get", "function", "adds"]).ok();
}
