//! An update of an instance. What the instance is stays as it was until the broker says that the
//! update has succeeded, and what a failed update leaves behind is never removed.
//!
//! ```text
//!  Proposed ──request──► Asked ──done──► (the instance is as proposed)
//!      ▲                   │ failed
//!      └──── retry ───── Failed
//! ```

use engine_model::Name;
use engine_model::broker::Aftermath;

use super::wish::Packed;
use crate::operation::Operation;

/// What is to change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    /// The plan to change to, by name.
    pub(crate) plan: Option<Box<str>>,
    pub(crate) parameters: Packed,
    pub(crate) secrets: Box<[Name]>,
    pub(crate) maintenance: Option<Box<str>>,
}

/// An update that has not succeeded yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    pub(crate) proposal: Proposal,
    pub(crate) stage: Stage,
}

/// How far an update has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// It waits for other requests about the instance.
    Proposed,
    /// The broker was asked.
    Asked {
        op: Operation,
        limit_ms: i64,
        plan_id: Option<Box<str>>,
        bindable: bool,
    },
    /// It failed.
    Failed {
        reason: Box<str>,
        aftermath: Aftermath,
    },
}

impl Update {
    /// The request that is under way.
    pub(crate) fn op(&self) -> Option<&Operation> {
        match &self.stage {
            Stage::Asked { op, .. } => Some(op),
            Stage::Proposed | Stage::Failed { .. } => None,
        }
    }

    pub(crate) fn op_mut(&mut self) -> Option<&mut Operation> {
        match &mut self.stage {
            Stage::Asked { op, .. } => Some(op),
            Stage::Proposed | Stage::Failed { .. } => None,
        }
    }

    /// Whether the instance can be used.
    pub(crate) fn is_usable(&self) -> bool {
        !matches!(&self.stage, Stage::Failed { aftermath, .. } if !aftermath.instance_usable)
    }
}
