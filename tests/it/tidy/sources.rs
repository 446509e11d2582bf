//! What sources may say.

use super::none;
use super::tree::{File, files};

/// Longer files are a smell. Tests do not count, neither as files nor at the end of one.
const LINES_MAX: usize = 600;

/// Longer files that read well, and why.
const LONG: &[(&str, &str)] = &[];

/// What a pure crate does not say.
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "tokio::",
    "tracing::",
    "Utc::now",
    "Local::now",
    "SystemTime",
    "Instant::now",
    "rand::",
    "getrandom",
    "now_v7",
    "new_v4",
    "std::env",
    "std::fs",
    "std::net",
    "std::thread",
    "println!",
];

/// Places of a developer's machine, which mean nothing on another.
const MACHINE: &[&str] = &["/ro\u{6f}t/", "/w\u{6f}rk/", "/tmp/\u{74}/"];

/// A line's code, without what follows `//`.
fn code(line: &str) -> &str {
    match line.find("//") {
        // A URL in a text is no comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    }
}

/// The lines of a source before its tests, numbered from one.
fn lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let tests = |line: &&str| !line.trim_start().starts_with("#[cfg(test)]");
    file.text
        .lines()
        .take_while(tests)
        .enumerate()
        .map(|(at, line)| (at + 1, code(line)))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

/// Whether the line has the word, and not a longer one that begins with it.
fn says(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !word.ends_with(part) || !line[at + word.len()..].starts_with(part))
}

fn impure(files: &[File]) -> Vec<String> {
    let core = |file: &&File| file.path.starts_with("engine/core/src/") && !is_test(&file.path);
    let mut found = Vec::new();
    for file in files.iter().filter(core) {
        for (number, line) in lines(file) {
            let said = IMPURE.iter().filter(|word| says(line, word));
            found.extend(said.map(|word| format!("{}:{number} says {word}", file.path)));
        }
    }
    found
}

fn unsafe_code(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        // The sandbox may, one call of wasmtime's cannot do without, and these rules quote what
        // they look for.
        if ["adapters/sandbox/", "adapters/wasm/", "tests/it/tidy"]
            .iter()
            .any(|free| file.path.starts_with(free))
        {
            continue;
        }
        if file.ends_with(".rs") {
            let unsafe_lines = lines(file).filter(|(_, line)| {
                [
                    "unsafe {",
                    "unsafe fn",
                    "unsafe impl",
                    "unsafe extern",
                    "unsafe trait",
                ]
                .iter()
                .any(|begin| line.contains(begin) && has_word(line, "unsafe"))
            });
            found.extend(unsafe_lines.map(|(number, _)| format!("{}:{number}", file.path)));
        }
        let is_crate = file.ends_with("/Cargo.toml") && file.text.contains("[package]");
        if is_crate && !file.text.contains("[lints]\nworkspace = true") {
            found.push(format!(
                "{} does not take the lints of the workspace",
                file.path
            ));
        }
    }
    found
}

fn names_nats(files: &[File]) -> Vec<String> {
    let free = |path: &str| path.starts_with("engine/stream/") || path.starts_with("tests/");
    let source = |file: &&File| file.ends_with(".rs") && !free(&file.path);
    let mut found = Vec::new();
    for file in files.iter().filter(source) {
        let named = lines(file).filter(|(_, line)| line.contains("async_nats::"));
        found.extend(named.map(|(number, _)| format!("{}:{number} names async-nats", file.path)));
    }
    found
}

fn long(files: &[File]) -> Vec<String> {
    let excepted = |path: &str| LONG.iter().any(|(known, _)| *known == path);
    files
        .iter()
        .filter(|file| file.ends_with(".rs") && !is_test(&file.path) && !excepted(&file.path))
        .map(|file| (file, lines(file).count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{} has {lines} lines", file.path))
        .collect()
}

fn machine_paths(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            let named = MACHINE.iter().filter(|place| {
                line.match_indices(**place).any(|(at, _)| {
                    // A path that goes on, and is no part of a longer one.
                    let after = line[at + place.len()..].chars().next();
                    let before = line[..at].chars().next_back();
                    after.is_some_and(|c| c.is_alphanumeric() || c == '.')
                        && !before.is_some_and(|c| c.is_alphanumeric() || "./}_-".contains(c))
                })
            });
            found.extend(named.map(|p| format!("{}:{} names {p}", file.path, number + 1)));
        }
    }
    found
}

fn undone(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let source = |file: &&File| file.ends_with(".rs") && !file.path.starts_with("tests/it/tidy");
    for file in files.iter().filter(source) {
        for (number, line) in file.text.lines().enumerate() {
            let marks = ["TODO", "FIXME", "XXX"];
            if marks.iter().any(|mark| has_word(line, mark)) && !line.contains("http") {
                found.push(format!(
                    "{}:{} leaves something undone",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    found
}

#[test]
fn the_core_waits_for_nothing_and_asks_no_clock() {
    none(impure(&files()));
}

#[test]
fn only_the_sandbox_has_unsafe_code() {
    none(unsafe_code(&files()));
}

#[test]
fn only_the_stream_names_nats() {
    none(names_nats(&files()));
}

#[test]
fn files_are_short() {
    none(long(&files()));
}

#[test]
fn an_exception_from_short_files_is_still_needed() {
    let files = files();
    let short = LONG.iter().filter(|(path, _)| {
        let file = files.iter().find(|file| file.path == *path);
        file.is_none_or(|file| lines(file).count() <= LINES_MAX)
    });
    none(
        short
            .map(|(path, _)| format!("{path} is short, or gone"))
            .collect(),
    );
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    none(machine_paths(&files()));
}

#[test]
fn nothing_is_left_undone() {
    none(undone(&files()));
}

#[test]
fn each_breach_is_found() {
    let core = |text: &str| [File::new("engine/core/src/decide.rs", text)];
    assert_eq!(impure(&core("let now = Utc::now();")).len(), 1);
    assert_eq!(
        impure(&core("// let now = Utc::now();\n#[cfg(test)]\nUtc::now()")).len(),
        0
    );
    assert_eq!(impure(&[File::new("cli/src/up.rs", "x.await")]).len(), 0);

    assert_eq!(
        unsafe_code(&[File::new("cli/src/up.rs", "unsafe { x() }")]).len(),
        1
    );
    assert_eq!(
        unsafe_code(&[File::new("adapters/sandbox/src/sys.rs", "unsafe { x() }")]).len(),
        0
    );
    assert_eq!(
        unsafe_code(&[File::new("cli/Cargo.toml", "[package]\n")]).len(),
        1
    );

    assert_eq!(
        names_nats(&[File::new("cli/src/up.rs", "use async_nats::Client;")]).len(),
        1
    );
    assert_eq!(
        names_nats(&[File::new("engine/stream/src/x.rs", "async_nats::x")]).len(),
        0
    );

    let text = "x();\n".repeat(LINES_MAX + 1);
    assert_eq!(long(&[File::new("cli/src/up.rs", &text)]).len(), 1);
    assert_eq!(long(&[File::new("cli/tests/up.rs", &text)]).len(), 0);

    let place = format!("see {}x/y", MACHINE[0]);
    assert_eq!(machine_paths(&[File::new("README.md", &place)]).len(), 1);
    assert_eq!(
        undone(&[File::new("cli/src/up.rs", "// TODO: later")]).len(),
        1
    );
}
