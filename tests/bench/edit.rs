//! From the moment when a source was written to the moment when `dispatch dev` shows that it is
//! served, and to the moment when it shows its answer.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::process::Dispatch;

use crate::report::{Figure, Report};

const EDITS: u32 = 50;

/// An edit that takes so long is none that anybody waits for.
const EDIT_MAX: Duration = Duration::from_secs(60);

/// A line of the session, and when it came.
type Lines = Receiver<(Instant, String)>;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let python: fn(u32) -> String =
        |number| format!("def handle(context, payload):\n    return 'edit {number}'\n");
    let node: fn(u32) -> String = |number| format!("module.exports = () => 'edit {number}';\n");
    edits(
        report,
        ["edit_served_python", "edit_answered_python"],
        "f.py",
        python,
    )?;
    edits(
        report,
        ["edit_served_node", "edit_answered_node"],
        "f.js",
        node,
    )
}

fn edits(
    report: &mut Report,
    names: [&'static str; 2],
    file: &str,
    source: fn(u32) -> String,
) -> Result<()> {
    let dispatch = Dispatch::up();
    let path = dispatch.file(file, &source(0));
    // One pipe for both, so that their lines keep their order.
    let (reader, writer) = std::io::pipe()?;
    let mut session = dispatch
        .command()
        .args(["dev", &path, "--input", "null"])
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let (sender, lines) = mpsc::channel();
    listen(reader, sender);
    let measured = measure(&lines, &path, source);
    // Also when nothing was measured, nobody is left behind.
    session.kill()?;
    session.wait()?;
    let (served, answered) = measured?;
    report.add(Figure::named(names[0]).times(served));
    report.add(Figure::named(names[1]).times(answered));
    Ok(())
}

fn measure(
    lines: &Lines,
    path: &str,
    source: fn(u32) -> String,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut served, mut answered) = (Vec::new(), Vec::new());
    until(lines, "\"edit 0\"")?;
    until(lines, "Ran in")?;
    for number in 1..=EDITS {
        let since = Instant::now();
        std::fs::write(path, source(number))?;
        served.push(until(lines, "Served f in")?.duration_since(since));
        answered.push(until(lines, &format!("\"edit {number}\""))?.duration_since(since));
        until(lines, "Ran in")?;
    }
    Ok((served, answered))
}

/// When a line with this text came.
fn until(lines: &Lines, text: &str) -> Result<Instant> {
    let deadline = Instant::now() + EDIT_MAX;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left);
        let (at, line) = line.with_context(|| format!("'{text}' was never shown"))?;
        if line.contains(text) {
            return Ok(at);
        }
    }
}

fn listen(stream: impl Read + Send + 'static, lines: Sender<(Instant, String)>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
}
