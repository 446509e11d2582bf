//! As many workers as a function asks for, and memory shared out fairly between functions.

use std::time::{Duration, Instant};

use adapter_functions::{ErrorType, Scale};
use serde_json::{Value, json};

use crate::support::{call, error, node, node_with, python, until};

const SLEEP: &str =
    "import time\ndef handle(context, payload):\n    time.sleep(payload)\n    return 'done'\n";
const PID: &str = "import os\ndef handle(context, payload):\n    if payload == 'die': os._exit(1)\n    return open('/proc/self/ns/pid') and os.readlink('/proc/self/ns/pid')\n";

#[tokio::test(flavor = "multi_thread")]
async fn as_many_workers_as_are_always_to_be_there_start_at_load_and_stay() {
    let node = node_with(|c| c.pools.idle_ttl = Duration::from_millis(50));
    let mut revision = python(SLEEP);
    revision.scale.min = 2;
    let id = node.load(revision).await;
    until("both are there", || node.functions.stats().idle == 2).await;
    // Four calls at once want more than two; those end again, and two stay.
    let calls = (0..4).map(|_| node.call(&id, json!(0.5)));
    for done in futures::future::join_all(calls).await {
        assert_eq!(done.error, None);
    }
    until("two are left", || node.functions.stats().workers == 2).await;
    let stays = Instant::now() + Duration::from_millis(2500);
    until("the sweep came by twice", || {
        assert_eq!(node.functions.stats().workers, 2);
        Instant::now() >= stays
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_always_to_be_there_is_replaced_when_it_dies() {
    let node = node();
    let mut revision = python(PID);
    revision.scale = Scale {
        min: 2,
        max: Some(2),
        idle: None,
    };
    let id = node.load(revision).await;
    until("both are there", || node.functions.stats().idle == 2).await;
    let done = node.call(&id, json!("die")).await;
    error(&done, ErrorType::FunctionError);
    until("it is replaced", || node.functions.stats().idle == 2).await;
    // While idle: from outside, as the kernel would for want of memory.
    let before = node.functions.idle_pids();
    for pid in &before {
        kill(*pid);
    }
    until("both are replaced", || {
        let now = node.functions.idle_pids();
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    assert!(node.output(&id, Value::Null).await.is_string());
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("/bin/kill")
        .args(["-9", &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_never_has_more_workers_than_it_allows() {
    let node = node();
    let mut revision = python(SLEEP);
    revision.scale.max = Some(1);
    let id = node.load(revision).await;
    let begun = Instant::now();
    let calls = (0..3).map(|_| node.call(&id, json!(0.2)));
    for done in futures::future::join_all(calls).await {
        assert_eq!(done.error, None);
    }
    assert!(begun.elapsed() >= Duration::from_millis(600), "one by one");
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sets_how_long_its_workers_may_be_idle() {
    let node = node();
    let mut brief = python(SLEEP);
    brief.id = "brief".into();
    brief.scale.idle = Some(Duration::from_millis(50));
    let mut lasting = python(SLEEP);
    lasting.id = "lasting".into();
    node.load(lasting).await;
    node.load(brief).await;
    until("one is scaled to zero", || {
        node.functions.stats().workers == 1
    })
    .await;
    assert_eq!(node.output("brief", json!(0)).await, json!("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_function_does_not_keep_another_from_its_first_worker() {
    // Room for four Python workers of twelve MiB.
    let node = node_with(|c| {
        c.pools.memory_budget_bytes = 48 << 20;
        c.pools.stems = 0;
    });
    let mut greedy = python(SLEEP);
    greedy.id = "greedy".into();
    let greedy = node.load(greedy).await;
    let functions = node.functions.clone();
    let burst: Vec<_> = (0..120)
        .map(|_| {
            let (functions, greedy) = (functions.clone(), greedy.clone());
            tokio::spawn(async move { functions.call(&greedy, call(json!(0.2))).await })
        })
        .collect();
    until("all memory is taken", || {
        node.functions.stats().workers == 4 && node.functions.stats().idle == 0
    })
    .await;
    let mut modest = python(SLEEP);
    modest.id = "modest".into();
    let begun = Instant::now();
    let modest = node.load(modest).await;
    assert_eq!(node.output(&modest, json!(0)).await, json!("done"));
    let took = begun.elapsed();
    let waiting = burst.iter().filter(|call| !call.is_finished()).count();
    assert!(waiting > 0, "the burst was over before");
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    for call in burst {
        assert_eq!(call.await.expect("ends").error, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_which_nobody_waits_is_not_refused_when_many_do() {
    let node = node_with(|c| {
        c.pools.workers_max = 1;
        c.pools.waiters_max = 2;
    });
    let id = node.load(python(SLEEP)).await;
    let all = futures::future::join_all((0..8).map(|n| {
        let mut call = call(json!(0.1));
        call.patient = n % 2 == 0;
        node.functions.call(&id, call)
    }))
    .await;
    let refused: Vec<bool> = all.iter().map(|done| done.busy).collect();
    assert!(refused.iter().step_by(2).all(|busy| !busy), "{refused:?}");
    assert!(refused.iter().any(|busy| *busy), "{refused:?}");
    for done in all {
        assert_eq!(done.busy, done.error.is_some(), "{:?}", done.error);
    }
}
