use std::sync::Arc;

use adapter_kit::KeyStore as _;
use engine_model::spec::{ApplicationSpec, Spec};
use engine_model::{
    AsOf, Cause, CommandId, Commit, Event, Filter, KeyId, Kind, RunResult, SecretEvent, Timestamp,
};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::jetstream::JetStream;
use crate::port::Log as _;
use crate::settings::Settings;
use crate::testing::TestServer;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with the two kinds of users, the log as the one and a client as the other.
async fn bench() -> (TestServer, JetStream, Client) {
    let server = TestServer::with_users(&[
        ("engine", permissions(User::Engine)),
        ("client", permissions(User::Client)),
    ]);
    let log = JetStream::open(&server.connection_of("engine"), Settings::default())
        .await
        .unwrap();
    let client = Client::connect(&server.connection_of("client"), PATIENCE)
        .await
        .unwrap();
    (server, log, client)
}

fn org() -> OrgName {
    OrgName::new("acme").unwrap()
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(org(), Kind::Application, Name::new(name).unwrap())
}

fn submission(n: u32) -> Submission {
    Submission {
        id: CommandId::derived(format_args!("{n}")),
        key: key("a"),
        command: Command::Create(Spec::Application(ApplicationSpec::default())),
        actor: Actor("user:alice".into()),
    }
}

fn commit(key: &ResourceKey, expected: Seq, cause: Cause) -> Commit {
    Commit {
        id: Commit::id_for(key, expected, cause),
        key: key.clone(),
        events: vec![Event::Secret(SecretEvent::Deleted)],
        at: Timestamp(0),
        actor: Actor::engine(),
        cause,
        correlation: "x".into(),
    }
}

#[tokio::test]
async fn a_command_is_answered_and_so_is_its_repeat() {
    let (_server, log, client) = bench().await;
    let mut commands = log.commands().await.unwrap();
    let engine = log.clone();
    let engine = tokio::spawn(async move {
        let log = engine;
        for _ in 0..3 {
            let delivery = commands.pull(1).await.unwrap().remove(0);
            let command = delivery.item.unwrap();
            assert_eq!(command.actor.0, "user:alice");
            let reply = Reply::Done {
                command: command.id,
                seq: Seq(7),
            };
            log.answer(Some(&command.key.org), command.reply_to.as_deref(), &reply)
                .await
                .unwrap();
            delivery.ack.ack().await.unwrap();
        }
    });
    let (one, two) = tokio::join!(client.submit(submission(1)), client.submit(submission(2)));
    assert_eq!(
        one.unwrap(),
        Reply::Done {
            command: submission(1).id,
            seq: Seq(7)
        }
    );
    assert_eq!(
        two.unwrap(),
        Reply::Done {
            command: submission(2).id,
            seq: Seq(7)
        }
    );
    let again = client.submit(submission(1)).await.unwrap();
    assert_eq!(
        again,
        Reply::Done {
            command: submission(1).id,
            seq: Seq(7)
        }
    );
    engine.await.unwrap();
}

#[tokio::test]
async fn a_command_too_large_is_refused_before_it_is_sent() {
    let (_server, _log, client) = bench().await;
    let mut large = submission(1);
    large.command = Command::Abandon {
        reason: "x".repeat((1 << 20) + 1),
    };
    match client.submit(large).await.unwrap() {
        Reply::Rejected { rejection, .. } => assert_eq!(rejection.code, Code::TooLarge),
        done => panic!("{done:?}"),
    }
}

#[tokio::test]
async fn without_an_engine_a_command_times_out_and_a_query_finds_nobody() {
    let (server, _log, _client) = bench().await;
    let within = Duration::from_millis(300);
    let client = Client::connect(&server.connection_of("client"), within)
        .await
        .unwrap();
    let timed_out = client.submit(submission(1)).await;
    assert!(
        matches!(timed_out, Err(ClientError::Timeout(d)) if d == within),
        "{timed_out:?}"
    );
    assert!(matches!(
        client.query(query()).await,
        Err(ClientError::Unreachable(_))
    ));
}

