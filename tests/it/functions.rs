//! Functions through the whole stack: command, engine, image, worker, record.

use harness::process::{Answered, Dispatch, repository};
use serde_json::{Value, json};

const HELLO: &str = "docs/examples/python3/hello.py";
const HELLO_JS: &str = "docs/examples/nodejs/hello.js";

fn exec(dispatch: &Dispatch, function: &str, input: &Value) -> Answered {
    dispatch.cli(&["exec", function, "--wait", "--input", &input.to_string()])
}

fn until_ready(dispatch: &Dispatch, kind: &str, name: &str) {
    dispatch.until(kind, name, |document| document["status"] == "READY");
}

fn reasons(document: &Value) -> Vec<String> {
    serde_json::from_value(document["reason"].clone()).unwrap_or_default()
}

#[test]
fn the_example_functions_answer_whatever_the_order_of_creation() {
    let dispatch = Dispatch::up();
    let backwards: [&[&str]; 3] = [
        &["create", "function", "python3", "hello-py", HELLO],
        &["create", "image", "python3", "python3-base"],
        &[
            "create",
            "base-image",
            "python3-base",
            "host",
            "--language",
            "python3",
        ],
    ];
    let _ = dispatch.cli(backwards[0]).ok();
    let waiting = dispatch.get("function", "hello-py");
    assert_eq!(waiting["status"], "INITIALIZED", "{waiting}");
    for words in &backwards[1..] {
        let _ = dispatch.cli(words).ok();
    }
    dispatch.image("nodejs", "nodejs");
    let _ = dispatch
        .cli(&[
            "create", "function", "hello-js", HELLO_JS, "--image", "nodejs",
        ])
        .ok();

    let input = json!({"name": "Jon", "place": "Winterfell"});
    for (function, input, greeting) in [
        ("hello-py", &input, "Hello, Jon from Winterfell"),
        ("hello-py", &json!({}), "Hello, Noone from Nowhere"),
        ("hello-js", &input, "Hello, Jon from Winterfell"),
    ] {
        until_ready(&dispatch, "function", function);
        let record = exec(&dispatch, function, input);
        assert_eq!(record.code, 0, "{record:?}");
        assert_eq!(
            record.json()["output"],
            json!({"myField": greeting}),
            "{function}"
        );
    }
}

#[test]
fn a_secret_is_in_the_context_and_its_update_is_seen_by_the_next_run() {
    let dispatch = Dispatch::up();
    let secret = |password: &str| {
        let text = format!("kind: Secret\nname: sesame\nsecrets:\n  password: {password}\n");
        dispatch.file("secret.yaml", &text)
    };
    let _ = dispatch.cli(&["create", "-f", &secret("OpenSesame")]).ok();
    let shows = "
def handle(context, payload):
    return context['secrets'].get('password', 'none')
";
    dispatch.function("shows", shows, &["--secret", "sesame"]);
    dispatch.function("blind", shows, &[]);
    let seen = |function: &str| exec(&dispatch, function, &json!({})).json()["output"].clone();
    assert_eq!(seen("shows"), "OpenSesame");
    assert_eq!(seen("blind"), "none");

    let _ = dispatch.cli(&["update", "-f", &secret("CloseSesame")]).ok();
    assert_eq!(seen("shows"), "CloseSesame");

    // A run may bring a secret of its own.
    let words = ["exec", "blind", "--wait", "--secret", "sesame"];
    assert_eq!(dispatch.cli(&words).json()["output"], "CloseSesame");
}

#[test]
fn a_function_that_cannot_be_loaded_is_in_error_with_exactly_one_reason() {
    let dispatch = Dispatch::up();
    dispatch.image("python3", "python3");
    dispatch.image("nodejs", "nodejs");
    let bad = [
        (
            "syntax",
            "python3",
            "syntax.py",
            "def handle(context, payload:\n",
        ),
        (
            "raises",
            "python3",
            "raises.py",
            "raise RuntimeError('at import')\n",
        ),
        (
            "absent",
            "python3",
            "absent.py",
            "def other(context, payload):\n    return 1\n",
        ),
        ("nothing", "nodejs", "nothing.js", "exports.other = 1;\n"),
    ];
    for (name, image, file, source) in bad {
        let path = dispatch.file(file, source);
        let _ = dispatch
            .cli(&["create", "function", image, name, &path])
            .ok();
    }
    for (name, ..) in bad {
        let function = dispatch.until("function", name, |function| function["status"] == "ERROR");
        assert_eq!(reasons(&function).len(), 1, "{function}");
        assert!(!reasons(&function)[0].is_empty(), "{function}");
        let waited = dispatch.cli(&["get", "function", name, "--wait"]);
        assert_eq!(waited.code, 4, "{waited:?}");
        let refused = exec(&dispatch, name, &json!({}));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("[not-ready]"), "{refused:?}");
    }
}

