//! What a handler gets, what becomes of what it returns or raises, and what it prints.

use std::time::{Duration, Instant};

use adapter_functions::ErrorType;
use serde_json::{Value, json};

use crate::support::{call, error, example, example_json, node, nodejs, python, revision};

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_the_same_in_every_language_and_syntax() {
    let node = node();
    for (language, name, handler, file) in [
        ("python3", "hello.py", "", "python3/hello.py"),
        ("nodejs", "hello.js", "", "nodejs/hello.js"),
        // As documents of the first version say it, which named no file either.
        ("python3", "", "main", "python3/hello.py"),
        ("nodejs", "", "main", "nodejs/hello.js"),
        ("java", "", "main", "java/Hello.java"),
        ("java", "", "main", "java/HelloWithPojo.java"),
    ] {
        let mut hello = revision(language, name, &example(file));
        hello.id = format!("{handler}{}", file.replace('/', "-"));
        hello.handler = handler.to_owned();
        hello.schema_in = Some(example_json("hello.in.json"));
        hello.schema_out = Some(example_json("hello.out.json"));
        let id = node.load(hello).await;
        let jon = json!({"name": "Jon", "place": "Winterfell"});
        assert_eq!(
            node.output(&id, jon).await,
            json!({"myField": "Hello, Jon from Winterfell"})
        );
        let noone = json!({"myField": "Hello, Noone from Nowhere"});
        assert_eq!(node.output(&id, json!({})).await, noone);
        let done = node.call(&id, json!({"name": 7})).await;
        let said = &error(&done, ErrorType::InputError).message;
        assert!(
            said.starts_with("Input invalid against schema: name: 7 is not of type"),
            "{said}"
        );
    }
}

const PYTHON_KINDS: &str = "
class Odd(ValueError): pass
def handle(context, payload):
    raise {'v': ValueError('bad value'), 't': TypeError('bad type'), 'o': Odd('odd'),
           'k': KeyError('num'), 'r': RuntimeError('broke'), 'x': SystemExit(3),
           'b': KeyboardInterrupt()}[payload]
";

