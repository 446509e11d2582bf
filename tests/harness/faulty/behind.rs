//! The broker that does the work.

use adapter_osb::fake::{Fake, Options, Pace};
use serde_json::{Value, json};

use super::foreign::Slot;
use super::wire::Place;

/// The broker that does the work.
#[derive(Debug)]
pub(super) enum Behind {
    /// The fake one, in this process.
    Fake(Fake),
    /// One that is made with a library of others.
    Foreign(Slot),
}

impl Behind {
    pub(super) async fn fake(options: Options) -> Self {
        let fake = Fake::start_with(options).await;
        Self::Fake(fake.expect("a port is free"))
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Fake(fake) => Place {
                address: fake.url().socket_addrs(|| None).expect("an address")[0],
                prefix: String::new(),
            },
            Self::Foreign(slot) => slot.place.clone(),
        }
    }

    pub(super) async fn set_pace(&self, pace: Pace) {
        match self {
            Self::Fake(fake) => fake.set_pace(pace),
            Self::Foreign(slot) => {
                let pace = match pace {
                    Pace::Sync => json!({}),
                    Pace::Polls(polls) => json!({ "polls": polls }),
                    Pace::For(time) => json!({ "ms": time.as_millis() }),
                };
                slot.say(json!({ "pace": pace })).await;
            }
        }
    }

    pub(super) async fn set_catalog(&self, catalog: Value) {
        match self {
            Self::Fake(fake) => fake.set_catalog(catalog),
            Self::Foreign(slot) => slot.say(json!({ "catalog": catalog })).await,
        }
    }

    pub(super) async fn set_operation(&self, operation: Option<&str>) {
        match self {
            Self::Fake(fake) => fake.set_operation(operation),
            Self::Foreign(slot) => slot.say(json!({ "operation": operation })).await,
        }
    }

    pub(super) async fn instances(&self) -> Vec<String> {
        match self {
            Self::Fake(fake) => fake.instances(),
            Self::Foreign(slot) => slot.holds("instances").await,
        }
    }

    pub(super) async fn bindings(&self) -> Vec<String> {
        match self {
            Self::Fake(fake) => fake.bindings(),
            Self::Foreign(slot) => slot.holds("bindings").await,
        }
    }
}
