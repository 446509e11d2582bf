//! Inboxes on durable consumers.

use std::borrow::Cow;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_trait::async_trait;
use bytes::Bytes;
use engine_model::Seq;
use tokio::time::sleep;

use super::pull::{Pulled, Puller};
use crate::link::{Link, unavailable};
use crate::port::{Ack, Delivery, Error, Inbox};

/// Deliveries of one consumer that may be unended at a time, over all nodes. Beyond it nothing
/// new is delivered, so it bounds the work under way; brokers that take minutes hold thousands.
const UNENDED_MAX: i64 = 8192;

/// Pause after a failure, before the server is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// A durable consumer.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    pub(crate) stream: &'static str,
    pub(crate) name: Cow<'static, str>,
    /// Empty for all of the stream.
    pub(crate) filter: Cow<'static, str>,
    /// Unused for so long, it is forgotten; what it did not deliver stays.
    pub(crate) forgotten_after: Option<Duration>,
}

impl Durable {
    /// One that is kept for good.
    pub(crate) fn new(stream: &'static str, name: &'static str, filter: &'static str) -> Self {
        Self {
            stream,
            name: name.into(),
            filter: filter.into(),
            forgotten_after: None,
        }
    }

    async fn ensure(&self, link: &Link, ack_wait: Duration) -> Result<(), Error> {
        let config = pull::Config {
            durable_name: Some(self.name.clone().into_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            // For ever: who reads decides when it is enough, and buries.
            max_deliver: -1,
            max_ack_pending: UNENDED_MAX,
            filter_subject: self.filter.clone().into_owned(),
            inactive_threshold: self.forgotten_after.unwrap_or_default(),
            ..pull::Config::default()
        };
        let made = link
            .jetstream
            .create_consumer_on_stream(config, self.stream)
            .await;
        made.map(|_| ()).map_err(unavailable)
    }
}

/// What became of a message that was read.
pub(crate) type Read<T> = Result<T, Error>;

/// Reads a message as an item.
pub(crate) type Reader<T> = fn(&Pulled) -> Read<T>;

/// Deliveries of durable consumers.
pub(crate) struct JetInbox<T> {
    link: Link,
    durables: Vec<Durable>,
    read: Reader<T>,
    ack_wait: Duration,
    puller: Option<Puller>,
    /// What went wrong while others were being delivered; told with the next pull.
    owed: Option<Error>,
    failed: bool,
}

impl<T: Send> JetInbox<T> {
    pub(crate) async fn open(
        link: &Link,
        durables: Vec<Durable>,
        read: Reader<T>,
        ack_wait: Duration,
    ) -> Result<Self, Error> {
        let mut inbox = Self {
            link: link.clone(),
            durables,
            read,
            ack_wait,
            puller: None,
            owed: None,
            failed: false,
        };
        inbox.connect().await?;
        Ok(inbox)
    }

    async fn connect(&mut self) -> Result<&mut Puller, Error> {
        if self.puller.is_none() {
            for durable in &self.durables {
                durable.ensure(&self.link, self.ack_wait).await?;
            }
            let names: Vec<_> = self
                .durables
                .iter()
                .map(|d| (d.stream, d.name.as_ref()))
                .collect();
            self.puller = Some(Puller::new(&self.link, &names).await?);
        }
        Ok(self.puller.as_mut().expect("it was just put there"))
    }

    /// Waits for the next message, and takes what is there besides.
    pub(crate) async fn messages(&mut self, max: usize) -> Result<Vec<Pulled>, Error> {
        if self.failed {
            sleep(PAUSE).await;
            self.failed = false;
        }
        let wanted = max.max(1);
        let first = match self.connect().await {
            Ok(puller) => puller.next(wanted).await.map_err(unavailable),
            Err(error) => Err(error),
        };
        match first {
            Ok(first) => Ok(self.with_ready(first, wanted)),
            Err(error) => {
                self.puller = None;
                self.failed = true;
                Err(error)
            }
        }
    }

    fn with_ready(&mut self, first: Pulled, wanted: usize) -> Vec<Pulled> {
        let mut messages = vec![first];
        if let Some(puller) = &mut self.puller {
            while messages.len() < wanted {
                match puller.ready() {
                    Some(message) => messages.push(message),
                    None => break,
                }
            }
        }
        messages
    }

    /// Reads messages; one that cannot be read comes again much later, and its error is told.
    pub(crate) async fn deliver(
        &mut self,
        messages: Vec<Pulled>,
    ) -> Result<Vec<Delivery<T>>, Error> {
        let mut deliveries = Vec::with_capacity(messages.len());
        for pulled in messages {
            let ack = JetAck::of(&self.link.client, &pulled);
            match (self.read)(&pulled) {
                Ok(item) => deliveries.push(Delivery {
                    item,
                    seq: origin(&pulled).unwrap_or(pulled.place.seq),
                    deliveries: pulled.place.deliveries,
                    ack: Box::new(ack),
                }),
                Err(error) => {
                    tracing::error!(%error, "a delivery cannot be read");
                    ack.again(UNREADABLE_AGAIN).await?;
                    self.owed = Some(error);
                }
            }
        }
        if deliveries.is_empty()
            && let Some(error) = self.owed.take()
        {
            return Err(error);
        }
        Ok(deliveries)
    }

    /// What is owed from the last pull.
    pub(crate) fn owed(&mut self) -> Option<Error> {
        self.owed.take()
    }
}

/// When a message of our own that cannot be read is tried again: a newer program may read it.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(60);

/// The position of the commit that a revived message repeats.
fn origin(pulled: &Pulled) -> Option<Seq> {
    let headers = pulled.message.headers.as_ref()?;
    headers
        .get(crate::message::ORIGIN)?
        .as_str()
        .parse()
        .ok()
        .map(Seq)
}

#[async_trait]
impl<T: Send> Inbox<T> for JetInbox<T> {
    async fn pull(&mut self, max: usize) -> Result<Vec<Delivery<T>>, Error> {
        if let Some(error) = self.owed() {
            return Err(error);
        }
        let messages = self.messages(max).await?;
        self.deliver(messages).await
    }
}

/// Ends a delivery.
pub(crate) struct JetAck {
    client: Client,
    reply: async_nats::Subject,
}

impl JetAck {
    pub(crate) fn of(client: &Client, pulled: &Pulled) -> Self {
        let reply = pulled
            .message
            .reply
            .clone()
            .unwrap_or_else(|| "_INBOX.none".into());
        Self {
            client: client.clone(),
            reply,
        }
    }

    async fn say(&self, word: Bytes) -> Result<(), Error> {
        self.client
            .publish(self.reply.clone(), word)
            .await
            .map_err(unavailable)
    }
}

#[async_trait]
impl Ack for JetAck {
    async fn ack(&self) -> Result<(), Error> {
        self.say(Bytes::from_static(b"+ACK")).await
    }

    async fn again(&self, delay: Duration) -> Result<(), Error> {
        self.say(Bytes::from(format!(
            r#"-NAK {{"delay":{}}}"#,
            delay.as_nanos()
        )))
        .await
    }

    async fn progress(&self) -> Result<(), Error> {
        self.say(Bytes::from_static(b"+WPI")).await
    }
}
