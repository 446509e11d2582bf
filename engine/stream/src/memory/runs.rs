//! Runs, in memory: how their events are stored and read, and which of them have not ended.

use std::collections::HashSet;

use engine_model::{RunId, Seq, Timestamp, header, subject};

use super::consumer::Consumer;
use super::log::{MESSAGE_BYTES_MAX, map};
use super::store::Stored;
use super::{Shared, World};
use crate::decode;
use crate::message::{aside, is_open, json, run_headers};
use crate::port::{AppendError, Error, OpenRun, RunAppend, RunRecorded};

pub(super) fn run_recorded(message: &Stored) -> Result<RunRecorded, Error> {
    let seq = message.seq;
    let known = if message.subject.starts_with("dispatch.run.") {
        let names = subject::parse_run(&message.subject);
        let event = serde_json::from_slice(&message.body).ok();
        names
            .zip(event)
            .map(|((org, function, run), event)| RunRecorded::Happened {
                seq,
                org,
                function,
                run,
                event,
            })
    } else {
        let envelope = message.read(decode::run).ok();
        envelope.map(|envelope| RunRecorded::Requested { seq, envelope })
    };
    Ok(known.unwrap_or(RunRecorded::Unreadable { seq }))
}

impl Shared {
    pub(super) fn append_run_now(&self, append: &RunAppend) -> Result<Seq, AppendError> {
        let subject = subject::run(&append.org, &append.function, append.run);
        let body = json(&append.event);
        if body.len() >= MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: body.len() });
        }
        let headers = map(run_headers(append.run, &append.event));
        let at = self.now();
        let mut world = self.world.lock().expect("no holder panics");
        match world
            .runs
            .append(&subject, append.expected, headers, body.clone(), at)
        {
            Ok(seq) => Ok(seq),
            Err(Some(last)) if last.seq > append.expected && last.body == body => Ok(last.seq),
            Err(_) => Err(AppendError::Clash),
        }
    }
}

impl World {
    /// The runs that have not ended, whose last event is from before a moment, and which do not wait
    /// for a later one.
    pub(super) fn open_runs(&self, before: Timestamp, limit: usize) -> Vec<OpenRun> {
        let all = self.runs.messages.values();
        let last = all
            .take_while(|message| message.at <= before)
            .filter(|message| message.subject.starts_with("dispatch.run."))
            .filter(|message| {
                let last = self.runs.last(&message.subject);
                last.is_some_and(|last| last.seq == message.seq)
            });
        let open = last.filter(|message| is_open(|name| message.header(name), before));
        let known = open.filter_map(|message| {
            let (org, function, run) = subject::parse_run(&message.subject)?;
            let seq = message.seq;
            Some(OpenRun {
                org,
                function,
                run,
                seq,
            })
        });
        known.take(limit).collect()
    }

    /// The runs that wait on a subject.
    pub(super) fn runs_aside(&self, subject: &str) -> HashSet<RunId> {
        let waiting = self.waiting.of_subject(subject);
        let ids = waiting.filter_map(|message| aside(message.header(header::CE_ID)?));
        ids.collect()
    }

    /// Up to where run commands are all ended.
    pub(super) fn requests_ended(&self) -> Seq {
        let consumer = self.consumers.get(&("workers", None));
        Seq(consumer.map_or(0, Consumer::ended))
    }
}
