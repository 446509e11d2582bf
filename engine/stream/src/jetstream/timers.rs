//! Timers: the server's message schedules, and this process's own for short waits.
//!
//! The server looks at its schedules every 250 ms, so an alarm of its comes up to 260 ms late.
//! A wait of less than [`LOCAL_BELOW`] is therefore kept here as well and delivered to the same
//! inbox on time; the server's schedule is set beside it, in case this process dies, unless the
//! wait is shorter than the server's own tick (then the sweep finds what died with the process).
//! So a short alarm may come twice. That is harmless: an alarm says "look", and who looks finds
//! that it was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::header::{NATS_ROLLUP, NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use async_trait::async_trait;
use engine_model::{Due, Seq, TimerRequest, subject};
use tokio::time::Instant;

use super::inbox::JetInbox;
use super::read;
use crate::link::{Link, unavailable};
use crate::message::{json, map, plain_headers, wall_clock};
use crate::port::{Ack, Delivery, Error, Inbox};
use crate::streams;
use crate::wheel::Wheel;

/// Waits below this are kept locally: two ticks of the server.
const LOCAL_BELOW: Duration = Duration::from_millis(500);
/// Waits below this are kept only locally: one tick of the server.
const ONLY_LOCAL_BELOW: Duration = Duration::from_millis(250);

/// An alarm that is kept here, and how often it was delivered.
type Local = (Due, u32);

/// The alarms that this process keeps.
pub(super) struct LocalAlarms {
    wheel: Wheel<Local>,
    ack_wait: Duration,
    /// Whether anybody here reads alarms; otherwise the server keeps all of them.
    read: AtomicBool,
}

impl LocalAlarms {
    pub(super) fn new(ack_wait: Duration) -> Self {
        Self {
            wheel: Wheel::default(),
            ack_wait,
            read: AtomicBool::new(false),
        }
    }
}

/// Sets a timer.
pub(super) async fn set(
    link: &Link,
    local: &LocalAlarms,
    timer: &TimerRequest,
) -> Result<(), Error> {
    let due = &timer.due;
    let subject = subject::timer(&due.key, due.alarm);
    let wait = timer.at.since_ms(wall_clock());
    let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
    let read = local.read.load(Ordering::Relaxed);
    if read && wait < LOCAL_BELOW {
        local
            .wheel
            .set(subject.clone(), Instant::now() + wait, (due.clone(), 0));
    } else {
        local.wheel.remove(&subject);
    }
    if read && wait < ONLY_LOCAL_BELOW {
        return Ok(());
    }
    let mut headers = map(plain_headers(
        format!("{subject}@{}", timer.at.0),
        "dispatch.due",
        timer.at,
    ));
    headers.insert(NATS_SCHEDULE, format!("@at {}", timer.at.rfc3339()));
    headers.insert(NATS_SCHEDULE_TARGET, subject::due(&due.key, due.alarm));
    headers.insert(NATS_ROLLUP, "sub");
    link.publish_patiently(&subject, headers, json(due)).await?;
    Ok(())
}

/// Takes a timer back. The server forgets a schedule whose message is deleted.
pub(super) async fn take_back(
    link: &Link,
    local: &LocalAlarms,
    due: &Due,
) -> Result<Option<Due>, Error> {
    let subject = subject::timer(&due.key, due.alarm);
    let here = local.wheel.remove(&subject).map(|(due, _)| due);
    let Some(last) = read::last_message(link, streams::TIMERS, &subject).await? else {
        return Ok(here);
    };
    let seq = Seq(last.sequence);
    let due = serde_json::from_slice(&last.payload)
        .map_err(|error| read::corrupt("timers", seq, &error))?;
    let stream = link.jetstream.get_stream_no_info(streams::TIMERS).await;
    match stream.map_err(unavailable)?.delete_message(seq.0).await {
        Ok(_) => Ok(Some(due)),
        // It may have rung in this moment.
        Err(error) => match read::message_at(link, streams::TIMERS, seq).await? {
            None => Ok(None),
            Some(_) => Err(unavailable(error)),
        },
    }
}

/// What a timer is to ring for, or has rung for and nobody has ended.
pub(super) async fn look(
    link: &Link,
    local: &LocalAlarms,
    due: &Due,
) -> Result<Option<Due>, Error> {
    let (set, rung) = (
        subject::timer(&due.key, due.alarm),
        subject::due(&due.key, due.alarm),
    );
    // In this order, in which it passes from one to the next.
    if let Some((due, _)) = local.wheel.get(&set) {
        return Ok(Some(due));
    }
    for subject in [set, rung] {
        if let Some(last) = read::last_message(link, streams::TIMERS, &subject).await? {
            let seq = Seq(last.sequence);
            let due = serde_json::from_slice(&last.payload);
            return due
                .map(Some)
                .map_err(|error| read::corrupt("timers", seq, &error));
        }
    }
    Ok(None)
}

/// Alarms of the server and of this process.
pub(super) struct Alarms {
    local: Arc<LocalAlarms>,
    remote: JetInbox<Due>,
}

impl Alarms {
    pub(super) fn new(local: Arc<LocalAlarms>, remote: JetInbox<Due>) -> Self {
        local.read.store(true, Ordering::Relaxed);
        Self { local, remote }
    }

    fn take_local(&self, max: usize) -> Vec<Delivery<Due>> {
        let deliver = |(key, (due, before)): (String, Local)| Delivery {
            item: due.clone(),
            // It was never in a stream.
            seq: Seq(0),
            deliveries: before + 1,
            ack: Box::new(LocalAck {
                local: self.local.clone(),
                key,
                due,
                deliveries: before + 1,
                ended: AtomicBool::new(false),
            }) as Box<dyn Ack>,
        };
        self.local
            .wheel
            .take_due(max)
            .into_iter()
            .map(deliver)
            .collect()
    }
}

#[async_trait]
impl Inbox<Due> for Alarms {
    async fn pull(&mut self, max: usize) -> Result<Vec<Delivery<Due>>, Error> {
        loop {
            let taken = self.take_local(max.max(1));
            if !taken.is_empty() {
                return Ok(taken);
            }
            if let Some(error) = self.remote.owed() {
                return Err(error);
            }
            let local = self.local.clone();
            let messages = tokio::select! {
                () = local.wheel.wait_due() => None,
                messages = self.remote.messages(max) => Some(messages?),
            };
            if let Some(messages) = messages {
                return self.remote.deliver(messages).await;
            }
        }
    }
}

/// Ends a delivery of an alarm that only this process knows.
struct LocalAck {
    local: Arc<LocalAlarms>,
    key: String,
    due: Due,
    deliveries: u32,
    ended: AtomicBool,
}

impl LocalAck {
    /// Unless the alarm was set anew meanwhile.
    fn put_back(&self, delay: Duration) {
        let item = (self.due.clone(), self.deliveries);
        self.local
            .wheel
            .set_if_absent(self.key.clone(), Instant::now() + delay, item);
    }
}

#[async_trait]
impl Ack for LocalAck {
    async fn ack(&self) -> Result<(), Error> {
        self.ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn again(&self, delay: Duration) -> Result<(), Error> {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.put_back(delay);
        }
        Ok(())
    }

    async fn progress(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for LocalAck {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.put_back(self.local.ack_wait);
        }
    }
}
