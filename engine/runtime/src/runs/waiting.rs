//! Runs that were put aside: each function that has some has a lane, which takes them in again
//! when this node has room.
//!
//! A lane is opened by whoever puts a run aside, and by a sweep that looks at what the stream
//! holds, so that no run needs the node that put it aside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_model::{RunEnvelope, RunWake, Seq};
use engine_stream::{Delivery, Error};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::intake::{Key, Place};
use super::lanes::Lanes;
use super::{AGAIN, Begun, Bench, Room, carry};
use crate::clock::now;
use crate::pull::RECONNECT;

/// Pause between two looks at what the stream holds.
const PAUSE: Duration = Duration::from_secs(5);

/// A lane to which nothing comes for so long has caught up.
const IDLE: Duration = Duration::from_millis(50);

/// A lane to which nothing comes for so long ends, and gives its places back. It is opened again
/// when a run is put aside here, or when the next look at the stream finds some.
const QUIET: Duration = Duration::from_secs(1);

/// A lane that waits for room for so long gives its inbox up, so that nothing can lie in it while
/// its time to be acknowledged runs out.
const FULL: Duration = Duration::from_secs(1);

/// Runs that a lane asks for at once; lanes take turns at the room that there is.
const BATCH: usize = 16;

/// Functions whose waiting runs a node takes in at a time. Each is a consumer, of which a stream has
/// a thousand at most unless its server is told otherwise.
const LANES_MAX: usize = 256;

/// Positions of runs that were put aside are told from those of run commands by this bit: the two
/// streams count for themselves, and a run's log names the message that it belongs to.
const PUT_ASIDE: u64 = 1 << 52;

/// What a run's log calls the message at this position of the waiting runs.
pub(super) fn named(seq: Seq) -> Seq {
    Seq(seq.0 | PUT_ASIDE)
}

/// Whether a run's log calls a message of the waiting runs so.
pub(super) fn is_put_aside(command: Seq) -> bool {
    command.0 & PUT_ASIDE != 0
}

/// Runs that were taken in, of all lanes: a lane that closes does not wait for their ends.
#[derive(Clone, Default)]
struct Underway(Arc<Mutex<JoinSet<()>>>);

impl Underway {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, run: impl Future<Output = ()> + Send + 'static) {
        let mut runs = self.lock();
        while runs.try_join_next().is_some() {}
        runs.spawn(run);
    }

    /// Waits for the ends of all.
    async fn join(self) {
        let mut runs = std::mem::take(&mut *self.lock());
        while runs.join_next().await.is_some() {}
    }
}

/// What the lanes are looked at for.
enum Event {
    Behind,
    Sweep,
    Ended(tokio::task::Id),
}

/// Keeps the lanes until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Error> {
    let underway = Underway::default();
    let mut lanes = Lanes::new(LANES_MAX);
    let mut tasks = JoinSet::new();
    let mut sweep = interval_at(Instant::now() + PAUSE, PAUSE);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = bench.intake.fell_behind() => Event::Behind,
            _ = sweep.tick() => Event::Sweep,
            Some(ended) = tasks.join_next_with_id() => Event::Ended(match ended {
                Ok((task, ())) => task,
                Err(error) => {
                    warn!(%error, "a lane of waiting runs broke off");
                    error.id()
                }
            }),
            () = stop.cancelled() => break,
        };
        match event {
            Event::Behind => lanes.want(bench.intake.behind()),
            Event::Sweep => {
                lanes.want(bench.intake.behind());
                lanes.want(waiting(&bench).await);
                lanes.make_room();
            }
            Event::Ended(task) => {
                lanes.ended(task);
                // It may have fallen behind again meanwhile.
                lanes.want(bench.intake.behind());
            }
        }
        while let Some(key) = lanes.next() {
            let close = stop.child_token();
            let lane = lane(bench.clone(), key.clone(), close.clone(), underway.clone());
            let task = tasks.spawn(lane).id();
            lanes.opened(key, close, task);
        }
    }
    while tasks.join_next().await.is_some() {}
    // Those that are under way end; those that are not begun come again elsewhere.
    underway.join().await;
    Ok(())
}

/// The functions of which runs wait in the stream.
async fn waiting(bench: &Bench) -> Vec<Key> {
    match bench.log.waiting().await {
        Ok(counts) => counts
            .into_iter()
            .map(|(org, function, _)| (org, function))
            .collect(),
        Err(error) => {
            debug!(%error, "runs that wait could not be counted");
            Vec::new()
        }
    }
}

