//! What a broker does with bindings.

use engine_model::Timestamp;
use serde_json::{Value, json};

use super::request::alike;
use super::{Answer, Asked, Broker, Pace, Thing, What, Work, progress, result};
use crate::sim::rng::Rng;

impl Broker {
    pub(super) fn binding(
        &mut self,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let (What::Binding { id, binding } | What::BindingPoll { id, binding }) = &asked.what
        else {
            return Answer::error(404, "NotFound", "no such path");
        };
        let (id, binding) = (id.clone(), binding.clone());
        if let What::BindingPoll { .. } = asked.what {
            return self.poll_binding(&id, &binding, asked);
        }
        match asked.method.as_str() {
            "PUT" => self.bind(&id, &binding, asked, now, fails, rng),
            "DELETE" => self.unbind(&id, &binding, asked, now, fails, rng),
            _ => self.fetch_binding(&id, &binding),
        }
    }

    fn bind(
        &mut self,
        id: &str,
        binding: &str,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let Some(held) = self.instances.get(id) else {
            return Answer::error(404, "NotFound", "no such instance");
        };
        if held.own.op.is_some() {
            return Answer::busy();
        }
        if !held.own.whole {
            return Answer::error(422, "Broken", "the instance is broken");
        }
        if let Some(known) = held.bindings.get(binding) {
            if known.body != asked.order() {
                if !alike(&known.body, &asked.order()) {
                    self.offences.push(format!(
                        "binding {binding} is asked for again, and otherwise"
                    ));
                }
                return Answer::error(409, "Conflict", "it exists, and is another");
            }
            return match &known.op {
                Some(op) if op.work == Work::Make && !op.waits => {
                    Answer::new(202, json!({"operation": op.name}))
                }
                Some(_) => Answer::busy(),
                None if known.whole => Answer::new(200, credentials(binding, known.credentials)),
                None => Answer::error(409, "Conflict", "it is broken; delete it first"),
            };
        }
        if !self.used.insert(format!("{id}/{binding}")) {
            self.offences.push(format!(
                "the id {binding} is used again after its binding was deleted"
            ));
            if self.character.strict {
                return Answer::error(409, "Conflict", "this id was in use before");
            }
        }
        let mut op = self.op(Work::Make, now, fails, rng);
        op.waits = !self.character.binds_later();
        if op.waits && matches!(op.pace, Pace::Polls(_)) {
            op.pace = Pace::Until(now);
        }
        let number = self.operations;
        let answer = self.answer(&op, now, 201, credentials(binding, number));
        if let Some(held) = self.instances.get_mut(id) {
            let thing = Thing::new(asked.order(), Some(op), number);
            held.bindings.insert(binding.to_owned(), thing);
        }
        self.settle(id, now);
        answer
    }

    fn unbind(
        &mut self,
        id: &str,
        binding: &str,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let interruptible = self.character.interruptible;
        let wakes = self.character.wakes(asked);
        let Some(known) = self
            .instances
            .get_mut(id)
            .and_then(|held| held.bindings.get_mut(binding))
        else {
            return Answer::new(410, json!({}));
        };
        match &known.op {
            Some(op) if op.work == Work::Remove && !op.waits => {
                return Answer::new(202, json!({"operation": op.name}));
            }
            Some(op) if op.work == Work::Make && !op.waits && interruptible => {
                known.ended.insert(op.name.clone(), false);
                known.op = None;
                known.whole = false;
            }
            Some(_) => {
                if wakes && known.asked() {
                    self.end_binding(id, binding);
                }
                return Answer::busy();
            }
            None => {}
        }
        let mut op = self.op(Work::Remove, now, fails, rng);
        op.waits = !self.character.binds_later();
        if op.waits && matches!(op.pace, Pace::Polls(_)) {
            op.pace = Pace::Until(now);
        }
        let answer = self.answer(&op, now, 200, json!({}));
        if let Some(held) = self.instances.get_mut(id)
            && let Some(known) = held.bindings.get_mut(binding)
        {
            known.op = Some(op);
        }
        self.settle(id, now);
        answer
    }

    fn fetch_binding(&self, id: &str, binding: &str) -> Answer {
        let known = self
            .instances
            .get(id)
            .and_then(|held| held.bindings.get(binding));
        match known {
            Some(known) if known.whole && known.op.is_none() => {
                Answer::new(200, credentials(binding, known.credentials))
            }
            _ => Answer::error(404, "NotFound", "no such binding"),
        }
    }

    fn poll_binding(&mut self, id: &str, binding: &str, asked: &Asked) -> Answer {
        let known = self
            .instances
            .get_mut(id)
            .and_then(|held| held.bindings.get_mut(binding));
        if known.is_some_and(Thing::asked) {
            self.end_binding(id, binding);
        }
        let held = self.instances.get(id);
        let known = held.and_then(|held| held.bindings.get(binding));
        let ended = asked.operation.as_ref().and_then(|name| {
            let own = known.and_then(|known| known.ended.get(name));
            let gone = held.and_then(|held| held.ended_bindings.get(name));
            own.or(gone).or_else(|| self.ended.get(name)).copied()
        });
        match (known, ended) {
            (_, Some(done)) => result(done),
            (None, None) if self.character.forgets => Answer::error(404, "NotFound", "unknown"),
            (None, None) => Answer::new(410, json!({})),
            (Some(known), None) if known.op.is_some() => progress("in progress"),
            (Some(_), None) => Answer::error(400, "BadRequest", "no such operation"),
        }
    }

    pub(super) fn end_binding(&mut self, id: &str, binding: &str) {
        let Some(held) = self.instances.get_mut(id) else {
            return;
        };
        if let Some(known) = held.bindings.get_mut(binding)
            && !known.end()
            && let Some(gone) = held.bindings.remove(binding)
        {
            held.ended_bindings.extend(gone.ended);
        }
    }
}

pub(super) fn password(number: u64) -> String {
    format!("secret-{number}")
}

fn credentials(binding: &str, number: u64) -> Value {
    json!({"credentials": {
        "username": format!("user-{binding}"), "password": password(number),
        "host": "db.example", "port": 5432,
    }})
}
