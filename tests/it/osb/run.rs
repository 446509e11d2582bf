//! A run of scenarios that is recorded, so that two runs can be compared.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::thread;

use adapter_osb::fake::Options;
use harness::faulty::{Faulty, Foreign};

/// Which brokers a run has, and what the platform showed in it.
#[derive(Default)]
pub(crate) struct Run {
    foreign: Option<Arc<Foreign>>,
    seen: Mutex<Vec<String>>,
}

thread_local! {
    /// The run that this thread's beds belong to; none outside of comparisons.
    static RUN: RefCell<Option<Arc<Run>>> = const { RefCell::new(None) };
}

impl Run {
    /// Plays a scenario with the fake broker, or with a foreign one, and returns what the
    /// platform showed of each bed, in an order that does not depend on time.
    pub(crate) fn play(foreign: Option<&Arc<Foreign>>, scenario: impl FnOnce()) -> Vec<String> {
        let run = Arc::new(Self {
            foreign: foreign.cloned(),
            seen: Mutex::default(),
        });
        enter(Some(run.clone()));
        scenario();
        enter(None);
        let mut seen = run.seen.lock().unwrap().clone();
        seen.sort();
        seen
    }
}

fn enter(run: Option<Arc<Run>>) {
    RUN.with(|own| *own.borrow_mut() = run);
}

fn current() -> Option<Arc<Run>> {
    RUN.with(|own| own.borrow().clone())
}

/// The broker of a bed of this run.
pub(crate) fn broker(options: Options) -> Faulty {
    match current().as_ref().and_then(|run| run.foreign.as_ref()) {
        Some(foreign) => Faulty::foreign(foreign, options),
        None => Faulty::with(options),
    }
}

/// Whether this thread's beds are compared.
pub(crate) fn is_recorded() -> bool {
    current().is_some()
}

/// Records what a bed showed.
pub(crate) fn record(seen: String) {
    if let Some(run) = current() {
        run.seen.lock().unwrap().push(seen);
    }
}

/// Does the same with each of several beds. They mostly wait, so they wait together.
pub(crate) fn at_once<T: Send>(each: impl IntoIterator<Item = T>, scenario: impl Fn(T) + Sync) {
    let (run, scenario) = (current(), &scenario);
    thread::scope(|scope| {
        for one in each {
            let run = run.clone();
            scope.spawn(move || {
                enter(run);
                scenario(one);
            });
        }
    });
}
