//! Requests to brokers on their way, and their answers on the way back.

use adapter_osb::{Body, Headers, Outbound, What};
use engine_model::broker::Verdict;
use engine_model::{
    BindingOutcome, Effect, InstanceOutcome, Outcome, ResourceKey, Status, Timestamp,
};

use super::Sabotage;
use super::broker::{Answer, Asked};
use super::fate::Fate;
use super::net::Ticket;
use super::oracle::Record;
use super::run::{Happening, Sim};

/// How long a request may take, in milliseconds, as the real client has it.
const TIMEOUT_MS: i64 = 60_000;

/// A request on the wire.
#[derive(Debug)]
pub(super) struct Wire {
    node: usize,
    life: u32,
    task: u64,
    broker: usize,
    asked: Asked,
    fate: Fate,
    sent: Timestamp,
    /// Its answer is on the way, or the platform waits no longer.
    done: bool,
    /// The platform knows.
    heard: bool,
    arrives: bool,
}

impl Sim {
    /// A node sends a request.
    pub(super) fn send_out(&mut self, ticket: Ticket, request: &Outbound, node: usize, task: u64) {
        self.requests += 1;
        let asked = Asked::of(request);
        let found =
            (0..self.brokers.len()).find(|n| request.origin == format!("http://b{n}.example"));
        let Some(broker) = found else {
            self.broken = Some(format!("a request went nowhere: {request:?}"));
            return;
        };
        let storm = self.storms[broker] > self.now;
        let fate = if self.faults {
            Fate::drawn(&asked, storm, &mut self.rng)
        } else {
            Fate::Fine
        };
        let mut fate = fate;
        if let Some(change) = asked.change()
            && self.repeated.insert(change, self.now).is_some()
            && matches!(fate, Fate::Late(_))
        {
            fate = Fate::Lost;
        }
        let fate = fate;
        let line = asked.line.clone();
        self.say(|| format!("n{node} sends #{ticket} to b{broker}: {line} ({fate:?})"));
        self.brokers[broker].sent(node, &asked, self.now);
        let wait = self.rng.between(1, 60);
        if fate.arrives() {
            let wait = if let Fate::Late(ms) = fate { ms } else { wait };
            self.after(wait, Happening::Arrive(ticket));
        } else if !fate.silent() {
            let heard = fate.heard(None);
            self.after(wait, Happening::Reply(ticket, Box::new(heard)));
        }
        self.after(TIMEOUT_MS, Happening::Timeout(ticket));
        let wire = Wire {
            node,
            life: self.nodes[node].life,
            task,
            broker,
            asked,
            fate,
            sent: self.now,
            done: false,
            heard: false,
            arrives: fate.arrives(),
        };
        self.wires.insert(ticket, wire);
    }

    /// A request reaches its broker.
    pub(super) fn arrive(&mut self, ticket: Ticket) {
        let Some(wire) = self.wires.get_mut(&ticket) else {
            return;
        };
        wire.arrives = false;
        let (broker, fate, asked, sent) = (wire.broker, wire.fate, wire.asked.clone(), wire.sent);
        let node = wire.node;
        let late = matches!(fate, Fate::Late(_));
        if late && !self.may_be_late(&asked, sent, ticket) {
            self.forget(ticket);
            return;
        }
        let fails = self.faults && self.rng.chance(100);
        let answer = self.brokers[broker].take(&asked, self.now, fails, &mut self.rng);
        if !late {
            let patience_ms = TIMEOUT_MS - self.now.since_ms(sent);
            let who = (ticket, node);
            self.brokers[broker].received(who, &asked, &answer, self.now, patience_ms);
        }
        for binding in std::mem::take(&mut self.brokers[broker].taken_along) {
            let abandoned = Record::of(&self.log.commits).abandoned;
            if !abandoned.contains(&binding) && !self.misled.contains_key(&binding) {
                let text = format!("an instance is deleted while it has the binding {binding}");
                self.brokers[broker].offences.push(text);
            }
        }
        if let Some(offence) = self.brokers[broker].offences.first() {
            self.broken = Some(format!("broker b{broker}: {offence}"));
        }
        let (line, status) = (asked.line.clone(), answer.status);
        self.say(|| format!("b{broker} takes #{ticket} {line}: {status} {}", answer.body));
        if late || fate == Fate::Mute {
            self.forget(ticket);
            return;
        }
        let takes = answer.takes_ms + self.rng.between(1, 60);
        let heard = fate.heard(Some(said(&answer)));
        self.after(takes, Happening::Reply(ticket, Box::new(heard)));
    }

