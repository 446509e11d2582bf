//! A plain NATS client, as anybody has one, for tests that are not asynchronous themselves.

use std::time::Duration;

use async_nats::jetstream::{self, stream::DirectGetErrorKind};
use async_nats::{Client, ConnectOptions, HeaderMap};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

use crate::process::Dispatch;

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection with a runtime of its own.
#[derive(Debug)]
pub struct Nats {
    client: Client,
    runtime: Runtime,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its position.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Stored {
    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(async_nats::HeaderValue::as_str)
    }
}

/// An inbox that is listened to.
#[derive(Debug)]
pub struct Inbox {
    /// Its subject.
    pub subject: String,
    messages: Option<async_nats::Subscriber>,
    runtime: Handle,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // A subscription is ended by a task.
        let _within = self.runtime.enter();
        self.messages.take();
    }
}

impl Nats {
    /// Connects as a user whose credentials lie in the data directory.
    ///
    /// # Panics
    /// When that is not possible.
    #[must_use]
    pub fn connect(dispatch: &Dispatch, user: &str) -> Self {
        let file = dispatch
            .home()
            .join(format!("credentials/nats-{user}.json"));
        let text = std::fs::read_to_string(file).expect("the user has credentials");
        let login: Value = serde_json::from_str(&text).expect("they are JSON");
        let word = |name: &str| login[name].as_str().expect("it is a text").to_owned();
        let options = ConnectOptions::with_user_and_password(word("username"), word("password"));
        Self::connect_with(&dispatch.nats_url(), options).expect("NATS is up")
    }

    /// Connects in another way.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    ///
    /// # Panics
    /// When no runtime can be made.
    pub fn connect_with(
        url: &str,
        options: ConnectOptions,
    ) -> Result<Self, async_nats::ConnectError> {
        let runtime = Runtime::new().expect("a runtime can be made");
        let client = runtime.block_on(options.connect(url))?;
        Ok(Self { client, runtime })
    }

    /// The connection itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn jetstream(&self) -> jetstream::Context {
        let _within = self.runtime.enter();
        jetstream::new(self.client.clone())
    }

    /// Waits for what is asynchronous.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A request and its answer, as text.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    pub fn request(&self, subject: &str, body: impl Into<Vec<u8>>) -> Value {
        let body: Vec<u8> = body.into();
        let answer = self.wait(async {
            let asked = self.client.request(subject.to_owned(), body.into());
            timeout(ANSWER_MAX, asked)
                .await
                .expect("an answer comes")
                .expect("it is an answer")
        });
        serde_json::from_slice(&answer.payload).expect("it is JSON")
    }

    /// Publishes to a stream; returns the message's position, and whether it was there before.
    ///
    /// # Errors
    /// What the server or the client said instead.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub fn publish(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<(u64, bool), String> {
        let body: Vec<u8> = body.into();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let jetstream = self.jetstream();
        self.wait(async {
            let publishing = async {
                let sent = jetstream.publish_with_headers(subject.to_owned(), map, body.into());
                let ack = sent.await.map_err(|error| error.to_string())?;
                ack.await.map_err(|error| error.to_string())
            };
            let ack = timeout(ANSWER_MAX, publishing)
                .await
                .expect("an ack comes")?;
            Ok((ack.sequence, ack.duplicate))
        })
    }

    /// Listens to an inbox of its own.
    ///
    /// # Panics
    /// When the connection is closed.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        let subject = self.client.new_inbox();
        let messages = self.wait(async {
            let messages = self.client.subscribe(subject.clone()).await;
            self.client.flush().await.expect("the connection is open");
            messages.expect("the connection is open")
        });
        let runtime = self.runtime.handle().clone();
        Inbox {
            subject,
            messages: Some(messages),
            runtime,
        }
    }

    /// The next message of an inbox, as JSON.
    ///
    /// # Panics
    /// When none comes in time.
    #[must_use]
    pub fn next(&self, inbox: &mut Inbox) -> Value {
        let messages = inbox.messages.as_mut().expect("it is not dropped yet");
        let message = self.wait(async { timeout(ANSWER_MAX, messages.next()).await });
        let message = message
            .expect("a message comes")
            .expect("the connection is open");
        serde_json::from_slice(&message.payload).expect("it is JSON")
    }

    /// All that a stream holds, of these subjects.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn stored(&self, stream: &str, subjects: &str) -> Vec<Stored> {
        let jetstream = self.jetstream();
        self.wait(async {
            let stream = jetstream
                .get_stream(stream)
                .await
                .expect("the stream is there");
            let mut found = Vec::new();
            let mut from = 1;
            loop {
                let next = stream
                    .direct_get_next_for_subject(subjects, Some(from))
                    .await;
                let message = match next {
                    Ok(message) => message,
                    Err(error) if error.kind() == DirectGetErrorKind::NotFound => return found,
                    Err(error) => panic!("{subjects}: {error}"),
                };
                from = message.sequence + 1;
                found.push(Stored {
                    seq: message.sequence,
                    subject: message.subject.to_string(),
                    headers: message.headers,
                    body: message.payload.to_vec(),
                });
            }
        })
    }

    /// Deletes a message of a stream.
    ///
    /// # Panics
    /// When it is not there.
    pub fn delete(&self, stream: &str, seq: u64) {
        let jetstream = self.jetstream();
        self.wait(async {
            let stream = jetstream.get_stream(stream).await;
            let stream = stream.expect("the stream is there");
            let deleted = stream.delete_message(seq).await;
            assert!(deleted.expect("the message is there"));
        });
    }

    /// The names of all streams.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn streams(&self) -> Vec<String> {
        let jetstream = self.jetstream();
        self.wait(async {
            let names = jetstream.stream_names().collect::<Vec<_>>().await;
            names
                .into_iter()
                .map(|name| name.expect("it has a name"))
                .collect()
        })
    }
}
