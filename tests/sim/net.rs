//! The network between the adapter and the brokers: it holds each request until the simulation
//! says what came of it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use adapter_osb::{Outbound, Transport, What};
use async_trait::async_trait;

/// Names a request on the wire.
pub(super) type Ticket = u64;

/// The wire of one simulation.
#[derive(Debug, Clone, Default)]
pub(super) struct Net(Arc<Mutex<Wire>>);

#[derive(Debug, Default)]
struct Wire {
    sent: u64,
    fresh: Vec<(Ticket, Outbound)>,
    replies: BTreeMap<Ticket, What>,
}

impl Net {
    /// The requests that were sent since this was asked last.
    pub(super) fn fresh(&self) -> Vec<(Ticket, Outbound)> {
        std::mem::take(&mut self.wire().fresh)
    }

    /// Says what came of a request. Whoever sent it is to be polled.
    pub(super) fn reply(&self, ticket: Ticket, what: What) {
        self.wire().replies.insert(ticket, what);
    }

    fn wire(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.0.lock().expect("no holder panics")
    }
}

#[async_trait]
impl Transport for Net {
    async fn exchange(&self, request: Outbound) -> What {
        let ticket = {
            let mut wire = self.wire();
            wire.sent += 1;
            let ticket = wire.sent;
            wire.fresh.push((ticket, request));
            ticket
        };
        poll_fn(|_| match self.wire().replies.remove(&ticket) {
            Some(what) => Poll::Ready(what),
            None => Poll::Pending,
        })
        .await
    }
}
