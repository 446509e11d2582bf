//! How long the operations of a shared plan take, from a platform's side. Run it by hand:
//! `cargo nextest run --release -p adapter-postgres-broker --run-ignored only --no-capture measure`.

use std::time::{Duration, Instant};

use crate::support::{POSTGRESQL, SHARED_DB, SharedServer, TestBroker, ids, shared_config};

const ROUNDS: usize = 100;

/// The time below which half of all lies, and the time below which nearly all lies.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1_000.0;
    format!("p50 {:.1} ms, p95 {:.1} ms", at(50), at(95))
}

#[tokio::test]
#[ignore = "a measurement"]
async fn the_operations_of_a_shared_plan() {
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(shared_config(state.path(), &server)).await;
    let platform = &broker.platform;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS {
        let id = format!("i{round}");
        let mut lap = Instant::now();
        let mut took = |operation: usize| {
            times[operation].push(lap.elapsed());
            lap = Instant::now();
        };
        platform.provision_shared(&id).await;
        took(0);
        let bound = platform.bind(&id, "b", POSTGRESQL, SHARED_DB).await;
        assert_eq!(bound.status, 201);
        took(1);
        let unbound = platform.unbind(&id, "b", POSTGRESQL, SHARED_DB).await;
        assert_eq!(unbound.status, 200);
        took(2);
        let path = format!("/v2/service_instances/{id}?{}", ids(POSTGRESQL, SHARED_DB));
        assert_eq!(platform.delete(&path).await.status, 200);
        took(3);
    }
    for (operation, times) in ["provision", "bind", "unbind", "deprovision"]
        .iter()
        .zip(times)
    {
        eprintln!("{operation}: {}", summary(times));
    }
}
