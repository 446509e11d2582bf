//! What a function may use up, as it says itself.

use std::time::Instant;

use adapter_functions::{ErrorType, Limits};
use serde_json::{Value, json};

use crate::support::{Node, error, node, python};

fn own(node: &Node) -> Limits {
    node.functions.limits().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_processor_is_kept_to_or_said_not_to_be() {
    let node = node();
    let mut revision = python(
        "import time\ndef handle(context, payload):\n    end, had = time.monotonic() + 1, time.process_time()\n    while time.monotonic() < end: pass\n    return time.process_time() - had\n",
    );
    revision.limits = Some(Limits {
        cpu_hundredths: Some(25),
        ..own(&node)
    });
    let id = node.load(revision).await;
    let had = node.output(&id, Value::Null).await;
    let had = had.as_f64().expect("seconds");
    let capabilities = node.functions.capabilities();
    if capabilities.cgroup.bounds_cpu() {
        assert!(had < 0.5, "{had} s of processor in one second");
    } else {
        assert!(capabilities.to_string().contains("not enforced: cpu"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_processes_and_room_in_tmp_are_as_the_function_says() {
    let node = node();
    let mut revision = python(
        "
import os, resource, subprocess
def attempt(act):
    try: return act()
    except OSError as e: return e.errno
def fill():
    with open('/tmp/full', 'wb') as f: f.write(b'x' * (3 << 20))
def handle(context, payload):
    children, made = [], 0
    try:
        while made < 50:
            pid = os.fork()
            if pid == 0: os.pause() if hasattr(os, 'pause') else __import__('signal').pause()
            children.append(pid)
            made += 1
    except OSError: pass
    for pid in children: os.kill(pid, 9); os.waitpid(pid, 0)
    return [resource.getrlimit(resource.RLIMIT_NOFILE)[0], made, attempt(fill)]
",
    );
    revision.limits = Some(Limits {
        open_files: 50,
        processes: 7,
        tmp_bytes: 2 << 20,
        ..own(&node)
    });
    let id = node.load(revision).await;
    // 28: no space left.
    assert_eq!(node.output(&id, Value::Null).await, json!([50, 6, 28]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_stream_is_kept_what_the_function_says_and_the_rest_is_marked() {
    let node = node();
    let mut revision = python(
        "import sys\ndef handle(context, payload):\n    for n in range(2000): print('out', n); print('err', n, file=sys.stderr)\n",
    );
    revision.output_bytes = Some(4 << 10);
    let id = node.load(revision).await;
    let done = node.call(&id, Value::Null).await;
    assert_eq!(done.error, None);
    for lines in [&done.logs.stdout, &done.logs.stderr] {
        let kept: usize = lines.iter().map(|line| line.len() + 1).sum();
        assert!(kept <= (4 << 10) + 60, "{kept}");
        assert!(lines[0].ends_with(" 0"), "{}", lines[0]);
        assert!(lines.last().is_some_and(|line| line.ends_with(" 1999")));
        assert!(lines.iter().any(|line| line.starts_with("[truncated: ")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_bounded_by_the_timeout_and_the_run_says_so() {
    let node = node();
    let mut revision = python("def handle(context, payload):\n    while True: pass\n");
    revision.timeout_ms = 200;
    let id = node.load(revision).await;
    let begun = Instant::now();
    let done = node.call(&id, Value::Null).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(said, "Function execution exceeded the timeout");
    assert!(begun.elapsed().as_millis() < 2000);
}
