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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use engine_model::Timestamp;

    use super::*;
    use crate::memory::Memory;
    use crate::port::{Inbox, Log as _};

    /// Each operation meets the next fault of a script.
    struct Script(Vec<Fault>, AtomicUsize);

    impl Faults for Script {
        fn next(&self, _: Operation) -> Fault {
            let n = self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get(n).copied().unwrap_or_default()
        }
    }

    fn memory(script: &[Fault]) -> Memory {
        let faults = Script(script.to_vec(), AtomicUsize::new(0));
        Memory::simulated(Timestamp(1_000), Duration::from_secs(12), Arc::new(faults))
    }

    async fn publish_and_open(
        memory: &Memory,
    ) -> Box<dyn Inbox<Result<engine_model::CommandEnvelope, crate::port::Unreadable>>> {
        memory.publish("dispatch.cmd.acme.image.i", &[], b"\"Retry\"");
        memory.commands().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_acknowledgement_lets_a_delivery_come_again() {
        // A pull, an ack that is not done, a pull, an ack that is done and said not to be.
        let script = [Fault::None, Fault::Fail, Fault::None, Fault::FailAfter];
        let memory = memory(&script);
        let mut commands = publish_and_open(&memory).await;
        assert!(commands.pull(1).await.unwrap()[0].ack.ack().await.is_err());
        let again = commands.pull(1).await.unwrap().remove(0);
        assert_eq!(again.deliveries, 2);
        assert_eq!(memory.now(), Timestamp(13_000));
        assert!(again.ack.ack().await.is_err());
        let more = tokio::time::timeout(Duration::from_secs(99), commands.pull(1)).await;
        assert!(more.is_err(), "it was done all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_duplicated_delivery_comes_twice_at_once() {
        let memory = memory(&[Fault::Duplicate]);
        let mut commands = publish_and_open(&memory).await;
        let first = commands.pull(1).await.unwrap().remove(0);
        let second = commands.pull(1).await.unwrap().remove(0);
        assert_eq!((first.seq, second.deliveries), (second.seq, 2));
        assert_eq!(memory.now(), Timestamp(1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pull_loses_nothing() {
        let memory = memory(&[Fault::Fail, Fault::Delay(Duration::from_secs(3))]);
        let mut commands = publish_and_open(&memory).await;
        assert!(matches!(commands.pull(1).await, Err(Error::Unavailable(_))));
        assert_eq!(commands.pull(1).await.unwrap().len(), 1);
        assert!(memory.now() >= Timestamp(4_000));
    }
}
