//! Polls between those that are kept on record: they are this node's own business. When it dies,
//! the alarm of the next kept poll finds another node.

use std::sync::Arc;
use std::time::Duration;

use engine_core::{poll, polls};
use engine_model::{Actor, Cause, EffectId, RequestId, ResourceKey, Timestamp};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tracing::debug;

use crate::clock::now;
use crate::fold::Fold;
use crate::hands::{Context, Hands};

/// Polls that wait at most; for more of them the kept polls must do.
const WAITING_MAX: usize = 200_000;

/// Polls that are handed over at once.
const HANDED_MAX: usize = 4096;

/// Polls that are under way at once; brokers have budgets of their own.
const UNDERWAY_MAX: usize = 1024;

/// An operation that is to be polled again.
#[derive(Debug)]
struct Again {
    key: ResourceKey,
    request: RequestId,
    at: Timestamp,
}

/// Where operations are put that are to be polled again.
#[derive(Debug, Clone)]
pub(crate) struct Polls(mpsc::Sender<Again>);

/// What waits.
#[derive(Debug)]
pub(crate) struct Waiting(mpsc::Receiver<Again>);

/// An empty queue.
pub(crate) fn queue() -> (Polls, Waiting) {
    let (sender, receiver) = mpsc::channel(HANDED_MAX);
    (Polls(sender), Waiting(receiver))
}

impl Polls {
    /// Has an operation polled again. One that finds no room is left to its kept poll.
    pub(crate) fn again(&self, key: &ResourceKey, request: RequestId, at: Timestamp) {
        let key = key.clone();
        if self.0.try_send(Again { key, request, at }).is_err() {
            debug!(%request, "no room for a poll");
        }
    }
}

/// Polls until `stop`.
pub(crate) async fn work(
    waiting: Waiting,
    fold: Arc<Fold>,
    hands: Arc<Hands>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let Waiting(mut receiver) = waiting;
    let mut queue = DelayQueue::new();
    for (key, request, at) in fold.read(|world| polls(world, now())) {
        if queue.len() < WAITING_MAX {
            queue.insert(Again { key, request, at }, until(at));
        }
    }
    let mut underway = JoinSet::new();
    let mut number: u32 = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(again) = receiver.recv() => {
                if queue.len() < WAITING_MAX {
                    let rest = until(again.at);
                    queue.insert(again, rest);
                }
            }
            Some(expired) = queue.next(), if underway.len() < UNDERWAY_MAX => {
                number = number.wrapping_add(1);
                let (fold, hands, number) = (fold.clone(), hands.clone(), number);
                let Again { key, request, .. } = expired.into_inner();
                underway.spawn(async move { look(&fold, &hands, &key, request, number).await });
            }
            Some(_) = underway.join_next() => {}
        }
    }
    underway.abort_all();
    Ok(())
}

fn until(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.since_ms(now())).unwrap_or(0))
}

async fn look(fold: &Fold, hands: &Hands, key: &ResourceKey, request: RequestId, number: u32) {
    let (effects, seq) = fold.read(|world| (poll(world, key, request), world.last_seq(key)));
    let ctx = Context {
        key: key.clone(),
        actor: Actor::engine(),
        correlation: key.to_string(),
        cause: Cause::Alarm,
        repeat: false,
    };
    for effect in &effects {
        // Each poll is a request of its own to the broker.
        let id = EffectId { seq, index: number };
        if let Err(later) = hands.perform(id, effect, &ctx).await {
            debug!(resource = %key, reason = %later.reason, "poll is left to the kept one");
        }
    }
}