#[test]
fn a_function_past_its_timeout_fails_alone() {
    let dispatch = Dispatch::up();
    let sleeps = "
import time
def handle(context, payload):
    time.sleep(600)
";
    dispatch.function("sleeps", sleeps, &["--timeout", "500"]);
    let hello = std::fs::read_to_string(repository().join(HELLO)).expect("it is an example");
    dispatch.function("hello", &hello, &[]);
    let late = exec(&dispatch, "sleeps", &json!({}));
    assert_eq!(late.code, 3, "{late:?}");
    let run = late.json();
    assert_eq!(
        (&run["status"], &run["error"]["type"]),
        (&json!("ERROR"), &json!("FunctionError"))
    );
    assert_eq!(reasons(&run).len(), 1, "{run}");
    let neighbour = exec(&dispatch, "hello", &json!({"name": "Jon"}));
    assert_eq!(neighbour.code, 0, "{neighbour:?}");
    // The worker was replaced, and so is the one after it.
    assert_eq!(
        exec(&dispatch, "sleeps", &json!({})).json()["error"]["type"],
        "FunctionError"
    );
}

#[test]
fn an_update_rolls_to_a_new_revision_and_a_bad_one_leaves_the_old_serving() {
    let dispatch = Dispatch::up();
    dispatch.function(
        "count",
        "def handle(context, payload):\n    return 1\n",
        &[],
    );
    let first = dispatch.get("function", "count")["faasId"].clone();
    assert_eq!(exec(&dispatch, "count", &json!({})).json()["output"], 1);

    let update = |source: &str| {
        dispatch.file("count.py", source);
        let text = "kind: Function\nname: count\nimage: python3\ncode: '@count.py'\n";
        let file = dispatch.file("count.yaml", text);
        let _ = dispatch.cli(&["update", "-f", &file]).ok();
    };
    update("def handle(context, payload):\n    return 2\n");
    let rolled = dispatch.until("function", "count", |function| {
        function["status"] == "READY" && function["faasId"] != first
    });
    let run = exec(&dispatch, "count", &json!({})).json();
    assert_eq!(
        (&run["output"], &run["faasId"]),
        (&json!(2), &rolled["faasId"]),
        "{run}"
    );

    update("this is not Python\n");
    let failed = dispatch.until("function", "count", |function| {
        function["status"] == "ERROR"
    });
    assert_eq!(reasons(&failed).len(), 1, "{failed}");
    let run = exec(&dispatch, "count", &json!({})).json();
    assert_eq!(
        (&run["output"], &run["faasId"]),
        (&json!(2), &rolled["faasId"]),
        "{run}"
    );
}

#[test]
fn an_input_against_the_schema_is_an_input_error_and_never_reaches_the_function() {
    let dispatch = Dispatch::up();
    dispatch.image("python3", "python3");
    let schema = json!({
        "type": "object", "required": ["num"], "properties": {"num": {"type": "integer"}}
    });
    let schema = dispatch.file("schema.json", &schema.to_string());
    let says = "
def handle(context, payload):
    print('reached')
    return payload['num'] if payload['num'] else 'zero'
";
    let out = dispatch.file("out.json", &json!({"type": "integer"}).to_string());
    dispatch.function(
        "says",
        says,
        &["--schema-in", &schema, "--schema-out", &out],
    );

    let bad = exec(&dispatch, "says", &json!({"num": "three"}));
    assert_eq!(bad.code, 3, "{bad:?}");
    let run = bad.json();
    assert_eq!(run["error"]["type"], "InputError", "{run}");
    assert!(!run["logs"].to_string().contains("reached"), "{run}");

    let good = exec(&dispatch, "says", &json!({"num": 3}));
    assert_eq!(
        (good.code, &good.json()["output"]),
        (0, &json!(3)),
        "{good:?}"
    );
    assert!(
        good.json()["logs"]["stdout"]
            .to_string()
            .contains("reached"),
        "{good:?}"
    );

    let wrong = exec(&dispatch, "says", &json!({"num": 0}));
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert_eq!(wrong.json()["error"]["type"], "FunctionError", "{wrong:?}");
}

#[test]
fn everything_in_the_seed_becomes_ready() {
    let dispatch = Dispatch::up();
    let said = dispatch
        .cli(&["create", "-f", "docs/examples/seed.yaml"])
        .ok();
    let made: Vec<(&str, &str)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("Created ")?.split_once(": "))
        .collect();
    assert_eq!(made.len(), 8, "{said}");
    for (kind, name) in made {
        until_ready(&dispatch, kind, name);
    }
    let hello = exec(
        &dispatch,
        "hello-js",
        &json!({"name": "Jon", "place": "Winterfell"}),
    );
    assert_eq!(
        hello.json()["output"],
        json!({"myField": "Hello, Jon from Winterfell"})
    );
}
