//! What a broker does with instances.

use engine_model::Timestamp;
use serde_json::{Value, json};

use super::request::alike;
use super::{Answer, Asked, Broker, Instance, Thing, What, Work, progress, result};
use crate::sim::rng::Rng;

impl Broker {
    pub(super) fn instance(
        &mut self,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let id = asked.instance().unwrap_or_default().to_owned();
        if let What::InstancePoll { .. } = asked.what {
            return self.poll_instance(&id, asked);
        }
        match asked.method.as_str() {
            "PUT" => self.provision(&id, asked, now, fails, rng),
            "PATCH" => self.update(&id, asked, now, fails, rng),
            "DELETE" => self.deprovision(&id, asked, now, fails, rng),
            _ => self.fetch_instance(&id),
        }
    }

    fn provision(
        &mut self,
        id: &str,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        if let Some(held) = self.instances.get(id) {
            if held.own.body != asked.order() {
                if !alike(&held.own.body, &asked.order()) {
                    self.offences
                        .push(format!("{id} is asked for again, and otherwise"));
                }
                return Answer::error(409, "Conflict", "it exists, and is another");
            }
            return match &held.own.op {
                Some(op) if op.work == Work::Make && !op.waits => {
                    Answer::new(202, json!({"operation": op.name}))
                }
                Some(_) => Answer::busy(),
                None if held.own.whole => Answer::new(200, json!({})),
                None => Answer::error(409, "Conflict", "it is broken; delete it first"),
            };
        }
        if self.used.contains(id) {
            if crate::sim::IDS_ARE_FRESH {
                self.offences.push(format!(
                    "the id {id} is used again after its instance was deleted"
                ));
            }
            if crate::sim::IDS_ARE_FRESH && self.character.strict {
                return Answer::error(409, "Conflict", "this id was in use before");
            }
        }
        self.used.insert(id.to_owned());
        let op = self.op(Work::Make, now, fails, rng);
        self.begin(id, asked.order(), op, now)
    }

    fn begin(&mut self, id: &str, body: Value, op: super::Op, now: Timestamp) -> Answer {
        let answer = self.answer(
            &op,
            now,
            201,
            json!({"dashboard_url": "http://dash.example"}),
        );
        let instance = Instance {
            own: Thing::new(body, Some(op), 0),
            bindings: std::collections::BTreeMap::new(),
            ended_bindings: std::collections::BTreeMap::new(),
        };
        self.instances.insert(id.to_owned(), instance);
        self.settle(id, now);
        answer
    }

    /// 202, or what is said when it is done.
    pub(super) fn answer(
        &self,
        op: &super::Op,
        now: Timestamp,
        status: u16,
        body: Value,
    ) -> Answer {
        if !op.waits {
            return Answer::new(202, json!({"operation": op.name}));
        }
        let takes_ms = match op.pace {
            super::Pace::Until(at) => at.since_ms(now),
            super::Pace::Polls(_) => 0,
        };
        let answer = if op.fails {
            Answer::error(500, "Broken", "it broke half-way")
        } else {
            Answer::new(status, body)
        };
        Answer { takes_ms, ..answer }
    }

    fn update(
        &mut self,
        id: &str,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let Some(held) = self.instances.get(id) else {
            return Answer::error(404, "NotFound", "no such instance");
        };
        let wanted = changed(&held.own.body, &asked.body);
        match &held.own.op {
            Some(op) if op.work == Work::Change && !op.waits && held.own.body == wanted => {
                return Answer::new(202, json!({"operation": op.name}));
            }
            Some(_) => return Answer::busy(),
            None if !held.own.whole => {
                return Answer::error(422, "Broken", "it is broken; delete it");
            }
            None => {}
        }
        if held.own.body == wanted {
            return Answer::new(200, json!({}));
        }
        let op = self.op(Work::Change, now, fails, rng);
        let answer = self.answer(&op, now, 200, json!({}));
        if let Some(held) = self.instances.get_mut(id) {
            if !op.fails {
                held.own.body = wanted;
            }
            held.own.op = Some(op);
        }
        self.settle(id, now);
        answer
    }

    fn deprovision(
        &mut self,
        id: &str,
        asked: &Asked,
        now: Timestamp,
        fails: bool,
        rng: &mut Rng,
    ) -> Answer {
        let Some(held) = self.instances.get_mut(id) else {
            return Answer::new(410, json!({}));
        };
        match &held.own.op {
            Some(op) if op.work == Work::Remove && !op.waits => {
                return Answer::new(202, json!({"operation": op.name}));
            }
            Some(op) if op.work == Work::Make && !op.waits && self.character.interruptible => {
                let name = op.name.clone();
                held.own.ended.insert(name, false);
                held.own.op = None;
                held.own.whole = false;
            }
            Some(_) => {
                if self.character.wakes(asked) && held.own.asked() {
                    self.end_instance(id);
                }
                return Answer::busy();
            }
            None => {}
        }
        if let Some(held) = self.instances.get(id) {
            self.taken_along.extend(held.bindings.keys().cloned());
        }
        let op = self.op(Work::Remove, now, fails, rng);
        let answer = self.answer(&op, now, 200, json!({}));
        if let Some(held) = self.instances.get_mut(id) {
            held.own.op = Some(op);
        }
        self.settle(id, now);
        answer
    }

    fn fetch_instance(&self, id: &str) -> Answer {
        match self.instances.get(id) {
            Some(held) if held.own.whole && held.own.op.is_none() => {
                let order = &held.own.body;
                Answer::new(
                    200,
                    json!({"service_id": order[0], "plan_id": order[1], "parameters": order[2]}),
                )
            }
            Some(held) if held.own.op.is_some() && held.own.whole => Answer::busy(),
            _ => Answer::error(404, "NotFound", "no such instance"),
        }
    }

    fn poll_instance(&mut self, id: &str, asked: &Asked) -> Answer {
        if let Some(held) = self.instances.get_mut(id)
            && held.own.asked()
        {
            self.end_instance(id);
        }
        let ended = |known: &std::collections::BTreeMap<String, bool>| {
            asked
                .operation
                .as_ref()
                .and_then(|name| known.get(name).copied())
        };
        let Some(held) = self.instances.get(id) else {
            return match ended(&self.ended) {
                Some(done) => result(done),
                None if self.character.forgets => Answer::error(404, "NotFound", "unknown"),
                None => Answer::new(410, json!({})),
            };
        };
        match (&held.own.op, &asked.operation) {
            (Some(op), Some(name)) if op.name == *name => progress("in progress"),
            (Some(_), None) => progress("in progress"),
            _ => match ended(&held.own.ended) {
                Some(done) => result(done),
                None => Answer::error(400, "BadRequest", "no such operation"),
            },
        }
    }

    pub(super) fn end_instance(&mut self, id: &str) {
        let Some(held) = self.instances.get_mut(id) else {
            return;
        };
        if !held.own.end()
            && let Some(gone) = self.instances.remove(id)
        {
            self.ended.extend(gone.own.ended);
            self.ended.extend(gone.ended_bindings);
        }
    }
}

fn changed(order: &Value, body: &Value) -> Value {
    let mut order = order.clone();
    for (at, name) in [(1, "plan_id"), (2, "parameters")] {
        if let Some(value) = body.get(name) {
            order[at] = value.clone();
        }
    }
    order
}
