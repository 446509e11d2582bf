//! Orders that lie before a worker which is still busy: each call is carried out once, whatever
//! becomes of the one before it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapter_functions::{Call, ErrorType, Isolation, NetworkPolicy, Revision};
use adapter_kit::ServiceFacts;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Node, call, error, node_with, python};

/// Says to the one who counts that it was called, does what it is told, and returns its name.
const HANDLER: &str = "
import os, socket, time

def handle(context, payload):
    port = payload.get('port')
    if port:
        with socket.create_connection(('127.0.0.1', port)) as counter:
            counter.sendall((payload['name'] + '\\n').encode())
    time.sleep(payload.get('ms', 0) / 1000)
    if payload.get('exit'):
        os._exit(3)
    if payload.get('print'):
        print(payload['name'])
    if payload.get('file'):
        with open('/tmp/bindings/pg/password') as file:
            return file.read()
    return payload['name']
";

/// Counts the calls that were begun, by name.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<BTreeMap<String, usize>>>);

impl Counter {
    /// Starts to count; the port to be told at.
    fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let counts = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut name = String::new();
                let mut stream = stream;
                let _ = stream.read_to_string(&mut name);
                *counts
                    .lock()
                    .expect("no holder panics")
                    .entry(name.trim().to_owned())
                    .or_default() += 1;
            }
        });
        port
    }

    /// What was counted, once all of `calls` calls are in it.
    async fn counts(&self, calls: usize) -> BTreeMap<String, usize> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let counts = self.0.lock().expect("no holder panics").clone();
            if counts.values().sum::<usize>() >= calls || Instant::now() >= deadline {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn one_worker() -> Node {
    node_with(|config| config.pools.workers_max = 1)
}

fn revision() -> Revision {
    Revision {
        network: NetworkPolicy::Host,
        ..python(HANDLER)
    }
}

fn ahead(input: Value) -> Call {
    Call {
        ahead: true,
        patient: true,
        ..call(input)
    }
}

/// One call after the other, so that all of them are short for the pool.
async fn warm(node: &Node, id: &str) {
    for _ in 0..50 {
        let done = node
            .functions
            .call(id, ahead(json!({"name": "warm"})))
            .await;
        assert_eq!(done.error, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_at_once_each_has_its_own_answer() {
    let node = node_with(|_| {});
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let calls = (0..2000).map(|n| {
        let (node, id) = (&node, &id);
        async move {
            let name = format!("call {n}");
            let done = node.functions.call(id, ahead(json!({"name": name}))).await;
            assert_eq!((done.output, done.error), (json!(name), None));
        }
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_takes_no_other_call_with_it_and_none_is_begun_twice() {
    let node = node_with(|_| {});
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let counter = Counter::default();
    let port = counter.start();
    let calls = (0..40).map(|n| {
        let input = json!({"name": format!("{n}"), "port": port, "exit": n % 8 == 0, "ms": 5});
        node.functions.call(&id, ahead(input))
    });
    for (n, done) in join_all(calls).await.into_iter().enumerate() {
        if n % 8 == 0 {
            let said = &error(&done, ErrorType::FunctionError).message;
            assert_eq!(said, "the function's process exited with status 3");
        } else {
            assert_eq!((done.output, done.error), (json!(format!("{n}")), None));
        }
    }
    let counts = counter.counts(40).await;
    assert_eq!(counts.len(), 40);
    assert!(counts.values().all(|&count| count == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_behind_a_slow_one_for_long() {
    let node = node_with(|_| {});
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let slow = node
        .functions
        .call(&id, ahead(json!({"name": "slow", "ms": 3000})));
    let mut slow = std::pin::pin!(slow);
    // It has the worker by now, or will have before the others ask.
    assert!(futures::poll!(slow.as_mut()).is_pending());
    let others = (0..20).map(|n| {
        let name = format!("{n}");
        node.functions.call(&id, ahead(json!({"name": name})))
    });
    tokio::select! {
        done = join_all(others) => {
            for (n, done) in done.into_iter().enumerate() {
                assert_eq!((done.output, done.error), (json!(format!("{n}")), None));
            }
        }
        _ = slow.as_mut() => panic!("the slow one ended first"),
    }
    assert_eq!(slow.await.output, json!("slow"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_leaves_before_it_is_begun_is_never_begun() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let counter = Counter::default();
    let port = counter.start();
    let first = node
        .functions
        .call(&id, ahead(json!({"name": "first", "ms": 500})));
    let mut first = std::pin::pin!(first);
    assert!(futures::poll!(first.as_mut()).is_pending());
    let leaving = ahead(json!({"name": "leaving", "port": port}));
    let cancel = leaving.cancel.clone();
    let mut second = Box::pin(node.functions.call(&id, leaving));
    assert!(futures::poll!(second.as_mut()).is_pending());
    let third = node
        .functions
        .call(&id, ahead(json!({"name": "third", "port": port})));
    let mut third = std::pin::pin!(third);
    assert!(futures::poll!(third.as_mut()).is_pending());
    cancel.cancel();
    let left = second.await;
    assert_eq!(
        error(&left, ErrorType::SystemError).message,
        "the run was cancelled"
    );
    assert_eq!(first.await.output, json!("first"));
    assert_eq!(third.await.output, json!("third"));
    let counts = counter.counts(1).await;
    assert_eq!(counts, BTreeMap::from([("third".to_owned(), 1)]));
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_are_taken_back_while_the_worker_takes_them_are_begun_once() {
    let node = one_worker();
    let text = "seen = []\ndef handle(context, payload):\n    seen.append(payload)\n    return seen if payload == 'all' else payload\n";
    let id = node.load(python(text)).await;
    let mut answered = Vec::new();
    for wave in 0..60 {
        let calls = (0..60).map(|n| {
            let name = json!(format!("{wave}-{n}"));
            let order = ahead(name.clone());
            let cancel = order.cancel.clone();
            let (node, id) = (&node, &id);
            async move {
                let done = node.functions.call(id, order);
                let leave = async {
                    // Some leave when all have asked, and the worker is at work on their orders.
                    tokio::task::yield_now().await;
                    if n % 7 == wave % 7 {
                        cancel.cancel();
                    }
                };
                let (done, ()) = tokio::join!(done, leave);
                match done.error {
                    None => {
                        assert_eq!(done.output, name);
                        Some(name)
                    }
                    Some(error) => {
                        assert_eq!(error.message, "the run was cancelled");
                        None
                    }
                }
            }
        });
        answered.extend(join_all(calls).await.into_iter().flatten());
    }
    let seen = node.output(&id, json!("all")).await;
    let seen = seen.as_array().expect("it is a list");
    let mut counts = BTreeMap::<String, usize>::new();
    for name in seen {
        *counts.entry(name.to_string()).or_default() += 1;
    }
    assert!(counts.values().all(|&count| count == 1), "{counts:?}");
    for name in answered {
        assert!(
            counts.contains_key(&name.to_string()),
            "{name} was not begun"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_on_record_has_its_own_lines_among_many_that_are_not() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let noise = (0..400).map(|n| {
        let input = json!({"name": format!("noise {n}"), "print": n % 7 == 0});
        node.functions.call(&id, ahead(input))
    });
    let kept = (0..40).map(|n| {
        let input = json!({"name": format!("kept {n}"), "print": true});
        let (node, id) = (&node, &id);
        async move {
            let order = Call {
                patient: true,
                ..call(input)
            };
            (n, node.functions.call(id, order).await)
        }
    });
    let (noise, kept) = tokio::join!(join_all(noise), join_all(kept));
    for (n, done) in kept {
        assert_eq!(done.error, None);
        assert_eq!(done.logs.stdout, [format!("kept {n}")]);
    }
    for (n, done) in noise.into_iter().enumerate() {
        assert_eq!(
            (done.output, done.error),
            (json!(format!("noise {n}")), None)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_on_record_that_print_for_the_first_time_are_not_mixed_up() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let calls = (0..60).map(|n| {
        let order = call(json!({"name": format!("{n}"), "print": true}));
        node.functions.call(&id, order)
    });
    for (n, done) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(done.logs.stdout, [format!("{n}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_an_order_that_came_back_are_sent_again() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let slow = node
        .functions
        .call(&id, ahead(json!({"name": "slow", "ms": 300})));
    let mut order = ahead(json!({"name": "x", "file": true}));
    order.context = json!({"serviceBindings": {"pg": {"password": "secret"}}});
    order.services = vec![postgres()];
    let (slow, done) = tokio::join!(slow, node.functions.call(&id, order));
    assert_eq!(slow.output, json!("slow"));
    assert_eq!((done.output, done.error), (json!("secret"), None));
}

fn postgres() -> ServiceFacts {
    ServiceFacts {
        name: engine_model::Name::new("pg").expect("it is a name"),
        class: "postgresql".into(),
        provider: "local".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_finds_the_files_of_its_own_services() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let calls = (0..200).map(|n| {
        let password = format!("secret {}", n % 3);
        let mut order = ahead(json!({"name": "x", "file": true}));
        order.context = json!({"serviceBindings": {"pg": {"password": password}}});
        order.services = vec![postgres()];
        let (node, id) = (&node, &id);
        async move { (password, node.functions.call(id, order).await) }
    });
    for (password, done) in join_all(calls).await {
        assert_eq!((done.output, done.error), (json!(password), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_packet_goes_beside_the_others() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let calls = (0..60).map(|n| {
        let name = match n % 5 {
            0 => format!("{n}").repeat(100_000),
            _ => format!("{n}"),
        };
        let (node, id) = (&node, &id);
        async move {
            let done = node.functions.call(id, ahead(json!({"name": name}))).await;
            assert!(done.error.is_none() && done.output == json!(name), "{n}");
        }
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_starts_anew_after_an_error_sees_no_call_ahead() {
    let node = one_worker();
    let text = "seen = []\ndef handle(context, payload):\n    seen.append(payload)\n    if payload == 'bad':\n        raise RuntimeError('bad')\n    return seen\n";
    let id = node
        .load(Revision {
            isolation: Isolation::Error,
            ..python(text)
        })
        .await;
    let calls = (0..30).map(|n| {
        let input = if n % 3 == 0 { json!("bad") } else { json!(n) };
        node.functions.call(&id, ahead(input))
    });
    for done in join_all(calls).await {
        assert_eq!(done.error.is_some(), done.output.is_null());
        let seen = done.output.as_array().cloned().unwrap_or_default();
        assert!(!seen.contains(&json!("bad")), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_the_calls_that_lie_on_a_desk() {
    let node = one_worker();
    let id = node.load(revision()).await;
    warm(&node, &id).await;
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let (functions, id) = (node.functions.clone(), id.clone());
            let input = json!({"name": format!("{n}"), "ms": 2});
            tokio::spawn(async move { functions.call(&id, ahead(input)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(node.functions.shutdown(Duration::from_secs(20)).await);
    for done in join_all(calls).await {
        let done = done.expect("it does not panic");
        // Whoever came after the end began is told so.
        assert!(
            done.error.is_none()
                || done
                    .error
                    .as_ref()
                    .is_some_and(|e| e.kind == ErrorType::SystemError)
        );
    }
}
