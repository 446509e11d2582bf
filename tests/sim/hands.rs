//! Jobs and their effects, as the real node does them: deliveries become effects that the state
//! still waits for, effects become outcomes, and outcomes go to the ledger.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use adapter_kit::Vault as _;
use engine_core::{Overdue, alarm, due, is_wanted, outstanding, react};
use engine_model::spec::Spec;
use engine_model::{
    Actor, BaseImageOutcome, Cause, ClientSealed, Command, CommandEnvelope, Effect, EffectId,
    FunctionOutcome, ImageOutcome, KeyId, Outcome, ResourceKey, Sealed,
};
use futures::FutureExt as _;

use super::Sabotage;
use super::desk::AGAIN_MS;
use super::node::{Ask, Begun, Job, JobId, Request, Shown, Task, Waiter};
use super::run::{Happening, Sim};
use super::stream::{DeliveryId, Item};

impl Sim {
    /// A node gets a message.
    pub(super) fn receive(&mut self, node: usize, delivery: DeliveryId) {
        let Some(open) = self.inboxes.open.get(&delivery) else {
            return;
        };
        match open.item.clone() {
            Item::Command(envelope) => self.command(node, delivery, *envelope),
            Item::Reaction(seq, role) => {
                let recorded = self.log.at(seq);
                let (key, actor) = (recorded.commit.key.clone(), recorded.commit.actor.clone());
                let job = self.begin(Some(delivery), Begun::React(seq, role), key, actor, node);
                if self.nodes[node].position >= seq {
                    self.start(node, job);
                } else {
                    let waits = self.nodes[node].reaching.entry(seq).or_default();
                    waits.push(job);
                }
            }
            Item::Alarm(due) => {
                let key = due.key.clone();
                let begun = Begun::Look(due);
                let job = self.begin(Some(delivery), begun, key, Actor::engine(), node);
                self.start(node, job);
            }
        }
    }

    fn command(&mut self, node: usize, delivery: DeliveryId, envelope: CommandEnvelope) {
        if self.sabotage == Some(Sabotage::AckFirst) {
            self.ack(delivery);
        }
        let sealed = match self.reseal(&envelope) {
            Ok(sealed) => sealed,
            Err(()) => return self.nak(delivery, AGAIN_MS),
        };
        let id = envelope.id;
        let request = Request {
            key: envelope.key,
            ask: Ask::Command {
                id,
                command: Box::new(envelope.command),
                sealed,
            },
            actor: envelope.actor,
            cause: Cause::Command(id),
        };
        self.hand_in(node, request, Waiter::Command(delivery, id));
    }

    /// Re-seals the secret of a command, as the real node does before it decides.
    fn reseal(&mut self, envelope: &CommandEnvelope) -> Result<Option<Sealed>, ()> {
        let Some(sealed) = secret_of(&envelope.command) else {
            return Ok(None);
        };
        let plain = self.vault.open_client(sealed).map_err(drop)?;
        let key = KeyId(format!("{}/{}", envelope.key, envelope.id));
        let sealing = self.vault.seal(&key, &plain).now_or_never();
        match sealing.expect("it never waits") {
            Ok(sealed) => Ok(Some(sealed)),
            Err(_) => Err(()),
        }
    }

    fn begin(
        &mut self,
        delivery: Option<DeliveryId>,
        begun: Begun,
        key: ResourceKey,
        actor: Actor,
        node: usize,
    ) -> JobId {
        self.jobs += 1;
        let job = Job {
            delivery,
            begun,
            key,
            actor,
            queue: VecDeque::new(),
            running: 0,
            later_ms: None,
        };
        self.nodes[node].jobs.insert(self.jobs, job);
        self.jobs
    }

