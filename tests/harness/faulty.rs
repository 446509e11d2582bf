//! A broker that misbehaves on purpose: something that speaks HTTP stands before a broker that
//! works, and does to requests and answers whatever can happen to them on their way.
//!
//! ```text
//!  platform ──► Faulty (script, record, audit) ──► a broker: the fake one, or any other
//! ```
//!
//! It keeps nothing of instances itself. So the same faults meet every broker, and the same audit
//! holds the platform to the rules of the API whatever broker is behind.

mod audit;
mod behind;
mod fault;
mod foreign;
mod offer;
mod serve;
mod target;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use adapter_osb::fake::{Options, Pace};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use adapter_osb::fake::On;
pub use fault::Fault;
pub use foreign::Foreign;
pub use wire::{Headers, Response};

use audit::Audit;
use behind::Behind;

/// A request, and what was said to it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What was asked for; none when there is no such route.
    pub on: Option<On>,
    /// The instance.
    pub instance: String,
    /// The binding; empty for none.
    pub binding: String,
    /// The method.
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    /// The query, decoded.
    pub query: HashMap<String, String>,
    /// The headers.
    pub headers: Headers,
    /// The body; empty when it was not read.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Instant,
    /// The status of a whole answer.
    pub status: Option<u16>,
}

impl Exchange {
    /// A header, or the empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        wire::header(&self.headers, name).unwrap_or_default()
    }

    /// The body as JSON, or null.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What goes wrong, what came, and what is wrong with it.
#[derive(Debug, Default)]
struct Book {
    next: HashMap<On, VecDeque<Fault>>,
    always: HashMap<On, Fault>,
    exchanges: Vec<Exchange>,
    audit: Audit,
    now: usize,
    most: usize,
}

impl Book {
    fn fault(&mut self, on: On) -> Fault {
        let next = self.next.get_mut(&on).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(&on).cloned())
            .unwrap_or_else(Fault::none)
    }
}

/// Something that misbehaves before a broker, with a runtime of its own.
#[derive(Debug)]
pub struct Faulty {
    book: Arc<Mutex<Book>>,
    address: SocketAddr,
    behind: Behind,
    runtime: Runtime,
}

impl Faulty {
    /// Before a fake broker that works at once.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Before a fake broker that is as wished.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let behind = runtime.block_on(Behind::fake(options));
        Self::before(runtime, behind)
    }

    /// Before a broker that is made with a library of others, and is as wished.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn foreign(foreign: &Foreign, options: Options) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let behind = Behind::Foreign(foreign.slot());
        let faulty = Self::before(runtime, behind);
        faulty.set_pace(options.pace);
        faulty.set_catalog(options.catalog);
        faulty
    }

    fn before(runtime: Runtime, behind: Behind) -> Self {
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let book = Arc::new(Mutex::new(Book::default()));
        runtime.spawn(serve::serve(listener, behind.place(), book.clone()));
        Self {
            book,
            address,
            behind,
            runtime,
        }
    }

    /// Changes how long work takes that begins from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.runtime.block_on(self.behind.set_pace(pace));
    }

    /// Changes what is offered.
    pub fn set_catalog(&self, catalog: Value) {
        self.runtime.block_on(self.behind.set_catalog(catalog));
    }

    /// What the platform is told to echo; `None` leaves it out.
    pub fn set_operation(&self, operation: Option<&str>) {
        self.runtime.block_on(self.behind.set_operation(operation));
    }

    /// The instances that the broker has, sorted; also those half made and half deleted.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        self.runtime.block_on(self.behind.instances())
    }

    /// The bindings that the broker has, sorted.
    #[must_use]
    pub fn bindings(&self) -> Vec<String> {
        self.runtime.block_on(self.behind.bindings())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the platform finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests of this sort go so, one fault each, in this order.
    pub fn script(&self, on: On, faults: impl IntoIterator<Item = Fault>) {
        self.book().next.entry(on).or_default().extend(faults);
    }

    /// All requests of this sort go so that no script is left for.
    pub fn always(&self, on: On, fault: Fault) {
        self.book().always.insert(on, fault);
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        let mut book = self.book();
        book.next.clear();
        book.always.clear();
    }

    /// All requests so far, in the order in which they came.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.book().exchanges.clone()
    }

    /// The requests of this sort.
    #[must_use]
    pub fn sent(&self, on: On) -> Vec<Exchange> {
        let mut all = self.exchanges();
        all.retain(|exchange| exchange.on == Some(on));
        all
    }

    /// How many requests of this sort came.
    #[must_use]
    pub fn count(&self, on: On) -> usize {
        let book = self.book();
        let same = book.exchanges.iter().filter(|one| one.on == Some(on));
        same.count()
    }

    /// How many requests were under way at once, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.book().most
    }

    /// The rules of the API that the platform broke, a sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.book().audit.violations.clone()
    }
}
