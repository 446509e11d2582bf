//! The contract, in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_model::{
    CommandEnvelope, Commit, Due, Name, OrgName, Recorded, Reply, ResourceKey, Role, RunEnvelope,
    RunEvent, RunId, RunReply, RunWake, Seq, TimerRequest, Timestamp, header, subject,
};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::broadcast;

use super::consumer::{MemoryInbox, Source, Takes};
use super::runs::run_recorded;
use super::store::{Store, Stored};
use super::{Memory, Operation, Shared, World};
use crate::decode;
use crate::message::{
    COMMAND_ID, Headers, LETTER, ORIGIN, commit_headers, json, request_headers, waiting_headers,
};
use crate::port::{
    AppendError, DeadLetter, Error, Inbox, Log, OpenRun, RunAppend, RunRecorded, Unreadable,
};
use crate::settings::RunRetention;

/// What the server takes by default; the twin refuses what it would.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

pub(super) fn map(headers: Headers) -> HashMap<String, String> {
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn corrupt(stream: &'static str, message: &Stored, error: &serde_json::Error) -> Error {
    Error::Corrupt {
        stream,
        seq: message.seq,
        reason: decode::without_values(error),
    }
}

fn recorded(message: &Stored) -> Result<Recorded, Error> {
    let commit = serde_json::from_slice(&message.body)
        .map_err(|error| corrupt("events", message, &error))?;
    let origin = message
        .header(ORIGIN)
        .and_then(|seq| seq.parse().ok().map(Seq));
    Ok(Recorded {
        seq: origin.unwrap_or(message.seq),
        commit,
    })
}

impl Shared {
    fn append_now(&self, commit: &Commit, expected: Seq) -> Result<Seq, AppendError> {
        let body = json(commit);
        if body.len() >= MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: body.len() });
        }
        let headers = map(commit_headers(commit));
        let at = self.now();
        let mut world = self.world.lock().expect("no holder panics");
        let id = commit.id.to_string();
        let mine =
            |last: &Stored| last.header(header::MSG_ID) == Some(id.as_str()) && last.body == body;
        let subject = subject::event(&commit.key);
        match world
            .events
            .append(&subject, expected, headers, body.clone(), at)
        {
            Ok(seq) => Ok(seq),
            Err(Some(last)) if mine(&last) => Ok(last.seq),
            Err(_) => Err(AppendError::Clash),
        }
    }

    fn say(&self, reply_to: &str, body: Bytes) {
        let world = self.world.lock().expect("no holder panics");
        if let Some(listener) = world.listeners.get(reply_to) {
            // Who does not listen loses it.
            let _ = listener.try_send(body);
        }
    }
}

impl Memory {
    fn inbox<T: Send + 'static>(
        &self,
        sources: Vec<Source>,
        read: super::consumer::Reader<T>,
    ) -> Box<MemoryInbox<T>> {
        Box::new(MemoryInbox {
            memory: self.clone(),
            sources,
            read,
        })
    }

    fn follow<T: Send + 'static>(
        &self,
        store: fn(&mut World) -> &mut Store,
        after: Seq,
        read: fn(&Stored) -> Result<T, Error>,
    ) -> BoxStream<'static, Result<T, Error>> {
        let shared = self.shared.clone();
        let items = stream::unfold((shared, after.0), move |(shared, after)| async move {
            loop {
                let changed = shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let next = {
                    let mut world = shared.world.lock().expect("no holder panics");
                    let next = store(&mut world).messages.range(after + 1..).next();
                    next.map(|(seq, message)| (*seq, read(message)))
                };
                match next {
                    Some((seq, item)) => return Some((item, (shared.clone(), seq))),
                    None => changed.await,
                }
            }
        });
        items.boxed()
    }
}

#[async_trait]
impl Log for Memory {
    async fn append(&self, commit: &Commit, expected: Seq) -> Result<Seq, AppendError> {
        let act = || self.shared.append_now(commit, expected);
        self.shared.faulty(Operation::Append, act).await?
    }

    async fn append_group(&self, group: &[(Commit, Seq)]) -> Vec<Result<Seq, AppendError>> {
        let mut results = Vec::with_capacity(group.len());
        for (commit, expected) in group {
            results.push(self.append(commit, *expected).await);
        }
        results
    }

