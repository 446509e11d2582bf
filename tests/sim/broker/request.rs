//! A request, read.

use adapter_osb::Outbound;
use serde_json::Value;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum What {
    Catalog,
    Instance { id: String },
    InstancePoll { id: String },
    Binding { id: String, binding: String },
    BindingPoll { id: String, binding: String },
    Nonsense,
}

/// A request, read.
#[derive(Debug, Clone)]
pub(in super::super) struct Asked {
    pub(in super::super) method: String,
    pub(in super::super) what: What,
    /// The path alone.
    path: String,
    pub(super) operation: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) body: Value,
    /// Method and path, for people.
    pub(in super::super) line: String,
}

impl Asked {
    pub(in super::super) fn of(request: &Outbound) -> Self {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        let own = |text: &str| text.to_owned();
        let what = match parts[..] {
            ["catalog"] => What::Catalog,
            ["service_instances", id] => What::Instance { id: own(id) },
            ["service_instances", id, "last_operation"] => What::InstancePoll { id: own(id) },
            ["service_instances", id, "service_bindings", binding] => What::Binding {
                id: own(id),
                binding: own(binding),
            },
            [
                "service_instances",
                id,
                "service_bindings",
                binding,
                "last_operation",
            ] => What::BindingPoll {
                id: own(id),
                binding: own(binding),
            },
            _ => What::Nonsense,
        };
        let operation = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("operation="));
        let etag = request
            .headers
            .iter()
            .find(|(name, _)| name == "if-none-match");
        Self {
            method: request.method.clone(),
            what,
            path: path.to_owned(),
            operation: operation.map(own),
            etag: etag.map(|(_, value)| value.clone()),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            line: format!("{} {path}", request.method),
        }
    }

    /// The instance that it is about.
    pub(in super::super) fn instance(&self) -> Option<&str> {
        match &self.what {
            What::Catalog | What::Nonsense => None,
            What::Instance { id }
            | What::InstancePoll { id }
            | What::Binding { id, .. }
            | What::BindingPoll { id, .. } => Some(id),
        }
    }

    /// What it changes, if it does: the method and the path.
    pub(in super::super) fn change(&self) -> Option<String> {
        (self.method != "GET").then(|| format!("{} {}", self.method, self.path))
    }

    /// Whether it asks how an operation goes.
    pub(in super::super) fn is_poll(&self) -> bool {
        matches!(
            self.what,
            What::InstancePoll { .. } | What::BindingPoll { .. }
        )
    }

    /// The fields that make two creations the same.
    pub(super) fn order(&self) -> Value {
        let field = |name: &str| self.body.get(name).cloned().unwrap_or_default();
        Value::Array(vec![
            field("service_id"),
            field("plan_id"),
            field("parameters"),
        ])
    }
}

/// Whether two orders are the same but for the plan and what a secret gives: what is changed while
/// a request waits to be repeated changes the repeat.
pub(super) fn alike(one: &Value, other: &Value) -> bool {
    let bare = |order: &Value| {
        let mut order = order.clone();
        order[1] = Value::Null;
        if let Some(parameters) = order[2].as_object_mut() {
            parameters.remove("token");
        }
        order
    };
    bare(one) == bare(other)
}
