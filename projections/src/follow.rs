//! Follows one stream: reads, folds, stores, shows; and rebuilds beside what is shown.
//!
//! ```text
//!  log ──► live side ──► commit ──► shown to queries
//!  log ──► next side ──► commit      (only while rebuilding; takes the live side's place
//!                                     as soon as it has folded as far)
//! ```
//!
//! A side that fails is opened again from what is stored, after a while; nothing of a step that
//! failed is shown. A live side stores each handful of messages at once, one that is catching up
//! gathers larger steps.

mod fold;
mod side;

use std::future::pending;
use std::sync::Arc;

use engine_model::{AsOf, Seq};
use engine_stream::Log;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::shown::Shown;
use crate::store::Store;
use crate::views::Limits;
use side::{Ready, Side, advance};

pub(crate) use fold::Fold;

/// Someone wants a rebuild, and hears when it is done.
pub(crate) type Request = oneshot::Sender<AsOf>;

/// Follows one stream.
pub(crate) struct Follower<F: Fold> {
    store: Store,
    log: Arc<dyn Log>,
    limits: Limits,
    shown: watch::Sender<Shown>,
    requests: mpsc::Receiver<Request>,
    live: Side<F>,
    next: Option<Side<F>>,
    waiting: Vec<Request>,
}

enum Event<I> {
    Stop,
    Rebuild(Option<Request>),
    Live(Ready<I>),
    Next(Ready<I>),
    Oldest(Seq),
}

impl<F: Fold> Follower<F> {
    pub(crate) fn new(
        store: Store,
        log: Arc<dyn Log>,
        limits: Limits,
        shown: watch::Sender<Shown>,
        requests: mpsc::Receiver<Request>,
        fold: F,
    ) -> Self {
        let live = Side::new(fold);
        Self {
            store,
            log,
            limits,
            shown,
            requests,
            live,
            next: None,
            waiting: Vec::new(),
        }
    }

    /// Follows until `stop`, then stores what was folded.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Self {
        let mut oldest = F::oldest(self.log.clone());
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                request = self.requests.recv() => Event::Rebuild(request),
                ready = self.live.ready(&*self.log) => Event::Live(ready),
                ready = either(self.next.as_mut(), &*self.log) => Event::Next(ready),
                first = &mut oldest => Event::Oldest(first),
            };
            match event {
                Event::Stop => break,
                Event::Rebuild(Some(request)) => self.rebuild(request),
                // The views hold the other end as long as this runs.
                Event::Rebuild(None) => break,
                Event::Live(ready) => self.handle_live(ready).await,
                Event::Next(ready) => self.handle_next(ready).await,
                Event::Oldest(first) => {
                    self.prune(first);
                    oldest = F::oldest(self.log.clone());
                }
            }
            self.swap_when_caught_up();
        }
        if let Some(fold) = &mut self.live.fold {
            let _ = fold
                .commit(0)
                .inspect_err(|error| warn!(%error, "last step not stored"));
        }
        self
    }

    async fn handle_live(&mut self, ready: Ready<F::Item>) {
        match advance(&mut self.live, ready).await {
            Ok((stored, lost)) => {
                if let Some(as_of) = stored {
                    self.show(as_of);
                }
                if let Some(reason) = lost {
                    warn!(
                        stream = F::STREAM.as_str(),
                        reason, "log lost, reading again"
                    );
                    self.trouble(&reason);
                    self.live.back_off();
                }
            }
            Err(error) => {
                error!(stream = F::STREAM.as_str(), %error, "view not stored");
                self.trouble(&error.to_string());
                self.reopen(error.is_corruption());
            }
        }
        if self.live.fold.is_none() {
            self.reopen(false);
        }
    }

    async fn handle_next(&mut self, ready: Ready<F::Item>) {
        let Some(next) = &mut self.next else { return };
        match advance(next, ready).await {
            Ok((_, None)) => {}
            Ok((_, Some(reason))) => {
                warn!(
                    stream = F::STREAM.as_str(),
                    reason, "log lost, rebuilding on"
                );
                next.back_off();
            }
            Err(error) => {
                error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
                self.next = None;
                self.waiting.clear();
            }
        }
    }

    fn show(&self, as_of: AsOf) {
        self.shown.send_modify(|shown| {
            shown.as_of = as_of;
            shown.trouble = None;
        });
    }

    fn trouble(&self, reason: &str) {
        self.shown
            .send_modify(|shown| shown.trouble = Some(reason.into()));
    }

    /// Opens the live side again from what is stored; from nothing when that cannot be used.
    fn reopen(&mut self, clear: bool) {
        self.live.back_off();
        let tree = self.shown.borrow().tree.clone();
        let open = || {
            if clear {
                warn!(
                    stream = F::STREAM.as_str(),
                    "view corrupt, rebuilding from the stream"
                );
                tree.clear()?;
            }
            F::open(tree.clone(), self.limits)
        };
        match open() {
            Ok(fold) => {
                self.shown
                    .send_modify(|shown| shown.as_of = fold.position());
                self.live.fold = Some(fold);
            }
            Err(error) => self.trouble(&error.to_string()),
        }
    }

    fn rebuild(&mut self, request: Request) {
        self.waiting.push(request);
        if self.next.is_some() {
            return;
        }
        let opened = self
            .store
            .next_tree(F::STREAM)
            .and_then(|tree| F::open(tree, self.limits));
        match opened {
            Ok(fold) => {
                info!(stream = F::STREAM.as_str(), "rebuild begun");
                self.next = Some(Side::new(fold));
            }
            Err(error) => {
                error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
                self.waiting.clear();
            }
        }
    }

    /// The next side takes the live one's place once it shows as much.
    fn swap_when_caught_up(&mut self) {
        let shown = self.shown.borrow().as_of.seq;
        let caught_up = |next: &mut Side<F>| {
            next.commit_by.is_none() && next.position().seq >= shown && next.fold.is_some()
        };
        let Some(next) = self.next.take_if(caught_up) else {
            return;
        };
        let Some(fold) = &next.fold else { return };
        if let Err(error) = self.store.promote(F::STREAM) {
            error!(stream = F::STREAM.as_str(), %error, "rebuild failed");
            self.waiting.clear();
            return;
        }
        let as_of = fold.position();
        info!(
            stream = F::STREAM.as_str(),
            seq = as_of.seq.0,
            "rebuild done"
        );
        self.shown.send_replace(Shown {
            tree: fold.tree().clone(),
            as_of,
            trouble: None,
        });
        self.live = next;
        for waiting in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.send(as_of);
        }
    }

    fn prune(&mut self, first: Seq) {
        // Rows that wait to be stored would come back: let the next look do it.
        let Some(fold) = self.live.fold.as_mut().filter(|fold| fold.pending() == 0) else {
            return;
        };
        match fold.prune(first) {
            Ok(0) => {}
            Ok(dropped) => info!(dropped, first = first.0, "dropped what the stream dropped"),
            Err(error) => warn!(%error, "dropping failed"),
        }
    }
}

async fn either<F: Fold>(side: Option<&mut Side<F>>, log: &dyn Log) -> Ready<F::Item> {
    match side {
        Some(side) => side.ready(log).await,
        None => pending().await,
    }
}
