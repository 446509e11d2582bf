//! Schedules: what is due is asked for, once for each occurrence.
//!
//! A timer of the server says when to look, and each look sets the next one. Any node may look, at
//! any time and beside any other: what it finds is asked for under ids that all nodes derive, and
//! the log of runs tells what was asked for already.
//!
//! ```text
//!  timer ──► look ──► the run's log: Delayed ──► its request ──► timer of the next
//!              ▲       (the first one wins)       (a repeat is the same)
//!  sweep ──────┘ when the latest has no log
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapter_kit::Later;
use engine_core::{Occurrence, Turn, before, latest, passed, recorded, request, schedules, turn};
use engine_model::spec::Overlap;
use engine_model::{
    Actor, Alarm, Cause, Due, Name, Outcome, ResourceId, ResourceKey, RunEvent, RunId, RunResult,
    ScheduleOutcome, Seq, TimerRequest, Timestamp,
};
use engine_stream::{AppendError, Error, Log, RunAppend};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::fold::Fold;
use crate::hold;
use crate::ledger::{Ask, Ledger, LedgerError, Request};
use crate::underway::Underway;

/// Pause between two looks at all schedules.
const PAUSE: Duration = Duration::from_secs(5);

/// How late a run may be, in milliseconds, before the sweep looks after it.
const OVERDUE_MS: i64 = 3_000;

/// Schedules that are looked at at once.
const AT_ONCE: usize = 16;

/// A timer may come so much before its moment as this node's clock tells it, in milliseconds.
const EARLY_MS_MAX: i64 = 1_000;

/// Wait before a look that met a fault, or another look, is tried again.
const AGAIN: Duration = Duration::from_millis(300);

/// How often a look reads again where a run stands that others write at the same time. Each time
/// one of them has got on, and there are no more than three steps.
const CLASHES_MAX: usize = 8;

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Looks after the schedules of an installation.
pub(crate) struct Schedules {
    log: Arc<dyn Log>,
    fold: Arc<Fold>,
    ledger: Ledger,
    underway: Underway,
    /// Up to where all is asked for, as far as this node has seen.
    known: Mutex<HashMap<ResourceId, Timestamp>>,
    now: Clock,
}

impl Schedules {
    pub(crate) fn new(log: Arc<dyn Log>, fold: Arc<Fold>, ledger: Ledger, now: Clock) -> Self {
        Self {
            log,
            fold,
            ledger,
            underway: Underway::default(),
            known: Mutex::default(),
            now,
        }
    }

