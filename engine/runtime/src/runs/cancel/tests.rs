//! Nodes that die over the end of a run, and what those who wait for it hear nevertheless.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_model::{Name, OrgName, RunCommand, RunWake, TimerRequest, header, subject};
use engine_stream::{Fault, Faults, Memory, Operation};
use tokio::time::timeout;

use super::*;

/// Whoever writes the last of so many times does not live to do it.
struct DiesAt(Arc<AtomicUsize>);

impl Faults for DiesAt {
    fn next(&self, _: Operation) -> Fault {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        match left {
            1 => Fault::Delay(Duration::from_secs(3600)),
            _ => Fault::None,
        }
    }
}

fn wake(reply_to: &str, after: Seq) -> RunWake {
    RunWake {
        id: RunId::derived(format_args!("run")),
        org: OrgName::new("acme").unwrap(),
        function: Name::new("f").unwrap(),
        command: RunCommand::default(),
        actor: Actor("user:alice".into()),
        reply_to: Some(reply_to.to_owned()),
        after,
    }
}

fn envelope() -> RunEnvelope {
    let RunWake {
        id, org, function, ..
    } = wake("", Seq(0));
    RunEnvelope {
        id,
        org,
        function,
        command: RunCommand::cancelling(),
        actor: Actor("user:bob".into()),
        reply_to: None,
        at: Timestamp(0),
    }
}

/// Of those who wait for a run that waits, one is known to its timer alone, and one to its last
/// request alone.
#[tokio::test(start_paused = true)]
async fn all_who_wait_are_told_of_an_end_wherever_the_node_dies_over_it() {
    for line in 1..=6 {
        let dies_at = Arc::new(AtomicUsize::new(0));
        let dies = Arc::new(DiesAt(dies_at.clone()));
        let log = Memory::simulated(now(), Duration::from_secs(12), dies);
        let ((early, mut first), (late, mut second)) = (log.listen(), log.listen());
        let cancel = envelope();
        let (org, function, run) = (&cancel.org, &cancel.function, cancel.id);
        let delayed = RunAppend {
            org: org.clone(),
            function: function.clone(),
            run,
            event: RunEvent::Delayed {
                until: log.now().plus_ms(600_000),
                at: log.now(),
                command: Seq(1),
                digest: None,
            },
            expected: Seq(0),
        };
        let after = log.append_run(delayed).await.unwrap();
        let due = Due::wake(wake(&early, after));
        let at = log.now().plus_ms(600_000);
        let timer = TimerRequest { due, at };
        log.set_timer(&timer).await.unwrap();
        let request = subject::run_command(org, function, run);
        log.publish(&request, &[(header::REPLY_TO, &late)], b"{}")
            .unwrap();

        dies_at.store(line, Ordering::Relaxed);
        let in_hand = InHand::default();
        let died = timeout(
            Duration::from_secs(60),
            decide(&log, &in_hand, &cancel, false),
        );
        let died = died.await.is_err();
        assert_eq!(died, line <= 4, "an end, two who wait, and a timer: {line}");
        dies_at.store(0, Ordering::Relaxed);
        let decided = decide(&log, &in_hand, &cancel, died).await;
        decided.unwrap().unwrap();
        for heard in [&mut first, &mut second] {
            let heard = heard.try_recv().expect("they are told");
            let reply: RunReply = serde_json::from_slice(&heard).unwrap();
            let error = reply.result.error.unwrap();
            assert_eq!(error.kind, RunErrorKind::Cancelled, "{line}");
        }
        let left = log.timer(&Due::of_run(org, run)).await.unwrap();
        assert_eq!(left, None, "{line}");
    }
}
