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
