//! Handlers that exit, crash, flood, fork, hang or meddle: a clear error, and nothing else disturbed.

use std::time::{Duration, Instant};

use adapter_functions::ErrorType;
use serde_json::{Value, json};

use crate::support::{error, node, node_with, nodejs, python, revision, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_the_functions_error_and_is_replaced() {
    let node = node();
    let id = node
        .load(python(
            "import os, ctypes
def handle(context, payload):
    print('before')
    if payload == 'exit': os._exit(3)
    if payload == 'abort': os.abort()
    if payload == 'segv': ctypes.string_at(0)
    return 'fine'
",
        ))
        .await;
    for (how, ended) in [
        ("exit", "exited with status 3"),
        ("abort", "was ended by SIGABRT"),
        ("segv", "was ended by SIGSEGV"),
    ] {
        let done = node.call(&id, json!(how)).await;
        let said = &error(&done, ErrorType::FunctionError).message;
        assert_eq!(said, &format!("the function's process {ended}"));
        assert_eq!(done.logs.stdout, ["before"]);
        assert_eq!(node.output(&id, Value::Null).await, json!("fine"));
    }
    let js = node
        .load(nodejs(
            "module.exports = (c, p) => (p ? process.exit(p) : 'fine');",
        ))
        .await;
    let done = node.call(&js, json!(9)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(said, "the function's process exited with status 9");
    assert_eq!(node.output(&js, Value::Null).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_kills_what_does_not_end_by_itself() {
    let node = node();
    let mut py = python(
        "import time
def handle(context, payload):
    if payload == 'sleep': time.sleep(3600)
    while payload == 'loop': pass
    while payload == 'print': print('x' * 1000)
    return 'fine'
",
    );
    py.timeout_ms = 250;
    let mut js = nodejs(
        "module.exports = (c, p) => { while (p === 'loop');
             return p === 'sleep' ? new Promise((yes) => setTimeout(yes, 1e7)) : 'fine'; };",
    );
    js.timeout_ms = 250;
    let (py, js) = (node.load(py).await, node.load(js).await);
    for (id, how) in [
        (&py, "sleep"),
        (&py, "loop"),
        (&py, "print"),
        (&js, "sleep"),
        (&js, "loop"),
    ] {
        let begun = Instant::now();
        let done = node.call(id, json!(how)).await;
        let took = begun.elapsed();
        let said = &error(&done, ErrorType::FunctionError).message;
        assert_eq!(said, "Function execution exceeded the timeout");
        assert!(
            took >= Duration::from_millis(250) && took < Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(node.output(id, Value::Null).await, json!("fine"), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_die_with_the_call_that_left_them() {
    let node = node();
    let mut left = python(
        "import subprocess, time
def handle(context, payload):
    subprocess.Popen(['sleep', payload['s']])
    if payload.get('hang'): time.sleep(3600)
    return 'left a child'
",
    );
    left.timeout_ms = 400;
    let id = node.load(left).await;
    // Numbers that no other sleep on this machine has.
    let me = std::process::id();
    let (hung, returned) = (format!("90000{me}"), format!("80000{me}"));
    let done = node.call(&id, json!({"s": hung, "hang": true})).await;
    error(&done, ErrorType::FunctionError);
    assert_eq!(
        node.output(&id, json!({"s": returned})).await,
        json!("left a child")
    );
    until("no child is left", || {
        !is_running(&hung) && !is_running(&returned)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_detached_itself_is_swept_out() {
    let node = node();
    let id = node
        .load(python(
            "import subprocess
def handle(context, payload):
    if payload: subprocess.run(['sh', '-c', 'setsid sleep %s >/dev/null 2>&1 &' % payload])
    return 'fine'
",
        ))
        .await;
    let seconds = format!("70000{}", std::process::id());
    node.output(&id, json!(seconds)).await;
    until("the daemon is gone", || !is_running(&seconds)).await;
    assert_eq!(node.output(&id, Value::Null).await, json!("fine"));
}

/// Whether some process of this machine has that argument.
fn is_running(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc")
        .expect("there is /proc")
        .flatten();
    processes.into_iter().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|&b| b == 0)
            .any(|word| word == argument.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn printing_a_hundred_megabytes_hurts_nobody() {
    let node = node();
    let id = node
        .load(python(
            "def handle(context, payload):
    block = 'x' * 99 + '\\n'
    print('first')
    for _ in range(payload): print(block * 10000, end='')
    print('last')
    return payload
",
        ))
        .await;
    let done = node.call(&id, json!(100)).await;
    assert_eq!((done.error, done.output), (None, json!(100)));
    let lines = done.logs.stdout;
    assert_eq!(
        (lines[0].as_str(), lines[lines.len() - 1].as_str()),
        ("first", "last")
    );
    assert!(lines.iter().map(String::len).sum::<usize>() <= 1 << 19);
    let told = lines
        .iter()
        .filter(|l| l.starts_with("[truncated: "))
        .count();
    assert_eq!(told, 1);
    assert_eq!(
        node.call(&id, json!(0)).await.logs.stdout,
        ["first", "last"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stays_in_its_sandbox() {
    let node = node();
    let mut bomb = python(
        "import os\ndef handle(context, payload):\n    while True:\n        try: os.fork()\n        except OSError: pass\n",
    );
    bomb.timeout_ms = 700;
    let id = node.load(bomb).await;
    let hello = node
        .load(revision(
            "nodejs",
            "hello.js",
            "module.exports = () => 'hello';",
        ))
        .await;
    let functions = node.functions.clone();
    let bombing = {
        let id = id.clone();
        tokio::spawn(async move { functions.call(&id, crate::support::call(Value::Null)).await })
    };
    let mut served = 0;
    while !bombing.is_finished() {
        assert_eq!(node.output(&hello, Value::Null).await, json!("hello"));
        served += 1;
    }
    assert!(served > 0, "nothing was served beside the bomb");
    let done = bombing.await.expect("the call ends");
    let said = &error(&done, ErrorType::FunctionError).message;
    assert_eq!(said, "Function execution exceeded the timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_returns_through_the_handler_answers_nothing() {
    let node = node();
    let id = node
        .load(python(
            "import os\ndef handle(context, payload):\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    return 'parent' if pid else 'child'\n",
        ))
        .await;
    for _ in 0..3 {
        assert_eq!(node.output(&id, Value::Null).await, json!("parent"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meddling_with_the_private_descriptor_ends_the_worker_and_nothing_else() {
    let node = node();
    let id = node
        .load(python(
            "import os
def handle(context, payload):
    for fd in range(3, 1024):
        try:
            if payload == 'garbage': os.write(fd, b'garbage\\n')
            if payload == 'forged': os.write(fd, b'{\"ok\":999,\"payload\":\"forged\"}\\n')
            if payload == 'extra': os.write(fd, b'')
            if payload == 'closed': os.close(fd)
        except OSError: pass
    return 'fine'
",
        ))
        .await;
    for (how, kind, part) in [
        (
            "garbage",
            ErrorType::SystemError,
            "the function's reply cannot be read: it is not a reply",
        ),
        (
            "forged",
            ErrorType::SystemError,
            "the function's reply cannot be read: it answers another call",
        ),
        ("closed", ErrorType::FunctionError, "the function's process"),
    ] {
        let done = node.call(&id, json!(how)).await;
        let said = &error(&done, kind).message;
        assert!(said.starts_with(part), "{how}: {said}");
        assert_eq!(node.output(&id, Value::Null).await, json!("fine"), "{how}");
    }
    let mut js = nodejs(
        "module.exports = (c, p) => { if (p) require('fs').writeSync(3, 'garbage\\n'); return 'fine'; };",
    );
    js.id = "js".into();
    let js = node.load(js).await;
    error(&node.call(&js, json!(1)).await, ErrorType::SystemError);
    assert_eq!(node.output(&js, Value::Null).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn children_do_not_inherit_the_private_descriptor() {
    let node = node();
    let py = python(
        "import subprocess\ndef handle(c, p):\n    return subprocess.run(['sh', '-c', 'ls /proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout.split()\n",
    );
    let js = nodejs(
        "module.exports = () => require('child_process').execSync('ls /proc/self/fd').toString().split('\\n');",
    );
    let py = node.load(py).await;
    let js = node.load(js).await;
    for id in [py, js] {
        let seen = node.output(&id, Value::Null).await;
        let fds: Vec<u32> = seen
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|v| v.as_str().and_then(|s| s.parse().ok()))
            .collect();
        // 3 is the folder that ls itself reads.
        assert!(
            !fds.is_empty() && fds.iter().all(|fd| *fd <= 3),
            "{id}: {fds:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_is_the_functions_error() {
    let node = node_with(|c| c.limits.memory_bytes = Some(96 << 20));
    let bounded = node.functions.capabilities().cgroup.bounds_memory();
    let id = node
        .load(python(
            "def handle(context, payload):\n    return len(bytearray(payload << 20))\n",
        ))
        .await;
    let done = node.call(&id, json!(400)).await;
    let said = &error(&done, ErrorType::FunctionError).message;
    if bounded {
        assert_eq!(
            said,
            "the function's process was killed because it used more memory than its limit"
        );
    } else {
        assert_eq!(said, "MemoryError");
    }
    assert_eq!(node.output(&id, json!(1)).await, json!(1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_out_of_reach() {
    let node = node();
    let id = node
        .load(python(
            "import os, socket
def attempt(act):
    try: return repr(act())
    except Exception as e: return type(e).__name__
def handle(context, payload):
    return [attempt(lambda: open('/etc/shadow').read()), attempt(lambda: os.listdir('/boot')),
            attempt(lambda: open('/usr/x', 'w')), attempt(lambda: os.kill(os.getppid(), 9)),
            attempt(lambda: socket.create_connection(('127.0.0.1', payload), 1)),
            sorted(k for k in os.environ if 'SECRET' in k or k == 'HOSTNAME')]
",
        ))
        .await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    let seen = node.output(&id, json!(port)).await;
    let reached: Vec<&Value> = seen
        .as_array()
        .expect("a list")
        .iter()
        .filter(|v| v.as_str().is_some_and(|s| !s.ends_with("Error")))
        .collect();
    // Killing its own sandbox's first process is no escape, and has no effect.
    assert!(reached.iter().all(|v| *v == "None"), "{seen}");
    assert_eq!(seen[5], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_end_again_and_again_come_after_pauses_and_behind_all_others() {
    let node = node();
    let text = "import os\n\
        def handle(context, payload):\n    \
            if payload: os._exit(3)\n    \
            return os.nice(0) > 0\n";
    let id = node.load(python(text)).await;
    assert_eq!(node.output(&id, json!(false)).await, json!(false));
    let begun = Instant::now();
    for _ in 0..6 {
        error(&node.call(&id, json!(true)).await, ErrorType::FunctionError);
    }
    // 10, 20, 40 and 80 ms: one that ends twice may be an accident.
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(node.output(&id, json!(false)).await, json!(true));
    // As many good calls as there were bad ones, and it is as before.
    for _ in 0..5 {
        node.output(&id, json!(false)).await;
    }
    assert_eq!(node.output(&id, json!(false)).await, json!(false));
}
