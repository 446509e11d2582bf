//! The key of an aggregate.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Kind, Name, OrgName};

/// Names one resource: one aggregate, one subject, one order of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResourceKey {
    /// The organization that owns it.
    pub org: OrgName,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl ResourceKey {
    /// The key of `kind` `name` in `org`.
    #[must_use]
    pub fn new(org: OrgName, kind: Kind, name: Name) -> Self {
        Self { org, kind, name }
    }

    /// The resource of another kind that bears the same name in the same organization.
    #[must_use]
    pub fn sibling(&self, kind: Kind) -> Self {
        Self {
            kind,
            ..self.clone()
        }
    }

    /// Another resource of the same organization.
    #[must_use]
    pub fn neighbour(&self, kind: Kind, name: &Name) -> Self {
        Self {
            org: self.org.clone(),
            kind,
            name: name.clone(),
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.org, self.kind.token(), self.name)
    }
}