    /// Finds out what there is to do, and does it.
    pub(super) fn start(&mut self, node: usize, id: JobId) {
        let Some(job) = self.nodes[node].jobs.get(&id) else {
            return;
        };
        let begun = job.begun.clone();
        match begun {
            Begun::React(seq, role) => {
                let recorded = self.log.at(seq).clone();
                let world = &self.nodes[node].world;
                let wanted: Vec<(EffectId, Effect)> = react(world, &recorded)
                    .into_iter()
                    .filter(|(_, effect)| effect.role() == role)
                    .collect();
                // All at once.
                if let Some(job) = self.nodes[node].jobs.get_mut(&id) {
                    job.running = wanted.len();
                }
                if wanted.is_empty() {
                    self.finish(node, id);
                }
                for (effect_id, effect) in wanted {
                    self.perform(node, id, effect_id, effect);
                }
            }
            Begun::Look(due) => {
                let world = &self.nodes[node].world;
                let (effects, seq) = (alarm(world, &due, self.now), world.last_seq(&due.key));
                if effects.is_empty() {
                    let ask = Ask::Due(due.alarm);
                    self.one_more(node, id);
                    self.record(node, id, due.key, ask, Cause::Alarm, None);
                    return;
                }
                self.in_order(node, id, seq, effects);
            }
            Begun::Sweep => {}
        }
    }

    fn in_order(&mut self, node: usize, id: JobId, seq: engine_model::Seq, effects: Vec<Effect>) {
        if let Some(job) = self.nodes[node].jobs.get_mut(&id) {
            let named = (0..).zip(effects);
            job.queue = named
                .map(|(index, effect)| (EffectId { seq, index }, effect))
                .collect();
        }
        self.next(node, id);
    }

    /// Looks at the whole state.
    pub(super) fn sweep(&mut self, node: usize) {
        let found = due(&self.nodes[node].world, self.now);
        self.nodes[node].sweeping = found.len();
        if found.is_empty() {
            self.swept(node);
            return;
        }
        self.say(|| format!("n{node} sweeps: {found:?}"));
        for overdue in found {
            let key = overdue.key().clone();
            let begun = match &overdue {
                Overdue::Alarm(due) => Begun::Look(due.clone()),
                Overdue::Nudge(_) | Overdue::Reaction(_) => Begun::Sweep,
            };
            let job = self.begin(None, begun, key.clone(), Actor::engine(), node);
            let world = &self.nodes[node].world;
            let seq = world.last_seq(&key);
            match overdue {
                Overdue::Alarm(_) => self.start(node, job),
                Overdue::Nudge(key) => self.in_order(node, job, seq, vec![Effect::Proceed(key)]),
                Overdue::Reaction(key) => {
                    let effects = outstanding(world, &key);
                    self.in_order(node, job, seq, effects);
                }
            }
        }
    }

    /// The next effect of a job whose effects wait for each other.
    fn next(&mut self, node: usize, id: JobId) {
        let Some(job) = self.nodes[node].jobs.get_mut(&id) else {
            return;
        };
        match job.queue.pop_front() {
            Some((effect_id, effect)) => {
                job.running += 1;
                self.perform(node, id, effect_id, effect);
            }
            None => self.finish(node, id),
        }
    }

    fn one_more(&mut self, node: usize, id: JobId) {
        if let Some(job) = self.nodes[node].jobs.get_mut(&id) {
            job.running += 1;
        }
    }

    /// A step of a job is over; `later` when it could not be done.
    pub(super) fn stepped(&mut self, node: usize, id: JobId, later: Option<i64>) {
        let Some(job) = self.nodes[node].jobs.get_mut(&id) else {
            return;
        };
        job.running -= 1;
        if later.is_some() {
            job.later_ms = later;
            job.queue.clear();
        }
        if job.running > 0 {
            return;
        }
        self.next(node, id);
    }

    fn finish(&mut self, node: usize, id: JobId) {
        let Some(job) = self.nodes[node].jobs.remove(&id) else {
            return;
        };
        match (job.delivery, job.later_ms) {
            (Some(delivery), None) => self.ack(delivery),
            (Some(delivery), Some(ms)) => self.nak(delivery, ms),
            (None, _) => {
                self.nodes[node].sweeping = self.nodes[node].sweeping.saturating_sub(1);
                if self.nodes[node].sweeping == 0 {
                    self.swept(node);
                }
            }
        }
    }

