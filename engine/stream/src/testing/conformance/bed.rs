//! What a rule needs of the log that is put through it.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, KeyStore, MemoryBlobs, MemoryKeys};
use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::jetstream::JetStream;
use crate::memory::Memory;
use crate::port::Log;
use crate::settings::Settings;
use crate::testing::TestServer;

/// A log, and what lies around it.
#[async_trait]
pub trait Bed: Send + Sync {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;
    /// When an unended delivery comes again.
    fn ack_wait(&self) -> Duration;
    /// How late an alarm may be that is due in more than half a second.
    fn late_by_at_most(&self) -> Duration;
    /// Publishes as a stranger does, and waits until it is stored.
    async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &[u8]);
    /// Hears what is answered to a new inbox.
    async fn listen(&self) -> (String, mpsc::Receiver<Bytes>);
    /// Kills the server and starts it again. The twin has none.
    async fn restart(&mut self);
    /// Large bytes.
    fn blobs(&self) -> Arc<dyn Blobs>;
    /// Wrapped keys.
    fn keys(&self) -> Arc<dyn KeyStore>;
    /// Whether there are files to look into.
    fn has_disk(&self) -> bool;
    /// Whether these bytes lie anywhere in the store's files.
    fn on_disk(&self, bytes: &[u8]) -> bool;
}

/// A server of its own.
pub struct JetBed {
    server: TestServer,
    log: JetStream,
}

impl JetBed {
    const ACK_WAIT: Duration = Duration::from_millis(700);

    /// Starts a server and opens the log on it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn new() -> Self {
        let server = TestServer::start();
        let settings = Settings {
            ack_wait: Self::ACK_WAIT,
            ..Settings::default()
        };
        let log = JetStream::open(&server.connection(), settings).await;
        Self {
            server,
            log: log.expect("a fresh server takes the streams"),
        }
    }
}

#[async_trait]
impl Bed for JetBed {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    fn ack_wait(&self) -> Duration {
        Self::ACK_WAIT
    }

    fn late_by_at_most(&self) -> Duration {
        // The server's tick, and a busy machine.
        Duration::from_millis(260 + 500)
    }

    async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let jetstream = &self.log.link().jetstream;
        let body = Bytes::copy_from_slice(body);
        let sent = jetstream
            .publish_with_headers(subject.to_owned(), map, body)
            .await;
        sent.expect("sent").await.expect("stored");
    }

    async fn listen(&self) -> (String, mpsc::Receiver<Bytes>) {
        let client = self.log.link().client.clone();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.expect("subscribed");
        self.log
            .link()
            .round_trip()
            .await
            .expect("the server knows of the subscription");
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(answer) = answers.next().await {
                if sender.send(answer.payload).await.is_err() {
                    return;
                }
            }
        });
        (inbox, receiver)
    }

    async fn restart(&mut self) {
        self.server.restart();
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.log.blobs())
    }

    fn keys(&self) -> Arc<dyn KeyStore> {
        Arc::new(self.log.keys())
    }

    fn has_disk(&self) -> bool {
        true
    }

    fn on_disk(&self, bytes: &[u8]) -> bool {
        let mut folders = vec![self.server.store()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)
                .expect("the store can be listed")
                .flatten()
            {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let content = std::fs::read(&path).unwrap_or_default();
                if content.windows(bytes.len()).any(|window| window == bytes) {
                    return true;
                }
            }
        }
        false
    }
}

/// The twin.
pub struct MemoryBed {
    log: Memory,
    blobs: Arc<MemoryBlobs>,
    keys: Arc<MemoryKeys>,
}

impl MemoryBed {
    const ACK_WAIT: Duration = Duration::from_millis(300);

    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self {
            log: Memory::with_ack_wait(Self::ACK_WAIT),
            blobs: Arc::default(),
            keys: Arc::default(),
        }
    }
}

impl Default for MemoryBed {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Bed for MemoryBed {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    fn ack_wait(&self) -> Duration {
        Self::ACK_WAIT
    }

    fn late_by_at_most(&self) -> Duration {
        Duration::from_millis(250)
    }

    async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.log
            .publish(subject, headers, body)
            .expect("a stream takes the subject");
    }

    async fn listen(&self) -> (String, mpsc::Receiver<Bytes>) {
        self.log.listen()
    }

    async fn restart(&mut self) {}

    fn blobs(&self) -> Arc<dyn Blobs> {
        self.blobs.clone()
    }

    fn keys(&self) -> Arc<dyn KeyStore> {
        self.keys.clone()
    }

    fn has_disk(&self) -> bool {
        false
    }

    fn on_disk(&self, _: &[u8]) -> bool {
        false
    }
}
