//! What goes wrong on purpose.

use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use crate::port::Error;

/// What the log is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Append a commit.
    Append,
    /// Append an event of a run.
    AppendRun,
    /// Deliver from the consumer of this name.
    Pull(&'static str),
    /// Acknowledge to the consumer of this name.
    Ack(&'static str),
    /// Set a timer.
    SetTimer,
    /// Answer a sender.
    Answer,
    /// Keep a dead letter.
    Bury,
}

/// How it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Well.
    #[default]
    None,
    /// It is not done, and is said to have failed.
    Fail,
    /// It is done, and is said to have failed.
    FailAfter,
    /// It is done after a while.
    Delay(Duration),
    /// It is done twice: what is delivered comes again at once.
    Duplicate,
}

/// Says of each operation how it goes. The same calls must be told the same, for a simulation
/// that can be repeated.
pub trait Faults: Send + Sync + 'static {
    /// How this operation goes.
    fn next(&self, operation: Operation) -> Fault;
}

impl Shared {
    pub(super) fn fault(&self, operation: Operation) -> Fault {
        self.faults
            .as_ref()
            .map_or(Fault::None, |faults| faults.next(operation))
    }

    /// Does it, the way the fault says.
    pub(super) async fn faulty<T>(
        &self,
        operation: Operation,
        mut act: impl FnMut() -> T,
    ) -> Result<T, Error> {
        let injected = || Error::Unavailable(format!("injected: {operation:?}"));
        let done = match self.fault(operation) {
            Fault::None => act(),
            Fault::Fail => return Err(injected()),
            Fault::FailAfter => {
                act();
                self.changed.notify_waiters();
                return Err(injected());
            }
            Fault::Delay(delay) => {
                sleep(delay).await;
                act()
            }
            Fault::Duplicate => {
                let first = act();
                act();
                first
            }
        };
        self.changed.notify_waiters();
        Ok(done)
    }
}