    fn record(
        &mut self,
        node: usize,
        job: JobId,
        key: ResourceKey,
        ask: Ask,
        cause: Cause,
        held: Option<String>,
    ) {
        let actor = match self.nodes[node].jobs.get(&job) {
            Some(job) => job.actor.clone(),
            None => Actor::engine(),
        };
        let request = Request {
            key,
            ask,
            actor,
            cause,
        };
        self.hand_in(node, request, Waiter::Job(job, held));
    }

    fn perform(&mut self, node: usize, job: JobId, id: EffectId, effect: Effect) {
        let swept = self.nodes[node]
            .jobs
            .get(&job)
            .is_some_and(|job| !matches!(job.begun, Begun::React(..)));
        let cause = if swept {
            Cause::Alarm
        } else {
            Cause::Effect {
                seq: id.seq,
                index: id.index,
            }
        };
        match &effect {
            Effect::Proceed(key)
            | Effect::DeleteBinding(key)
            | Effect::Delete(key)
            | Effect::RefreshCatalog(key)
            | Effect::CreateBinding { key, .. }
            | Effect::AbandonBinding { key, .. } => {
                let ask = Ask::Nudge(Box::new(effect.clone()));
                self.record(node, job, key.clone(), ask, cause, None);
            }
            Effect::Timer(timer) => {
                let fails = self.faults && self.rng.chance(5);
                if !fails {
                    self.set_timer(timer.clone());
                }
                self.stepped(node, job, fails.then_some(AGAIN_MS));
            }
            Effect::EraseKey(key) => {
                let erased = self.vault.erase(key).now_or_never();
                let failed = erased.expect("it never waits").is_err();
                self.say(|| {
                    format!(
                        "n{node} erases {} ({})",
                        key.0,
                        if failed { "failed" } else { "done" }
                    )
                });
                self.stepped(node, job, failed.then_some(AGAIN_MS));
            }
            Effect::PrepareBaseImage { .. }
            | Effect::BuildImage(_)
            | Effect::LoadFunction(_)
            | Effect::RetireRevision(_)
            | Effect::ServeApi { .. } => self.work(node, job, &effect, cause),
            _ => self.reach_out(node, job, id, effect, cause),
        }
    }

    /// Work of a worker, which always succeeds after a while.
    fn work(&mut self, node: usize, job: JobId, effect: &Effect, cause: Cause) {
        let outcome = match effect {
            Effect::PrepareBaseImage { generation, .. } => {
                Outcome::BaseImage(BaseImageOutcome::Prepared {
                    generation: *generation,
                    version: "3.13".into(),
                    digest: None,
                })
            }
            Effect::BuildImage(build) => Outcome::Image(ImageOutcome::Built {
                build: build.build,
                layer: None,
                bytes: 1,
                log: None,
            }),
            Effect::LoadFunction(load) => Outcome::Function(FunctionOutcome::Loaded {
                revision: load.revision,
            }),
            _ => return self.stepped(node, job, None),
        };
        let life = self.nodes[node].life;
        let wait = self.rng.between(20, 2_000);
        self.after(
            wait,
            Happening::Worked(node, life, job, Box::new((outcome, cause))),
        );
    }

    /// A worker is done.
    pub(super) fn worked(&mut self, node: usize, job: JobId, outcome: Outcome, cause: Cause) {
        let Some(own) = self.nodes[node].jobs.get(&job) else {
            return;
        };
        let key = own.key.clone();
        let ask = Ask::Outcome(Box::new(outcome));
        self.record(node, job, key, ask, cause, None);
    }

    fn reach_out(&mut self, node: usize, job: JobId, id: EffectId, effect: Effect, cause: Cause) {
        let Some(own) = self.nodes[node].jobs.get(&job) else {
            return;
        };
        let key = own.key.clone();
        let held = fingerprint(&key, &effect);
        if self.nodes[node].underway.contains(&held) {
            return self.stepped(node, job, Some(AGAIN_MS));
        }
        if let Some(outcome) = self.spoiled(node, &key, &effect) {
            let ask = Ask::Outcome(Box::new(outcome));
            return self.record(node, job, key, ask, cause, None);
        }
        self.nodes[node].underway.insert(held.clone());
        let services = self.nodes[node].services.clone();
        let standing = Shown::default();
        let (shown, own) = (standing.clone(), effect.clone());
        let performance = Box::pin(async move {
            use adapter_kit::Performer as _;
            services.perform(id, &key, &own, &shown).await
        });
        self.tasks += 1;
        let task = Task {
            job,
            cause,
            held,
            effect,
            standing,
            performance,
        };
        self.nodes[node].tasks.insert(self.tasks, task);
        self.poll(node, self.tasks);
    }

