//! What a run prints, told while it runs; and how long its stages take.

use std::sync::{Arc, Mutex};

use adapter_kit::LineSink;
use engine_model::{LogLine, LogStream};
use serde_json::{Value, json};

use crate::support::{Gate, call, node, node_with, python, until};

#[derive(Default)]
struct Heard(Mutex<Vec<LogLine>>);

impl LineSink for Heard {
    fn line(&self, line: LogLine) -> bool {
        self.0.lock().expect("no holder panics").push(line);
        true
    }
}

impl Heard {
    fn texts(&self, stream: LogStream) -> Vec<String> {
        let lines = self.0.lock().expect("no holder panics");
        let of = lines.iter().filter(|line| line.stream == stream);
        of.map(|line| line.text.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_told_before_the_run_ends_and_are_those_that_are_kept() {
    let node = node();
    let gate = Gate::shut().await;
    let id = node
        .load(gate.before(
            "import sys\ndef handle(context, payload):\n    print('first')\n    print('aside', file=sys.stderr)\n    WAIT()\n    print('last', end='')\n",
        ))
        .await;
    let heard = Arc::new(Heard::default());
    let mut told = call(Value::Null);
    told.lines = Some(Arc::clone(&heard) as _);
    let functions = node.functions.clone();
    let running = tokio::spawn(async move { functions.call(&id, told).await });
    let waits = gate.reached().await;
    until("the first lines are told", || {
        heard.texts(LogStream::Stdout) == ["first"] && heard.texts(LogStream::Stderr) == ["aside"]
    })
    .await;
    assert!(!running.is_finished());
    drop(waits);
    let done = running.await.expect("ends");
    assert_eq!(done.logs.stdout, ["first", "last"]);
    assert_eq!(heard.texts(LogStream::Stdout), done.logs.stdout);
    assert_eq!(heard.texts(LogStream::Stderr), done.logs.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_has_its_own_time() {
    let node = node_with(|c| c.pools.workers_max = 1);
    let mut revision = python(
        "import time\ndef handle(context, payload):\n    time.sleep(payload)\n    return payload\n",
    );
    revision.schema_out = Some(json!({"type": "number"}));
    let id = node.load(revision).await;
    let alone = node.call(&id, json!(0.1)).await.timings;
    assert!(alone.handler_us >= 100_000, "{alone:?}");
    assert!(alone.handler_us < 1_000_000, "{alone:?}");
    assert_eq!(alone.start_us, 0, "its worker was there: {alone:?}");
    assert!(
        alone.injection_us > 0 && alone.validation_us > 0,
        "{alone:?}"
    );
    // The second waits for the first one's worker.
    let (_, second) = tokio::join!(node.call(&id, json!(0.2)), node.call(&id, json!(0)));
    assert!(second.timings.queue_us >= 150_000, "{:?}", second.timings);
    assert!(second.timings.handler_us < 150_000, "{:?}", second.timings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_is_told_from_waiting_in_the_queue() {
    let node = node_with(|c| {
        c.pools.stems = 0;
        c.pools.idle_ttl = std::time::Duration::from_millis(1);
    });
    let id = node
        .load(python("def handle(context, payload):\n    return 1\n"))
        .await;
    until("it is scaled to zero", || {
        node.functions.stats().workers == 0
    })
    .await;
    let cold = node.call(&id, Value::Null).await.timings;
    assert!(cold.start_us > 1000, "{cold:?}");
    assert!(cold.queue_us < cold.start_us, "{cold:?}");
}
