//! What loads and what does not, with exactly one reason.

use std::io::Write as _;

use adapter_functions::{Revision, Source};
use serde_json::{Value, json};

use crate::support::{node, nodejs, python, revision};

fn archive(language: &str, handler: &str, files: &[(&str, &str)]) -> Revision {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("appends");
    }
    let mut gz = tar.into_inner().expect("finishes");
    gz.flush().expect("flushes");
    let mut revision = revision(language, "archive", "");
    revision.source = Source::Archive(gz.finish().expect("packs").into());
    revision.handler = handler.to_owned();
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_files_is_a_function() {
    let node = node();
    let mut py = archive(
        "python3",
        "app.main.greet",
        &[
            ("app/__init__.py", ""),
            (
                "app/main.py",
                "from . import words\nimport helper\ndef greet(c, p):\n    return helper.join(words.HELLO, open('data.txt').read())\n",
            ),
            ("app/words.py", "HELLO = 'hello'\n"),
            ("helper.py", "def join(a, b):\n    return a + b\n"),
            ("data.txt", "!"),
        ],
    );
    py.id = "py".into();
    assert_eq!(node.once(py, Value::Null).await.output, json!("hello!"));
    let js = archive(
        "nodejs",
        "./src/hello.js",
        &[
            ("src/hello.js", "module.exports = require('../lib/x');"),
            ("lib/x.js", "module.exports = () => 'hello';"),
        ],
    );
    assert_eq!(node.once(js, Value::Null).await.output, json!("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_file_may_bear_any_name() {
    let node = node();
    let text =
        "import http.client, queue\ndef handle(c, p):\n    return [http.client.OK, __name__]\n";
    for name in ["http.py", "i-have-a-secret.py", "queue.py", "json.py"] {
        let output = node
            .once(revision("python3", name, text), Value::Null)
            .await
            .output;
        assert_eq!(output[0], json!(200), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ecmascript_modules_and_async_functions_load() {
    let node = node();
    let esm =
        "import { basename } from 'node:path';\nexport default async (c, p) => basename('/a/b');\n";
    let esm = revision("nodejs", "hello.mjs", esm);
    assert_eq!(node.once(esm, Value::Null).await.output, json!("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_handler_has_exactly_one_reason() {
    let node = node();
    let fine = "def handle(context, payload):\n    return 1\n";
    let mut absent = python(fine);
    absent.handler = "main.nothing".into();
    let mut nowhere = python(fine);
    nowhere.handler = "other.handle".into();
    let mut value = python("handle = 7\n");
    value.handler = "main.handle".into();
    for (revision, part) in [
        (python("def handle(context, payload:\n"), "SyntaxError"),
        (
            python("import nothing_like_this\n"),
            "No module named 'nothing_like_this'",
        ),
        (python("1 / 0\n"), "ZeroDivisionError: division by zero"),
        (python("raise SystemExit(4)\n"), "SystemExit: 4"),
        (
            python("import os\nos._exit(5)\n"),
            "its process exited with status 5 while it loaded",
        ),
        (absent, "module main has no function nothing"),
        (nowhere, "No module named 'other'"),
        (value, "main.handle is not a function"),
        (
            python("def handle(context): pass\n"),
            "exactly 2 positional arguments",
        ),
        (
            python("def handle(a, b, c=1): pass\n"),
            "exactly 2 positional arguments",
        ),
        (
            python("def handle(a, b, *, c): pass\n"),
            "exactly 2 positional arguments",
        ),
        (nodejs("module.exports = {};"), "does not export a function"),
        (nodejs("module.exports = (;"), "SyntaxError"),
        (
            nodejs("require('./nothing');"),
            "Cannot find module './nothing'",
        ),
        (
            nodejs("process.exit(6);"),
            "its process exited with status 6 while it loaded",
        ),
    ] {
        let reason = node.reason(revision.clone()).await;
        assert!(
            reason.starts_with("Invalid function file or handler: "),
            "{reason}"
        );
        assert!(reason.contains(part), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        assert!(!node.functions.is_loaded(&revision.id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_take_two_arguments_in_other_ways_load() {
    let node = node();
    for (n, text) in [
        "def handle(*args):\n    return len(args)\n",
        "class H:\n    def __call__(self, c, p):\n        return 2\nhandle = H()\n",
        "class H:\n    def run(self, c, p):\n        return 2\nhandle = H().run\n",
        "import functools\ndef f(x, c, p):\n    return 2\nhandle = functools.partial(f, 1)\n",
        "handle = lambda c, p: 2\n",
        "def handle(c, p, *, more=1):\n    return 2\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut revision = python(text);
        revision.id = format!("r{n}");
        assert_eq!(
            node.once(revision, Value::Null).await.output,
            json!(2),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_finish_loading_is_given_up() {
    let node =
        crate::support::node_with(|c| c.pools.load_max = std::time::Duration::from_millis(300));
    let reason = node.reason(python("while True: pass\n")).await;
    assert_eq!(
        reason,
        "Invalid function file or handler: it did not load within 300ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_what_is_not_loaded_says_so() {
    let node = node();
    let done = node.call("nothing", Value::Null).await;
    let said = &crate::support::error(&done, adapter_functions::ErrorType::SystemError).message;
    assert_eq!(said, "function revision nothing is not loaded on this node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_image_is_the_hosts_interpreter_and_nothing_else() {
    let node = node();
    let base = node
        .functions
        .base_image("python3", "host:any")
        .await
        .expect("there is Python");
    assert!(base.version.starts_with("3."), "{base:?}");
    let base = node
        .functions
        .base_image("nodejs6", "host:any")
        .await
        .expect("there is Node");
    assert_eq!(base.language.label(), "nodejs");
    let failure = node
        .functions
        .base_image("cobol", "x")
        .await
        .expect_err("there is no pack");
    assert!(
        failure.reason.contains("no language pack for \"cobol\""),
        "{failure}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interpreter_that_does_not_run_is_named() {
    let node = crate::support::node_with(|c| {
        c.interpreters
            .insert("python3".into(), "/usr/bin/false".into());
    });
    let failure = node
        .functions
        .base_image("python3", "")
        .await
        .expect_err("it is no Python");
    assert!(
        failure
            .reason
            .starts_with("/usr/bin/false does not run in the sandbox"),
        "{failure}"
    );
}