#[tokio::test(flavor = "multi_thread")]
async fn python_exceptions_are_told_apart_and_leave_the_worker_alive() {
    let node = node();
    let id = node.load(python(PYTHON_KINDS)).await;
    for (which, kind, message) in [
        ("v", ErrorType::InputError, "bad value"),
        ("t", ErrorType::InputError, "bad type"),
        ("o", ErrorType::InputError, "odd"),
        ("k", ErrorType::FunctionError, "'num'"),
        ("r", ErrorType::FunctionError, "broke"),
        (
            "x",
            ErrorType::FunctionError,
            "the handler called sys.exit(3)",
        ),
        ("b", ErrorType::FunctionError, "KeyboardInterrupt"),
    ] {
        let done = node.call(&id, json!(which)).await;
        let error = error(&done, kind);
        assert_eq!(error.message, message);
        assert_eq!(error.stacktrace[0], "Traceback (most recent call last):");
        let trace = error.stacktrace.join("\n");
        assert!(trace.contains("main.py\", line 4, in handle"), "{trace}");
        assert!(!trace.contains("/dispatch/"), "the wrapper shows: {trace}");
    }
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_errors_are_told_apart_thrown_or_rejected() {
    let node = node();
    let id = node
        .load(nodejs(
            "class Odd extends TypeError {}
             module.exports = (context, payload) => {
                 const error = { t: new TypeError('bad type'), o: new Odd('odd'),
                     e: new Error('broke'), s: 'just text', u: undefined }[payload.which];
                 if (payload.late) return new Promise((_, no) => setTimeout(() => no(error), 1));
                 throw error;
             };",
        ))
        .await;
    for late in [false, true] {
        for (which, kind, message) in [
            ("t", ErrorType::InputError, "bad type"),
            ("o", ErrorType::InputError, "odd"),
            ("e", ErrorType::FunctionError, "broke"),
            ("s", ErrorType::FunctionError, "just text"),
            ("u", ErrorType::FunctionError, "undefined"),
        ] {
            let done = node.call(&id, json!({"which": which, "late": late})).await;
            let error = error(&done, kind);
            assert_eq!(error.message, message, "late: {late}");
            let trace = error.stacktrace.join("\n");
            assert!(!trace.contains("/dispatch/"), "the wrapper shows: {trace}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_own_error_wins_over_the_output_schema() {
    let node = node();
    let mut raising = python(
        "def handle(context, payload):\n    if payload: raise ValueError('mine')\n    return 7\n",
    );
    raising.schema_out = Some(json!({"type": "string"}));
    let id = node.load(raising).await;
    let done = node.call(&id, json!(true)).await;
    assert_eq!(error(&done, ErrorType::InputError).message, "mine");
    let done = node.call(&id, json!(false)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(
        said,
        "Output invalid against schema: 7 is not of type \"string\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_no_json_is_the_functions_error() {
    let node = node();
    let id = node
        .load(python(
            "def handle(context, payload):
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(500): deep = [deep]
    return {'set': {1}, 'nan': float('nan'), 'loop': loop, 'bytes': b'x', 'key': {(1, 2): 3},
            'surrogate': '\\ud800', 'deep': deep, 'ok': [1, 2.5, 'ü', None, {'a': True}]}[payload]
",
        ))
        .await;
    for which in ["set", "nan", "loop", "bytes", "key", "surrogate", "deep"] {
        let done = node.call(&id, json!(which)).await;
        let said = &error(&done, ErrorType::FunctionError).message;
        assert!(said.starts_with("the result cannot be"), "{which}: {said}");
    }
    assert_eq!(
        node.output(&id, json!("ok")).await,
        json!([1, 2.5, "ü", null, {"a": true}])
    );
    let mut js = nodejs("module.exports = (c, p) => (p ? { p: 1n } : undefined);");
    js.id = "js".into();
    let id = node.load(js).await;
    let done = node.call(&id, json!(1)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert!(
        said.starts_with("the result cannot be written as JSON"),
        "{said}"
    );
    assert_eq!(node.output(&id, json!(0)).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_has_what_was_given_and_what_is_always_there() {
    let node = node();
    let mut revision = python("def handle(context, payload):\n    return context\n");
    revision.timeout_ms = 5000;
    let id = node.load(revision).await;
    let mut order = call(Value::Null);
    order.context =
        json!({"secrets": {"password": "OpenSesame"}, "httpContext": {"method": "POST"}});
    let seen = node.functions.call(&id, order).await.output;
    assert_eq!(seen["secrets"], json!({"password": "OpenSesame"}));
    assert_eq!(seen["httpContext"], json!({"method": "POST"}));
    assert_eq!(seen["serviceBindings"], json!({}));
    assert_eq!(seen["timeout"], json!(5000));
    let deadline = seen["deadline"].as_str().expect("is a text");
    let deadline = chrono::DateTime::parse_from_rfc3339(deadline).expect("is a time");
    let left = deadline.timestamp_millis() - chrono::Utc::now().timestamp_millis();
    assert!((0..=5000).contains(&left), "{left} ms are left");
    let mut order = call(Value::Null);
    order.context = Value::Null;
    let seen = node.functions.call(&id, order).await.output;
    assert_eq!(seen["secrets"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_prints_is_in_its_own_logs_only() {
    let node = node();
    let py = "import sys
def handle(context, payload):
    print('out', payload, flush=False)
    print('err', payload, file=sys.stderr)
    sys.stdout.write('no newline')
    if payload == 1: raise RuntimeError('still logged')
";
    let js = "module.exports = (context, payload) => {
        console.log('out', payload); console.info('info'); console.warn('warn'); console.error('err', payload);
        if (payload === 1) throw new Error('still logged'); };";
    let (py, js) = (node.load(python(py)).await, node.load(nodejs(js)).await);
    for n in 0..3 {
        let logs = node.call(&py, json!(n)).await.logs;
        assert_eq!(logs.stdout, [format!("out {n}"), "no newline".to_owned()]);
        assert_eq!(logs.stderr, [format!("err {n}")]);
        let logs = node.call(&js, json!(n)).await.logs;
        assert_eq!(logs.stdout, [format!("out {n}"), "info".to_owned()]);
        assert_eq!(logs.stderr, ["warn".to_owned(), format!("err {n}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn module_state_lives_as_long_as_its_worker() {
    let node = node();
    let id = node
        .load(python(
            "n = 0\ndef handle(context, payload):\n    global n\n    n += 1\n    return n\n",
        ))
        .await;
    assert_eq!(node.output(&id, Value::Null).await, json!(1));
    assert_eq!(node.output(&id, Value::Null).await, json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_left_pending_goes_on_between_calls() {
    let node = node();
    let id = node
        .load(nodejs(
            "let ticks = 0;
             module.exports = async (context, payload) => {
                 if (payload === 'start') setTimeout(() => { ticks += 1; }, 20);
                 await Promise.resolve();
                 return ticks; };",
        ))
        .await;
    assert_eq!(node.output(&id, json!("start")).await, json!(0));
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.output(&id, json!("ask")).await == json!(0) {
        assert!(Instant::now() < deadline, "the timer never fired");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_nothing_can_settle_fails_at_once() {
    let node = node();
    let id = node
        .load(nodejs(
            "module.exports = (c, p) => (p ? new Promise(() => {}) : 'fine');",
        ))
        .await;
    let done = node.call(&id, json!(1)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(said, "the handler waits for something that can never come");
    assert_eq!(node.output(&id, json!(0)).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_nobody_catches_is_the_runs_error() {
    let node = node();
    let id = node
        .load(nodejs(
            "module.exports = (c, p) => { if (!p) return 'fine';
                 setTimeout(() => { throw new Error('from a callback'); }, 1);
                 return new Promise((yes) => setTimeout(yes, 60000)); };",
        ))
        .await;
    let done = node.call(&id, json!(1)).await;
    assert_eq!(
        error(&done, ErrorType::FunctionError).message,
        "from a callback"
    );
    assert_eq!(node.output(&id, json!(0)).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_go_both_ways_and_a_too_large_result_does_not() {
    let node = node();
    let id = node
        .load(python(
            "def handle(context, payload):\n    return payload['text'] * payload['times']\n",
        ))
        .await;
    let text = "x".repeat(1 << 20);
    let same = node.output(&id, json!({"text": text, "times": 1})).await;
    assert_eq!(same.as_str().map(str::len), Some(1 << 20));
    let done = node.call(&id, json!({"text": text, "times": 8})).await;
    assert_eq!(
        error(&done, ErrorType::FunctionError).message,
        "the result is larger than 6 MiB"
    );
    assert_eq!(
        node.output(&id, json!({"text": "a", "times": 2})).await,
        json!("aa")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_of_services_are_files_too_and_follow_a_rotation() {
    let node = node();
    let py = "import os
def handle(context, payload):
    root = os.environ['SERVICE_BINDING_ROOT']
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = open(path).read()
    return found
";
    let js = "const fs = require('fs'), path = require('path');
    module.exports = () => {
        const root = process.env.SERVICE_BINDING_ROOT, found = {};
        if (!fs.existsSync(root)) return found;
        for (const binding of fs.readdirSync(root))
            for (const name of fs.readdirSync(path.join(root, binding)))
                found[`${binding}/${name}`] = fs.readFileSync(path.join(root, binding, name), 'utf8');
        return found; };";
    for id in [node.load(python(py)).await, node.load(nodejs(js)).await] {
        let seen = node.functions.call(&id, call(Value::Null)).await;
        assert_eq!(seen.output, json!({}), "{:?}", seen.error);
        for password in ["one", "two", "two"] {
            let mut order = call(Value::Null);
            order.context = json!({"serviceBindings": {"pg": {"password": password, "a/b": "x"}}});
            order.services = vec![adapter_kit::ServiceFacts {
                name: engine_model::Name::new("pg").expect("it is a name"),
                class: "postgresql".into(),
                provider: "local".into(),
            }];
            let seen = node.functions.call(&id, order).await;
            let expected = json!({
                "pg/password": password, "pg/type": "postgresql", "pg/provider": "local",
            });
            assert_eq!(seen.output, expected, "{:?}", seen.error);
        }
        let seen = node.functions.call(&id, call(Value::Null)).await;
        assert_eq!(seen.output, json!({}), "none are left: {:?}", seen.error);
    }
}
