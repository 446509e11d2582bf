//! What is stored of an instance: one JSON document with its bindings.
//!
//! The stage alone says what is to be done, so that a restart needs nothing else:
//!
//! ```text
//! Creating ─► Ready ⇄ Updating        Creating, Updating, Deleting: work is under way or due
//!    │  └───────┐ │
//!    ▼          ▼ ▼
//! CreateFailed ─► Deleting ⇄ DeleteFailed
//!                    └─► Gone
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Secret;

/// Operations that are kept, so that the result of one is not forgotten when the next begins.
const OPERATIONS_MAX: usize = 16;

/// A service instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) service_id: String,
    pub(crate) organization: String,
    pub(crate) space: String,
    /// What can change by an update.
    pub(crate) spec: Spec,
    pub(crate) home: Home,
    pub(crate) stage: Stage,
    pub(crate) operations: Operations,
    pub(crate) bindings: BTreeMap<String, Binding>,
}

/// What an instance is to be. The plan's backing is kept with it, because a plan may leave the
/// catalog while instances of it live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) plan_id: String,
    pub(crate) backing: Backing,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) maintenance_version: Option<String>,
}

/// Where an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Home {
    Shared,
    Dedicated { port: u16 },
}

/// The private part of a plan: what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Backing {
    Shared {
        /// Connections to the database at once; no limit without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connections_max: Option<u32>,
        /// Extensions that the database has from the start.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        extensions: Vec<String>,
    },
    Dedicated {
        #[serde(default = "default_connections_max")]
        connections_max: u32,
        /// Lines of postgresql.conf.
        #[serde(default)]
        settings: BTreeMap<String, Setting>,
        /// Extensions that the database has from the start.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        extensions: Vec<String>,
    },
}

impl Backing {
    pub(crate) fn extensions(&self) -> &[String] {
        match self {
            Self::Shared { extensions, .. } | Self::Dedicated { extensions, .. } => extensions,
        }
    }

    pub(crate) fn is_dedicated(&self) -> bool {
        matches!(self, Self::Dedicated { .. })
    }
}

fn default_connections_max() -> u32 {
    50
}

/// The value of a setting, as YAML has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Switch(bool),
    Number(serde_json::Number),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Creating,
    Ready,
    CreateFailed,
    Updating {
        to: Spec,
    },
    Deleting,
    DeleteFailed,
    /// Deleted, in this second of Unix time. Kept for a while so that pollers learn of it.
    Gone {
        since: i64,
    },
}

/// A service binding: a login role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) id: String,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) bind_resource: Map<String, Value>,
    /// The binding that this one was made to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) predecessor: Option<String>,
    /// How long the password is good; for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validity: Option<Validity>,
    /// Kept because an identical request is answered with identical credentials.
    pub(crate) password: Secret,
    pub(crate) stage: BindingStage,
    pub(crate) operations: Operations,
}

/// How long a password is good, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validity {
    pub(crate) renew_before: i64,
    pub(crate) expires_at: i64,
}

impl Validity {
    /// From now on, for a number of seconds. The last third is for renewing it.
    pub(crate) fn starting(now: i64, seconds: i64) -> Self {
        Self {
            renew_before: now + seconds - seconds / 3,
            expires_at: now + seconds,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BindingStage {
    Creating,
    Ready,
    CreateFailed,
    Deleting,
    DeleteFailed,
    Gone { since: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) kind: OperationKind,
    pub(crate) state: OperationState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationKind {
    Provision,
    Update,
    Deprovision,
    Bind,
    Unbind,
}

impl OperationKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Provision,
        Self::Update,
        Self::Deprovision,
        Self::Bind,
        Self::Unbind,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Update => "update",
            Self::Deprovision => "deprovision",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
        }
    }

    pub(crate) fn deletes(self) -> bool {
        matches!(self, Self::Deprovision | Self::Unbind)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationState {
    InProgress,
    Succeeded,
    Failed { description: String },
}

/// The last operations, oldest first. There is always at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operations(Vec<Operation>);

impl Operations {
    pub(crate) fn begun(id: String, kind: OperationKind) -> Self {
        Self(vec![Operation {
            id,
            kind,
            state: OperationState::InProgress,
        }])
    }

    pub(crate) fn begin(&mut self, id: String, kind: OperationKind) {
        if self.0.len() == OPERATIONS_MAX {
            self.0.remove(0);
        }
        self.0.push(Operation {
            id,
            kind,
            state: OperationState::InProgress,
        });
    }

    pub(crate) fn last(&self) -> &Operation {
        self.0
            .last()
            .expect("a record is made with its first operation")
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Operation> {
        self.0.iter().find(|operation| operation.id == id)
    }

    /// Ends the last operation. One that has ended stays as it ended.
    pub(crate) fn end(&mut self, state: OperationState) {
        if let Some(last) = self.0.last_mut()
            && last.state == OperationState::InProgress
        {
            last.state = state;
        }
    }
}

impl Instance {
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone { .. })
    }

    /// Whether bindings can be worked on in this stage.
    pub(crate) fn serves_bindings(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::DeleteFailed)
    }
}

impl Binding {
    /// Whether its password is no longer good.
    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.validity
            .is_some_and(|validity| validity.expires_at <= now)
    }
}

impl BindingStage {
    pub(crate) fn wants_work(self) -> bool {
        matches!(self, Self::Creating | Self::Deleting)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switch(on) => f.write_str(if *on { "on" } else { "off" }),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}
