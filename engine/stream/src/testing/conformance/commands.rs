//! Rules of commands.

use std::collections::HashMap;
use std::time::Duration;

use engine_model::{Code, Command, Rejection, Reply, Seq, header};
use tokio::time::{Instant, timeout};

use super::bed::Bed;
use super::samples::{PATIENCE, command_id, nothing, org, pull, pull_one};

const SUBJECT: &str = "dispatch.cmd.acme.application.a";
const CREATE: &[u8] = br#"{"Create":{"Application":{}}}"#;

/// The server recognises a repeat by its message id.
pub async fn a_command_with_the_same_id_comes_once(bed: &mut dyn Bed) {
    let id = command_id(1).to_string();
    let (inbox, _answers) = bed.listen().await;
    let headers = [
        (header::MSG_ID, id.as_str()),
        (header::ACTOR, "user:alice"),
        (header::REPLY_TO, inbox.as_str()),
        (header::CORRELATION, "together"),
    ];
    bed.publish(SUBJECT, &headers, CREATE).await;
    bed.publish(SUBJECT, &headers, CREATE).await;
    let mut commands = bed.log().commands().await.expect("opened");
    let delivered = pull_one(commands.as_mut()).await;
    let command = delivered.item.as_ref().expect("a command");
    assert_eq!(command.id, command_id(1));
    assert_eq!(command.actor.0, "user:alice");
    assert_eq!(command.correlation, "together");
    assert_eq!(command.reply_to.as_deref(), Some(inbox.as_str()));
    assert!(matches!(command.command, Command::Create(_)));
    delivered.ack.ack().await.expect("acknowledged");
    nothing(
        commands.as_mut(),
        bed.ack_wait() + Duration::from_millis(300),
    )
    .await;
}

/// What was not ended comes again; what was is gone, also for another node.
pub async fn a_command_that_is_not_acknowledged_comes_again(bed: &mut dyn Bed) {
    for n in 0..3 {
        bed.publish(&format!("{SUBJECT}{n}"), &[], CREATE).await;
    }
    let mut commands = bed.log().commands().await.expect("opened");
    let mut ids = Vec::new();
    while ids.len() < 3 {
        for (i, delivery) in pull(commands.as_mut(), 10).await.into_iter().enumerate() {
            let id = delivery.item.as_ref().expect("a command").id;
            if ids.len() + i > 0 {
                delivery.ack.ack().await.expect("acknowledged");
            }
            ids.push(id);
        }
    }
    drop(commands);
    let mut other = bed.log().commands().await.expect("opened");
    let again = pull_one(other.as_mut()).await;
    assert_eq!(again.item.as_ref().expect("a command").id, ids[0]);
    assert_eq!(again.deliveries, 2);
    again.ack.ack().await.expect("acknowledged");
    nothing(other.as_mut(), bed.ack_wait() + Duration::from_millis(300)).await;
}

/// A delivery that is put off comes again after its delay and not before.
pub async fn a_retried_command_waits_its_delay(bed: &mut dyn Bed) {
    bed.publish(SUBJECT, &[], CREATE).await;
    let mut commands = bed.log().commands().await.expect("opened");
    let first = pull_one(commands.as_mut()).await;
    let delay = bed.ack_wait() * 2;
    let began = Instant::now();
    first.ack.again(delay).await.expect("put off");
    drop(first);
    let again = pull_one(commands.as_mut()).await;
    assert_eq!(again.deliveries, 2);
    assert!(
        began.elapsed() + Duration::from_millis(5) >= delay,
        "{:?}",
        began.elapsed()
    );
}

/// A delivery that is still being handled does not come again.
pub async fn progress_holds_a_command_back(bed: &mut dyn Bed) {
    bed.publish(SUBJECT, &[], CREATE).await;
    let mut commands = bed.log().commands().await.expect("opened");
    let held = pull_one(commands.as_mut()).await;
    for _ in 0..8 {
        nothing(commands.as_mut(), bed.ack_wait() / 3).await;
        held.ack.progress().await.expect("told");
    }
    held.ack.ack().await.expect("acknowledged");
    nothing(
        commands.as_mut(),
        bed.ack_wait() + Duration::from_millis(300),
    )
    .await;
}

