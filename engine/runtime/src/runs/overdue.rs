//! Finds runs that nothing brings on any more: their timer was lost, or the message that they
//! waited in. Level-triggered: it looks at all runs that are kept, takes no hints, and what it
//! asks for twice is begun once.
//!
//! ```text
//!                  not ended, its moment long past
//!                                │
//!   put aside? a timer? a request that is not handled yet? ──► it goes its way
//!                                │ none of these
//!                                ▼
//!                 asked for again, by what asked for it last
//! ```

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine_model::{Due, Name, OrgName, RunEvent, RunId, Seq, Timestamp};
use engine_stream::{Error, Log, OpenRun};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Bench;
use super::conduct::NAK_MAX;
use super::waiting::is_put_aside;
use crate::clock::now;
use crate::hold;

/// How long past its moment a run is looked after: much longer than timers are late, and than the
/// death of a node goes unnoticed.
const OVERDUE: Duration = Duration::from_secs(120);

/// Pause between two looks, at least.
const PAUSE: Duration = Duration::from_secs(60);

/// A look takes a hundredth of the time at most: where many runs are kept, it comes less often.
const PAUSE_TIMES: u32 = 100;

/// Runs that one look looks after; the next one takes the rest.
const LOOK_MAX: usize = 10_000;

/// Waiting runs of one function that a look reads; where there are more, it has enough to do.
const ASIDE_MAX: u64 = 50_000;

/// Runs that are looked after at once.
const AT_ONCE: usize = 16;

/// Looks until `stop`.
pub(crate) async fn work(bench: Arc<Bench>, stop: CancellationToken) -> Result<(), Infallible> {
    let (overdue, least) = (hold::sooner(OVERDUE), hold::sooner(PAUSE));
    let mut pause = least;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let began = Instant::now();
        let before = now().plus_ms(-i64::try_from(overdue.as_millis()).unwrap_or(i64::MAX));
        let looked = tokio::select! {
            looked = look(bench.log.as_ref(), before) => looked,
            () = stop.cancelled() => return Ok(()),
        };
        let took = began.elapsed();
        match looked {
            Ok(asked) => debug!(asked, ?took, "looked for runs that nothing brings on"),
            Err(error) => debug!(%error, "runs that nothing brings on are looked for later"),
        }
        pause = least.max(took.saturating_mul(PAUSE_TIMES));
    }
}

/// What is known when runs are looked after. What was read first may be older than what is read
/// later, so that a run on its way from one place to the next is seen in one of them.
struct Known<'a> {
    log: &'a dyn Log,
    before: Timestamp,
    /// Up to where requests for runs are handled.
    handled: Seq,
    /// Of each function that has some; none where there are too many to tell which.
    aside: HashMap<(OrgName, Name), Option<HashSet<RunId>>>,
}

/// Asks again for the runs whose moment was before this and which nothing brings on; says for how
/// many.
///
/// # Errors
/// Whatever is not done is done by the next look.
async fn look(log: &dyn Log, before: Timestamp) -> Result<usize, Error> {
    let open = log.open_runs(before, LOOK_MAX).await?;
    if open.is_empty() {
        return Ok(0);
    }
    let handled = log.requests_ended().await?;
    let mut aside = HashMap::new();
    let functions: HashSet<_> = open
        .iter()
        .map(|run| (run.org.clone(), run.function.clone()))
        .collect();
    for (org, function, count) in log.waiting().await? {
        let key = (org, function);
        if functions.contains(&key) {
            let runs = match count {
                ..=ASIDE_MAX => Some(log.runs_aside(&key.0, &key.1).await?),
                _ => None,
            };
            aside.insert(key, runs);
        }
    }
    let known = Known {
        log,
        before,
        handled,
        aside,
    };
    let known = &known;
    let asked = futures::stream::iter(open)
        .map(|run| async move { look_after(known, &run).await })
        .buffer_unordered(AT_ONCE)
        .filter(|asked| futures::future::ready(*asked))
        .count();
    Ok(asked.await)
}

async fn look_after(known: &Known<'_>, run: &OpenRun) -> bool {
    match ask_again(known, run).await {
        Ok(asked) => asked,
        Err(error) => {
            debug!(run.id = %run.run, %error, "run is left to the next look");
            false
        }
    }
}

/// Asks for a run again, if nothing else does.
async fn ask_again(known: &Known<'_>, open: &OpenRun) -> Result<bool, Error> {
    let Known { log, handled, .. } = known;
    let OpenRun {
        org, function, run, ..
    } = open;
    let key = (org.clone(), function.clone());
    let aside = known.aside.get(&key);
    if aside.is_some_and(|some| some.as_ref().is_none_or(|all| all.contains(run))) {
        return Ok(false);
    }
    let last = log.last_run_event(org, function, *run).await?;
    let Some((after, own)) = last.and_then(|(seq, event)| Some((seq, wait(&event)?))) else {
        return Ok(false);
    };
    if own.until > known.before || own.message > *handled {
        return Ok(false);
    }
    if log.timer(&Due::of_run(org, *run)).await?.is_some() {
        return Ok(false);
    }
    let Some((sent, request)) = log.last_request(org, function, *run).await? else {
        // A schedule has not asked for it yet, or its input is not kept any more.
        debug!(run.id = %run, "nobody knows what an overdue run was asked for with");
        return Ok(false);
    };
    if sent > after && sent > *handled {
        return Ok(false);
    }
    warn!(run.id = %run, until = %own.until, "a run that nothing brought on is asked for again");
    log.ask_run(&request.wake(after)).await?;
    Ok(true)
}

/// How a run waits.
struct Wait {
    until: Timestamp,
    /// The message that comes again by itself when its moment has come; 0 when a timer or the
    /// waiting runs have it.
    message: Seq,
}

/// How the run waits whose last event this is.
fn wait(event: &RunEvent) -> Option<Wait> {
    let (until, at, command) = match event {
        RunEvent::Delayed {
            until, at, command, ..
        } => (*until, *at, *command),
        RunEvent::AttemptFailed {
            next_at,
            at,
            command,
            ..
        } => (*next_at, *at, *command),
        RunEvent::Started { .. } | RunEvent::CancelRequested { .. } | RunEvent::Finished { .. } => {
            return None;
        }
    };
    let short = until.since_ms(at) <= i64::try_from(NAK_MAX.as_millis()).unwrap_or(i64::MAX);
    let message = match short && !is_put_aside(command) {
        true => command,
        false => Seq(0),
    };
    Some(Wait { until, message })
}

#[cfg(test)]
mod tests;
