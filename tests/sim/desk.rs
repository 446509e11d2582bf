//! The ledger of a node, step by step as the real one does it: a round decides what waits, and
//! its group is written a moment later, when others may have been faster.

use std::collections::VecDeque;

use engine_core::{Decision, Input, decide};
use engine_model::{CommandId, Commit, Recorded, Rejection, ResourceKey, Seq, Timestamp};

use super::node::{Ask, Group, Request, Waiter, Waiting, Write};
use super::run::{Happening, Sim};
use super::stream::Appended;

/// Clashes with other nodes before a request is refused as `busy`, as the real ledger has it.
const CLASHES_MAX: u32 = 8;

/// Wait before what met a fault of our own is tried again, as the real node has it.
pub(super) const AGAIN_MS: i64 = 500;

/// Why nothing was decided.
#[derive(Debug)]
pub(super) enum Refused {
    Rejected(Rejection),
    Busy,
    Log,
}

impl Sim {
    /// Hands a request to the ledger of a node.
    pub(super) fn hand_in(&mut self, node: usize, request: Request, waiter: Waiter) {
        let waiting = Waiting {
            request,
            waiter,
            clashes: 0,
        };
        self.nodes[node].desk.waiting.push_back(waiting);
        self.call_round(node);
    }

    fn call_round(&mut self, node: usize) {
        let desk = &mut self.nodes[node].desk;
        if desk.busy || desk.waiting.is_empty() {
            return;
        }
        desk.busy = true;
        let life = self.nodes[node].life;
        let wait = self.rng.between(0, 1);
        self.after(wait, Happening::Round(node, life));
    }

    /// Decides what waits, as far as it fits one group.
    pub(super) fn round(&mut self, node: usize) {
        let mut waiting = std::mem::take(&mut self.nodes[node].desk.waiting);
        let (mut group, mut later) = (Group::default(), VecDeque::new());
        while let Some(one) = waiting.pop_front() {
            if group.held.contains(&one.request.key) {
                later.push_back(one);
                continue;
            }
            let decision = decided(&self.nodes[node].world, &one.request, self.now);
            match decision {
                Err(rejection) => self.answer(node, one, Err(Refused::Rejected(rejection))),
                Ok(decision) => self.take(node, decision, one, &mut group, &mut later),
            }
            if !self.nodes[node].up {
                return;
            }
        }
        // What was handed in by answers that were given just now waits behind the rest.
        later.append(&mut self.nodes[node].desk.waiting);
        self.nodes[node].desk.waiting = later;
        let life = self.nodes[node].life;
        self.nodes[node].desk.group = Some(group);
        let slow = self.faults && self.rng.chance(30);
        let wait = if slow {
            self.rng.between(200, 3_000)
        } else {
            self.rng.between(1, 8)
        };
        self.after(wait, Happening::Write(node, life));
    }

    fn take(
        &mut self,
        node: usize,
        decision: Decision,
        waiting: Waiting,
        group: &mut Group,
        later: &mut VecDeque<Waiting>,
    ) {
        if decision.writes.is_empty() {
            let last = self.nodes[node].world.last_seq(&waiting.request.key);
            let seq = decision.repeated.unwrap_or(last);
            self.answer(node, waiting, Ok(seq));
            return;
        }
        if decision
            .writes
            .iter()
            .any(|(key, _)| group.held.contains(key))
        {
            group.held.insert(waiting.request.key.clone());
            later.push_back(waiting);
            return;
        }
        if decision.writes.len() > 1 {
            self.write_in_order(node, decision, waiting);
            return;
        }
        for write in decision.writes {
            group.held.insert(write.0.clone());
            let commit = self.commit(node, write, &waiting.request);
            group.commits.push(commit);
        }
        group.waiters.push(waiting);
    }

    fn commit(&self, node: usize, (key, events): Write, request: &Request) -> (Commit, Seq) {
        let expected = self.nodes[node].world.last_seq(&key);
        let commit = Commit {
            id: Commit::id_for(&key, expected, request.cause),
            key,
            events,
            at: self.now,
            actor: request.actor.clone(),
            cause: request.cause,
            correlation: String::new(),
        };
        (commit, expected)
    }

    /// Writes the group of a round.
    pub(super) fn write(&mut self, node: usize) {
        let Some(group) = self.nodes[node].desk.group.take() else {
            return;
        };
        let dies_after =
            (self.faults && self.rng.chance(3)).then(|| self.rng.below(group.commits.len() + 1));
        let mut ended = Vec::new();
        for (nth, ((commit, expected), waiting)) in
            group.commits.into_iter().zip(group.waiters).enumerate()
        {
            if dies_after == Some(nth) {
                self.crash(node, "while it wrote");
                return;
            }
            let result = self.append(node, &commit, expected);
            ended.push((waiting, result));
        }
        if dies_after.is_some() {
            self.crash(node, "when it had written");
            return;
        }
        for (waiting, result) in ended {
            self.end(node, waiting, result);
        }
        self.nodes[node].desk.busy = false;
        self.call_round(node);
    }

