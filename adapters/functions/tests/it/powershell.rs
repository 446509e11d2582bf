//! PowerShell, where there is one: elsewhere its base image says how it is installed.

use adapter_functions::ErrorType;
use serde_json::json;

use crate::support::{Node, error, example, example_json, node, node_with, revision};

#[expect(clippy::print_stderr, reason = "a test that was skipped is to be seen")]
/// A node with PowerShell; without one, says that the test was skipped and what it would take.
async fn with_powershell() -> Option<Node> {
    let node = node();
    match node.functions.base_image("powershell", "").await {
        Ok(_) => Some(node),
        Err(failure) => {
            eprintln!("SKIPPED: no PowerShell function was run, because {failure}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_image_without_its_interpreter_says_how_to_install_it() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let absent = nowhere.path().join("pwsh");
    let node = node_with(|config| {
        config.interpreters.insert("powershell".into(), absent);
    });
    let failure = node.functions.base_image("powershell", "").await;
    let reason = failure.expect_err("there is none").reason;
    assert!(reason.contains("to install it: "), "{reason}");
    assert!(reason.contains("apt-get install powershell"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_and_exceptions_are_told_apart() {
    let Some(node) = with_powershell().await else {
        return;
    };
    let mut hello = revision("powershell", "hello.ps1", &example("powershell/hello.ps1"));
    hello.schema_in = Some(example_json("hello.in.json"));
    hello.schema_out = Some(example_json("hello.out.json"));
    let id = node.load(hello).await;
    let jon = json!({"name": "Jon", "place": "Winterfell"});
    let expected = json!({"myField": "Hello, Jon from Winterfell"});
    assert_eq!(node.output(&id, jon).await, expected);

    let text = "function run($context, $payload) {
        Write-Host \"out $payload\"; Write-Warning 'careful'
        switch ($payload) {
            'a' { throw [System.ArgumentException]::new('bad value') }
            'e' { throw 'broke' }
            'p' { Get-Item -NoSuchParameter 1 }
            'c' { $null = Start-Process sleep 1000 -PassThru; return 'left' }
            'n' { $global:calls += 1; return $global:calls }
            'l' { return @(1, 2) }
            'x' { [Environment]::Exit(4) }
            default { return 'fine' } } }";
    let mut kinds = revision("powershell", "kinds.ps1", text);
    kinds.handler = "kinds.ps1::run".into();
    let id = node.load(kinds).await;
    for (which, kind, said) in [
        ("a", ErrorType::InputError, "bad value"),
        ("e", ErrorType::FunctionError, "broke"),
        ("p", ErrorType::FunctionError, "NoSuchParameter"),
        ("x", ErrorType::FunctionError, "exited with status 4"),
    ] {
        let done = node.call(&id, json!(which)).await;
        let message = &error(&done, kind).message;
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(node.output(&id, json!("l")).await, json!([1, 2]));
    for (which, said) in [("n", json!(1)), ("c", json!("left")), ("n", json!(1))] {
        assert_eq!(node.output(&id, json!(which)).await, said, "{which}");
    }
    let done = node.call(&id, json!("z")).await;
    assert_eq!(done.output, json!("fine"));
    assert_eq!(done.logs.stdout, ["out z"]);
    assert_eq!(done.logs.stderr, ["careful"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_handler_has_exactly_one_reason() {
    let Some(node) = with_powershell().await else {
        return;
    };
    for (text, handler, said) in [
        (
            "function handle($context) {}",
            "",
            "must take exactly 2 parameters",
        ),
        (
            "function handle($context, $payload) {}",
            "main.ps1::other",
            "has no function other",
        ),
        ("function handle(", "", "Missing"),
    ] {
        let mut bad = revision("powershell", "main.ps1", text);
        bad.handler = handler.into();
        let reason = node.reason(bad).await;
        assert!(reason.contains(said), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
}
