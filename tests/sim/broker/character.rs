//! How brokers differ.

use engine_model::Timestamp;
use serde_json::{Value, json};

use super::{Asked, Pace};
use crate::sim::rng::Rng;

/// How a broker is.
#[derive(Debug, Clone)]
pub(in super::super) struct Character {
    pub(in super::super) word: &'static str,
    /// Answers with 202 and works on.
    pub(super) asynchronous: bool,
    /// Works on only when it is asked how it goes.
    lazy: bool,
    /// How long work takes at most, in milliseconds.
    takes_ms: i64,
    /// Refuses an id that was in use once.
    pub(super) strict: bool,
    /// Binds asynchronously as well.
    pub(super) binds_asynchronously: bool,
    /// Lets a delete interrupt a creation.
    pub(super) interruptible: bool,
    /// Answers 404 instead of 410 to a poll about what is gone.
    pub(super) forgets: bool,
}

impl Character {
    pub(in super::super) fn drawn(rng: &mut Rng) -> Self {
        let plain = Self {
            word: "sync",
            asynchronous: false,
            lazy: false,
            takes_ms: 0,
            strict: rng.chance(400),
            binds_asynchronously: rng.chance(500),
            interruptible: rng.chance(500),
            forgets: rng.chance(300),
        };
        match rng.below(5) {
            0 | 1 => plain,
            2 => Self {
                word: "async",
                asynchronous: true,
                takes_ms: 90_000,
                ..plain
            },
            3 => Self {
                word: "lazy",
                asynchronous: true,
                lazy: true,
                ..plain
            },
            _ => Self {
                word: "slow",
                takes_ms: 50_000,
                ..plain
            },
        }
    }

    pub(super) fn pace(&self, now: Timestamp, rng: &mut Rng) -> Pace {
        if self.lazy {
            return Pace::Polls(u32::try_from(rng.below(6)).unwrap_or(0));
        }
        Pace::Until(now.plus_ms(rng.between(0, self.takes_ms)))
    }

    /// Whether a binding is made with 202. Only a binding that can be fetched may be.
    pub(super) fn binds_later(&self) -> bool {
        self.asynchronous && self.binds_asynchronously
    }

    /// Whether a refused delete makes a lazy broker get on with what is in its way: there need
    /// not be anyone left who knows the operation.
    pub(super) fn wakes(&self, asked: &Asked) -> bool {
        self.lazy && asked.method == "DELETE"
    }

    pub(super) fn catalog(&self, name: &str) -> Value {
        let plan = |word: &str| {
            json!({
                "id": format!("{name}-{word}"), "name": word, "description": word,
                "binding_rotatable": true, "plan_updateable": true,
            })
        };
        let mut alone = plan("alone");
        alone["bindable"] = json!(false);
        alone["maximum_polling_duration"] = json!(600);
        json!({"services": [{
            "id": format!("{name}-class"), "name": format!("{name}-class"), "description": "simulated",
            "bindable": true, "plan_updateable": true,
            "instances_retrievable": true, "bindings_retrievable": true,
            "plans": [plan("basic"), plan("large"), alone],
        }]})
    }
}