    async fn last(&self, key: &ResourceKey) -> Result<Option<Recorded>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        world
            .events
            .last(&subject::event(key))
            .map(recorded)
            .transpose()
    }

    async fn history(&self, key: &ResourceKey) -> Result<Vec<Recorded>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        world
            .events
            .of_subject(&subject::event(key))
            .map(recorded)
            .collect()
    }

    async fn head(&self) -> Result<Seq, Error> {
        Ok(Seq(self
            .shared
            .world
            .lock()
            .expect("no holder panics")
            .events
            .last_seq))
    }

    async fn tail(&self, after: Seq) -> Result<BoxStream<'static, Result<Recorded, Error>>, Error> {
        Ok(self.follow(|world| &mut world.events, after, recorded))
    }

    async fn commands(&self) -> Result<Box<dyn Inbox<Result<CommandEnvelope, Unreadable>>>, Error> {
        let source = Source {
            name: "decider",
            store: |world| &mut world.commands,
            takes: Takes::If(|_| true),
            queue: true,
        };
        Ok(self.inbox(vec![source], |message| Ok(message.read(decode::command))))
    }

    async fn reactions(&self, role: Role) -> Result<Box<dyn Inbox<Recorded>>, Error> {
        let (events, redo) = match role {
            Role::Engine => ("reactor-engine", "redo-engine"),
            Role::Worker => ("reactor-worker", "redo-worker"),
            Role::Gateway => ("reactor-gateway", "redo-gateway"),
        };
        let events = Source {
            name: events,
            store: |world| &mut world.events,
            takes: Takes::If(|_| true),
            queue: false,
        };
        let redo = Source {
            name: redo,
            store: |world| &mut world.redo,
            takes: Takes::If(|_| true),
            queue: false,
        };
        Ok(self.inbox(vec![events, redo], recorded))
    }

    async fn set_timer(&self, timer: &TimerRequest) -> Result<(), Error> {
        let due = &timer.due;
        let act = || {
            let subject = subject::due(&due.key, due.alarm);
            self.shared
                .timers
                .set(subject, self.shared.instant(timer.at), due.clone());
        };
        self.shared.faulty(Operation::SetTimer, act).await
    }

    async fn drop_timer(&self, due: &Due) -> Result<Option<Due>, Error> {
        let act = || {
            let subject = subject::due(&due.key, due.alarm);
            self.shared.timers.remove(&subject)
        };
        self.shared.faulty(Operation::SetTimer, act).await
    }

    async fn timer(&self, due: &Due) -> Result<Option<Due>, Error> {
        let subject = subject::due(&due.key, due.alarm);
        if let Some(due) = self.shared.timers.get(&subject) {
            return Ok(Some(due));
        }
        let world = self.shared.world.lock().expect("no holder panics");
        let rung = world.timers.last(&subject).map(|last| {
            serde_json::from_slice(&last.body).map_err(|error| corrupt("timers", last, &error))
        });
        rung.transpose()
    }

    async fn alarms(&self) -> Result<Box<dyn Inbox<Due>>, Error> {
        let source = Source {
            name: "alarms",
            store: |world| &mut world.timers,
            takes: Takes::If(|_| true),
            queue: true,
        };
        let read = |message: &Stored| {
            serde_json::from_slice(&message.body)
                .map_err(|error| corrupt("timers", message, &error))
        };
        Ok(self.inbox(vec![source], read))
    }

    async fn answer(
        &self,
        org: Option<&OrgName>,
        reply_to: Option<&str>,
        reply: &Reply,
    ) -> Result<(), Error> {
        let act = || {
            let body = json(reply);
            if let Some(reply_to) = reply_to {
                self.shared.say(reply_to, body.clone());
            }
            if let Reply::Rejected { command, .. } = reply {
                let at = self.shared.now();
                let mut world = self.shared.world.lock().expect("no holder panics");
                let subject = subject::rejected(org, *command);
                world.rejected.replace(&subject, HashMap::new(), body, at);
            }
        };
        self.shared.faulty(Operation::Answer, act).await
    }

    async fn bury(&self, letter: &DeadLetter) -> Result<(), Error> {
        let act = || {
            let at = self.shared.now();
            let mut world = self.shared.world.lock().expect("no holder panics");
            let original = world
                .of_word(&letter.stream)
                .messages
                .get(&letter.origin.0)
                .cloned();
            let mut headers = original
                .as_ref()
                .map(|message| message.headers.clone())
                .unwrap_or_default();
            if let Some(id) = headers.remove(header::MSG_ID) {
                headers.entry(COMMAND_ID.into()).or_insert(id);
            }
            let kept = DeadLetter {
                seq: Seq(0),
                ..letter.clone()
            };
            headers.insert(
                LETTER.into(),
                String::from_utf8_lossy(&json(&kept)).into_owned(),
            );
            let subject = subject::dead(letter.org.as_ref(), &letter.stream, letter.origin.0);
            let body = original.map(|message| message.body).unwrap_or_default();
            world.letters.replace(&subject, headers, body, at);
        };
        self.shared.faulty(Operation::Bury, act).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        world
            .letters
            .messages
            .values()
            .take(limit)
            .map(letter)
            .collect()
    }

    async fn run_commands(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error> {
        let source = Source {
            name: "workers",
            store: |world| &mut world.runs,
            takes: Takes::If(|subject| {
                subject.starts_with("dispatch.runcmd.") && !subject.ends_with(".cancel")
            }),
            queue: false,
        };
        Ok(self.inbox(vec![source], |message| Ok(message.read(decode::run))))
    }

    async fn run_cancels(&self) -> Result<Box<dyn Inbox<Result<RunEnvelope, Unreadable>>>, Error> {
        let source = Source {
            name: "cancels",
            store: |world| &mut world.runs,
            takes: Takes::If(|subject| {
                subject.starts_with("dispatch.runcmd.") && subject.ends_with(".cancel")
            }),
            queue: false,
        };
        Ok(self.inbox(vec![source], |message| Ok(message.read(decode::run))))
    }

    async fn put_aside(&self, runs: &[(RunWake, Seq)]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(runs.len());
        for (run, origin) in runs {
            let act = || {
                let subject = subject::waiting(&run.org, &run.function);
                let headers = map(waiting_headers(run, *origin));
                let at = self.shared.now();
                let mut world = self.shared.world.lock().expect("no holder panics");
                world.waiting.publish(&subject, headers, json(run), at);
                drop(world);
                self.shared.changed.notify_waiters();
            };
            results.push(self.shared.faulty(Operation::AppendRun, act).await);
        }
        results
    }

    async fn waiting_runs(
        &self,
        org: &OrgName,
        function: &Name,
    ) -> Result<Box<dyn Inbox<RunWake>>, Error> {
        let source = Source {
            name: "waiting",
            store: |world| &mut world.waiting,
            takes: Takes::Only(subject::waiting(org, function).into()),
            queue: true,
        };
        let read = |message: &Stored| {
            serde_json::from_slice(&message.body)
                .map_err(|error| corrupt("waiting", message, &error))
        };
        Ok(self.inbox(vec![source], read))
    }

    async fn waiting(&self) -> Result<Vec<(OrgName, Name, u64)>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        let mut counts = BTreeMap::new();
        for message in world.waiting.messages.values() {
            *counts.entry(message.subject.as_str()).or_insert(0) += 1;
        }
        let known = counts.into_iter().filter_map(|(subject, count)| {
            let (org, function) = subject::parse_waiting(subject)?;
            Some((org, function, count))
        });
        Ok(known.collect())
    }

    async fn runs_aside(&self, org: &OrgName, function: &Name) -> Result<HashSet<RunId>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        Ok(world.runs_aside(&subject::waiting(org, function)))
    }

    async fn append_run(&self, append: RunAppend) -> Result<Seq, AppendError> {
        let act = || self.shared.append_run_now(&append);
        self.shared.faulty(Operation::AppendRun, act).await?
    }

    async fn last_run_event(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEvent)>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        let Some(last) = world.runs.last(&subject::run(org, function, run)) else {
            return Ok(None);
        };
        let event =
            serde_json::from_slice(&last.body).map_err(|error| corrupt("runs", last, &error))?;
        Ok(Some((last.seq, event)))
    }

    async fn ask_run(&self, wake: &RunWake) -> Result<Seq, Error> {
        let act = || {
            let subject = subject::run_command(&wake.org, &wake.function, wake.id);
            let mut world = self.shared.world.lock().expect("no holder panics");
            let last = world
                .runs
                .last(&subject::run(&wake.org, &wake.function, wake.id));
            let stands = last.map_or(Seq(0), |last| last.seq);
            let headers = request_headers(
                format!("{}/after/{stands}", wake.id),
                &wake.id.to_string(),
                "dispatch.run.Requested".into(),
                &wake.actor.0,
                wake.reply_to.clone(),
            );
            let at = self.shared.now();
            let seq = world
                .runs
                .publish(&subject, map(headers), json(&wake.command), at);
            drop(world);
            self.shared.changed.notify_waiters();
            Seq(seq)
        };
        self.shared.faulty(Operation::AppendRun, act).await
    }

    async fn last_request(
        &self,
        org: &OrgName,
        function: &Name,
        run: RunId,
    ) -> Result<Option<(Seq, RunEnvelope)>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        let last = world.runs.last(&subject::run_command(org, function, run));
        Ok(last.and_then(|last| Some((last.seq, last.read(decode::run).ok()?))))
    }

    async fn requests_ended(&self) -> Result<Seq, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        Ok(world.requests_ended())
    }

    async fn open_runs(&self, before: Timestamp, limit: usize) -> Result<Vec<OpenRun>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        Ok(world.open_runs(before, limit))
    }

    async fn signal_cancel(&self, run: RunId) -> Result<(), Error> {
        // Who does not listen loses it.
        let _ = self.shared.cancels.send(run);
        Ok(())
    }

    async fn cancel_signals(&self) -> Result<BoxStream<'static, RunId>, Error> {
        let signals = self.shared.cancels.subscribe();
        let next = |mut signals: broadcast::Receiver<RunId>| async move {
            loop {
                match signals.recv().await {
                    Ok(run) => return Some((run, signals)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        Ok(stream::unfold(signals, next).boxed())
    }

    async fn answer_run(&self, reply_to: &str, reply: &RunReply) -> Result<(), Error> {
        self.shared
            .faulty(Operation::Answer, || self.shared.say(reply_to, json(reply)))
            .await
    }

    async fn runs_since(&self) -> Result<Option<Timestamp>, Error> {
        let world = self.shared.world.lock().expect("no holder panics");
        let first = world.runs.messages.values().next();
        Ok(first
            .filter(|first| first.seq > Seq(1))
            .map(|first| first.at))
    }

    fn runs_kept(&self) -> Duration {
        RunRetention::default().age
    }

    async fn tail_runs(
        &self,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<RunRecorded, Error>>, Error> {
        Ok(self.follow(|world| &mut world.runs, after, run_recorded))
    }

    async fn revive(&self, seq: Seq) -> Result<(), Error> {
        let at = self.now();
        {
            let mut world = self.shared.world.lock().expect("no holder panics");
            let kept = world.letters.messages.get(&seq.0).cloned();
            let Some(kept) = kept else {
                return Err(Error::Refused(format!("there is no dead letter {seq}")));
            };
            let letter = letter(&kept)?;
            let mut headers = kept.headers.clone();
            headers.remove(LETTER);
            if letter.stream == "events" {
                let commit = world.events.messages.get(&letter.origin.0).cloned();
                let body = commit.map(|commit| commit.body).unwrap_or_default();
                headers.insert(ORIGIN.into(), letter.origin.to_string());
                let subject = format!("{}.{}", crate::streams::REDO_PREFIX, letter.origin);
                world.redo.replace(&subject, headers, body, at);
            } else {
                world
                    .of_word(&letter.stream)
                    .publish(&letter.subject, headers, kept.body, at);
            }
            world.letters.remove(seq.0);
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }
}

fn letter(message: &Stored) -> Result<DeadLetter, Error> {
    let text = message.header(LETTER).unwrap_or_default();
    let letter: DeadLetter =
        serde_json::from_str(text).map_err(|error| corrupt("deadletters", message, &error))?;
    Ok(DeadLetter {
        seq: message.seq,
        ..letter
    })
}

impl World {
    fn of_word(&mut self, word: &str) -> &mut Store {
        match word {
            "commands" => &mut self.commands,
            "runs" => &mut self.runs,
            "timers" => &mut self.timers,
            _ => &mut self.events,
        }
    }
}
