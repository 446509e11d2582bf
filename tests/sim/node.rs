//! A node of the engine: what it knows, what it does at the moment, and nothing that survives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapter_kit::{Later, Standing, Vault};
use adapter_osb::{Services, Transport};
use async_trait::async_trait;
use engine_core::World;
use engine_model::{
    Actor, Alarm, Cause, Command, CommandId, Commit, Due, Effect, EffectId, Event, Outcome,
    ResourceKey, Role, Sealed, Seq, Timestamp,
};

use super::stream::DeliveryId;

/// When a request that is not waited for any more is looked at again.
const GONE_ON: Duration = Duration::from_millis(100);

/// Names something that a node does.
pub(super) type JobId = u64;

/// What is asked of the ledger.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Command {
        id: CommandId,
        command: Box<Command>,
        sealed: Option<Sealed>,
    },
    Outcome(Box<Outcome>),
    Nudge(Box<Effect>),
    Due(Alarm),
}

/// A request to decide.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: ResourceKey,
    pub(super) ask: Ask,
    pub(super) actor: Actor,
    pub(super) cause: Cause,
}

/// Who waits for a decision.
#[derive(Debug, Clone)]
pub(super) enum Waiter {
    Command(DeliveryId, CommandId),
    /// A step of a job; the effect that is under way as long as it waits.
    Job(JobId, Option<String>),
}

/// A request that waits for its decision.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) waiter: Waiter,
    pub(super) clashes: u32,
}

/// Commits of one group, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) commits: Vec<(Commit, Seq)>,
    pub(super) waiters: Vec<Waiting>,
    pub(super) held: BTreeSet<ResourceKey>,
}

/// What a commit says, and where it belongs.
pub(super) type Write = (ResourceKey, Vec<Event>);

/// The ledger of a node.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) waiting: VecDeque<Waiting>,
    /// Whether a round is on its way, or its group is being written.
    pub(super) busy: bool,
    pub(super) group: Option<Group>,
}

/// Why a job was begun.
#[derive(Debug, Clone)]
pub(super) enum Begun {
    React(Seq, Role),
    Look(Due),
    /// Effects that the sweep found outstanding.
    Sweep,
}

/// Something that a node does: the effects of one delivery, or of one finding of the sweep.
#[derive(Debug)]
pub(super) struct Job {
    /// What is acknowledged at its end; none for the sweep.
    pub(super) delivery: Option<DeliveryId>,
    pub(super) begun: Begun,
    pub(super) key: ResourceKey,
    pub(super) actor: Actor,
    /// Those that wait for the one before them.
    pub(super) queue: VecDeque<(EffectId, Effect)>,
    pub(super) running: usize,
    /// When it comes again, if a part of it could not be done.
    pub(super) later_ms: Option<i64>,
}

/// A performance of an adapter that waits for an answer.
pub(super) type Performance = Pin<Box<dyn Future<Output = Result<Option<Outcome>, Later>> + Send>>;

/// What a task is told when it asks how its effect stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<AtomicBool>);

impl Shown {
    pub(super) fn show(&self, stands: bool) {
        self.0.store(stands, Ordering::Relaxed);
    }
}

#[async_trait]
impl Standing for Shown {
    async fn confirm(&self) -> Result<(), Later> {
        if self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Later {
            reason: "it is not waited for any more".into(),
            delay: GONE_ON,
        })
    }
}

/// An effect on a broker that is under way.
pub(super) struct Task {
    pub(super) job: JobId,
    pub(super) cause: Cause,
    pub(super) held: String,
    pub(super) effect: Effect,
    pub(super) standing: Shown,
    pub(super) performance: Performance,
}

/// A node.
pub(super) struct Node {
    /// Counts its lives; what was begun in an earlier one is no more.
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) frozen_until: Timestamp,
    /// How far its tail may lag behind.
    pub(super) lag_ms: i64,
    pub(super) world: World,
    /// Up to here all is folded.
    pub(super) position: Seq,
    pub(super) tail_set: bool,
    pub(super) desk: Desk,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) underway: BTreeSet<String>,
    /// Jobs that wait until the tail has reached a position.
    pub(super) reaching: BTreeMap<Seq, Vec<JobId>>,
    /// Findings of the last sweep that are not handled yet.
    pub(super) sweeping: usize,
    pub(super) services: Arc<Services>,
}

impl Node {
    pub(super) fn new(
        life: u32,
        vault: Arc<dyn Vault>,
        net: Arc<dyn Transport>,
        now: Timestamp,
    ) -> Self {
        Self {
            life,
            up: true,
            frozen_until: now,
            lag_ms: 5,
            world: World::default(),
            position: Seq(0),
            tail_set: false,
            desk: Desk::default(),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            underway: BTreeSet::new(),
            reaching: BTreeMap::new(),
            sweeping: 0,
            services: Arc::new(Services::over(vault, net)),
        }
    }

    /// Whether it does nothing at all.
    pub(super) fn idle(&self) -> bool {
        self.jobs.is_empty() && self.desk.waiting.is_empty() && !self.desk.busy
    }
}
