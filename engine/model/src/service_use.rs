//! How a function uses a service instance.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{InvalidName, Name};

/// The word that asks for a binding of the function's own.
const OWN: &str = "own";

/// A service instance that a function uses, and by which of its bindings. As text:
/// `azure-pg` (the instance's binding), `azure-pg:own` (one that belongs to this function alone),
/// `azure-pg:reports` (the binding that was created under that name).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceUse {
    /// The instance, by name.
    pub instance: Name,
    /// Which binding.
    pub binding: BindingChoice,
}

/// Which binding of an instance a function uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindingChoice {
    /// The one that every instance of a bindable plan has.
    Shared,
    /// One that is made for this function, and goes with it.
    Own,
    /// One that someone created.
    Named(Name),
}

impl ServiceUse {
    /// The instance by its own binding.
    #[must_use]
    pub fn shared(instance: Name) -> Self {
        Self {
            instance,
            binding: BindingChoice::Shared,
        }
    }

    /// The name of the binding resource that `function` uses.
    #[must_use]
    pub fn binding_name(&self, function: &Name) -> Name {
        match &self.binding {
            BindingChoice::Shared => self.instance.clone(),
            BindingChoice::Named(name) => name.clone(),
            BindingChoice::Own => own_binding(&self.instance, function),
        }
    }
}

/// The name of the binding that belongs to `function` alone.
fn own_binding(instance: &Name, function: &Name) -> Name {
    let plain = format!("{instance}--{function}");
    Name::new(plain).unwrap_or_else(|_| {
        let id = crate::ResourceId::derived(format_args!("{instance}:own:{function}"));
        Name::new(format!("own-{id}")).expect("a short prefix and a UUID are a name")
    })
}

impl fmt::Display for ServiceUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.binding {
            BindingChoice::Shared => self.instance.fmt(f),
            BindingChoice::Own => write!(f, "{}:{OWN}", self.instance),
            BindingChoice::Named(name) => write!(f, "{}:{name}", self.instance),
        }
    }
}

impl FromStr for ServiceUse {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (instance, binding) = match text.split_once(':') {
            None => (text, BindingChoice::Shared),
            Some((instance, OWN)) => (instance, BindingChoice::Own),
            Some((instance, name)) => (instance, BindingChoice::Named(Name::new(name)?)),
        };
        Ok(Self {
            instance: Name::new(instance)?,
            binding,
        })
    }
}

impl Serialize for ServiceUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_read_from_the_text_that_it_shows() {
        for text in ["pg", "pg:own", "pg:reports"] {
            let used: ServiceUse = text.parse().unwrap();
            assert_eq!(used.to_string(), text);
            let json = serde_json::to_string(&used).unwrap();
            assert_eq!(serde_json::from_str::<ServiceUse>(&json).unwrap(), used);
        }
        for bad in ["", ":own", "pg:", "pg:a:b", "p g"] {
            assert!(bad.parse::<ServiceUse>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_own_binding_has_a_name_of_its_own_however_long_the_names_are() {
        let long = Name::new("x".repeat(128)).unwrap();
        let used = ServiceUse {
            instance: long.clone(),
            binding: BindingChoice::Own,
        };
        let short = Name::new("f").unwrap();
        assert_ne!(used.binding_name(&long), used.binding_name(&short));
        let own: ServiceUse = "pg:own".parse().unwrap();
        assert_eq!(own.binding_name(&short).as_str(), "pg--f");
    }
}
