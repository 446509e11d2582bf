//! The function by hand: everything that needs no language above WebAssembly.

use std::time::{Duration, Instant};

use adapter_functions::{ErrorType, Limits};
use serde_json::json;

use crate::support::{by_hand, error, node, revision, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_gets_its_context_and_payload_and_answers() {
    let node = node();
    let base = node.functions.base_image("wasm", "").await;
    assert_eq!(base.expect("it runs").version, adapter_wasm::WASMTIME);
    let id = node.load(revision(&by_hand())).await;
    for payload in [
        json!({"name": "Jon\n\"ü\""}),
        json!([1, null]),
        json!("x".repeat(300_000)),
    ] {
        assert!(
            node.output(&id, payload.clone()).await == payload,
            "it came back changed"
        );
    }
    let context = node.output(&id, json!(0)).await;
    assert_eq!(context["secrets"], json!({}));
    let done = node.call(&id, json!(8)).await;
    assert_eq!(done.output, json!([1]), "{:?}", done.error);
    assert_eq!(done.logs.stdout, ["hello from inside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_a_component_fails_is_told_and_its_worker_serves_on() {
    let node = node();
    let id = node.load(revision(&by_hand())).await;
    let input = node.call(&id, json!(1)).await;
    let input = error(&input, ErrorType::InputError);
    assert_eq!(
        (&*input.message, &*input.stacktrace),
        ("bad value", &["at line 3".to_owned()][..])
    );
    let own = node.call(&id, json!(2)).await;
    assert_eq!(error(&own, ErrorType::FunctionError).message, "bad value");
    let trap = node.call(&id, json!(5)).await;
    let trap = error(&trap, ErrorType::FunctionError);
    assert_eq!(
        trap.message,
        "wasm trap: wasm `unreachable` instruction executed"
    );
    assert_eq!(
        trap.stacktrace.first().map(String::as_str),
        Some("at fail"),
        "{trap:?}"
    );
    let text = node.call(&id, json!(7)).await;
    let text = &error(&text, ErrorType::FunctionError).message;
    assert!(text.starts_with("the result is not JSON: "), "{text}");
    assert_eq!(node.output(&id, json!(6)).await, json!(1));
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_end_is_interrupted_and_costs_no_worker() {
    let node = node();
    let mut spinning = revision(&by_hand());
    spinning.timeout_ms = 500;
    let id = node.load(spinning).await;
    let workers = node.functions.idle_pids();
    for _ in 0..2 {
        let begun = Instant::now();
        let done = node.call(&id, json!(3)).await;
        let took = begun.elapsed();
        let message = &error(&done, ErrorType::FunctionError).message;
        assert_eq!(message, "Function execution exceeded the timeout");
        assert!(
            took > Duration::from_millis(400) && took < Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(node.output(&id, json!(6)).await, json!(1));
    }
    assert_eq!(
        node.functions.idle_pids(),
        workers,
        "its worker was replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_is_refused() {
    let node = node();
    let mut greedy = revision(&by_hand());
    let limits = node.functions.limits().clone();
    greedy.limits = Some(Limits {
        memory_bytes: Some(40 << 20),
        ..limits
    });
    let id = node.load(greedy).await;
    let done = node.call(&id, json!(4)).await;
    let message = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(message, "the function ran out of its 32 MiB of memory");
    assert_eq!(node.output(&id, json!("again")).await, json!("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_has_an_instance_of_its_own_and_no_files() {
    let node = node();
    let id = node.load(revision(&by_hand())).await;
    for _ in 0..5 {
        assert_eq!(
            node.output(&id, json!(6)).await,
            json!(1),
            "how often it was called"
        );
    }
    assert_eq!(
        node.output(&id, json!(9)).await,
        json!(0),
        "folders that it sees"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_compiled_once_on_a_node() {
    let node = node();
    let id = node.load(revision(&by_hand())).await;
    assert_eq!(node.output(&id, json!(6)).await, json!(1));
    let compiled = || {
        let entries = std::fs::read_dir(node.state.path().join("compiled")).expect("is there");
        let paths = entries.map(|entry| entry.expect("is read").path().join("out/component.cwasm"));
        let facts = paths.map(|path| {
            let facts = std::fs::metadata(&path).expect("it was compiled");
            (
                path,
                facts.len(),
                facts.modified().expect("there is a time"),
            )
        });
        facts.collect::<Vec<_>>()
    };
    let first = compiled();
    assert_eq!(first.len(), 1);
    let mut same = revision(&by_hand());
    same.id = "function-2".into();
    same.timeout_ms = 1000;
    node.load(same).await;
    assert!(node.functions.shutdown(Duration::from_secs(5)).await);
    let again = start(node.state.path());
    again.load(revision(&by_hand())).await.expect("it loads");
    assert_eq!(compiled(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_function_has_exactly_one_reason() {
    let node = node();
    for (text, said) in [
        ("(module)", "parse a wasm module with a component parser"),
        ("(component)", "it does not export the world's handle"),
        (
            r#"(component (import "wasi:http/types@0.2.0" (instance (export "x" (func)))))"#,
            "wasi:http/types",
        ),
    ] {
        let bytes = wat::parse_str(text).expect("it is WAT");
        let failure = node.functions.load(revision(&bytes)).await;
        let reason = failure.expect_err("it does not load").reason;
        assert!(
            reason.starts_with("Invalid function file or handler: "),
            "{reason}"
        );
        assert!(reason.contains(said), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
    let mut absent = revision(&by_hand());
    absent.handler = "other.wasm".into();
    let reason = node
        .functions
        .load(absent)
        .await
        .expect_err("it does not load")
        .reason;
    assert!(reason.ends_with("other.wasm does not exist"), "{reason}");
}
