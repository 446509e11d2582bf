//! The rules of the broker API that a platform has to keep, held against what it sends. Whatever
//! broker is behind: only the requests and their answers are looked at.

use std::collections::{BTreeMap, HashMap};

use adapter_osb::fake::On;
use serde_json::Value;

use super::offer::Offers;
use super::target::Target;
use super::wire::{Headers, Response, header};

mod single;

/// What was asked for under one pair of ids.
#[derive(Debug)]
struct Thing {
    asked: Value,
    service: String,
    plan: String,
    /// The plan that an update gave it of whose end the platform was not told.
    untold: Option<String>,
    there: There,
    accepted: Vec<Accepted>,
}

/// Whether the broker has it, by its own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Unknown,
    Making,
    Yes,
    Going,
    Gone,
}

/// An operation that the platform was told of by 202.
#[derive(Debug)]
struct Accepted {
    on: On,
    operation: Option<String>,
    /// The plan that a poll has to name.
    plan: String,
    /// The plan that it will have then.
    becomes: Option<String>,
    over: bool,
}

type Key = (String, String);

#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) violations: Vec<String>,
    things: BTreeMap<Key, Thing>,
    offers: Offers,
    /// Changes that are being made, by instance.
    in_flight: HashMap<String, Vec<(u64, On)>>,
    /// What is a violation if that request is still waited for.
    suspicions: Vec<(u64, String)>,
    serial: u64,
}

fn changes(on: On) -> bool {
    matches!(
        on,
        On::Provision | On::Update | On::Deprovision | On::Bind | On::Unbind
    )
}