    /// Lets a performance go on.
    pub(super) fn poll(&mut self, node: usize, id: u64) {
        let stands = self.stands(node, id);
        let Some(task) = self.nodes[node].tasks.get_mut(&id) else {
            return;
        };
        task.standing.show(stands);
        let mut ctx = Context::from_waker(Waker::noop());
        let polled = task.performance.as_mut().poll(&mut ctx);
        for (ticket, request) in self.net.fresh() {
            self.send_out(ticket, &request, node, id);
        }
        let Poll::Ready(result) = polled else { return };
        let Some(task) = self.nodes[node].tasks.remove(&id) else {
            return;
        };
        match result {
            Ok(Some(outcome)) => {
                self.say(|| format!("n{node} learns {outcome:?}"));
                let Some(job) = self.nodes[node].jobs.get(&task.job) else {
                    return;
                };
                let key = job.key.clone();
                let ask = Ask::Outcome(Box::new(outcome));
                self.record(node, task.job, key, ask, task.cause, Some(task.held));
            }
            Ok(None) => {
                self.nodes[node].underway.remove(&task.held);
                self.stepped(node, task.job, None);
            }
            Err(later) => {
                self.nodes[node].underway.remove(&task.held);
                let ms = i64::try_from(later.delay.as_millis()).unwrap_or(AGAIN_MS);
                self.stepped(node, task.job, Some(ms));
            }
        }
    }
}

impl Sim {
    /// Whether the effect of a task is still waited for, by the last word in the log.
    fn stands(&self, node: usize, id: u64) -> bool {
        if self.sabotage == Some(Sabotage::ActBlindly) {
            return true;
        }
        let own = &self.nodes[node];
        let Some(task) = own.tasks.get(&id) else {
            return false;
        };
        let Some(job) = own.jobs.get(&task.job) else {
            return false;
        };
        let last = self.log.of(&job.key).last().map(|last| last.seq);
        if last.is_none_or(|last| last <= own.world.last_seq(&job.key)) {
            return is_wanted(&own.world, &job.key, &task.effect);
        }
        let mut world = own.world.clone();
        for recorded in self.log.after(own.position) {
            if world.apply(recorded).is_err() {
                return false;
            }
        }
        is_wanted(&world, &job.key, &task.effect)
    }
}

fn secret_of(command: &Command) -> Option<&ClientSealed> {
    match command {
        Command::Create(Spec::Secret(secret)) | Command::Update(Spec::Secret(secret)) => {
            Some(&secret.secrets)
        }
        Command::Create(Spec::ServiceBroker(broker))
        | Command::Update(Spec::ServiceBroker(broker)) => Some(&broker.credentials),
        _ => None,
    }
}

/// What distinguishes the effects of one resource that may be wanted twice at once.
fn fingerprint(key: &ResourceKey, effect: &Effect) -> String {
    let (word, request) = match effect {
        Effect::ReadCatalog { .. } => ("read catalog", String::new()),
        Effect::Provision { call, .. } => ("provision", call.request.to_string()),
        Effect::PollInstance { call, .. } => ("poll instance", call.request.to_string()),
        Effect::Deprovision { call, .. } => ("deprovision", call.request.to_string()),
        Effect::Bind { call, .. } => ("bind", call.request.to_string()),
        Effect::PollBinding { call, .. } => ("poll binding", call.request.to_string()),
        Effect::Unbind { call, .. } => ("unbind", call.request.to_string()),
        Effect::FetchInstance { call, .. } => ("fetch instance", call.request.to_string()),
        Effect::UpdateInstance { call, .. } => ("update instance", call.request.to_string()),
        other => ("other", format!("{other:?}")),
    };
    format!("{key}#{word} {request}")
}
