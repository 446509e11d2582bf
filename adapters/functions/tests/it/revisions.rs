//! Revisions of one function side by side on a node.

use std::collections::BTreeSet;

use adapter_functions::Workers;
use adapter_kit::Runner;
use engine_model::RevisionId;
use serde_json::json;

use crate::support::*;

const SLEEP: &str =
    "import time\ndef handle(context, payload):\n    time.sleep(payload)\n    return 'done'\n";

fn id(number: u32) -> RevisionId {
    RevisionId::derived(format_args!("revision {number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_called_goes_when_its_calls_have_ended() {
    let node = node();
    let workers = Workers::new(node.functions.clone(), node.blobs.clone(), 4);
    let mut loaded = Vec::new();
    for number in 1..=2 {
        let mut revision = python(SLEEP);
        revision.id = id(number).to_string();
        loaded.push(node.load(revision).await);
    }
    // What bears another kind of id is not the engine's, and is left alone.
    let foreign = node.load(python(SLEEP)).await;
    let mut under_way = Box::pin(node.call(&loaded[0], json!(0.3)));
    assert!(futures::poll!(&mut under_way).is_pending());
    workers.keep(&BTreeSet::from([id(2)]));
    let kept = |id: &String| node.functions.is_loaded(id);
    assert_eq!(
        [kept(&loaded[0]), kept(&loaded[1]), kept(&foreign)],
        [false, true, true]
    );
    let done = under_way.await;
    assert_eq!((done.error, done.output), (None, json!("done")));
    until("its worker is gone", || node.functions.stats().workers == 2).await;
    assert_eq!(node.output(&loaded[1], json!(0)).await, "done");
}