fn key(target: &Target) -> Key {
    (target.instance.clone(), target.binding.clone())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

impl Audit {
    fn note(&mut self, target: &Target, what: impl std::fmt::Display) {
        let on = target.on;
        self.violations.push(format!("{on:?}: {what}"));
    }

    /// A request has come. Returns what ends it.
    pub(super) fn begin(&mut self, target: &Target) -> u64 {
        self.serial += 1;
        if matches!(target.on, On::Provision | On::Bind) {
            // It may be reset before it can be read.
            self.things.entry(key(target)).or_insert_with(Thing::new);
        }
        if changes(target.on) {
            let others = self.in_flight.entry(target.instance.clone()).or_default();
            let other = others.first().copied();
            others.push((self.serial, target.on));
            if let Some((serial, other)) = other {
                let what = format!("{:?}: while {other:?} has no answer yet", target.on);
                self.suspicions.push((serial, what));
            }
        }
        self.serial
    }

    /// It has an answer; or the platform was not waiting for one any more, which shows only now.
    pub(super) fn end(&mut self, serial: u64, awaited: bool) {
        for others in self.in_flight.values_mut() {
            others.retain(|(other, _)| *other != serial);
        }
        let suspicions = std::mem::take(&mut self.suspicions);
        for (other, what) in suspicions {
            match (other == serial, awaited) {
                (true, true) => self.violations.push(what),
                (true, false) => {}
                (false, _) => self.suspicions.push((other, what)),
            }
        }
    }

    /// Holds the whole request against the rules.
    pub(super) fn look(&mut self, target: &Target, headers: &Headers, body: &[u8]) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        for what in single::broken(target, headers, &body) {
            self.note(target, what);
        }
        match target.on {
            On::Catalog => {}
            On::Provision => self.look_at_creation(target, &body),
            On::Bind => {
                self.look_at_instance(target);
                self.look_at_rotation(target, &body);
                self.look_at_creation(target, &body);
            }
            On::Update => self.look_at_update(target, &body),
            On::Deprovision | On::Unbind => self.look_at_deletion(target),
            On::FetchInstance | On::FetchBinding => self.look_at_fetch(target),
            On::PollInstance | On::PollBinding => self.look_at_poll(target),
        }
    }

    fn look_at_creation(&mut self, target: &Target, body: &Value) {
        let (service, plan) = (text(body, "service_id"), text(body, "plan_id"));
        if !self.offers.has(service, plan) {
            self.note(target, format!("no plan {service}/{plan} was offered"));
        }
        if target.on == On::Bind && !self.offers.is(service, plan, |plan| plan.bindable) {
            self.note(target, "the plan is not bindable");
        }
        let thing = self.things.entry(key(target)).or_insert_with(Thing::new);
        if thing.there == There::Gone {
            self.note(target, "an id is used again after its end");
        } else if thing.asked.is_null() {
            thing.asked = body.clone();
            thing.service = service.to_owned();
            thing.plan = plan.to_owned();
        } else if thing.asked != *body {
            self.note(target, "a repeat says something else");
        }
    }

    /// What has to be true of the instance of a new binding.
    fn look_at_instance(&mut self, target: &Target) {
        let instance = (target.instance.clone(), String::new());
        let what = match self.things.get(&instance) {
            None => "of an instance that was never asked for".to_owned(),
            Some(thing) if thing.there != There::Yes => {
                format!("the instance is not there: {:?}", thing.there)
            }
            Some(thing) => match thing.accepted.iter().find(|accepted| !accepted.over) {
                Some(accepted) => format!("{:?} of the instance is under way", accepted.on),
                None => return,
            },
        };
        self.note(target, what);
    }

    fn look_at_rotation(&mut self, target: &Target, body: &Value) {
        let old = text(body, "predecessor_binding_id");
        if old.is_empty() {
            return;
        }
        let (service, plan) = (text(body, "service_id"), text(body, "plan_id"));
        if !self.offers.is(service, plan, |plan| plan.rotatable) {
            self.note(target, "the plan's bindings cannot be rotated");
        }
        let old = self.things.get(&(target.instance.clone(), old.to_owned()));
        if old.is_none_or(|old| old.there != There::Yes) {
            self.note(target, "rotates a binding that is not there");
        }
    }

    fn look_at_update(&mut self, target: &Target, body: &Value) {
        let Some(thing) = self.things.get(&key(target)) else {
            return self.note(target, "of an instance that was never asked for");
        };
        let (service, old) = (thing.service.clone(), thing.plan.clone());
        let mut notes = Vec::new();
        if thing.accepted.iter().any(|accepted| !accepted.over) {
            notes.push("another operation is under way".to_owned());
        }
        if thing.there != There::Yes {
            notes.push(format!("the instance is not there: {:?}", thing.there));
        }
        if text(body, "service_id") != service {
            notes.push("another service_id".to_owned());
        }
        let new = text(body, "plan_id");
        if !new.is_empty() && !self.offers.has(&service, new) {
            notes.push(format!("no plan {service}/{new} was offered"));
        }
        let changed = !new.is_empty() && new != old;
        if changed && !self.offers.is(&service, &old, |plan| plan.updateable) {
            notes.push("the instance's plan cannot be changed".to_owned());
        }
        let before = body.pointer("/previous_values/plan_id");
        if before.is_some_and(|before| before.as_str() != Some(&old)) {
            notes.push("previous_values has another plan_id".to_owned());
        }
        for what in notes {
            self.note(target, what);
        }
    }

    fn look_at_deletion(&mut self, target: &Target) {
        let Some(thing) = self.things.get(&key(target)) else {
            return self.note(target, "of what was never asked for");
        };
        let (service, mut plan) = (thing.service.clone(), thing.plan.clone());
        // Of an update whose end nobody heard, either plan may be right.
        if let Some(untold) = &thing.untold
            && target.query("plan_id") == Some(untold)
        {
            plan.clone_from(untold);
        }
        self.look_at_ids(target, &service, &plan);
        if target.on == On::Unbind {
            let instance = (target.instance.clone(), String::new());
            let gone = self.things.get(&instance);
            if gone.is_some_and(|instance| instance.there == There::Gone) {
                self.note(target, "after the instance's end");
            }
            return;
        }
        let bound = self.things.iter().any(|((instance, binding), thing)| {
            let there = matches!(thing.there, There::Making | There::Yes | There::Going);
            *instance == target.instance && !binding.is_empty() && there
        });
        if bound {
            self.note(target, "the instance still has bindings");
        }
    }

    fn look_at_ids(&mut self, target: &Target, service: &str, plan: &str) {
        if service.is_empty() {
            // The request that said them was never read.
            return;
        }
        // A binding may be named with the plan that its instance has by now.
        let instance = (target.instance.clone(), String::new());
        let now = self.things.get(&instance).map(|thing| thing.plan.clone());
        let plan = match (target.query("plan_id"), &now) {
            (Some(said), Some(now)) if !target.binding.is_empty() && said == now => now,
            _ => plan,
        };
        for (field, right) in [("service_id", service), ("plan_id", plan)] {
            if target.query(field) != Some(right) {
                self.note(target, format!("another {field}"));
            }
        }
    }

    fn look_at_fetch(&mut self, target: &Target) {
        let Some(thing) = self.things.get(&key(target)) else {
            return self.note(target, "of what was never asked for");
        };
        let allowed = self
            .offers
            .is(&thing.service, &thing.plan, |plan| match target.on {
                On::FetchInstance => plan.instances_retrievable,
                _ => plan.bindings_retrievable,
            });
        if !allowed {
            self.note(target, "the catalog does not say that it can be fetched");
        }
    }

    fn look_at_poll(&mut self, target: &Target) {
        let Some(thing) = self.things.get(&key(target)) else {
            return self.note(target, "of what was never asked for");
        };
        let echoed = target.query("operation");
        let same = |accepted: &&Accepted| accepted.operation.as_deref() == echoed;
        let open = thing.accepted.iter().filter(|accepted| !accepted.over);
        let found = open.clone().find(same);
        let (service, plan) = match (found, open.count(), thing.accepted.iter().rfind(same)) {
            (Some(accepted), _, _) => (thing.service.clone(), accepted.plan.clone()),
            (None, _, Some(_)) => {
                return self.note(target, "of an operation that is known to be over");
            }
            (None, 0, None) => return self.note(target, "nothing was accepted"),
            (None, _, None) => return self.note(target, "another operation is echoed"),
        };
        self.look_at_ids(target, &service, &plan);
    }

    /// What the broker behind made of a request, whether the platform hears of it or not.
    pub(super) fn done(&mut self, target: &Target, body: &[u8], answer: &Response) {
        let Some(thing) = self.things.get_mut(&key(target)) else {
            return;
        };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (target.on, answer.status) {
            (On::Provision | On::Bind, 200 | 201) => thing.there = There::Yes,
            (On::Provision | On::Bind, 202) => thing.there = There::Making,
            (On::Deprovision | On::Unbind, 200 | 410) => thing.there = There::Gone,
            (On::Deprovision | On::Unbind, 202) => thing.there = There::Going,
            (On::Update, 200) if !text(&body, "plan_id").is_empty() => {
                thing.untold = Some(text(&body, "plan_id").to_owned());
            }
            (On::PollInstance | On::PollBinding, 410) if thing.there == There::Going => {
                thing.there = There::Gone;
            }
            (On::PollInstance | On::PollBinding, 200) => match text(&said, "state") {
                "succeeded" => thing.succeed(),
                "failed" if thing.there == There::Going => thing.there = There::Yes,
                _ => {}
            },
            _ => {}
        }
    }

    /// The platform was told this, in full.
    pub(super) fn told(&mut self, target: &Target, body: &[u8], answer: &Response) {
        if target.on == On::Catalog {
            if answer.status == 200 {
                self.offers.read(&answer.body);
            }
            return;
        }
        let Some(thing) = self.things.get_mut(&key(target)) else {
            return;
        };
        let Ok(said) = serde_json::from_slice::<Value>(&answer.body) else {
            if answer.status == 410 {
                thing.end(target, true);
            }
            return;
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (target.on, answer.status) {
            (on, 202) if changes(on) && said.is_object() => {
                let becomes = (on == On::Update).then(|| text(&body, "plan_id").to_owned());
                let accepted = Accepted {
                    on,
                    operation: said["operation"].as_str().map(str::to_owned),
                    plan: thing.plan.clone(),
                    becomes: becomes.filter(|plan| !plan.is_empty()),
                    over: false,
                };
                thing.accepted.retain(|other| other.over || other.on != on);
                thing.accepted.push(accepted);
            }
            // What was refused does not exist, and may be asked for otherwise.
            (On::Provision | On::Bind, 400..=499) => thing.asked = Value::Null,
            (On::Update, 200) if said.is_object() => thing.learn_plan(),
            (On::Deprovision | On::Unbind, 200 | 410) => thing.end_all(),
            (On::PollInstance | On::PollBinding, 410) => thing.end(target, true),
            (On::PollInstance | On::PollBinding, 200) => match text(&said, "state") {
                "succeeded" => {
                    thing.end(target, false);
                    thing.learn_plan();
                }
                "failed" => thing.end(target, false),
                _ => {}
            },
            _ => {}
        }
    }
}

impl Thing {
    fn new() -> Self {
        Self {
            asked: Value::Null,
            service: String::new(),
            plan: String::new(),
            untold: None,
            there: There::Unknown,
            accepted: Vec::new(),
        }
    }

    fn succeed(&mut self) {
        match self.there {
            There::Making => self.there = There::Yes,
            There::Going => self.there = There::Gone,
            There::Unknown | There::Yes | There::Gone => {
                let update = self.accepted.iter().rfind(|accepted| !accepted.over);
                let becomes = update.and_then(|update| update.becomes.clone());
                self.untold = becomes.or(self.untold.take());
            }
        }
    }

    /// The platform was told of the end of an update.
    fn learn_plan(&mut self) {
        if let Some(plan) = self.untold.take() {
            self.plan = plan;
        }
    }

    /// The operation that a poll echoes is over.
    fn end(&mut self, target: &Target, only_deletions: bool) {
        let echoed = target.query("operation");
        for accepted in &mut self.accepted {
            let deletes = matches!(accepted.on, On::Deprovision | On::Unbind);
            if accepted.operation.as_deref() == echoed && (deletes || !only_deletions) {
                accepted.over = true;
            }
        }
    }

    fn end_all(&mut self) {
        for accepted in &mut self.accepted {
            accepted.over = true;
        }
    }
}