#[tokio::test]
async fn a_run_is_accepted_answered_or_refused() {
    let (_server, log, client) = bench().await;
    let mut commands = log.run_commands().await.unwrap();
    // What is sent as the last handle goes may never leave.
    let worker = log.clone();
    let worker = tokio::spawn(async move {
        let log = worker;
        for n in 0..3 {
            let delivery = commands.pull(1).await.unwrap().remove(0);
            delivery.ack.ack().await.unwrap();
            let run = delivery.item.unwrap();
            let Some(reply_to) = run.reply_to else {
                continue;
            };
            let rejection = (n == 2).then(|| Rejection::new(Code::NotFound, "no such function"));
            let reply = RunReply {
                run: run.id,
                seq: Seq(3),
                started: None,
                result: RunResult {
                    output: run.command.input,
                    ..RunResult::default()
                },
                rejection,
                finished_at: Timestamp(1),
            };
            log.answer_run(&reply_to, &reply).await.unwrap();
        }
    });
    let run = |n: u32, wait| {
        let command = RunCommand {
            input: json!({"n": n}),
            ..RunCommand::default()
        };
        let function = Name::new("hello").unwrap();
        let client = client.clone();
        async move {
            let id = RunId::derived(format_args!("{n}"));
            client
                .run(id, &org(), &function, command, Actor::anonymous(), wait)
                .await
        }
    };
    assert!(matches!(
        run(1, None).await,
        Ok(RunTicket::Accepted { seq: Seq(1), .. })
    ));
    match run(2, Some(PATIENCE)).await {
        Ok(RunTicket::Finished(reply)) => assert_eq!(reply.result.output, json!({"n": 2})),
        other => panic!("{other:?}"),
    }
    match run(3, Some(PATIENCE)).await {
        Err(ClientError::Rejected(rejection)) => assert_eq!(rejection.code, Code::NotFound),
        other => panic!("{other:?}"),
    }
    worker.await.unwrap();
}

fn query() -> Query {
    Query {
        org: org(),
        filter: Filter::Info,
        at_least: Seq(0),
        runs_at_least: Seq(0),
    }
}

#[tokio::test]
async fn a_query_is_answered_whatever_its_size() {
    let (server, log, client) = bench().await;
    let service = log
        .serve_queries(|query: Query| async move {
            match query.filter {
                Filter::Runs { limit, .. } => Ok(Answer {
                    as_of: AsOf {
                        seq: query.at_least,
                        at: Timestamp(0),
                    },
                    documents: (0..limit)
                        .map(|n| json!({"n": n, "x": "x".repeat(1000)}))
                        .collect(),
                }),
                _ => Err(Rejection::new(Code::NotFound, "not there")),
            }
        })
        .await
        .unwrap();
    let runs = |limit| Query {
        filter: Filter::Runs {
            function: None,
            since: None,
            limit,
        },
        ..query()
    };
    for limit in [0, 3, 5000] {
        let answer = client.query(runs(limit)).await.unwrap();
        assert_eq!(answer.documents.len(), limit as usize);
        assert!(
            answer
                .documents
                .last()
                .is_none_or(|last| last["n"] == limit - 1)
        );
    }
    let refused = client.query(query()).await;
    assert!(matches!(refused, Err(ClientError::Rejected(r)) if r.code == Code::NotFound));

    // It is a micro service, and says plainly what is no query.
    let user = Link::connect(&server.connection_of("client"))
        .await
        .unwrap()
        .client;
    let info = user.request("$SRV.INFO.dispatch", "".into()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["endpoints"][0]["subject"], subject::QUERY);
    let odd = user.request(subject::QUERY, "?".into()).await.unwrap();
    assert!(
        String::from_utf8_lossy(&odd.payload).contains("not a query"),
        "{odd:?}"
    );

    service.stop().await;
    assert!(matches!(
        client.query(query()).await,
        Err(ClientError::Unreachable(_))
    ));
}