/// What is no command is delivered as what it is, with where to send the refusal.
pub async fn what_is_malformed_is_delivered_with_its_fault(bed: &mut dyn Bed) {
    let (inbox, mut answers) = bed.listen().await;
    let large = vec![b'x'; 900 * 1024];
    let create_secret = br#"{"Create":{"Secret":{"secrets":"hunter2"}}}"#;
    let cases: [(&str, &[u8], Code); 7] = [
        (
            "dispatch.cmd.acme.application.one",
            b"{\"Create\":",
            Code::MalformedCommand,
        ),
        ("dispatch.cmd.acme.gizmo.two", CREATE, Code::UnknownKind),
        (
            "dispatch.cmd.acme.application.-three",
            CREATE,
            Code::InvalidName,
        ),
        ("dispatch.cmd.acme.image.four", CREATE, Code::WrongKind),
        (
            "dispatch.cmd.acme.secret.five",
            create_secret,
            Code::MalformedCommand,
        ),
        ("dispatch.cmd.acme", CREATE, Code::MalformedCommand),
        ("dispatch.cmd.acme.application.six", &large, Code::TooLarge),
    ];
    for (n, (subject, body, _)) in (0_u32..).zip(&cases) {
        let id = command_id(n).to_string();
        let headers = [
            (header::MSG_ID, id.as_str()),
            (header::REPLY_TO, inbox.as_str()),
        ];
        bed.publish(subject, &headers, body).await;
    }
    let log = bed.log();
    let mut commands = log.commands().await.expect("opened");
    let mut seen: HashMap<_, Code> = HashMap::new();
    while seen.len() < cases.len() {
        for delivery in pull(commands.as_mut(), 10).await {
            let refused = delivery.item.as_ref().expect_err("no command");
            assert_eq!(refused.org, Some(org()));
            assert_eq!(refused.reply_to.as_deref(), Some(inbox.as_str()));
            assert!(
                !refused.rejection.message.contains("hunter2"),
                "{:?}",
                refused.rejection
            );
            seen.insert(refused.command, refused.rejection.code);
            let rejection = refused.rejection.clone();
            let reply = Reply::Rejected {
                command: refused.command,
                rejection,
            };
            log.answer(refused.org.as_ref(), refused.reply_to.as_deref(), &reply)
                .await
                .expect("answered");
            delivery.ack.ack().await.expect("acknowledged");
        }
    }
    for (n, (subject, _, code)) in (0_u32..).zip(&cases) {
        assert_eq!(seen[&command_id(n)], *code, "{subject}");
        let answer = timeout(PATIENCE, answers.recv())
            .await
            .expect("in time")
            .expect("answered");
        let reply: Reply = serde_json::from_slice(&answer).expect("a reply");
        assert!(matches!(reply, Reply::Rejected { .. }));
    }
}

/// The sender hears the outcome, done or refused.
pub async fn a_refusal_is_heard_by_its_sender(bed: &mut dyn Bed) {
    let (inbox, mut answers) = bed.listen().await;
    let log = bed.log();
    let done = Reply::Done {
        command: command_id(1),
        seq: Seq(7),
    };
    let refused = Reply::Rejected {
        command: command_id(2),
        rejection: Rejection::new(Code::InUse, "others use it"),
    };
    for reply in [&done, &refused] {
        log.answer(Some(&org()), Some(&inbox), reply)
            .await
            .expect("answered");
        let heard = timeout(PATIENCE, answers.recv())
            .await
            .expect("in time")
            .expect("heard");
        assert_eq!(
            &serde_json::from_slice::<Reply>(&heard).expect("a reply"),
            reply
        );
    }
    // Who does not listen is no fault, and a repeat is none.
    log.answer(None, None, &refused).await.expect("kept");
    log.answer(None, Some("_INBOX.nobody"), &refused)
        .await
        .expect("kept");
}
