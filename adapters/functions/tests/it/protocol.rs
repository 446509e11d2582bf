//! What passes between the node and a worker: nothing that is not whole, or not to this very call.

use std::time::{Duration, Instant};

use adapter_functions::ErrorType;
use engine_model::RevisionId;
use serde_json::{Value, json};

use crate::support::*;

/// Answers its own call by itself, and says beforehand what the next one's answer is to be; or
/// writes half an answer and dies.
const FORGING: &str = "
import os, sys, time
def handle(context, payload):
    if payload == 'fine': return payload
    call = sys._getframe(1).f_locals['call']
    lines = b'{\"ok\":%d,\"payload\":1}\\n' % call
    if payload == 'half': lines = lines[:15]
    if payload == 'forge': lines += b'{\"ok\":%d,\"payload\":\"forged\"}\\n' % (call + 1)
    if payload == 'forge': WAIT()
    for fd in range(3, 1024):
        try: os.write(fd, lines)
        except OSError: pass
    if payload == 'half': os.kill(os.getpid(), 9)
    time.sleep(3600)
";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_said_more_than_its_answer_does_not_serve_a_call_that_waits() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let gate = Gate::shut().await;
    let id = node.load(gate.before(FORGING)).await;
    for _ in 0..3 {
        let forging = node.call(&id, json!("forge"));
        let waiting = async {
            let holds = gate.reached().await;
            let mut innocent = Box::pin(node.call(&id, json!("fine")));
            // Its turn comes after the forger's, whose worker is the only one.
            assert!(futures::poll!(&mut innocent).is_pending());
            drop(holds);
            innocent.await
        };
        let (forger, innocent) = tokio::join!(forging, waiting);
        assert_eq!((forger.error, forger.output), (None, json!(1)));
        assert_eq!((innocent.error, innocent.output), (None, json!("fine")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_breaks_off_is_said_to_and_the_next_call_is_well() {
    let node = node();
    let id = node.load(python(FORGING)).await;
    let done = node.call(&id, json!("half")).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(
        said,
        "the function's process was ended by SIGKILL in the middle of its reply"
    );
    assert_eq!(node.output(&id, json!("fine")).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_never_that_of_another_organization_or_revision() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let count = "calls = 0\ndef handle(context, payload):\n    global calls\n    calls += 1\n    return calls\n";
    let mut loaded = Vec::new();
    // The same function of two organizations, and again as another revision of one of them.
    for of in ["acme 1", "globex 1", "acme 2"] {
        let mut revision = python(count);
        revision.id = RevisionId::derived(format_args!("{of}")).to_string();
        loaded.push(node.load(revision).await);
    }
    for round in 1..=3 {
        for id in &loaded {
            assert_eq!(node.output(id, Value::Null).await, json!(round));
        }
    }
    let mut pids = node.functions.idle_pids();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), loaded.len(), "each has a process of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_unicode_is_told_as_well_as_it_can_be() {
    let node = node();
    let id = node
        .load(python(
            "def handle(context, payload):\n    if payload: return '\\ud800'\n    raise ValueError('odd \\ud800 text')\n",
        ))
        .await;
    let done = node.call(&id, Value::Null).await;
    let odd = error(&done, ErrorType::InputError);
    assert!(
        odd.message.starts_with("odd \u{fffd}") && odd.message.ends_with(" text"),
        "{odd:?}"
    );
    assert!(!odd.stacktrace.is_empty());
    let done = node.call(&id, json!(1)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert!(
        said.starts_with("the result cannot be read as JSON"),
        "{said}"
    );
    assert_eq!(node.functions.stats().workers, 1, "it is still the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_is_seen_behind_a_child_that_nobody_waited_for() {
    let node = node();
    let id = node
        .load(python(
            "import os, time
calls = 0
def handle(context, payload):
    global calls
    calls += 1
    ended = os.posix_spawnp('true', ['true'], os.environ)
    while open('/proc/%d/stat' % ended).read().rpartition(') ')[2][0] != 'Z': time.sleep(0.001)
    if payload: os.posix_spawnp('sleep', ['sleep', '1000'], os.environ)
    return calls
",
        ))
        .await;
    // One that ended costs nothing.
    assert_eq!(node.output(&id, json!(0)).await, json!(1));
    assert_eq!(node.output(&id, json!(1)).await, json!(2));
    assert_eq!(
        node.output(&id, json!(0)).await,
        json!(1),
        "it was replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_larger_than_the_whole_budget_is_refused_at_once() {
    let node = node_with(|c| c.pools.memory_budget_bytes = 8 << 20);
    let begun = Instant::now();
    let reason = node
        .reason(python("def handle(context, payload): pass\n"))
        .await;
    let said = "a python3 worker is expected to take 12 MiB, and all workers of this node together may take 8 MiB";
    assert!(reason.contains(said), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}
