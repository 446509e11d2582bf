//! What goes with every request, whatever it asks for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::wire::Hidden;

/// The name that Dispatch goes by, in `context.platform` and in the identity header.
pub const PLATFORM: &str = "dispatch";

/// One request's id, and on whose behalf it is made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Sent as the request identity. A repeat of the same effect bears the same id, so that a
    /// broker's log shows that it is one.
    pub request_id: Uuid,
    /// The user whose action caused the request; `None` for what no user caused.
    pub originator: Option<Originator>,
    /// Values that the request carries and that no error text may show again.
    pub hide: Vec<Hidden<String>>,
}

impl Call {
    /// A call that no user caused, like a catalog refresh.
    #[must_use]
    pub fn new(request_id: Uuid) -> Self {
        Self {
            request_id,
            originator: None,
            hide: Vec::new(),
        }
    }

    /// The same call, made for a user.
    #[must_use]
    pub fn on_behalf_of(mut self, originator: Originator) -> Self {
        self.originator = Some(originator);
        self
    }

    /// The same call, whose error texts hide these values too.
    #[must_use]
    pub fn hiding(mut self, values: impl IntoIterator<Item = String>) -> Self {
        self.hide.extend(values.into_iter().map(Hidden::new));
        self
    }
}

/// Who caused a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Originator(Map<String, Value>);

impl Originator {
    /// A user, known by id.
    #[must_use]
    pub fn user(id: &str) -> Self {
        Self::from_facts(Map::from_iter([("user_id".to_owned(), Value::from(id))]))
    }

    /// Whatever the platform knows of the user.
    #[must_use]
    pub fn from_facts(facts: Map<String, Value>) -> Self {
        Self(facts)
    }

    /// The header's value: the platform, a space, and the facts as JSON in base64.
    #[must_use]
    pub fn header(&self) -> String {
        let json = Value::Object(self.0.clone()).to_string();
        format!("{PLATFORM} {}", STANDARD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_header_is_the_platform_and_a_json_object_in_base64() {
        let header = Originator::user("zoë").header();
        let (platform, rest) = header.split_once(' ').unwrap();
        assert_eq!(platform, "dispatch");
        let json: Value = serde_json::from_slice(&STANDARD.decode(rest).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"user_id": "zoë"}));
    }
}
