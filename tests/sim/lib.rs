//! A seeded simulation of the platform and its brokers in virtual time.
//!
//! ```text
//!  script ─► command stream ─► nodes ─► event log ─► nodes ─► wire ─► brokers
//!             (comes again)   (lag, die,  (refuses     (react)  (loses,    (work, fail,
//!                              freeze)     clashes)              delays)    refuse)
//! ```
//!
//! Decisions, reactions, sweeps and the adapter with its verdicts are the real ones; streams,
//! nodes, vault, network and brokers are models that break in every way that a seed draws. One
//! seed is one story, the same in every word wherever it is told. When the faults cease, all must
//! come to rest, and what the brokers hold must be what the platform shows: see `oracle`.

mod broker;
mod desk;
mod fate;
mod hands;
mod net;
mod node;
mod oracle;
mod rng;
mod run;
mod script;
mod shrink;
mod stream;
mod trace;
mod traffic;
mod vault;

use std::collections::BTreeSet;

pub use shrink::shrunk;

const IDS_ARE_FRESH: bool = true;

/// A way to break the platform on purpose, to see the simulation find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// What a failed request may have left is called removed without asking the broker.
    DropOrphanRemovals,
    /// Data keys are not erased.
    ForgetErase,
    /// Commands are acknowledged before they are decided.
    AckFirst,
    /// A commit whose id is in the log is taken to be there, without a look whether it says the
    /// same.
    TrustIds,
    /// A request is sent without a look whether others have gone on meanwhile.
    ActBlindly,
}

impl Sabotage {
    /// Every way, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("drop-orphan-removals", Self::DropOrphanRemovals),
        ("forget-erase", Self::ForgetErase),
        ("ack-first", Self::AckFirst),
        ("trust-ids", Self::TrustIds),
        ("act-blindly", Self::ActBlindly),
    ];
}

/// How to simulate.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many commands people send after those that set the scene.
    pub commands: usize,
    /// Which commands of the script are sent, by their number; none for all.
    pub keep: Option<BTreeSet<usize>>,
    /// How the platform is broken.
    pub sabotage: Option<Sabotage>,
    /// Whether to write down what happens.
    pub trace: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            commands: 60,
            keep: None,
            sabotage: None,
            trace: false,
        }
    }
}

/// What came of a seed.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// How many things happened.
    pub events: u64,
    /// How many commits are in the log.
    pub commits: usize,
    /// How many requests were sent to brokers.
    pub requests: u64,
    /// How long it took in virtual time, in milliseconds.
    pub virtual_ms: i64,
    /// The first rule that does not hold.
    pub violation: Option<String>,
    /// What happened, if it was to be written down.
    pub trace: Vec<String>,
}

/// Tells the story of `seed`.
#[must_use]
pub fn tell(seed: u64, settings: &Settings) -> Told {
    let mut sim = run::Sim::new(seed, settings);
    let violation = sim.judge().err();
    Told {
        events: sim.happened,
        commits: sim.log.commits.len(),
        requests: sim.requests,
        virtual_ms: sim.now.since_ms(trace::START),
        violation,
        trace: std::mem::take(&mut sim.trace.lines),
    }
}
