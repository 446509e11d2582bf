//! One inbox for all that a client waits for, told apart by the last token: a subscription for
//! each request would cost the server a message and a tree entry each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_nats::Message;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::link::{Link, unavailable};
use crate::port::Error;

/// Parts of one answer that may wait to be read; 64 MiB of the largest.
const PARTS_WAITING: usize = 80;

type Waiters = Mutex<HashMap<u64, mpsc::Sender<Message>>>;

/// The inbox.
#[derive(Clone)]
pub(super) struct Replies {
    inbox: Arc<str>,
    waiters: Arc<Waiters>,
    next: Arc<AtomicU64>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Replies {
    pub(super) async fn open(link: &Link) -> Result<Self, Error> {
        let inbox = link.client.new_inbox();
        let subject = format!("{inbox}.*");
        let mut messages = link.client.subscribe(subject).await.map_err(unavailable)?;
        let waiters: Arc<Waiters> = Arc::default();
        let told = waiters.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let token = message
                    .subject
                    .rsplit('.')
                    .next()
                    .and_then(|token| token.parse().ok());
                let waiters = told.lock().expect("no holder panics");
                if let Some(waiter) = token.and_then(|token: u64| waiters.get(&token)) {
                    // One that does not read its answer has given up.
                    let _ = waiter.try_send(message);
                }
            }
        });
        Ok(Self {
            inbox: inbox.into(),
            waiters,
            next: Arc::default(),
            _task: Arc::new(AbortOnDropHandle::new(task)),
        })
    }

    /// Waits at an inbox of its own.
    pub(super) fn wait(&self) -> Waiting {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(PARTS_WAITING);
        self.waiters
            .lock()
            .expect("no holder panics")
            .insert(token, sender);
        Waiting {
            inbox: format!("{}.{token}", self.inbox),
            token,
            messages,
            waiters: self.waiters.clone(),
        }
    }
}

/// One request's place at the inbox.
pub(super) struct Waiting {
    inbox: String,
    token: u64,
    messages: mpsc::Receiver<Message>,
    waiters: Arc<Waiters>,
}

impl Waiting {
    pub(super) fn inbox(&self) -> &str {
        &self.inbox
    }

    pub(super) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters
            .lock()
            .expect("no holder panics")
            .remove(&self.token);
    }
}
