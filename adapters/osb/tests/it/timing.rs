//! Deadlines, with tiny ones.

use std::time::{Duration, Instant};

use adapter_osb::fake::{Fault, On};
use adapter_osb::verdict::{Answer, Mishap, Orphan, Polled, Progress};

use crate::{Stage, within};

const TINY: Duration = Duration::from_millis(150);
const AMPLE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn silence_after_the_request_is_a_timeout_and_may_leave_something() {
    let stage = Stage::impatient(TINY).await;
    stage
        .fake
        .script(On::Provision, [Fault::hang().after_work()]);
    let began = Instant::now();
    let Answer::Unknown(doubt) = within(AMPLE, stage.provision()).await else {
        panic!("no doubt")
    };
    assert!(began.elapsed() >= TINY, "the deadline was not awaited");
    assert_eq!(
        (doubt.mishap, doubt.orphan),
        (Mishap::TimedOut, Orphan::Instance)
    );
    assert_eq!(stage.fake.instances().len(), 1);
    assert!(
        matches!(stage.provision().await, Answer::Exists(_)),
        "the next one goes through"
    );
}

#[tokio::test]
async fn a_delay_within_the_deadline_is_no_fault() {
    let stage = Stage::new().await;
    stage
        .fake
        .script(On::Provision, [Fault::none().delayed(TINY)]);
    assert!(matches!(
        within(AMPLE, stage.provision()).await,
        Answer::Done(_)
    ));
}

#[tokio::test]
async fn a_body_that_drips_is_cut_at_the_deadline() {
    let stage = Stage::impatient(TINY).await;
    stage
        .fake
        .script(On::Provision, [Fault::drip(Duration::from_millis(50))]);
    let Answer::Unknown(doubt) = within(AMPLE, stage.provision()).await else {
        panic!("no doubt")
    };
    assert_eq!(
        (doubt.mishap, doubt.orphan),
        (Mishap::MalformedCreated, Orphan::Instance)
    );
    assert!(doubt.reason.contains("no end in time"), "{}", doubt.reason);
}

#[tokio::test]
async fn a_poll_that_hangs_means_to_poll_again() {
    let stage = Stage::impatient(TINY).await;
    stage.provision().await;
    stage
        .fake
        .script(On::PollInstance, [Fault::hang(), Fault::html(502)]);
    for _ in 0..2 {
        let said = within(AMPLE, stage.poll(Polled::Provision, None)).await;
        assert!(matches!(said, Progress::Unclear { .. }), "{said:?}");
    }
    let said = stage.poll(Polled::Provision, None).await;
    assert!(matches!(said, Progress::Succeeded { .. }), "{said:?}");
}

#[tokio::test]
async fn an_address_that_never_answers_was_not_reached() {
    // A listener whose queue of connections is full lets no further one be established.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let full = within(AMPLE, async {
        while let Ok(stream) =
            tokio::time::timeout(TINY, tokio::net::TcpStream::connect(address)).await
        {
            held.push(stream.unwrap());
        }
    });
    full.await;
    let mut endpoint = adapter_osb::Endpoint::new(format!("http://{address}").parse().unwrap());
    endpoint.timeout = TINY;
    let client = adapter_osb::Client::new(&endpoint).unwrap();
    let answer = within(AMPLE, client.catalog(&crate::call(), None)).await;
    assert!(matches!(answer, Answer::Unavailable { .. }), "{answer:?}");
}