    /// Looks after what timers have missed, until `stop`.
    pub(crate) async fn sweep(
        self: Arc<Self>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        loop {
            let all = async {
                let all = self.fold.read(schedules);
                self.lock()
                    .retain(|id, _| all.iter().any(|(_, own)| own == id));
                let looks = all.into_iter().map(|(key, id)| self.overdue(key, id));
                futures::stream::iter(looks)
                    .buffer_unordered(AT_ONCE)
                    .for_each(|()| async {})
                    .await;
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = all => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn overdue(&self, key: ResourceKey, id: ResourceId) {
        let until = (self.now)().plus_ms(-OVERDUE_MS);
        let Some(due) = self.fold.read(|world| latest(world, &key, until)) else {
            return;
        };
        if self.known(id).is_some_and(|known| known >= due.at) {
            return;
        }
        match self.stands(&key, &due).await {
            // Another node is at it.
            Ok(Some((_, event))) if !matches!(event, RunEvent::Delayed { .. }) => {
                self.note(id, due.at);
            }
            Ok(_) => {
                info!(resource = %key, at = %due.at, "sweep looks after a schedule");
                if let Err(later) = self.look(&key).await {
                    debug!(resource = %key, reason = %later.reason, "schedule is left to the next sweep");
                }
            }
            Err(error) => debug!(resource = %key, %error, "schedule is left to the next sweep"),
        }
    }

    /// Asks for all that is due, and sets the timer of what comes next.
    ///
    /// # Errors
    /// `Later` when not all was done, or another look is under way: it is safe to repeat.
    pub(crate) async fn look(&self, key: &ResourceKey) -> Result<(), Later> {
        let Some(_held) = self.underway.begin(key.to_string()) else {
            return Err(again("another look is under way"));
        };
        // What was changed before this moment is not to be missed by a node that lags behind.
        let head = self.log.head().await.map_err(later)?;
        self.fold.reached(head).await;
        let mut asked = false;
        loop {
            let Some((turn, last)) = self.turn(key).await.map_err(later)? else {
                return Ok(());
            };
            if let Some(last) = last {
                // Who asked for it may have died over it.
                self.ask(key, &turn, &last).await.map_err(later)?;
            }
            if let Some(missed) = &turn.missed {
                warn!(resource = %key, outcome = ?missed, "occurrences of a schedule were missed");
                self.record(key, missed.clone()).await?;
            }
            for due in &turn.due {
                self.ask(key, &turn, due).await.map_err(later)?;
                self.note(turn.id, due.at);
                asked = true;
            }
            if let Some(last) = turn.due.last() {
                let word = self.fold.read(|world| passed(world, key, last.at));
                if let Some(word) = word {
                    self.record(key, word).await?;
                }
                continue;
            }
            let Some(next) = turn.next else {
                return Ok(());
            };
            let wait = next.since_ms((self.now)());
            if wait > EARLY_MS_MAX || asked {
                let due = Due::new(key.clone(), Alarm::Occur);
                let timer = TimerRequest { due, at: next };
                return self.log.set_timer(&timer).await.map_err(later);
            }
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
            tokio::time::sleep(wait).await;
        }
    }

    /// What is due now. Where it seems to be late, the log of runs tells which was the last that was
    /// asked for, by others or before this node began.
    async fn turn(&self, key: &ResourceKey) -> Result<Option<(Turn, Option<Occurrence>)>, Error> {
        let now = (self.now)();
        let of = |through| self.fold.read(|world| turn(world, key, through, now));
        let Some((id, recorded)) = self.fold.read(|world| recorded(world, key)) else {
            return Ok(None);
        };
        let known = self.known(id).map_or(recorded, |known| known.max(recorded));
        let found = of(known);
        if !found.as_ref().is_some_and(|found| found.late) {
            return Ok(found.map(|found| (found, None)));
        }
        let last = self.last_asked(key, known, now).await?;
        // What the log of runs has dropped since may have been asked for: better not run than twice.
        let since = self.log.runs_since().await?;
        let through = last.as_ref().map(|last| last.at).max(since);
        let found = through.map_or(found, |through| of(through.max(known)));
        if let Some(through) = through {
            self.note(id, through);
        }
        Ok(found.map(|found| (found, last)))
    }

    /// The latest occurrence that was asked for. All before it were as well, so that it is found by
    /// halving the time.
    async fn last_asked(
        &self,
        key: &ResourceKey,
        known: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Occurrence>, Error> {
        let (mut low, mut high, mut middle, mut found) = (known, now, now, None);
        while low < high {
            let latest = self.fold.read(|world| latest(world, key, middle));
            match latest.filter(|latest| latest.at > low) {
                None => low = middle,
                Some(one) if self.stands(key, &one).await?.is_some() => {
                    found = Some(one);
                    low = middle;
                }
                Some(one) => high = one.at.plus_ms(-1),
            }
            middle = low.plus_ms((high.since_ms(low) + 1) / 2);
        }
        Ok(found)
    }

    /// Asks for the run of an occurrence, unless it goes its way already.
    async fn ask(&self, key: &ResourceKey, turn: &Turn, due: &Occurrence) -> Result<(), Error> {
        for _ in 0..CLASHES_MAX {
            let event = match self.stands(key, due).await? {
                Some((after, RunEvent::Delayed { .. })) => {
                    hold::at("before", "run of a schedule").await;
                    let wanted = request(key, due, &turn.command, after);
                    return self.log.ask_run(&wanted).await.map(drop);
                }
                Some(_) => return Ok(()),
                None => self.first_event(key, turn, due).await?,
            };
            let append = RunAppend {
                org: key.org.clone(),
                function: due.function.clone(),
                run: due.run,
                event,
                expected: Seq(0),
            };
            match self.log.append_run(append).await {
                // It is read again, and then asked for.
                Ok(_) | Err(AppendError::Clash) => {}
                Err(AppendError::Log(error)) => return Err(error),
                Err(error @ AppendError::TooLarge { .. }) => {
                    return Err(Error::Refused(error.to_string()));
                }
            }
        }
        Err(Error::Unavailable(format!(
            "run {} is being changed",
            due.run
        )))
    }

    /// That it is to be run, or that it is left out.
    async fn first_event(
        &self,
        key: &ResourceKey,
        turn: &Turn,
        due: &Occurrence,
    ) -> Result<RunEvent, Error> {
        let at = (self.now)();
        let going = match turn.overlap {
            Overlap::Allow => None,
            Overlap::Skip => self.going(key, due).await?,
        };
        Ok(match going {
            Some((other, function)) => RunEvent::Finished {
                result: RunResult::left_out(&key.name, other, &function),
                at,
                digest: None,
            },
            None => RunEvent::Delayed {
                until: due.at,
                at,
                command: Seq(0),
                digest: None,
            },
        })
    }

    /// The run that was still going when this one came due, and its function: that of the occurrence
    /// before, or the one because of which that was left out.
    async fn going(
        &self,
        key: &ResourceKey,
        due: &Occurrence,
    ) -> Result<Option<(RunId, Name)>, Error> {
        let Some(previous) = self.fold.read(|world| before(world, key, due.at)) else {
            return Ok(None);
        };
        let other = match self.stands(key, &previous).await? {
            None => return Ok(None),
            Some((_, RunEvent::Finished { result, .. })) => match result.still_going() {
                None => return Ok(None),
                Some(other) => other,
            },
            Some(_) => return Ok(Some((previous.run, previous.function))),
        };
        let of = other.function.unwrap_or(previous.function);
        let last = self.log.last_run_event(&key.org, &of, other.run).await?;
        let goes_on = last.is_some_and(|(_, event)| !matches!(event, RunEvent::Finished { .. }));
        Ok(goes_on.then_some((other.run, of)))
    }

    /// The last event of an occurrence's run.
    async fn stands(
        &self,
        key: &ResourceKey,
        due: &Occurrence,
    ) -> Result<Option<(Seq, RunEvent)>, Error> {
        self.log
            .last_run_event(&key.org, &due.function, due.run)
            .await
    }

    async fn record(&self, key: &ResourceKey, outcome: ScheduleOutcome) -> Result<(), Later> {
        let request = Request {
            key: key.clone(),
            ask: Ask::Outcome(Box::new(Outcome::Schedule(outcome))),
            actor: Actor::engine(),
            cause: Cause::Alarm,
            correlation: key.to_string(),
        };
        match self.ledger.decide(request).await {
            Ok(_) | Err(LedgerError::Rejected(_)) => Ok(()),
            Err(LedgerError::Log(error)) => Err(later(error)),
            Err(error @ LedgerError::Stopping) => Err(again(error.to_string())),
        }
    }

    fn known(&self, id: ResourceId) -> Option<Timestamp> {
        self.lock().get(&id).copied()
    }

    fn note(&self, id: ResourceId, through: Timestamp) {
        let mut known = self.lock();
        let at = known.entry(id).or_insert(through);
        *at = through.max(*at);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceId, Timestamp>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(error: Error) -> Later {
    again(error.to_string())
}

fn again(reason: impl Into<String>) -> Later {
    Later {
        reason: reason.into(),
        delay: AGAIN,
    }
}

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;
