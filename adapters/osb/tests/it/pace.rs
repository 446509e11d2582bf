//! How fast the fake broker is when it does nothing else: it must not slow a benchmark down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_osb::fake::Options;
use adapter_osb::verdict::Answer;
use adapter_osb::wire::Id;
use uuid::Uuid;

use crate::{Stage, call, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_work_answers_many_requests() {
    const EACH: usize = 100;
    const LANES: usize = 8;
    let stage = Stage::with(Options {
        record: false,
        ..Options::default()
    })
    .await;
    let stage = Arc::new(stage);
    let began = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let id = Id::from(Uuid::new_v4());
                    let request = stage.provision_request();
                    let answer = stage.client.provision(&call(), &id, &request, true).await;
                    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
                }
            })
        })
        .collect();
    within(Duration::from_secs(30), async {
        for lane in lanes {
            lane.await.unwrap();
        }
    })
    .await;
    let per_second = (EACH * LANES) as f64 / began.elapsed().as_secs_f64();
    println!("{per_second:.0} provisions per second, client and broker together");
    assert_eq!(stage.fake.instances().len(), EACH * LANES);
    assert!(stage.fake.requests().is_empty(), "nothing is recorded");
}
