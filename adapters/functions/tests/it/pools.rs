//! How many workers there are: stems, warm ones, more under load, fewer when idle or short of memory.

use std::time::{Duration, Instant};

use adapter_functions::ErrorType;
use serde_json::{Value, json};

use crate::support::{call, error, node, node_with, nodejs, python, until};

const SLEEP: &str =
    "import time\ndef handle(context, payload):\n    time.sleep(payload)\n    return 'done'\n";

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_outside_get_workers_of_their_own_up_to_the_bound() {
    let node = node_with(|c| c.pools.workers_max = 4);
    let id = node.load(python(SLEEP)).await;
    // Long enough that another worker pays even where starting one is slow.
    let calls = (0..8).map(|_| node.call(&id, json!(1)));
    for done in futures::future::join_all(calls).await {
        assert_eq!(done.error, None);
    }
    assert_eq!(node.functions.stats().workers, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_calls_do_not_start_more_workers_than_processors() {
    let node = node();
    let id = node
        .load(python(
            "def handle(context, payload):\n    return payload\n",
        ))
        .await;
    for _ in 0..20 {
        let calls = (0..50).map(|n| node.call(&id, json!(n)));
        for (n, done) in futures::future::join_all(calls)
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(done.output, json!(n));
        }
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = node.functions.stats().workers;
    // One more may have been ordered by a call that this busy machine kept waiting.
    assert!(workers <= processors + 2, "{workers} workers");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_calls_are_refused() {
    let node = node_with(|c| {
        c.pools.workers_max = 1;
        c.pools.waiters_max = 2;
    });
    let id = node.load(python(SLEEP)).await;
    let all = futures::future::join_all((0..6).map(|_| node.call(&id, json!(0.2)))).await;
    let refused: Vec<_> = all.iter().filter(|done| done.error.is_some()).collect();
    assert_eq!(refused.len(), 3);
    for done in refused {
        let said = &error(done, ErrorType::SystemError).message;
        assert_eq!(said, "2 calls of this function wait for a worker already");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_time_is_up_before_there_is_a_worker_is_not_made() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let id = node.load(python(SLEEP)).await;
    let mut late = call(json!(0));
    late.deadline = Some(Instant::now() + Duration::from_millis(100));
    let (first, second) = tokio::join!(node.call(&id, json!(0.6)), node.functions.call(&id, late));
    assert_eq!(first.error, None);
    let said = &error(&second, ErrorType::FunctionError).message;
    assert_eq!(said, "Did not invoke, already exceeded timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_neither_stops_the_run_nor_mixes_up_the_next() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let id = node
        .load(python(
            "import time\nlast = None\ndef handle(context, payload):\n    global last\n    seen, last = last, payload\n    print(payload)\n    time.sleep(0.2 if payload == 'abandoned' else 0)\n    return seen\n",
        ))
        .await;
    let abandoned = node.functions.call(&id, call(json!("abandoned")));
    let given_up = tokio::time::timeout(Duration::from_millis(60), abandoned).await;
    assert!(given_up.is_err(), "it takes longer than that");
    let done = node.call(&id, json!("next")).await;
    assert_eq!(done.output, json!("abandoned"), "{:?}", done.error);
    assert_eq!(done.logs.stdout, ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_end_and_the_next_call_starts_one() {
    let node = node_with(|c| c.pools.idle_ttl = Duration::from_millis(100));
    let id = node.load(python(SLEEP)).await;
    until("it is scaled to zero", || {
        node.functions.stats().workers == 0
    })
    .await;
    assert_eq!(node.output(&id, json!(0)).await, json!("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_idle_is_noticed_before_the_call() {
    let node = node();
    let id = node
        .load(python(
            "import os, threading\ndef handle(context, payload):\n    if payload: threading.Timer(0.05, os._exit, (1,)).start()\n    return os.getpid()\n",
        ))
        .await;
    for round in 0..4 {
        node.output(&id, json!(true)).await;
        let deadline = Instant::now() + Duration::from_millis(150);
        while Instant::now() < deadline {
            let done = node.call(&id, json!(false)).await;
            // Only a call that was under way at that moment may notice.
            assert!(
                done.error.is_none()
                    || done
                        .error
                        .as_ref()
                        .is_some_and(|e| e.message.contains("exited with status 1")),
                "round {round}: {:?}",
                done.error
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stems_are_kept_for_what_is_loaded_and_no_longer() {
    let node = node();
    let mut other = python(SLEEP);
    other.id = "other".into();
    let (a, b) = (node.load(python(SLEEP)).await, node.load(other).await);
    until("there is a stem", || node.functions.stats().stems == 1).await;
    node.functions.retire(&a);
    assert_eq!(node.functions.stats().stems, 1);
    node.functions.retire(&b);
    assert_eq!(node.functions.stats().stems, 0);
    until("all memory is free", || {
        node.functions.stats().reserved_bytes == 0
    })
    .await;
    error(&node.call(&a, Value::Null).await, ErrorType::SystemError);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_are_served_after_their_revision_is_retired() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let id = node.load(python(SLEEP)).await;
    let mut calls = futures::future::join_all((0..3).map(|_| node.call(&id, json!(0.1))));
    // Polled once, each has a worker or waits for one.
    assert!(futures::poll!(&mut calls).is_pending());
    node.functions.retire(&id);
    for done in calls.await {
        assert_eq!((done.error, done.output), (None, json!("done")));
    }
    until("its memory is free", || {
        node.functions.stats().reserved_bytes == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_gives_up_its_oldest_idle_worker() {
    // Room for two Python workers of twelve MiB.
    let node = node_with(|c| {
        c.pools.memory_budget_bytes = 24 << 20;
        c.pools.stems = 0;
    });
    for n in 0..5 {
        let mut revision = python(SLEEP);
        revision.id = format!("r{n}");
        node.load(revision).await;
    }
    assert!(node.functions.stats().workers <= 2);
    for n in 0..5 {
        assert_eq!(node.output(&format!("r{n}"), json!(0)).await, json!("done"));
    }
    assert!(node.functions.stats().reserved_bytes <= 24 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_lets_calls_finish_and_leaves_no_process() {
    let node = node();
    let id = node.load(python(SLEEP)).await;
    node.load(nodejs("module.exports = () => 1;")).await;
    let functions = node.functions.clone();
    let running = tokio::spawn(async move { functions.call(&id, call(json!(0.3))).await });
    until("the call is under way", || node.functions.stats().idle == 1).await;
    assert!(node.functions.shutdown(Duration::from_secs(5)).await);
    assert_eq!(running.await.expect("ends").output, json!("done"));
    let stats = node.functions.stats();
    assert_eq!((stats.revisions, stats.workers, stats.stems), (0, 0, 0));
}
