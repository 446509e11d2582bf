//! Bind and fetch of bindings.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Context, Hidden, Message, lenient, lenient_default, typed};

/// The body of a bind. A rotation names its predecessor, and still says service and plan,
/// because broker frameworks ask for them in every bind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindRequest {
    /// The instance's service.
    pub service_id: String,
    /// The instance's plan.
    pub plan_id: String,
    /// Where the instance lives; without the instance's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// What is bound to the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_resource: Option<BindResource>,
    /// What the user asked for; may hold secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Hidden<Value>>,
    /// The binding that this one is to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor_binding_id: Option<String>,
}

impl BindRequest {
    /// A bind without parameters.
    #[must_use]
    pub fn new(service_id: &str, plan_id: &str) -> Self {
        Self {
            service_id: service_id.to_owned(),
            plan_id: plan_id.to_owned(),
            context: None,
            bind_resource: None,
            parameters: None,
            predecessor_binding_id: None,
        }
    }
}

/// What is bound to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BindResource {
    /// The application's id, unique within the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    /// The route that a route service is to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// The answer to a bind, and a binding as the broker knows it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Binding {
    /// What opens the service: an object of any shape.
    #[serde(default)]
    pub credentials: Option<Hidden<Map<String, Value>>>,
    /// Where logs are to be sent; may hold a token.
    #[serde(default, deserialize_with = "lenient")]
    pub syslog_drain_url: Option<Hidden<String>>,
    /// Where requests are to be proxied to.
    #[serde(default, deserialize_with = "lenient")]
    pub route_service_url: Option<Hidden<String>>,
    /// Volumes to be mounted.
    #[serde(default, deserialize_with = "lenient_default")]
    pub volume_mounts: Vec<Value>,
    /// The network addresses that the service is reached at.
    #[serde(default, deserialize_with = "lenient_default")]
    pub endpoints: Vec<NetworkEndpoint>,
    /// Until when the binding is valid.
    #[serde(default, deserialize_with = "lenient_default")]
    pub metadata: BindingMetadata,
    /// The parameters of the bind; only a fetch has them.
    #[serde(default, deserialize_with = "lenient")]
    pub parameters: Option<Hidden<Value>>,
}

impl Message for Binding {
    fn read(mut object: Map<String, Value>) -> Result<Self, String> {
        // Read apart, because an error of serde's would show a string found in its place.
        match object.get("credentials") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(_) => return Err("credentials are not an object".to_owned()),
        }
        let credentials = match object.remove("credentials") {
            Some(Value::Object(credentials)) => Some(Hidden::new(credentials)),
            _ => None,
        };
        Ok(Self {
            credentials,
            ..typed(object)?
        })
    }
}

/// Until when a binding is valid. A time that cannot be read counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct BindingMetadata {
    /// When the binding ends.
    #[serde(default, deserialize_with = "lenient")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it should have been renewed.
    #[serde(default, deserialize_with = "lenient")]
    pub renew_before: Option<DateTime<Utc>>,
}

/// A network address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEndpoint {
    /// A name or an address.
    pub host: String,
    /// Ports ("443") and ranges of ports ("9000-9010").
    pub ports: Vec<String>,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
}

/// The transport of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Both.
    All,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Binding, String> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        Binding::read(object)
    }

    #[test]
    fn everything_that_a_bind_can_answer_is_kept() {
        let binding = read(json!({
            "credentials": {"uri": "pg://canary"},
            "syslog_drain_url": "syslog://canary",
            "route_service_url": "https://route",
            "volume_mounts": [{"driver": "nfs"}],
            "endpoints": [{"host": "h", "ports": ["443", "9000-9010"]},
                          {"host": "g", "ports": ["53"], "protocol": "udp"}],
            "metadata": {"expires_at": "2030-01-01T00:00:00.0Z", "renew_before": "2029-12-31T00:00:00.0Z"},
            "vendor:extension": [1],
        }))
        .unwrap();
        assert_eq!(
            binding.credentials.as_ref().unwrap().reveal()["uri"],
            "pg://canary"
        );
        assert_eq!(binding.endpoints[0].protocol, Protocol::Tcp);
        assert_eq!(binding.endpoints[1].protocol, Protocol::Udp);
        assert!(binding.metadata.renew_before < binding.metadata.expires_at);
        assert!(!format!("{binding:?}").contains("canary"));
    }

    #[test]
    fn what_nothing_depends_on_may_be_wrong_but_credentials_may_not() {
        let binding = read(json!({
            "credentials": null, "syslog_drain_url": 5, "volume_mounts": "x", "endpoints": {},
            "metadata": {"expires_at": "tomorrow"},
        }))
        .unwrap();
        assert_eq!(binding, Binding::default());
        for wrong in [json!("canary"), json!(["canary"]), json!(5)] {
            let error = read(json!({ "credentials": wrong })).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
