//! Ends a call that goes on after its deadline, by the engine's epoch.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use wasmtime::Engine;

/// A thread that moves the epoch on when the call under way is overdue, and at no other time.
#[derive(Debug, Clone)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    deadline: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Shared {
    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchdog {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let name = thread::Builder::new().name("watchdog".into());
        name.spawn(move || watch(&watched, &engine))?;
        Ok(Self { shared })
    }

    /// Lets something run until the deadline. Its store's epoch deadline is to be one tick away.
    pub(crate) fn watch<T>(&self, until: Option<Instant>, run: impl FnOnce() -> T) -> T {
        if until.is_none() {
            return run();
        }
        *self.shared.deadline() = until;
        self.shared.changed.notify_one();
        let done = run();
        // Under the lock, so that no tick meant for this call falls into the next one.
        *self.shared.deadline() = None;
        done
    }
}

fn watch(shared: &Shared, engine: &Engine) {
    let mut deadline = shared.deadline();
    loop {
        let now = Instant::now();
        deadline = match *deadline {
            None => shared.changed.wait(deadline),
            Some(at) if at > now => {
                let waited = shared.changed.wait_timeout(deadline, at - now);
                waited
                    .map(|(deadline, _)| deadline)
                    .map_err(|e| PoisonError::new(e.into_inner().0))
            }
            Some(_) => {
                engine.increment_epoch();
                *deadline = None;
                continue;
            }
        }
        .unwrap_or_else(PoisonError::into_inner);
    }
}