#[tokio::test]
async fn an_answer_goes_to_an_inbox_and_nowhere_else() {
    let (server, log, client) = bench().await;
    let _service = log
        .serve_queries(|_| async { Err(Rejection::new(Code::NotFound, "not there")) })
        .await
        .unwrap();
    let user = Link::connect(&server.connection_of("client"))
        .await
        .unwrap();
    let forged = "dispatch.evt.acme.application.forged";
    user.client
        .publish_with_reply(subject::QUERY, forged, json(&query()))
        .await
        .unwrap();
    user.round_trip().await.unwrap();
    // One that comes after it has been answered.
    assert!(matches!(
        client.query(query()).await,
        Err(ClientError::Rejected(_))
    ));
    assert_eq!(log.head().await.unwrap(), Seq(0));
}

#[tokio::test]
async fn only_what_was_stored_is_seen_with_its_position() {
    let (_server, log, client) = bench().await;
    let mut seen = client.watch_events(&key("watched")).await.unwrap();
    let key = key("watched");
    let one = commit(&key, Seq(0), Cause::Alarm);
    let first = log.append(&one, Seq(0)).await.unwrap();
    let clashing = commit(
        &key,
        Seq(0),
        Cause::Command(CommandId::derived(format_args!("c"))),
    );
    assert!(log.append(&clashing, Seq(0)).await.is_err());
    let two = commit(&key, first, Cause::Alarm);
    let second = log.append(&two, first).await.unwrap();
    for expected in [
        Recorded {
            seq: first,
            commit: one,
        },
        Recorded {
            seq: second,
            commit: two,
        },
    ] {
        let recorded = timeout(PATIENCE, seen.next()).await.unwrap().unwrap();
        assert_eq!(recorded, expected);
    }
}

