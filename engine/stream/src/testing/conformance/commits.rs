//! Rules of commits.

use std::time::Duration;

use engine_model::{Actor, Commit, Role, Seq};

use super::bed::Bed;
use super::samples::{commit, key, next, nothing, pull, pull_one};
use crate::port::AppendError;

/// Two decisions on the same position: one is stored, the other is told of a clash.
pub async fn of_two_writers_one_wins(bed: &mut dyn Bed) {
    let (log, key) = (bed.log(), key("contested"));
    let (one, two) = (commit(&key, Seq(0), 1), commit(&key, Seq(0), 2));
    let (first, second) = tokio::join!(log.append(&one, Seq(0)), log.append(&two, Seq(0)));
    let won = match (&first, &second) {
        (Ok(_), Err(AppendError::Clash)) => &one,
        (Err(AppendError::Clash), Ok(_)) => &two,
        other => panic!("not one winner: {other:?}"),
    };
    let last = log.last(&key).await.expect("read").expect("there");
    assert_eq!(&last.commit, won);
    assert_eq!(log.history(&key).await.expect("read").len(), 1);

    // Who has read up goes on.
    let after = commit(&key, last.seq, 3);
    let seq = log.append(&after, last.seq).await.expect("appended");
    assert!(seq > last.seq);
    assert!(matches!(
        log.append(&commit(&key, last.seq, 4), last.seq).await,
        Err(AppendError::Clash)
    ));
    let history = log.history(&key).await.expect("read");
    assert_eq!(
        history.iter().map(|r| &r.commit).collect::<Vec<_>>(),
        [won, &after]
    );
    assert_eq!(log.head().await.expect("read"), seq);
}

/// A repeat of an append is a success with the position of the first.
pub async fn a_commit_appended_twice_is_stored_once(bed: &mut dyn Bed) {
    let (log, key) = (bed.log(), key("repeated"));
    let commit = commit(&key, Seq(0), 1);
    let first = log.append(&commit, Seq(0)).await.expect("appended");
    let again = log.append(&commit, Seq(0)).await.expect("recognised");
    assert_eq!(first, again);
    let group = log.append_group(&[(commit.clone(), Seq(0))]).await;
    assert_eq!(*group[0].as_ref().expect("recognised"), first);
    assert_eq!(log.history(&key).await.expect("read").len(), 1);

    // What another node made of the same, at another moment, is not this one: it has to be read.
    let other = Commit {
        at: commit.at.plus_ms(1),
        ..commit.clone()
    };
    let refused = log.append(&other, Seq(0)).await;
    assert!(matches!(refused, Err(AppendError::Clash)), "{refused:?}");
    let group = log.append_group(&[(other, Seq(0))]).await;
    assert!(
        matches!(group[0], Err(AppendError::Clash)),
        "{:?}",
        group[0]
    );
    let last = log.last(&key).await.expect("read").expect("there");
    assert_eq!(last.commit, commit);
}

/// A commit that fits no message is refused as such, and nothing is disturbed.
pub async fn a_commit_too_large_is_refused(bed: &mut dyn Bed) {
    let (log, key) = (bed.log(), key("large"));
    let mut large = commit(&key, Seq(0), 1);
    large.actor = Actor("x".repeat((1 << 20) + 1));
    let refused = log.append(&large, Seq(0)).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { bytes }) if bytes > 1 << 20));
    log.append(&commit(&key, Seq(0), 2), Seq(0))
        .await
        .expect("appended");
}

/// One clash in a group does not disturb the others, whatever the group's size.
pub async fn a_group_goes_on_around_a_clash(bed: &mut dyn Bed) {
    let log = bed.log();
    for size in [3_u32, 40] {
        let clashing = size / 2;
        let named = |n: u32| key(&format!("g{size}-{n}"));
        log.append(&commit(&named(clashing), Seq(0), 900), Seq(0))
            .await
            .expect("appended");
        let group: Vec<_> = (0..size)
            .map(|n| (commit(&named(n), Seq(0), n), Seq(0)))
            .collect();
        let results = log.append_group(&group).await;
        for (n, result) in (0..size).zip(&results) {
            if n == clashing {
                assert!(matches!(result, Err(AppendError::Clash)), "{n}: {result:?}");
                continue;
            }
            let seq = *result.as_ref().expect("appended");
            let last = log.last(&named(n)).await.expect("read").expect("there");
            assert_eq!((last.seq, &last.commit), (seq, &group[n as usize].0));
        }
        // The whole group again: each is recognised.
        let again = log.append_group(&group).await;
        for (first, again) in results.iter().zip(&again) {
            assert_eq!(first.as_ref().ok(), again.as_ref().ok());
        }
    }
}

