//! Bad input from the command line, and handlers that behave badly: a clear error with its code and
//! a page that explains it, and nothing else is disturbed. What strangers put on the stream is in
//! `nats_pub`, and what brokers do wrong in `services`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use harness::broker::{Broker, CLASS, PLAN};
use harness::nats::Nats;
use harness::process::{Answered, Dispatch, repository};
use serde_json::{Value, json};

/// The neighbour that must never notice.
const WELL: &str = "
def handle(context, payload):
    return 'well'
";

/// Each word is another misdeed.
const BAD: &str = "
import os, sys, time
def handle(context, payload):
    if payload == 'exit': os._exit(7)
    if payload == 'raise': raise RuntimeError('no luck')
    if payload == 'refuse': raise ValueError('no good')
    if payload == 'print':
        line = 'x' * 1023 + '\\n'
        for _ in range(100 * 1024): sys.stdout.write(line)
    if payload == 'sleep': time.sleep(600)
    while payload == 'fork':
        try: os.fork()
        except OSError: pass
    if payload == 'memory': return len([bytearray(1 << 20) for _ in range(1 << 20)])
    if payload == 'object': return object()
    return 'fine'
";

/// What a command is refused with.
struct Refused<'a> {
    words: &'a [&'a str],
    exit: i32,
    /// The code, when the server or the document's reader refuses; else what is said.
    says: &'a str,
}

fn refused<'a>(words: &'a [&'a str], exit: i32, says: &'a str) -> Refused<'a> {
    Refused { words, exit, says }
}

/// A function still answers, the engine still decides, and nothing was given up.
fn undisturbed(dispatch: &Dispatch) {
    let well = dispatch.cli(&["exec", "well", "--wait"]).json();
    assert_eq!(well["output"], "well", "{well}");
    let _ = dispatch.cli(&["create", "application", "after"]).ok();
    let _ = dispatch.cli(&["delete", "application", "after"]).ok();
    let letters = Nats::connect(dispatch, "engine").stored("DISPATCH_DEADLETTERS", ">");
    assert!(letters.is_empty(), "{letters:?}");
}

fn check(answered: &Answered, expected: &Refused<'_>) {
    let Refused { words, exit, says } = expected;
    let Answered { code, out, err } = answered;
    assert_eq!(code, exit, "{words:?}: {out}{err}");
    assert!(err.contains(says), "{words:?} does not say '{says}': {err}");
    assert!(!err.contains("panicked"), "{words:?}: {err}");
    let Some(page) = says
        .strip_prefix('[')
        .and_then(|says| says.strip_suffix(']'))
    else {
        return;
    };
    assert!(
        err.contains(&format!("see docs/errors/{page}.md")),
        "{words:?}: {err}"
    );
    let file = repository().join(format!("docs/errors/{page}.md"));
    let text = std::fs::read_to_string(&file).expect("the page that it names is there");
    assert!(text.starts_with(&format!("# {page}")), "{}", file.display());
}

