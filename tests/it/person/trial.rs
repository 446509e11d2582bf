//! `dispatch test`: once, with expectations.

use harness::process::Dispatch;
use serde_json::{Value, json};

const GREETS: &str = "
import sys
def handle(context, payload):
    print('about to greet')
    print('to the other stream', file=sys.stderr)
    if payload.get('fail'):
        raise KeyError('fail')
    return {'greeting': 'Hello, ' + payload.get('name', 'world'), 'n': [1, 2]}
";

#[test]
fn a_test_passes_when_the_output_is_as_expected_and_shows_where_it_is_not() {
    let dispatch = Dispatch::up();
    dispatch.function("greets", GREETS, &[]);
    let input = dispatch.file("input.json", r#"{"name": "Jon"}"#);
    let expected = r#"{"n": [1, 2.0], "greeting": "Hello, Jon"}"#;
    let input = format!("@{input}");
    let words = ["test", "greets", "--input", &input, "--expect", expected];
    let passed = dispatch.cli(&words);
    assert_eq!(passed.code, 0, "{passed:?}");
    assert_eq!(
        passed.json(),
        json!({"greeting": "Hello, Jon", "n": [1, 2]})
    );
    for line in [
        "stdout | about to greet",
        "stderr | to the other stream",
        "queue ",
        "cold start ",
        "injection ",
        "handler ",
        "validation ",
        "in all ",
        "passed",
    ] {
        assert!(passed.err.contains(line), "'{line}' is not in {passed:?}");
    }

    let differs = dispatch.cli(&["test", "greets", "--expect", expected]);
    assert_eq!(differs.code, 1, "{differs:?}");
    for line in [
        "- $.greeting: \"Hello, Jon\"\n",
        "+ $.greeting: \"Hello, world\"\n",
        "failed",
    ] {
        assert!(differs.err.contains(line), "'{line}' is not in {differs:?}");
    }
    assert!(!differs.err.contains("$.n"), "{differs:?}");
}

#[test]
fn a_test_of_a_function_that_fails_fails_and_shows_the_persons_own_line() {
    let dispatch = Dispatch::up();
    dispatch.function("greets", GREETS, &[]);
    let words = ["test", "greets", "--input", r#"{"fail": true}"#];
    let failed = dispatch.cli(&words);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("FunctionError: 'fail'"), "{failed:?}");
    assert!(
        failed.err.contains("File \"greets.py\", line 7, in handle"),
        "{failed:?}"
    );
    assert!(!failed.err.contains("/tmp/"), "{failed:?}");

    let absent = dispatch.cli(&["test", "absent"]);
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(absent.err.contains("[not-found]"), "{absent:?}");
}

#[test]
fn javascript_is_traced_to_the_persons_own_lines_too_and_so_is_what_cannot_be_loaded() {
    let dispatch = Dispatch::up();
    dispatch.image("nodejs", "nodejs");
    dispatch.image("python3", "python3");
    let make = |name: &str, file: &str, text: &str| {
        let image = if file.ends_with(".js") {
            "nodejs"
        } else {
            "python3"
        };
        let path = dispatch.file(file, text);
        let words = ["create", "function", image, name, &path];
        let _ = dispatch.cli(&words).ok();
        let settled = |function: &Value| function["status"] != "INITIALIZED";
        let settled = |it: &Value| settled(it) && it["status"] != "CREATING";
        dispatch.until("function", name, settled)
    };
    let inner =
        "module.exports = async (context, payload) => {\n    await null;\n    payload.a.b();\n};\n";
    let ready = make("throws", "throws.js", inner);
    assert_eq!(ready["status"], "READY", "{ready}");
    let failed = dispatch.cli(&["test", "throws"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("InputError: Cannot read"), "{failed:?}");
    assert!(failed.err.contains("throws.js:3:15"), "{failed:?}");
    for alien in ["/tmp/", "node:internal", "/dispatch/"] {
        assert!(!failed.err.contains(alien), "'{alien}' is in {failed:?}");
    }

    for (name, file, text, place) in [
        (
            "at-import",
            "at_import.py",
            "x = 1\nx.y\n",
            "(at_import.py, line 2)",
        ),
        (
            "no-module",
            "no_module.py",
            "\n\nimport nowhere\n",
            "(no_module.py, line 3)",
        ),
        (
            "syntax",
            "syntax.js",
            "\nlet = = 1;\n",
            "(syntax.js, line 2)",
        ),
        (
            "at-load",
            "at_load.js",
            "\n\nthrow new Error('no');\n",
            "(at_load.js, line 3)",
        ),
    ] {
        let function = make(name, file, text);
        assert_eq!(function["status"], "ERROR", "{function}");
        let reason = function["reason"][0].as_str().unwrap_or_default();
        assert!(reason.contains(place), "{name}: {reason}");
        assert!(!reason.contains("/tmp/"), "{name}: {reason}");
    }
}