/// A group may be larger than the server takes at a time.
pub async fn a_large_group_is_appended_whole(bed: &mut dyn Bed) {
    let log = bed.log();
    let named = |n: u32| key(&format!("many-{n}"));
    let group: Vec<_> = (0..1234)
        .map(|n| (commit(&named(n), Seq(0), n), Seq(0)))
        .collect();
    let results = log.append_group(&group).await;
    let seqs: Vec<Seq> = results.into_iter().map(|r| r.expect("appended")).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    let mut tail = log.tail(Seq(0)).await.expect("followed");
    for (seq, (commit, _)) in seqs.iter().zip(&group) {
        let recorded = next(&mut tail).await;
        assert_eq!((recorded.seq, &recorded.commit), (*seq, commit));
    }
}

/// A tail begins after a position and goes on with what comes.
pub async fn a_tail_resumes_after_a_position(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut seqs = Vec::new();
    for n in 0..5 {
        let key = key(&format!("t{n}"));
        seqs.push(
            log.append(&commit(&key, Seq(0), n), Seq(0))
                .await
                .expect("appended"),
        );
    }
    let mut tail = log.tail(seqs[2]).await.expect("followed");
    assert_eq!(next(&mut tail).await.seq, seqs[3]);
    assert_eq!(next(&mut tail).await.seq, seqs[4]);
    let live = log
        .append(&commit(&key("t5"), Seq(0), 5), Seq(0))
        .await
        .expect("appended");
    assert_eq!(next(&mut tail).await.seq, live);
}

/// A tail heals itself, and misses nothing and repeats nothing. Appends wait for the server.
pub async fn a_tail_survives_the_death_of_the_server(bed: &mut dyn Bed) {
    let log = bed.log();
    let mut tail = log.tail(Seq(0)).await.expect("followed");
    for n in 0..30_u32 {
        if n % 10 == 5 {
            bed.restart().await;
        }
        let commit = commit(&key(&format!("r{n}")), Seq(0), n);
        log.append(&commit, Seq(0)).await.expect("appended");
    }
    for n in 0..30_u32 {
        let recorded = next(&mut tail).await;
        assert_eq!(recorded.commit, commit(&key(&format!("r{n}")), Seq(0), n));
    }
}

/// A long past is read whole and in order, from any position, and then what comes; also when the
/// server dies meanwhile.
pub async fn a_long_past_is_replayed_whole(bed: &mut dyn Bed) {
    let log = bed.log();
    let named = |n: u32| key(&format!("past-{n}"));
    let past: Vec<_> = (0..7000)
        .map(|n| (commit(&named(n), Seq(0), n), Seq(0)))
        .collect();
    let results = log.append_group(&past).await;
    assert!(results.iter().all(Result::is_ok));
    for after in [0_usize, 1, 2500, 6999] {
        let mut tail = log.tail(Seq(after as u64)).await.expect("followed");
        if after == 2500 {
            assert_eq!(next(&mut tail).await.seq.0, 2501);
            bed.restart().await;
        }
        let first = if after == 2500 { after + 1 } else { after };
        for (n, (commit, _)) in past.iter().enumerate().skip(first) {
            let recorded = next(&mut tail).await;
            assert_eq!((recorded.seq.0, &recorded.commit), (n as u64 + 1, commit));
        }
        let live = commit(&key(&format!("live-{after}")), Seq(0), 1);
        log.append(&live, Seq(0)).await.expect("appended");
        loop {
            let recorded = next(&mut tail).await;
            assert!(recorded.seq.0 > 7000);
            if recorded.commit == live {
                break;
            }
        }
    }
}

/// Each role's reactors get each commit, and get it again until one acknowledges.
pub async fn a_reactor_gets_each_commit_until_it_acknowledges(bed: &mut dyn Bed) {
    let log = bed.log();
    let key = key("reacted");
    let seq = log
        .append(&commit(&key, Seq(0), 1), Seq(0))
        .await
        .expect("appended");
    let mut engine = log.reactions(Role::Engine).await.expect("opened");
    let mut worker = log.reactions(Role::Worker).await.expect("opened");

    let first = pull_one(engine.as_mut()).await;
    assert_eq!((first.seq, first.deliveries, first.item.seq), (seq, 1, seq));
    // It dies without a word.
    drop(first);
    let again = pull_one(engine.as_mut()).await;
    assert_eq!((again.seq, again.deliveries), (seq, 2));
    again.ack.ack().await.expect("acknowledged");

    let other = pull_one(worker.as_mut()).await;
    assert_eq!((other.seq, other.deliveries), (seq, 1));
    other.ack.ack().await.expect("acknowledged");

    // Another node of the same role shares the work: what is done is done.
    let mut second = log.reactions(Role::Engine).await.expect("opened");
    nothing(second.as_mut(), bed.ack_wait() + Duration::from_millis(300)).await;
    let next = commit(&key, seq, 2);
    log.append(&next, seq).await.expect("appended");
    drop(engine);
    let delivered = pull(second.as_mut(), 10).await;
    assert_eq!(delivered[0].item.commit, next);
}
