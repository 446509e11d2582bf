//! What comes of each way in which a broker goes wrong, over real connections.

use std::time::Duration;

use adapter_osb::fake::{Fake, Fault, On, PASSWORD};
use adapter_osb::verdict::{Answer, Doubt, Mishap, Orphan, Polled, Progress};
use adapter_osb::{BODY_BYTES_MAX, Client, Credentials, Endpoint};

use crate::{Stage, call};

#[track_caller]
fn doubt<T: std::fmt::Debug>(answer: Answer<T>) -> Doubt {
    match answer {
        Answer::Unknown(doubt) => doubt,
        other => panic!("no doubt: {other:?}"),
    }
}

#[tokio::test]
async fn an_error_after_the_work_may_leave_an_instance_or_a_binding() {
    let stage = Stage::new().await;
    stage
        .fake
        .script(On::Provision, [Fault::say(500, "oops").after_work()]);
    let left = doubt(stage.provision().await);
    assert_eq!((left.orphan, left.status), (Orphan::Instance, Some(500)));
    assert_eq!(left.reason, "status 500: oops");
    assert_eq!(stage.fake.instances().len(), 1, "it was made all the same");
    stage.fake.script(On::Bind, [Fault::html(502).after_work()]);
    let left = doubt(stage.bind().await);
    assert_eq!(left.orphan, Orphan::Binding);
    assert_eq!(left.reason, r#"status 502: a page titled "Bad Gateway""#);
    assert_eq!(stage.fake.bindings().len(), 1);
}

#[tokio::test]
async fn an_error_before_the_work_looks_just_the_same() {
    let stage = Stage::new().await;
    stage.fake.script(On::Provision, [Fault::say(500, "oops")]);
    assert_eq!(doubt(stage.provision().await).orphan, Orphan::Instance);
    assert!(stage.fake.instances().is_empty());
    assert_eq!(
        stage.deprovision().await,
        Answer::Gone,
        "cleaning up finds nothing"
    );
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_may_leave_something() {
    let stage = Stage::new().await;
    stage
        .fake
        .script(On::Provision, [Fault::drop().after_work()]);
    let left = doubt(stage.provision().await);
    assert_eq!((left.mishap, left.orphan), (Mishap::Lost, Orphan::Instance));
    assert_eq!(stage.fake.instances().len(), 1);
    stage
        .fake
        .script(On::Deprovision, [Fault::drop().after_work()]);
    let left = doubt(stage.deprovision().await);
    assert_eq!((left.mishap, left.orphan), (Mishap::Lost, Orphan::Nothing));
    assert_eq!(stage.deprovision().await, Answer::Gone);
    assert_eq!(
        stage.fake.count(On::Provision),
        1,
        "nothing is repeated on its own"
    );
}

#[tokio::test]
async fn half_a_body_is_malformed() {
    let stage = Stage::new().await;
    stage.provision().await;
    stage.fake.script(On::Bind, [Fault::half()]);
    let left = doubt(stage.bind().await);
    assert_eq!(
        (left.mishap, left.orphan),
        (Mishap::MalformedCreated, Orphan::Binding)
    );
    assert!(left.reason.contains("cut off"), "{}", left.reason);
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_malformed() {
    let stage = Stage::new().await;
    let bodies = ["null", "", "[]", "<html>", "{\"credentials\":"];
    for body in bodies {
        stage.fake.script(On::Provision, [Fault::say(201, body)]);
        let left = doubt(stage.provision().await);
        assert_eq!(
            (left.mishap, left.orphan),
            (Mishap::MalformedCreated, Orphan::Instance)
        );
        stage.fake.script(On::Provision, [Fault::say(200, body)]);
        let left = doubt(stage.provision().await);
        assert_eq!(
            (left.mishap, left.orphan),
            (Mishap::MalformedOk, Orphan::Nothing)
        );
        stage.fake.script(On::PollInstance, [Fault::say(200, body)]);
        let said = stage.poll(Polled::Provision, None).await;
        assert!(
            matches!(
                said,
                Progress::Unclear {
                    status: Some(200),
                    ..
                }
            ),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_malformed() {
    let stage = Stage::new().await;
    let filler = "x".repeat(BODY_BYTES_MAX);
    let body = serde_json::json!({ "dashboard_url": filler }).to_string();
    stage.fake.script(On::Provision, [Fault::say(201, body)]);
    let left = doubt(stage.provision().await);
    assert_eq!(left.reason, "status 201, malformed: the body is too large");
    assert_eq!(left.orphan, Orphan::Instance);
}

#[tokio::test]
async fn a_missing_or_wrong_content_type_does_not_matter() {
    let stage = Stage::new().await;
    let wrong = Fault::say(201, "{}").header("content-type", "text/html");
    stage
        .fake
        .script(On::Provision, [Fault::say(201, "{}"), wrong]);
    assert!(matches!(stage.provision().await, Answer::Done(_)));
    assert!(matches!(stage.provision().await, Answer::Done(_)));
}

#[tokio::test]
async fn the_words_of_422_and_429_are_understood() {
    let stage = Stage::new().await;
    stage.fake.script(
        On::Provision,
        [
            Fault::async_required(),
            Fault::concurrency().header("retry-after", 3),
            Fault::concurrency(),
            Fault::maintenance_conflict(),
            Fault::too_many(7),
            Fault::gone(),
        ],
    );
    assert_eq!(stage.provision().await, Answer::AsyncRequired);
    let wait = Some(Duration::from_secs(3));
    assert_eq!(stage.provision().await, Answer::Busy { retry_after: wait });
    assert_eq!(stage.provision().await, Answer::Busy { retry_after: None });
    assert!(matches!(
        stage.provision().await,
        Answer::MaintenanceConflict(_)
    ));
    let wait = Some(Duration::from_secs(7));
    assert_eq!(
        stage.provision().await,
        Answer::TooMany { retry_after: wait }
    );
    assert!(matches!(stage.provision().await, Answer::Rejected(r) if r.status == 410));
    assert!(
        matches!(stage.provision().await, Answer::Done(_)),
        "and then it works"
    );
}

#[tokio::test]
async fn an_operation_that_ends_badly_says_so() {
    let stage = Stage::new().await;
    stage
        .fake
        .script(On::Provision, [Fault::doomed("no space left")]);
    let op = crate::operation(stage.provision().await);
    let (_, ended) = stage.finish(Polled::Provision, op.as_deref()).await;
    let Progress::Failed(failure) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(failure.description.as_deref(), Some("no space left"));
    assert_eq!(failure.orphan, Orphan::Instance);
    assert_eq!(
        stage.fake.instances().len(),
        1,
        "what was half made is there"
    );
    assert_eq!(stage.deprovision().await, Answer::Done(()));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stage = Stage::new().await;
    let elsewhere = Fake::start().await.unwrap();
    let to = format!("{}v2/catalog", elsewhere.url());
    stage.fake.script(On::Provision, [Fault::redirect(&to)]);
    let left = doubt(stage.provision().await);
    assert_eq!(
        (left.mishap, left.orphan),
        (Mishap::Redirect, Orphan::Instance)
    );
    assert!(
        elsewhere.requests().is_empty(),
        "no credentials went elsewhere"
    );
}

#[tokio::test]
async fn what_is_refused_or_has_no_address_was_not_sent() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for url in [
        format!("http://127.0.0.1:{port}"),
        "http://no-such-host.invalid".to_owned(),
    ] {
        let endpoint =
            Endpoint::new(url.parse().unwrap()).with_credentials(Credentials::basic("u", PASSWORD));
        let client = Client::new(&endpoint).unwrap();
        let answer = client.catalog(&call(), None).await;
        assert!(
            matches!(answer, Answer::Unavailable { .. }),
            "{url}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn what_a_broker_repeats_of_its_password_is_covered() {
    let stage = Stage::new().await;
    let echo = format!("user platform has no password {PASSWORD}");
    stage.fake.script(
        On::Provision,
        [
            Fault::error(400, "Bad", &echo),
            Fault::say(500, echo.clone()),
            Fault::doomed(&echo),
        ],
    );
    let mut shown = format!("{:?}", stage.provision().await);
    shown.push_str(&format!("{:?}", stage.provision().await));
    let op = crate::operation(stage.provision().await);
    shown.push_str(&format!(
        "{:?}",
        stage.finish(Polled::Provision, op.as_deref()).await
    ));
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert_eq!(
        shown.matches("has no password (hidden)").count(),
        3,
        "{shown}"
    );
}

#[tokio::test]
async fn a_call_hides_the_secrets_that_it_carries() {
    let stage = Stage::new().await;
    stage
        .fake
        .script(On::Provision, [Fault::error(400, "Bad", "not hunter22")]);
    let call = call().hiding(["hunter22".to_owned()]);
    let request = stage.provision_request();
    let answer = stage
        .client
        .provision(&call, &stage.instance, &request, true)
        .await;
    assert!(matches!(answer, Answer::Rejected(r) if r.description == "not (hidden)"));
}