#[tokio::test]
async fn a_client_stores_and_reads_blobs() {
    let (_server, log, client) = bench().await;
    let bytes = Bytes::from(vec![7; 300_000]);
    let digest = client.put_blob(bytes.clone()).await.unwrap();
    assert_eq!(client.put_blob(bytes.clone()).await.unwrap(), digest);
    assert_eq!(client.blobs().get(&digest).await.unwrap(), bytes);
    assert_eq!(log.blobs().get(&digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_client_writes_no_events_and_reads_no_keys() {
    let (server, log, _client) = bench().await;
    let secret = KeyId("k".into());
    log.keys()
        .create(&secret, b"wrapped".to_vec())
        .await
        .unwrap();
    let key = key("guarded");
    log.append(&commit(&key, Seq(0), Cause::Alarm), Seq(0))
        .await
        .unwrap();
    let digest = log.blobs().put(Bytes::from_static(b"blob")).await.unwrap();

    let user = Link::connect(&server.connection_of("client"))
        .await
        .unwrap();
    for subject in [
        "dispatch.evt.acme.application.guarded",
        "dispatch.run.acme.f.6d157a7c-4f0e-5c0b-9a7e-d15ba7c40001",
        "dispatch.due.acme.application.guarded.poll",
        "dispatch.redo.1",
        "dispatch.rejected.acme.x",
        "$KV.dispatch_keys.6b",
        "$JS.API.STREAM.DELETE.DISPATCH_EVENTS",
        "$JS.API.STREAM.PURGE.OBJ_dispatch_blobs",
        "$JS.API.STREAM.MSG.GET.KV_dispatch_keys",
        "$JS.API.DIRECT.GET.KV_dispatch_keys.$KV.dispatch_keys.6b",
        "$JS.API.CONSUMER.CREATE.KV_dispatch_keys",
    ] {
        // The server drops it and says so on the connection: there is no answer.
        let asked = user.client.send_request(
            subject,
            async_nats::Request::new()
                .payload(r#"{"last_by_subj":"$KV.dispatch_keys.6b"}"#.into())
                .timeout(Some(Duration::from_millis(150))),
        );
        let error = asked.await.expect_err(subject);
        assert_eq!(
            error.kind(),
            async_nats::RequestErrorKind::TimedOut,
            "{subject}"
        );
    }
    assert_eq!(log.head().await.unwrap(), Seq(1));
    assert_eq!(
        log.keys().get(&secret).await.unwrap(),
        Some(b"wrapped".to_vec())
    );
    assert_eq!(
        log.blobs().get(&digest).await.unwrap(),
        Bytes::from_static(b"blob")
    );

    // Subscribing to what is not a client's shows nothing, to what is, everything.
    let mut commands = user.client.subscribe("dispatch.cmd.>").await.unwrap();
    let mut events = user.client.subscribe("dispatch.evt.>").await.unwrap();
    user.round_trip().await.unwrap();
    let other = Arc::new(log);
    let other_client = other.client(Duration::from_millis(100)).await.unwrap();
    let _ = other_client.submit(submission(1)).await;
    other
        .append(&commit(&key, Seq(1), Cause::Alarm), Seq(1))
        .await
        .unwrap();
    assert!(timeout(PATIENCE, events.next()).await.unwrap().is_some());
    assert!(
        timeout(Duration::from_millis(50), commands.next())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_engine_may_do_all_that_the_log_needs() {
    let (_server, log, _client) = bench().await;
    let keys = log.keys();
    let id = KeyId("k".into());
    keys.create(&id, b"w".to_vec()).await.unwrap();
    keys.erase(&id).await.unwrap();
    let key = key("x");
    let group: Vec<_> = (0..20)
        .map(|n| {
            let key = ResourceKey {
                name: Name::new(format!("x{n}")).unwrap(),
                ..key.clone()
            };
            (commit(&key, Seq(0), Cause::Alarm), Seq(0))
        })
        .collect();
    assert!(log.append_group(&group).await.iter().all(Result::is_ok));
    let mut tail = log.tail(Seq(0)).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, tail.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .seq,
        Seq(1)
    );
    let mut reactions = log.reactions(engine_model::Role::Engine).await.unwrap();
    let delivered = timeout(PATIENCE, reactions.pull(50))
        .await
        .unwrap()
        .unwrap();
    delivered[0].ack.ack().await.unwrap();
    let due = engine_model::Due::new(key, engine_model::Alarm::RefreshCatalog);
    let timer = engine_model::TimerRequest {
        due: due.clone(),
        at: Timestamp(1),
    };
    log.set_timer(&timer).await.unwrap();
    let mut alarms = log.alarms().await.unwrap();
    let rung = timeout(PATIENCE, alarms.pull(1)).await.unwrap().unwrap();
    assert_eq!(rung[0].item, due);
    let letter = crate::port::DeadLetter {
        seq: Seq(0),
        org: Some(org()),
        stream: "events".into(),
        origin: Seq(1),
        subject: String::new(),
        reason: "r".into(),
        tries: 1,
        at: Timestamp(0),
    };
    log.bury(&letter).await.unwrap();
    let letters = log.dead_letters(1).await.unwrap();
    log.revive(letters[0].seq).await.unwrap();
}

#[tokio::test]
async fn a_command_whose_answer_was_lost_with_the_connection_is_asked_again_under_its_id() {
    let mut server = TestServer::start();
    let log = JetStream::open(&server.connection(), Settings::default())
        .await
        .unwrap();
    let client = Client::connect(&server.connection(), PATIENCE)
        .await
        .unwrap();
    let mut commands = log.commands().await.unwrap();
    let asking = tokio::spawn(async move { client.submit(submission(1)).await });
    let first = commands.pull(1).await.unwrap().remove(0);
    let id = first.item.unwrap().id;
    first.ack.ack().await.unwrap();
    log.flush().await.unwrap();
    server.restart();
    let answering = async {
        loop {
            // The consumer may need a moment to be back.
            let Ok(mut deliveries) = commands.pull(1).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(delivery) = deliveries.pop() else {
                continue;
            };
            let command = delivery.item.unwrap();
            assert_eq!(command.id, id, "the same command");
            let reply = Reply::Done {
                command: command.id,
                seq: Seq(7),
            };
            log.answer(Some(&command.key.org), command.reply_to.as_deref(), &reply)
                .await
                .unwrap();
            delivery.ack.ack().await.unwrap();
            return;
        }
    };
    timeout(PATIENCE, answering).await.unwrap();
    let answered = timeout(PATIENCE, asking).await.unwrap().unwrap();
    assert!(
        matches!(answered, Ok(Reply::Done { seq: Seq(7), .. })),
        "{answered:?}"
    );
}
