//! One simulation: a clock that jumps from happening to happening, and everything that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use engine_model::{
    Actor, Cause, Command, CommandEnvelope, CommandId, Due, Outcome, Recorded, ResourceKey, Role,
    Seq, TimerRequest, Timestamp,
};

use super::broker::{Broker, Character};
use super::desk::AGAIN_MS;
use super::net::{Net, Ticket};
use super::node::{JobId, Node};
use super::rng::Rng;
use super::script::{self, BROKERS, BUSY_MS, Sent};
use super::stream::{ACK_WAIT_MS, DeliveryId, Inboxes, Item, Log};
use super::trace::{START, Trace};
use super::traffic::Wire;
use super::vault::SimVault;
use super::{Sabotage, Settings};

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Happening {
    /// Someone sends the nth command of the script.
    Send(usize),
    /// A message is handed to a node.
    Deliver(DeliveryId),
    /// A message that was handed out so often is looked after.
    AckWait(DeliveryId, u32),
    /// A node folds what is new.
    Tail(usize, u32),
    Round(usize, u32),
    Write(usize, u32),
    Sweep(usize, u32),
    Worked(usize, u32, JobId, Box<(Outcome, Cause)>),
    /// A timer is due that was set for this moment.
    Ring(ResourceKey, &'static str, Timestamp),
    Arrive(Ticket),
    Reply(Ticket, Box<adapter_osb::What>),
    Timeout(Ticket),
    /// A node hears the answer to a request.
    Hear(Ticket, Box<adapter_osb::What>),
    /// Something goes wrong with a node or a broker.
    Mishap,
    Restart(usize),
    /// No more faults.
    Cease,
}

struct Scheduled {
    at: Timestamp,
    tie: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

/// One simulation.
pub(super) struct Sim {
    pub(super) now: Timestamp,
    queue: BinaryHeap<Reverse<Scheduled>>,
    ties: u64,
    pub(super) rng: Rng,
    pub(super) log: Log,
    pub(super) inboxes: Inboxes,
    timers: BTreeMap<(ResourceKey, &'static str), TimerRequest>,
    pub(super) nodes: Vec<Node>,
    pub(super) brokers: Vec<Broker>,
    /// Until when each broker's network is in a storm.
    pub(super) storms: Vec<Timestamp>,
    pub(super) vault: Arc<SimVault>,
    pub(super) net: Net,
    pub(super) wires: BTreeMap<Ticket, Wire>,
    /// When a change was last asked for.
    pub(super) repeated: BTreeMap<String, Timestamp>,
    /// Instances about which the platform was told that nothing happened when something had.
    pub(super) misled: BTreeMap<String, &'static str>,
    script: Vec<Sent>,
    sent: usize,
    /// What the senders of accepted commands heard: positions, or refusals.
    pub(super) replies: BTreeMap<String, Vec<Option<Seq>>>,
    pub(super) accepted: BTreeMap<String, ResourceKey>,
    pub(super) faults: bool,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) jobs: u64,
    pub(super) tasks: u64,
    pub(super) happened: u64,
    pub(super) requests: u64,
    pub(super) trace: Trace,
    pub(super) broken: Option<String>,
}

/// Pause between two sweeps, in milliseconds, as the real node has it.
const SWEEP_MS: i64 = 5_000;

/// The same when people and faults have been quiet for long: nothing is missed by it, and weeks
/// of waiting for an operation are simulated sooner.
const SWEEP_QUIET_MS: i64 = 300_000;

impl Sim {
    pub(super) fn new(seed: u64, settings: &Settings) -> Self {
        let mut script = script::written(&mut Rng::new(seed, 1), settings.commands);
        if let Some(keep) = &settings.keep {
            let mut nth = 0..;
            script.retain(|_| nth.next().is_some_and(|n| keep.contains(&n)));
        }
        let mut rng = Rng::new(seed, 2);
        let keeps_all = settings.sabotage == Some(Sabotage::ForgetErase);
        let vault = Arc::new(SimVault::new(Rng::new(seed, 3), keeps_all));
        vault.fails(10);
        let net = Net::default();
        let characters: Vec<Character> = (0..BROKERS).map(|_| Character::drawn(&mut rng)).collect();
        let brokers = (0..).zip(characters);
        let nodes = 2 + rng.below(2);
        let mut sim = Self {
            now: START,
            queue: BinaryHeap::new(),
            ties: 0,
            rng,
            log: Log::new(settings.sabotage == Some(Sabotage::TrustIds)),
            inboxes: Inboxes::default(),
            timers: BTreeMap::new(),
            nodes: (0..nodes)
                .map(|_| Node::new(1, vault.clone(), Arc::new(net.clone()), START))
                .collect(),
            brokers: brokers
                .map(|(n, character): (usize, _)| Broker::new(&format!("b{n}"), character))
                .collect(),
            storms: vec![START; BROKERS],
            vault,
            net,
            wires: BTreeMap::new(),
            repeated: BTreeMap::new(),
            misled: BTreeMap::new(),
            script,
            sent: 0,
            replies: BTreeMap::new(),
            accepted: BTreeMap::new(),
            faults: true,
            sabotage: settings.sabotage,
            jobs: 0,
            tasks: 0,
            happened: 0,
            requests: 0,
            trace: Trace::new(settings.trace),
            broken: None,
        };
        sim.set_the_scene();
        sim
    }

    fn set_the_scene(&mut self) {
        for broker in 0..self.brokers.len() {
            let (name, word) = {
                let broker = &self.brokers[broker];
                (broker.name.clone(), broker.character.clone())
            };
            self.say(|| format!("broker {name} is {}: {word:?}", word.word));
        }
        for nth in 0..self.script.len() {
            let sent = &self.script[nth];
            let (at, again) = (sent.at, sent.again);
            self.at(at, Happening::Send(nth));
            if let Some(again) = again {
                self.at(again, Happening::Send(nth));
            }
        }
        for node in 0..self.nodes.len() {
            let wait = self.rng.between(0, SWEEP_MS);
            self.after(wait, Happening::Sweep(node, 1));
        }
        self.after(10_000, Happening::Mishap);
        self.after(BUSY_MS + 30_000, Happening::Cease);
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        self.trace.say(now, line);
    }

    pub(super) fn at(&mut self, at: Timestamp, what: Happening) {
        self.ties += 1;
        let at = at.max(self.now);
        let tie = self.ties;
        self.queue.push(Reverse(Scheduled { at, tie, what }));
    }

    pub(super) fn after(&mut self, ms: i64, what: Happening) {
        self.at(self.now.plus_ms(ms), what);
    }

    /// Lets the next thing happen, if it does before `until`.
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        let Some(Reverse(next)) = self.queue.peek() else {
            return false;
        };
        if next.at > until {
            return false;
        }
        let Some(Reverse(next)) = self.queue.pop() else {
            return false;
        };
        self.now = next.at;
        self.happened += 1;
        self.happen(next.what);
        true
    }

    /// Whether a node in this life can act now; what it cannot do while it is frozen it does later.
    fn acts(&self, node: usize, life: u32) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn happen(&mut self, what: Happening) {
        if let Happening::Tail(node, life)
        | Happening::Round(node, life)
        | Happening::Write(node, life)
        | Happening::Sweep(node, life)
        | Happening::Worked(node, life, ..) = what
        {
            if !self.acts(node, life) {
                return;
            }
            let frozen = self.nodes[node].frozen_until;
            if frozen > self.now {
                return self.at(frozen, what);
            }
        }
        match what {
            Happening::Send(nth) => self.send(nth),
            Happening::Deliver(id) => self.deliver(id),
            Happening::AckWait(id, count) => self.ack_wait(id, count),
            Happening::Tail(node, _) => self.tail(node),
            Happening::Round(node, _) => self.round(node),
            Happening::Write(node, _) => self.write(node),
            Happening::Sweep(node, _) => self.sweep(node),
            Happening::Worked(node, _, job, done) => self.worked(node, job, done.0, done.1),
            Happening::Ring(key, token, at) => self.ring(key, token, at),
            Happening::Arrive(ticket) => self.arrive(ticket),
            Happening::Reply(ticket, what) => self.reply(ticket, *what),
            Happening::Timeout(ticket) => self.time_out(ticket),
            Happening::Hear(ticket, what) => self.hear(ticket, *what),
            Happening::Mishap => self.mishap(),
            Happening::Restart(node) => self.restart(node),
            Happening::Cease => self.cease(),
        }
    }

    fn send(&mut self, nth: usize) {
        let sent = self.script[nth].clone();
        let id = CommandId::derived(format_args!("script {nth}"));
        self.command_sent(id, sent.key, sent.command);
    }

    /// Someone sends a command that is in no script.
    pub(super) fn ask(&mut self, key: ResourceKey, command: Command) {
        self.sent += 1;
        let id = CommandId::derived(format_args!("asked {}", self.sent));
        self.command_sent(id, key, command);
    }

    fn command_sent(&mut self, id: CommandId, key: ResourceKey, command: Command) {
        self.say(|| format!("someone sends {id}: {key} {}", said(&command)));
        let envelope = CommandEnvelope {
            id,
            key: key.clone(),
            command,
            actor: Actor("user:alice".into()),
            correlation: String::new(),
            reply_to: None,
            at: self.now,
        };
        self.accepted.insert(id.to_string(), key);
        if let Some(delivery) = self.inboxes.command(envelope, self.now) {
            let wait = self.rng.between(1, 10);
            self.after(wait, Happening::Deliver(delivery));
        }
    }

    fn deliver(&mut self, id: DeliveryId) {
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].up && self.nodes[*node].frozen_until <= self.now)
            .collect();
        let Some(open) = self.inboxes.open.get_mut(&id) else {
            return;
        };
        if up.is_empty() {
            return self.after(AGAIN_MS, Happening::Deliver(id));
        }
        let node = *self.rng.pick(&up);
        open.count += 1;
        open.held = Some((node, self.nodes[node].life));
        let count = open.count;
        self.after(ACK_WAIT_MS, Happening::AckWait(id, count));
        if self.faults && self.rng.chance(10) {
            let wait = self.rng.between(0, 2_000);
            self.after(wait, Happening::Deliver(id));
        }
        self.receive(node, id);
    }

    /// A delivery that nobody has ended comes again, unless its holder says that it is alive.
    fn ack_wait(&mut self, id: DeliveryId, count: u32) {
        let Some(open) = self.inboxes.open.get(&id) else {
            return;
        };
        let Some((node, life)) = open.held.filter(|_| open.count == count) else {
            return;
        };
        let holder = &self.nodes[node];
        let alive = holder.up && holder.life == life && holder.frozen_until <= self.now;
        let works = holder.jobs.values().any(|job| job.delivery == Some(id));
        if alive && works {
            return self.after(ACK_WAIT_MS, Happening::AckWait(id, count));
        }
        self.deliver(id);
    }

    pub(super) fn ack(&mut self, id: DeliveryId) {
        if self.faults && self.rng.chance(20) {
            return;
        }
        self.inboxes.open.remove(&id);
    }

    pub(super) fn nak(&mut self, id: DeliveryId, ms: i64) {
        if let Some(open) = self.inboxes.open.get_mut(&id) {
            open.held = None;
            self.after(ms, Happening::Deliver(id));
        }
    }

    /// A commit is in the log: reactors and tails get it.
    pub(super) fn committed(&mut self, seq: Seq) {
        for role in [Role::Engine, Role::Worker] {
            let delivery = self.inboxes.publish(Item::Reaction(seq, role));
            let late = self.faults && self.rng.chance(20);
            let wait = if late {
                self.rng.between(100, 20_000)
            } else {
                self.rng.between(1, 10)
            };
            self.after(wait, Happening::Deliver(delivery));
        }
        for node in 0..self.nodes.len() {
            self.call_tail(node);
        }
    }

    fn call_tail(&mut self, node: usize) {
        if self.nodes[node].tail_set || !self.nodes[node].up {
            return;
        }
        self.nodes[node].tail_set = true;
        let (life, lag) = (self.nodes[node].life, self.nodes[node].lag_ms);
        let wait = self.rng.between(0, lag);
        self.after(wait, Happening::Tail(node, life));
    }

    /// A node folds all that there is.
    fn tail(&mut self, node: usize) {
        self.nodes[node].tail_set = false;
        let position = self.nodes[node].position;
        let fresh: Vec<Recorded> = self.log.after(position).to_vec();
        for recorded in &fresh {
            self.fold(node, recorded);
        }
        let position = self.log.last();
        self.nodes[node].position = position;
        let reached = &mut self.nodes[node].reaching;
        let still = reached.split_off(&Seq(position.0 + 1));
        let reached = std::mem::replace(reached, still);
        for job in reached.into_values().flatten() {
            self.start(node, job);
        }
    }

    pub(super) fn fold(&mut self, node: usize, recorded: &Recorded) {
        if let Err(error) = self.nodes[node].world.apply(recorded)
            && self.broken.is_none()
        {
            self.broken = Some(format!("node n{node} cannot fold its log: {error}"));
        }
    }

    pub(super) fn set_timer(&mut self, timer: TimerRequest) {
        let (key, token) = (timer.due.key.clone(), timer.due.alarm.token());
        let at = timer.at;
        self.timers.insert((key.clone(), token), timer);
        self.at(at, Happening::Ring(key, token, at));
    }

    fn ring(&mut self, key: ResourceKey, token: &'static str, at: Timestamp) {
        let name = (key, token);
        if self.timers.get(&name).is_none_or(|timer| timer.at != at) {
            return;
        }
        let Some(timer) = self.timers.remove(&name) else {
            return;
        };
        if self.faults && self.rng.chance(30) {
            let due = timer.due;
            return self.say(|| format!("the timer {due:?} is lost"));
        }
        let late = self.faults && self.rng.chance(30);
        let wait = if late {
            self.rng.between(100, 10_000)
        } else {
            self.rng.between(1, 40)
        };
        let delivery = self.inboxes.publish(Item::Alarm(timer.due));
        self.after(wait, Happening::Deliver(delivery));
    }

    /// A sweep is over; the next one comes.
    pub(super) fn swept(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let calm = self.now.since_ms(START) > BUSY_MS + 1_800_000;
        let pause = if calm { SWEEP_QUIET_MS } else { SWEEP_MS };
        self.after(pause, Happening::Sweep(node, life));
    }

    /// Something goes wrong.
    fn mishap(&mut self) {
        if !self.faults {
            return;
        }
        let node = self.rng.below(self.nodes.len());
        let ms = self.rng.between(1_000, 40_000);
        match self.rng.below(6) {
            0 => self.crash(node, "for no reason"),
            1 => {
                self.say(|| format!("n{node} freezes for {ms} ms"));
                self.nodes[node].frozen_until = self.now.plus_ms(ms);
            }
            2 => {
                let lag = *self.rng.pick(&[1, 20, 100, 500]);
                self.say(|| format!("n{node} lags up to {lag} ms"));
                self.nodes[node].lag_ms = lag;
            }
            3 => {
                let broker = self.rng.below(self.brokers.len());
                self.say(|| format!("a storm around b{broker} for {ms} ms"));
                self.storms[broker] = self.now.plus_ms(ms * 2);
            }
            _ => {}
        }
        let wait = self.rng.between(1_000, 30_000);
        self.after(wait, Happening::Mishap);
    }

    /// A node dies, with all that it was doing.
    pub(super) fn crash(&mut self, node: usize, when: &str) {
        if !self.nodes[node].up {
            return;
        }
        self.say(|| format!("n{node} dies {when}"));
        let life = self.nodes[node].life + 1;
        let net = Arc::new(self.net.clone());
        self.nodes[node] = Node::new(life, self.vault.clone(), net, self.now);
        self.nodes[node].up = false;
        self.disconnected(node);
        let wait = self.rng.between(500, 30_000);
        self.after(wait, Happening::Restart(node));
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.say(|| format!("n{node} is back"));
        self.nodes[node].up = true;
        let life = self.nodes[node].life;
        self.tail(node);
        self.after(SWEEP_MS, Happening::Sweep(node, life));
    }

    fn cease(&mut self) {
        self.say(|| "the faults cease".to_owned());
        self.faults = false;
        self.vault.fails(0);
        for node in 0..self.nodes.len() {
            self.nodes[node].lag_ms = 5;
            self.nodes[node].frozen_until = self.nodes[node].frozen_until.min(self.now);
            self.restart(node);
        }
    }

    /// Whether nothing goes on but the reading of catalogs now and then.
    pub(super) fn quiet(&self) -> bool {
        let refresh = |due: &Due| matches!(due.alarm.token(), "refresh" | "renew");
        let timers = self.timers.values().all(|timer| refresh(&timer.due));
        let inboxes = self.inboxes.open.is_empty();
        let nodes = self.nodes.iter().all(|node| {
            node.up
                && node.idle()
                && node.position == self.log.last()
                && engine_core::due(&node.world, self.now).is_empty()
        });
        !self.faults && timers && inboxes && nodes && self.wires.is_empty()
    }

    pub(super) fn said_commit(&mut self, node: usize, seq: Seq) {
        let line = {
            let recorded = self.log.at(seq);
            let commit = &recorded.commit;
            let key = commit.key.clone();
            let events = commit.events.clone();
            let cause = commit.cause;
            move || {
                let events: Vec<String> = events.iter().map(shown).collect();
                format!(
                    "n{node} commits {seq} {key}: {} ({cause})",
                    events.join(", ")
                )
            }
        };
        self.say(line);
    }
}

/// An event in a line.
fn shown(event: &engine_model::Event) -> String {
    let mut text = serde_json::to_string(event).unwrap_or_default();
    if text.len() > 300 {
        let end = (0..=300).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

fn said(command: &Command) -> String {
    let mut text = serde_json::to_string(command).unwrap_or_default();
    text.truncate(200);
    text
}
