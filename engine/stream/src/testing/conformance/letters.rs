//! Rules of dead letters.

use std::time::Duration;

use engine_model::{Command, Role, Seq, Timestamp, header};

use super::bed::Bed;
use super::samples::{command_id, commit, key, nothing, org, pull_one};
use crate::port::{DeadLetter, Error};

fn letter(stream: &str, origin: Seq, subject: &str) -> DeadLetter {
    DeadLetter {
        seq: Seq(0),
        org: Some(org()),
        stream: stream.into(),
        origin,
        subject: subject.into(),
        reason: "it failed\nten times".into(),
        tries: 10,
        at: Timestamp(1_700_000_000_000),
    }
}

/// A buried command is gone from its queue and comes back, with the same id, when it is revived.
pub async fn a_buried_command_can_be_revived(bed: &mut dyn Bed) {
    let log = bed.log();
    let subject = "dispatch.cmd.acme.application.buried";
    let id = command_id(1).to_string();
    let headers = [(header::MSG_ID, id.as_str()), (header::ACTOR, "user:alice")];
    bed.publish(subject, &headers, br#"{"Delete":{}}"#).await;
    let mut commands = log.commands().await.expect("opened");
    let delivered = pull_one(commands.as_mut()).await;
    log.bury(&letter("commands", delivered.seq, subject))
        .await
        .expect("buried");
    delivered.ack.ack().await.expect("acknowledged");

    let letters = log.dead_letters(10).await.expect("listed");
    assert_eq!(letters.len(), 1);
    let kept = &letters[0];
    assert!(kept.seq > Seq(0));
    let expected = DeadLetter {
        seq: kept.seq,
        ..letter("commands", delivered.seq, subject)
    };
    assert_eq!(format!("{kept:?}"), format!("{expected:?}"));

    log.revive(kept.seq).await.expect("revived");
    let again = pull_one(commands.as_mut()).await;
    let command = again.item.as_ref().expect("a command");
    assert_eq!((command.id, &command.key), (command_id(1), &key("buried")));
    assert_eq!(command.actor.0, "user:alice");
    assert!(matches!(command.command, Command::Delete(_)));
    again.ack.ack().await.expect("acknowledged");
    assert!(log.dead_letters(10).await.expect("listed").is_empty());
    assert!(matches!(log.revive(kept.seq).await, Err(Error::Refused(_))));
}

/// A commit that a reactor gave up comes to the reactors once more, under its own position.
pub async fn a_buried_commit_comes_to_its_reactors_again(bed: &mut dyn Bed) {
    let log = bed.log();
    let commit = commit(&key("given-up"), Seq(0), 1);
    let seq = log.append(&commit, Seq(0)).await.expect("appended");
    let mut reactions = log.reactions(Role::Engine).await.expect("opened");
    let delivered = pull_one(reactions.as_mut()).await;
    let subject = "dispatch.evt.acme.application.given-up";
    log.bury(&letter("events", seq, subject))
        .await
        .expect("buried");
    delivered.ack.ack().await.expect("acknowledged");
    nothing(
        reactions.as_mut(),
        bed.ack_wait() + Duration::from_millis(300),
    )
    .await;

    let buried = log.dead_letters(10).await.expect("listed").remove(0);
    log.revive(buried.seq).await.expect("revived");
    let again = pull_one(reactions.as_mut()).await;
    assert_eq!(
        (again.seq, again.item.seq, &again.item.commit),
        (seq, seq, &commit)
    );
    again.ack.ack().await.expect("acknowledged");
    nothing(
        reactions.as_mut(),
        bed.ack_wait() + Duration::from_millis(300),
    )
    .await;
    assert_eq!(
        log.head().await.expect("read"),
        seq,
        "the event stream is as it was"
    );
}

/// Burying is safe to repeat, and letters are listed oldest first, as many as asked for.
pub async fn a_letter_buried_twice_is_one(bed: &mut dyn Bed) {
    let log = bed.log();
    for n in [1, 2, 2, 3] {
        let subject = "dispatch.due.acme.application.x.poll";
        log.bury(&letter("timers", Seq(n), subject))
            .await
            .expect("buried");
    }
    let origins = |letters: Vec<DeadLetter>| letters.iter().map(|l| l.origin.0).collect::<Vec<_>>();
    assert_eq!(
        origins(log.dead_letters(10).await.expect("listed")),
        [1, 2, 3]
    );
    assert_eq!(origins(log.dead_letters(2).await.expect("listed")), [1, 2]);
}
