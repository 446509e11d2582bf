//! How far something has come that a broker makes: an instance, or a binding.
//!
//! ```text
//!  Waiting ──► Making ──► Made ──────► Going ──► Removing ──► no row
//!                │  ▲                    ▲  ▲
//!                ▼  │ again              │  │ delete, from anywhere
//!              Failed ◄──► Orphaned ─────┘  │
//! ```

use engine_model::{Status, Timestamp};
use serde::{Deserialize, Serialize};

use crate::view::operation::{Operation, Work};

/// How far it has come, and the last request to the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Life {
    stage: Stage,
    operation: Option<Operation>,
    /// Why it could not be made.
    failed: Option<String>,
    /// Whether it was made, and is not known to be gone.
    made: bool,
    /// How often it was tried to take it away.
    removals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Nothing was sent yet.
    Waiting,
    /// The broker is making it.
    Making,
    /// It is there.
    Made,
    /// It could not be made.
    Failed,
    /// It could not be made, and what may have been left is being removed.
    Orphaned,
    /// It is to go.
    Going,
    /// The broker is taking it away.
    Removing,
}

impl Life {
    /// It is wanted.
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Waiting,
            operation: None,
            failed: None,
            made: false,
            removals: 0,
        }
    }

    /// The broker is about to be asked to make it.
    pub(crate) fn requested(self, work: Work, at: Timestamp) -> Self {
        let operation = Some(Operation::asked(work, at));
        Self {
            stage: Stage::Making,
            operation,
            failed: None,
            ..self
        }
    }

    /// The request under way changes.
    pub(crate) fn operate(self, change: impl FnOnce(Operation) -> Operation) -> Self {
        Self {
            operation: self.operation.map(change),
            ..self
        }
    }

    /// It is there. If it is to go, it is to go all the same.
    pub(crate) fn made(self) -> Self {
        let stage = self.unless_going(Stage::Made);
        Self {
            stage,
            failed: None,
            made: true,
            ..self
        }
        .operate(Operation::succeeded)
    }

    /// It could not be made. If it is to go, it is to go all the same.
    pub(crate) fn failed(self, reason: &str) -> Self {
        let stage = self.unless_going(Stage::Failed);
        let failed = Some(reason.to_owned());
        Self {
            stage,
            failed,
            ..self
        }
        .operate(|op| op.failed(reason, None))
    }

    /// Its end was asked for. What is being removed already goes on being removed.
    pub(crate) fn delete_requested(self) -> Self {
        let removing = matches!(self.stage, Stage::Orphaned | Stage::Removing);
        Self {
            stage: if removing {
                Stage::Removing
            } else {
                Stage::Going
            },
            ..self
        }
    }

    /// The broker is about to be asked to take it away, or what a failure may have left.
    pub(crate) fn removal_requested(self, work: Work, removals: u32, at: Timestamp) -> Self {
        let going = matches!(self.stage, Stage::Going | Stage::Removing);
        let stage = if going {
            Stage::Removing
        } else {
            Stage::Orphaned
        };
        Self {
            stage,
            operation: Some(Operation::asked(work, at)),
            removals,
            ..self
        }
    }

    /// It could not be taken away yet.
    pub(crate) fn removal_failed(self, reason: &str, next_at: Timestamp) -> Self {
        self.operate(|op| op.failed(reason, Some(next_at)))
    }

    /// What a failure may have left is gone.
    pub(crate) fn orphan_removed(self) -> Self {
        let stage = self.unless_going(Stage::Failed);
        Self { stage, ..self }.operate(Operation::succeeded)
    }

    fn unless_going(&self, stage: Stage) -> Stage {
        if matches!(self.stage, Stage::Going | Stage::Removing) {
            self.stage
        } else {
            stage
        }
    }

    /// The status of it alone.
    pub(crate) fn status(&self) -> Status {
        match self.stage {
            Stage::Waiting => Status::Initialized,
            Stage::Making => Status::Creating,
            Stage::Made => Status::Ready,
            Stage::Failed | Stage::Orphaned => Status::Error,
            Stage::Going | Stage::Removing => Status::Deleting,
        }
    }

    /// Why it is not ready; nothing while it waits, because others know what for.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let remark = || {
            self.operation
                .iter()
                .filter_map(Operation::remark)
                .collect()
        };
        let failed = || self.failed.clone().unwrap_or_default();
        match self.stage {
            Stage::Waiting | Stage::Made => Vec::new(),
            Stage::Making | Stage::Removing => remark(),
            Stage::Failed => vec![failed()],
            Stage::Orphaned => {
                let (failed, removals) = (failed(), self.removals);
                let being = "what may have been left at the broker is being removed";
                let remark = self.operation.as_ref().and_then(Operation::remark);
                let remark = remark.map_or_else(String::new, |remark| format!(": {remark}"));
                vec![format!("{failed}; {being} (attempt {removals}){remark}")]
            }
            Stage::Going => vec!["waits for what has to go first".into()],
        }
    }

    /// Whether a request to the broker is under way.
    pub(crate) fn is_underway(&self) -> bool {
        matches!(
            self.stage,
            Stage::Making | Stage::Orphaned | Stage::Removing
        )
    }

    /// Whether the broker is making it.
    pub(crate) fn is_making(&self) -> bool {
        self.stage == Stage::Making
    }

    /// Whether it was made, and is not known to be gone.
    pub(crate) fn is_there(&self) -> bool {
        self.made
    }

    /// The last request to the broker.
    pub(crate) fn operation(&self) -> Option<&Operation> {
        self.operation.as_ref()
    }
}
