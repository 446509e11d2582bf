//! Runs that wait for room: a work queue with a consumer for each function that has some.

use std::time::Duration;

use engine_model::{Name, OrgName, RunId, RunWake, Seq, subject};
use futures::TryStreamExt as _;

use super::inbox::{Durable, Read};
use super::pull::Pulled;
use super::read::corrupt;
use crate::link::{Link, unavailable};
use crate::message::{json, map, waiting_headers};
use crate::port::Error;
use crate::streams;

/// Nodes pull while there is something; long after the last did, the server may forget how far
/// they came, which a work queue does not need.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Runs that are sent before the first answer is awaited.
const AT_ONCE: usize = 1000;

/// Puts runs aside, in order. Each is sent before the answer to the one before it has come.
pub(super) async fn put_aside(link: &Link, runs: &[(RunWake, Seq)]) -> Vec<Result<(), Error>> {
    let message = |(run, origin): &(RunWake, Seq)| {
        let headers = map(waiting_headers(run, *origin));
        let subject = subject::waiting(&run.org, &run.function);
        (subject, headers, json(run))
    };
    let mut results = Vec::with_capacity(runs.len());
    for some in runs.chunks(AT_ONCE) {
        let sent = link.publish_in_order(some.iter().map(message).collect());
        let told = sent.await.into_iter();
        results.extend(told.map(|one| one.map(drop).map_err(Error::from)));
    }
    results
}

/// The consumer of a function's waiting runs.
pub(super) fn consumer(org: &OrgName, function: &Name) -> Durable {
    let subject = subject::waiting(org, function);
    // A name may be longer and hold more than that of a consumer.
    let name = RunId::derived(format_args!("{subject}"));
    Durable {
        stream: streams::WAITING,
        name: format!("waiting-{name}").into(),
        filter: subject.into(),
        forgotten_after: Some(FORGOTTEN_AFTER),
    }
}

/// Reads a run that waits.
pub(super) fn read(pulled: &Pulled) -> Read<RunWake> {
    serde_json::from_slice(&pulled.message.payload)
        .map_err(|error| corrupt("waiting", pulled.place.seq, &error))
}

/// How many runs wait, by function.
pub(super) async fn counts(link: &Link) -> Result<Vec<(OrgName, Name, u64)>, Error> {
    let stream = link.jetstream.get_stream_no_info(streams::WAITING).await;
    let stream = stream.map_err(unavailable)?;
    let info = stream.info_with_subjects(subject::WAITING).await;
    let counts: Vec<(String, usize)> = info
        .map_err(unavailable)?
        .try_collect()
        .await
        .map_err(unavailable)?;
    let known = counts.into_iter().filter_map(|(subject, count)| {
        let (org, function) = subject::parse_waiting(&subject)?;
        Some((org, function, u64::try_from(count).unwrap_or(u64::MAX)))
    });
    let mut known: Vec<_> = known.collect();
    known.sort();
    Ok(known)
}