#[test]
fn bad_input_on_the_command_line_has_an_exit_code_and_a_code_with_a_page() {
    let dispatch = Dispatch::up();
    let broker = Broker::start();
    broker.register(&dispatch, "fake");
    dispatch.function("well", WELL, &[]);
    let source = dispatch.file("f.py", WELL);
    let no_schema = dispatch.file("no-schema.json", r#"{"type": "gizmo"}"#);
    let no_json = dispatch.file("no.json", "{");
    let no_map = dispatch.file("no-map.json", r#"{"word": 7}"#);
    let large = dispatch.file("large.json", &format!("\"{}\"", "x".repeat(6 << 20)));
    let unknown = dispatch.file("unknown.yaml", "kind: Gizmo\nname: g\n");
    let field = dispatch.file("field.yaml", "kind: Image\nname: i\ncolour: red\n");
    let long = "n".repeat(129);
    let instance = ["create", "serviceinstance", "db", CLASS];
    let bad_params = [&instance[..], &[PLAN, "--params", "{"]].concat();
    let list_params = [&instance[..], &[PLAN, "--params", "[1]"]].concat();
    let absent_plan = [&instance[..], &["absent"]].concat();
    let bad_schema = ["create", "function", "python3", "f", &source, "--schema-in"];
    for expected in [
        refused(&["create", "application", "a/b"], 1, "is not a name"),
        refused(&["create", "application", &long], 1, "is not a name"),
        refused(&["get", "gizmos"], 2, "no such kind"),
        refused(&["create", "gizmo", "g"], 2, "unrecognized subcommand"),
        refused(&["create", "-f", &unknown], 1, "'Gizmo' is no kind"),
        refused(&["create", "-f", &field], 1, "[invalid-field]"),
        refused(&["create", "-f", "absent.yaml"], 1, "absent.yaml"),
        refused(&["create", "secret", "s", &no_json], 1, "is not a JSON map"),
        refused(&["create", "secret", "s", &no_map], 1, "[invalid-field]"),
        refused(&bad_params, 1, "parameters must be a JSON map"),
        refused(&list_params, 1, "parameters must be a JSON map"),
        refused(
            &["create", "serviceinstance", "db", "absent", PLAN],
            1,
            "[missing-reference]",
        ),
        refused(&absent_plan, 1, "[missing-reference]"),
        refused(
            &[&bad_schema[..], &[&no_schema]].concat(),
            1,
            "[invalid-schema]",
        ),
        refused(&[&bad_schema[..], &[&no_json]].concat(), 1, "is not JSON"),
        refused(&["get", "function", "absent"], 1, "[not-found]"),
        refused(&["exec", "absent", "--wait"], 1, "[not-found]"),
        refused(
            &["exec", "well", "--wait", "--input", "{"],
            1,
            "is not JSON",
        ),
        refused(
            &["exec", "well", "--wait", "--input-file", &large],
            1,
            "[too-large]",
        ),
        refused(&["delete", "function", "absent"], 1, "[not-found]"),
        refused(&["delete", "serviceclass", CLASS], 1, "[read-only]"),
        refused(&["create", "application", "twice"], 0, ""),
        refused(&["create", "application", "twice"], 1, "[already-exists]"),
        refused(&["delete", "image", "python3"], 1, "[in-use]"),
        refused(&["history", "function", "absent"], 1, "[not-found]"),
    ] {
        check(&dispatch.cli(expected.words), &expected);
    }
    undisturbed(&dispatch);
}

#[test]
fn a_function_whose_image_is_absent_waits_and_says_for_what() {
    let dispatch = Dispatch::up();
    let source = dispatch.file("f.py", WELL);
    let _ = dispatch
        .cli(&["create", "function", "absent", "f", &source])
        .ok();
    let waiting = dispatch.get("function", "f");
    assert_eq!(waiting["status"], "INITIALIZED", "{waiting}");
    let reason = waiting["reason"][0].as_str().expect("it has a reason");
    assert!(reason.contains("image absent"), "{reason}");
    let words = ["exec", "f", "--wait"];
    check(&dispatch.cli(&words), &refused(&words, 1, "[not-ready]"));
    let _ = dispatch.cli(&["delete", "function", "f"]).ok();
}

#[test]
fn a_handler_that_behaves_badly_is_told_so_and_its_neighbour_notices_nothing() {
    let dispatch = Dispatch::up();
    dispatch.function("well", WELL, &[]);
    dispatch.function("bad", BAD, &["--timeout", "2000"]);
    let over = Flag::default();
    let served = AtomicU32::new(0);
    thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            while !over.0.load(Ordering::Relaxed) {
                let well = dispatch.cli(&["exec", "well", "--wait"]);
                assert_eq!(
                    (well.code, &well.json()["output"]),
                    (0, &json!("well")),
                    "{well:?}"
                );
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        // The neighbour's thread is waited for, however this one ends.
        let end = End(&over);
        for (misdeed, kind, says) in [
            ("exit", "FunctionError", "exited with status 7"),
            ("raise", "FunctionError", "no luck"),
            ("refuse", "InputError", "no good"),
            ("sleep", "FunctionError", "exceeded the timeout"),
            ("fork", "FunctionError", "exceeded the timeout"),
            ("memory", "FunctionError", "emory"),
            ("object", "FunctionError", "JSON"),
        ] {
            let before = served.load(Ordering::Relaxed);
            let words = [
                "exec",
                "bad",
                "--wait",
                "--input",
                &json!(misdeed).to_string(),
            ];
            let answered = dispatch.cli(&words);
            assert_eq!(answered.code, 3, "{misdeed}: {answered:?}");
            let run = answered.json();
            assert_eq!(run["status"], "ERROR", "{run}");
            assert_eq!(run["error"]["type"], kind, "{misdeed}: {run}");
            let message = run["error"]["message"].as_str().expect("it has a message");
            assert!(message.contains(says), "{misdeed}: {message}");
            assert_eq!(run["reason"].as_array().map(Vec::len), Some(1), "{run}");
            answers(&dispatch, "bad");
            let beside = served.load(Ordering::Relaxed) > before;
            assert!(
                beside || says != "exceeded the timeout",
                "nothing was served beside {misdeed}"
            );
        }
        a_flood_of_output_is_cut(&dispatch);
        drop(end);
        neighbour.join().expect("the neighbour notices nothing");
    });
    undisturbed(&dispatch);
}

#[derive(Default)]
struct Flag(AtomicBool);

/// Raises the flag when it is dropped.
struct End<'a>(&'a Flag);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn answers(dispatch: &Dispatch, function: &str) {
    let run = dispatch.cli(&["exec", function, "--wait"]).json();
    assert_eq!(run["output"], "fine", "{run}");
}

/// A hundred megabytes are no error, but only a part of them is kept, and the log says so.
fn a_flood_of_output_is_cut(dispatch: &Dispatch) {
    let words = ["exec", "bad", "--wait", "--input", "\"print\""];
    let run = dispatch.cli(&words).json();
    assert_eq!(run["output"], "fine", "{run}");
    let lines: Vec<Value> = run["logs"]["stdout"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let kept: usize = lines.iter().filter_map(Value::as_str).map(str::len).sum();
    assert!(kept > 1024 && kept <= 1 << 19, "{kept} bytes are kept");
    let told = lines
        .iter()
        .filter_map(Value::as_str)
        .any(|line| !line.starts_with("xxx"));
    assert!(told, "that something was left out is told");
}