    /// A request that nobody waits for may still be carried out, but not when the same request was
    /// sent twice, or its sender died and cut the connection.
    fn may_be_late(&self, asked: &Asked, sent: Timestamp, ticket: Ticket) -> bool {
        let Some(wire) = self.wires.get(&ticket) else {
            return false;
        };
        let change = asked.change().unwrap_or_default();
        let since = self.repeated.get(&change).is_some_and(|at| *at > sent);
        !since && self.nodes[wire.node].life == wire.life
    }

    /// The answer to a request leaves for the platform.
    pub(super) fn reply(&mut self, ticket: Ticket, what: What) {
        let Some(wire) = self.wires.get_mut(&ticket).filter(|wire| !wire.done) else {
            return self.forget(ticket);
        };
        wire.done = true;
        if wire.asked.change().is_some() {
            self.mislead(ticket, &what);
        }
        self.hear(ticket, what);
    }

    /// Notes answers that say that nothing has happened, although an earlier try of the same
    /// request was carried out: the specification asks for no cleaning up then.
    fn mislead(&mut self, ticket: Ticket, what: &What) {
        let Some(wire) = self.wires.get(&ticket) else {
            return;
        };
        let What::Answered { status, body, .. } = what else {
            return;
        };
        let why = match (status, body) {
            (200, Body::Whole(bytes))
                if serde_json::from_slice::<serde_json::Value>(bytes)
                    .is_ok_and(|body| body.is_object()) =>
            {
                return;
            }
            (200, _) => "200 that cannot be read",
            (400..=499, _) => "4xx to a repeat",
            _ => return,
        };
        if wire.asked.method == "PUT" {
            let id = wire.asked.line.rsplit('/').next().unwrap_or_default();
            self.misled.insert(id.to_owned(), why);
        }
    }

    /// A node hears what came of its request.
    pub(super) fn hear(&mut self, ticket: Ticket, what: What) {
        let Some(wire) = self.wires.get(&ticket) else {
            return;
        };
        let (node, life, task) = (wire.node, wire.life, wire.task);
        let alive = self.nodes[node].up && self.nodes[node].life == life;
        let frozen = self.nodes[node].frozen_until;
        if alive && frozen > self.now {
            return self.at(frozen, Happening::Hear(ticket, Box::new(what)));
        }
        if let Some(wire) = self.wires.get_mut(&ticket) {
            wire.heard = true;
        }
        self.forget(ticket);
        if alive {
            let line = match &what {
                What::Answered { status, .. } => format!("status {status}"),
                other => format!("{other:?}"),
            };
            self.say(|| format!("n{node} hears #{ticket}: {line}"));
            self.net.reply(ticket, what);
            self.poll(node, task);
        }
    }

    /// The platform's patience ends.
    pub(super) fn time_out(&mut self, ticket: Ticket) {
        let Some(wire) = self.wires.get_mut(&ticket).filter(|wire| !wire.done) else {
            return;
        };
        wire.done = true;
        self.hear(ticket, What::TimedOut);
    }

    /// A request is of no more interest, once it is heard of and has arrived.
    fn forget(&mut self, ticket: Ticket) {
        if self
            .wires
            .get(&ticket)
            .is_some_and(|wire| wire.heard && !wire.arrives)
        {
            self.wires.remove(&ticket);
        }
    }

    /// A node died: nobody waits for its requests any more.
    pub(super) fn disconnected(&mut self, node: usize) {
        let own: Vec<(Ticket, usize)> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.node == node)
            .map(|(ticket, wire)| (*ticket, wire.broker))
            .collect();
        for (ticket, broker) in own {
            self.brokers[broker].cut(ticket);
            if let Some(wire) = self.wires.get_mut(&ticket) {
                wire.done = true;
                wire.heard = true;
            }
            self.forget(ticket);
        }
    }

    /// What a platform that was sabotaged makes up instead of asking.
    pub(super) fn spoiled(
        &self,
        node: usize,
        key: &ResourceKey,
        effect: &Effect,
    ) -> Option<Outcome> {
        if self.sabotage != Some(Sabotage::DropOrphanRemovals) {
            return None;
        }
        let (status, _) = self.nodes[node].world.status(key)?;
        let orphan = status == Status::Error;
        let done: Verdict<()> = Verdict::Done(());
        match effect {
            Effect::Deprovision { call, .. } if orphan => {
                Some(Outcome::Instance(InstanceOutcome::DeprovisionAnswered {
                    request: call.request,
                    verdict: done,
                }))
            }
            Effect::Unbind { call, .. } if orphan => {
                Some(Outcome::Binding(BindingOutcome::UnbindAnswered {
                    request: call.request,
                    verdict: done,
                }))
            }
            _ => None,
        }
    }
}

fn said(answer: &Answer) -> What {
    let body = serde_json::to_vec(&answer.body).unwrap_or_default();
    What::Answered {
        status: answer.status,
        headers: Headers {
            retry_after: None,
            etag: answer.etag.clone(),
        },
        body: Body::Whole(body.into()),
    }
}