    /// A decision about several resources: the one that asked comes last.
    fn write_in_order(&mut self, node: usize, decision: Decision, waiting: Waiting) {
        let mut last = Err(None);
        for write in decision.writes {
            if self.faults && self.rng.chance(10) {
                self.crash(node, "between two commits of one decision");
                return;
            }
            let (commit, expected) = self.commit(node, write, &waiting.request);
            last = self.append(node, &commit, expected);
            if last.is_err() {
                self.read_up(node, &commit.key);
                break;
            }
        }
        self.end(node, waiting, last);
    }

    /// Appends a commit and learns it; `Err(None)` for a clash, `Err(Some)` for a fault.
    fn append(&mut self, node: usize, commit: &Commit, expected: Seq) -> Result<Seq, Option<()>> {
        let faults = self.faults;
        if faults && self.rng.chance(5) {
            return Err(Some(()));
        }
        let appended = self.log.append(commit, expected, self.now);
        match appended {
            Appended::Clash => {
                self.say(|| format!("n{node} clashes on {}", commit.key));
                return Err(None);
            }
            Appended::At(seq) => {
                self.said_commit(node, seq);
                self.committed(seq);
            }
            Appended::Known(seq) => self.say(|| format!("n{node} finds its commit at {seq}")),
        }
        if faults && self.rng.chance(5) {
            return Err(Some(()));
        }
        let (Appended::At(seq) | Appended::Known(seq)) = appended else {
            return Err(None);
        };
        let own = Recorded {
            seq,
            commit: commit.clone(),
        };
        if self.nodes[node].world.apply(&own).is_err() {
            self.read_up(node, &commit.key);
        }
        Ok(seq)
    }

    fn end(&mut self, node: usize, mut waiting: Waiting, result: Result<Seq, Option<()>>) {
        match result {
            Ok(seq) => self.answer(node, waiting, Ok(seq)),
            Err(None) if waiting.clashes < CLASHES_MAX => {
                waiting.clashes += 1;
                self.read_up(node, &waiting.request.key.clone());
                self.nodes[node].desk.waiting.push_back(waiting);
            }
            Err(None) => self.answer(node, waiting, Err(Refused::Busy)),
            Err(Some(())) => self.answer(node, waiting, Err(Refused::Log)),
        }
    }

    /// Folds what others wrote about a resource, without waiting for the tail.
    pub(super) fn read_up(&mut self, node: usize, key: &ResourceKey) {
        let history: Vec<Recorded> = self.log.of(key).cloned().collect();
        for recorded in &history {
            self.fold(node, recorded);
        }
    }

    fn answer(&mut self, node: usize, waiting: Waiting, result: Result<Seq, Refused>) {
        match waiting.waiter {
            Waiter::Command(delivery, id) => self.heard(delivery, id, result),
            Waiter::Job(job, held) => {
                if let Some(held) = held {
                    self.nodes[node].underway.remove(&held);
                }
                let later = matches!(result, Err(Refused::Log)).then_some(AGAIN_MS);
                self.stepped(node, job, later);
            }
        }
    }

    /// The end of a command: its sender is told, and it is acknowledged.
    fn heard(&mut self, delivery: u64, id: CommandId, result: Result<Seq, Refused>) {
        let reply = match result {
            Ok(seq) => Ok(seq),
            Err(Refused::Rejected(rejection)) => Err(rejection.to_string()),
            Err(Refused::Busy) => Err("busy".to_owned()),
            Err(Refused::Log) => return self.nak(delivery, AGAIN_MS),
        };
        self.say(|| match &reply {
            Ok(seq) => format!("command {id} is decided at {seq}"),
            Err(why) => format!("command {id} is refused: {why}"),
        });
        self.replies
            .entry(id.to_string())
            .or_default()
            .push(reply.ok());
        self.ack(delivery);
    }
}

fn decided(
    world: &engine_core::World,
    request: &Request,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let input = match &request.ask {
        Ask::Command {
            id,
            command,
            sealed,
        } => Input::Command {
            id: *id,
            command,
            sealed: sealed.as_ref(),
        },
        Ask::Outcome(outcome) => Input::Outcome { outcome },
        Ask::Nudge(effect) => Input::Nudge { effect },
        Ask::Due(alarm) => Input::Due { alarm: *alarm },
    };
    decide(world, &request.key, input, now)
}