/// Takes in the waiting runs of a function, in order, until there are none or it is closed.
async fn lane(bench: Arc<Bench>, key: Key, close: CancellationToken, underway: Underway) {
    let Err(error) = serve(&bench, &key, &close, &underway).await else {
        return;
    };
    warn!(function = %key.1, %error, "waiting runs cannot be had");
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        () = close.cancelled() => {}
    }
}

/// Never asks for more than it has places for. What was asked for and has not come keeps its
/// places, so that whatever comes is begun at once.
async fn serve(
    bench: &Arc<Bench>,
    key: &Key,
    close: &CancellationToken,
    underway: &Underway,
) -> Result<(), Error> {
    let mut inbox = None;
    let mut places: Vec<Place> = Vec::new();
    // One until something came, since many lanes find nothing.
    let mut batch = 1;
    let mut quiet_since = Instant::now();
    loop {
        if places.is_empty() {
            let some = bench.intake.places(key, batch);
            tokio::pin!(some);
            places = loop {
                tokio::select! {
                    some = &mut some => break some,
                    () = tokio::time::sleep(FULL), if inbox.is_some() => inbox = None,
                    () = close.cancelled() => return Ok(()),
                }
            };
            quiet_since = Instant::now();
        } else {
            places.extend(bench.intake.some_places(key, batch - places.len()));
        }
        let source = match &mut inbox {
            Some(source) => source,
            None => inbox.insert(bench.log.waiting_runs(&key.0, &key.1).await?),
        };
        let pulled = tokio::select! {
            pulled = source.pull(places.len()) => pulled,
            () = tokio::time::sleep(IDLE), if bench.intake.is_behind(key) => {
                bench.intake.caught_up(key);
                if places.len() > 1 {
                    // What comes now need not be put aside, if this lane leaves it the room.
                    (inbox, batch) = (None, 1);
                    places.truncate(batch);
                }
                continue;
            }
            () = sleep_until(quiet_since + QUIET), if !bench.intake.is_behind(key) => return Ok(()),
            () = close.cancelled() => return Ok(()),
        };
        let deliveries = match pulled {
            Ok(deliveries) => deliveries,
            Err(Error::Unavailable(reason)) => {
                warn!(%reason, "waiting runs unavailable");
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        bench.intake.fall_behind(key);
        for delivery in deliveries {
            let place = places.pop().expect("no more come than were asked for");
            let bench = bench.clone();
            underway.spawn(async move {
                let _place = place;
                take_in(&bench, delivery).await;
            });
        }
        batch = BATCH;
        quiet_since = Instant::now();
    }
}

async fn take_in(bench: &Bench, delivery: Delivery<RunWake>) {
    let wake = delivery.item;
    match is_forgotten(bench, &wake).await {
        Ok(false) => {}
        Ok(true) => {
            debug!(run.id = %wake.id, "run is not kept any more, and not begun again");
            return end(&wake, delivery.ack.ack().await);
        }
        Err(error) => {
            debug!(run.id = %wake.id, %error, "run comes again");
            return end(&wake, delivery.ack.again(AGAIN).await);
        }
    }
    let envelope = RunEnvelope {
        id: wake.id,
        org: wake.org,
        function: wake.function,
        command: wake.command,
        actor: wake.actor,
        reply_to: wake.reply_to,
        at: now(),
    };
    let begun = Begun {
        command: named(delivery.seq),
        deliveries: delivery.deliveries,
        // It may have been cancelled, or begun under the message that asked for it.
        look: true,
        room: Room::Taken,
    };
    carry(bench, &envelope, begun, delivery.ack.as_ref()).await;
}

/// Whether something was on record of a run when it was put aside, and nothing is any more. Whether
/// it was cancelled, nobody knows then.
async fn is_forgotten(bench: &Bench, wake: &RunWake) -> Result<bool, Error> {
    if wake.after == Seq(0) {
        return Ok(false);
    }
    let (org, function) = (&wake.org, &wake.function);
    let last = bench.log.last_run_event(org, function, wake.id).await?;
    Ok(last.is_none())
}

fn end(wake: &RunWake, ended: Result<(), Error>) {
    if let Err(error) = ended {
        debug!(run.id = %wake.id, %error, "run was not acknowledged and comes again");
    }
}
