//! What an instance was asked to be, packed: a hundred thousand of them are held at once, and one
//! parsed JSON object takes more room than all the rest.

use engine_model::Name;
use engine_model::spec::{BindingSpec, InstanceSpec};
use serde_json::Value;

/// A JSON value as text; nothing for null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packed(Option<Box<str>>);

impl Packed {
    pub(crate) fn of(value: &Value) -> Self {
        Self((!value.is_null()).then(|| value.to_string().into()))
    }

    pub(crate) fn value(&self) -> Value {
        let parse = |text: &str| serde_json::from_str(text);
        let value = self.0.as_deref().map(parse).transpose();
        value
            .expect("it was written by the same library")
            .unwrap_or(Value::Null)
    }
}

/// What an instance was asked to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    pub(crate) class: Box<str>,
    pub(crate) plan: Box<str>,
    pub(crate) parameters: Packed,
    pub(crate) secrets: Box<[Name]>,
    pub(crate) binding: BindingWish,
    /// Whether it bears labels; which ones is not held in memory.
    pub(crate) labelled: bool,
}

/// How an instance was asked to be bound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BindingWish {
    pub(crate) parameters: Packed,
    pub(crate) secrets: Box<[Name]>,
    secret_name: Box<str>,
}

impl Wish {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        Self {
            class: spec.service_class.as_str().into(),
            plan: spec.service_plan.as_str().into(),
            parameters: Packed::of(&spec.parameters),
            secrets: spec.secret_parameters.clone().into(),
            binding: BindingWish::of(&spec.binding),
            labelled: !spec.tags.is_empty(),
        }
    }
}

impl Wish {
    /// What it is once an update has succeeded: parameters of the update win, key by key.
    pub(crate) fn updated(&self, plan: Option<&str>, parameters: &Value, secrets: &[Name]) -> Self {
        let mut next = self.clone();
        if let Some(plan) = plan {
            next.plan = plan.into();
        }
        if let Value::Object(changed) = parameters {
            let mut all = match self.parameters.value() {
                Value::Object(all) => all,
                _ => serde_json::Map::new(),
            };
            all.extend(changed.clone());
            next.parameters = Packed::of(&Value::Object(all));
        }
        let mut names = self.secrets.to_vec();
        names.extend(
            secrets
                .iter()
                .filter(|new| !self.secrets.contains(new))
                .cloned(),
        );
        next.secrets = names.into();
        next
    }
}

impl BindingWish {
    pub(crate) fn of(spec: &BindingSpec) -> Self {
        Self {
            parameters: Packed::of(&spec.parameters),
            secrets: spec.secret_parameters.clone().into(),
            secret_name: spec.binding_secret.as_str().into(),
        }
    }

    /// The document again, for the binding that is made of it.
    pub(crate) fn spec(&self) -> BindingSpec {
        BindingSpec {
            parameters: self.parameters.value(),
            secret_parameters: self.secrets.to_vec(),
            binding_secret: self.secret_name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        for value in [json!(null), json!({}), json!({"a": [1, "x", null]})] {
            assert_eq!(Packed::of(&value).value(), value);
        }
    }
}
