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
mod fault;
mod offer;
mod serve;
mod target;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use adapter_osb::fake::{Fake, Options};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use adapter_osb::fake::On;
pub use fault::Fault;
pub use wire::{Headers, Response};

use audit::Audit;

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
    fake: Option<Fake>,
    _runtime: Runtime,
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
        let fake = runtime.block_on(Fake::start_with(options));
        let fake = fake.expect("a port is free");
        let behind = fake.url().socket_addrs(|| None);
        let behind = behind.expect("it is an address")[0];
        Self::on(runtime, behind, Some(fake))
    }

    /// Before the broker that listens there.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn before(behind: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        Self::on(runtime, behind, None)
    }

    fn on(runtime: Runtime, behind: SocketAddr, fake: Option<Fake>) -> Self {
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let book = Arc::new(Mutex::new(Book::default()));
        runtime.spawn(serve::serve(listener, behind, book.clone()));
        Self {
            book,
            address,
            fake,
            _runtime: runtime,
        }
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

    /// The rules of the API that the platform broke, a sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.book().audit.violations.clone()
    }

    /// The fake broker behind.
    ///
    /// # Panics
    /// When another broker is behind.
    #[must_use]
    pub fn fake(&self) -> &Fake {
        self.fake.as_ref().expect("a fake broker is behind")
    }
}

impl Deref for Faulty {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        self.fake()
    }
}
