//! What of one call the next one may see.

use adapter_functions::{ErrorType, Isolation};
use serde_json::{Value, json};

use crate::support::{error, node, nodejs, python, until};

/// Counts its calls, in memory and in a file, and fails when asked to.
const COUNT: &str = "
import os
calls = 0
def handle(context, payload):
    global calls
    calls += 1
    if payload == 'fail': raise RuntimeError('as asked')
    seen = os.path.exists('/tmp/left')
    open('/tmp/left', 'w').close()
    return [calls, seen]
";
const COUNT_JS: &str = "
const fs = require('fs');
let calls = 0;
module.exports = (context, payload) => {
    calls += 1;
    if (payload === 'fail') throw new Error('as asked');
    const seen = fs.existsSync('/tmp/left');
    fs.writeFileSync('/tmp/left', '');
    return [calls, seen];
};
";

#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_call_sees_what_the_one_before_left() {
    let node = node();
    let id = node.load(python(COUNT)).await;
    assert_eq!(node.output(&id, Value::Null).await, json!([1, false]));
    error(
        &node.call(&id, json!("fail")).await,
        ErrorType::FunctionError,
    );
    assert_eq!(node.output(&id, Value::Null).await, json!([3, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_failed_takes_its_process_along_if_the_function_says_so() {
    let node = node();
    for mut revision in [python(COUNT), nodejs(COUNT_JS)] {
        revision.isolation = Isolation::Error;
        let id = node.load(revision).await;
        assert_eq!(node.output(&id, Value::Null).await, json!([1, false]));
        assert_eq!(node.output(&id, Value::Null).await, json!([2, true]));
        error(
            &node.call(&id, json!("fail")).await,
            ErrorType::FunctionError,
        );
        assert_eq!(node.output(&id, Value::Null).await, json!([1, false]));
    }
}

/// Does what it is asked to, and tells its process and its parent.
const FORKED: &str = "
import os, signal, time
state = []
def handle(context, payload):
    state.append(payload)
    if payload == 'exit': os._exit(3)
    if payload == 'crash': os.kill(os.getpid(), signal.SIGSEGV)
    if payload == 'hang': time.sleep(60)
    if payload == 'litter':
        for path in ('/tmp/a', '/tmp/function/b', '/dev/shm/c'): open(path, 'w').close()
        os.makedirs('/tmp/d/e')
    if payload == 'leave' and os.fork() == 0: time.sleep(60)
    there = [path for path in ('/tmp/a', '/tmp/function/b', '/dev/shm/c', '/tmp/d') if os.path.exists(path)]
    running = [name for name in os.listdir('/proc') if name.isdigit()]
    return [os.getppid(), len(state), there if payload != 'litter' else [], len(running)]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_python_call_is_a_fork_of_a_process_that_stays_and_is_left_as_it_was() {
    let node = node();
    let mut revision = python(FORKED);
    revision.isolation = Isolation::Call;
    revision.timeout_ms = 1_000;
    revision.scale.max = Some(1);
    let id = node.load(revision).await;
    let first = node.output(&id, Value::Null).await;
    for input in ["again", "leave", "again"] {
        let next = node.output(&id, json!(input)).await;
        assert_eq!(
            next.as_array().map(|all| &all[..3]),
            first.as_array().map(|all| &all[..3])
        );
    }
    assert_eq!(
        node.output(&id, Value::Null).await,
        first,
        "nothing is left running"
    );
    for (input, ended) in [
        ("exit", "exited with status 3"),
        ("crash", "was ended by SIGSEGV"),
    ] {
        let done = node.call(&id, json!(input)).await;
        let error = error(&done, ErrorType::FunctionError);
        assert_eq!(error.message, format!("the function's process {ended}"));
        assert_eq!(node.output(&id, Value::Null).await, first, "after {input}");
    }
    // Its own sources cannot be put back: another process takes over.
    for input in ["litter", "hang"] {
        let done = node.call(&id, json!(input)).await;
        assert_eq!(done.error.is_some(), input == "hang", "{done:?}");
        let next = node.output(&id, Value::Null).await;
        assert_eq!(
            (&next[1], &next[2]),
            (&json!(1), &json!([])),
            "after {input}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_has_a_process_of_its_own_if_the_function_says_so() {
    let node = node();
    for mut revision in [python(COUNT), nodejs(COUNT_JS)] {
        revision.isolation = Isolation::Call;
        let id = node.load(revision).await;
        for _ in 0..5 {
            assert_eq!(node.output(&id, Value::Null).await, json!([1, false]));
        }
        error(
            &node.call(&id, json!("fail")).await,
            ErrorType::FunctionError,
        );
        let calls = (0..8).map(|_| node.call(&id, Value::Null));
        for done in futures::future::join_all(calls).await {
            assert_eq!((done.error, done.output), (None, json!([1, false])));
        }
        until("the next one is ready", || node.functions.stats().idle > 0).await;
        node.functions.retire(&id);
    }
}
