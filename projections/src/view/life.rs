//! How far something has come that a broker makes: an instance, or a binding. The reasons are
//! those of the engine.
//!
//! ```text
//!  Waiting ──► Making ──► Made ──────► Going ──► Removing ──► no row
//!                │  ▲                    ▲  ▲
//!                ▼  │ again              │  │ delete, from anywhere
//!              Failed ◄──► Orphaned ─────┘  │
//! ```

use engine_model::{RequestId, Status, Timestamp};
use serde::{Deserialize, Serialize};

use crate::view::operation::{Operation, Work};

/// After how many requests to remove something a person is told of the way out.
const REMOVALS_MANY: u32 = 4;

/// How far it has come, and the last request to the broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Life {
    stage: Stage,
    /// The request that made it, or was to.
    request: Option<RequestId>,
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
    Failed {
        /// Whether the broker is known to have nothing of it.
        nothing: bool,
    },
    /// It could not be made, and what may have been left is being removed.
    Orphaned,
    /// It is to go.
    Going(Past),
    /// The broker is taking it away.
    Removing,
}

/// What the broker has of something that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Past {
    /// Nothing.
    Nothing,
    /// Its answer to the request to make it is waited for.
    Asked,
    /// Something, or possibly something.
    Something,
}

impl Life {
    /// It is wanted.
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Waiting,
            request: None,
            operation: None,
            failed: None,
            made: false,
            removals: 0,
        }
    }

    /// The broker is about to be asked to make it.
    pub(crate) fn requested(self, work: Work, request: RequestId, at: Timestamp) -> Self {
        Self {
            stage: Stage::Making,
            request: Some(request),
            operation: Some(Operation::asked(work, request, at)),
            failed: None,
            ..self
        }
    }

    /// Whether this request made it, is making it, or is taking it away.
    pub(crate) fn knows(&self, request: RequestId) -> bool {
        let of_operation = || {
            let operation = self.operation.as_ref().filter(|_| self.is_underway());
            operation.is_some_and(|op| op.is(request))
        };
        self.request == Some(request) || of_operation()
    }

    /// The request under way changes.
    pub(crate) fn operate(self, change: impl FnOnce(Operation) -> Operation) -> Self {
        Self {
            operation: self.operation.map(change),
            ..self
        }
    }

    /// The broker works on the request under way.
    pub(crate) fn accepted(self, next_at: Timestamp) -> Self {
        let stage = match self.stage {
            Stage::Going(Past::Asked) => Stage::Going(Past::Something),
            other => other,
        };
        Self { stage, ..self }.operate(|op| op.underway(None, next_at))
    }

    /// The request under way is repeated later, unless its end was asked for meanwhile.
    pub(crate) fn delayed(self, reason: &str, next_at: Timestamp) -> Self {
        let stage = match self.stage {
            Stage::Going(Past::Asked) => Stage::Going(Past::Something),
            other => other,
        };
        Self { stage, ..self }.operate(|op| op.delayed(reason, next_at))
    }

    /// It is there. If it is to go, it is to go all the same.
    pub(crate) fn made(self) -> Self {
        let life = Self { made: true, ..self };
        match life.stage {
            // The removal is what is under way.
            Stage::Removing => life,
            Stage::Going(_) => Self {
                stage: Stage::Going(Past::Something),
                ..life
            }
            .operate(Operation::succeeded),
            _ => Self {
                stage: Stage::Made,
                failed: None,
                ..life
            }
            .operate(Operation::succeeded),
        }
    }

    /// It could not be made. If it is to go, it is to go all the same. What was there before, and
    /// was only to be taken on record, leaves nothing.
    pub(crate) fn failed(self, reason: &str, existing: bool) -> Self {
        let failed = Some(reason.to_owned());
        match self.stage {
            Stage::Removing => self,
            Stage::Going(_) => Self {
                stage: Stage::Going(Past::Something),
                failed,
                ..self
            }
            .operate(|op| op.failed(reason, None)),
            _ => Self {
                stage: Stage::Failed { nothing: existing },
                failed,
                ..self
            }
            .operate(|op| op.failed(reason, None)),
        }
    }

    /// Its end was asked for. What is being removed already goes on being removed.
    pub(crate) fn delete_requested(self, existing: bool, at: Timestamp) -> Self {
        let asked = self.operation.as_ref().is_some_and(|op| op.is_sent(at));
        let stage = match self.stage {
            Stage::Orphaned | Stage::Removing => Stage::Removing,
            Stage::Waiting | Stage::Failed { nothing: true } => Stage::Going(Past::Nothing),
            Stage::Making if existing => Stage::Going(Past::Nothing),
            Stage::Making if asked => Stage::Going(Past::Asked),
            Stage::Making | Stage::Made | Stage::Failed { nothing: false } => {
                Stage::Going(Past::Something)
            }
            Stage::Going(past) => Stage::Going(past),
        };
        Self { stage, ..self }
    }

    /// The broker is about to be asked to take it away, or what a failure may have left.
    pub(crate) fn removal_requested(
        self,
        work: Work,
        request: RequestId,
        removals: u32,
        at: Timestamp,
    ) -> Self {
        let stage = if self.is_going() {
            Stage::Removing
        } else {
            Stage::Orphaned
        };
        Self {
            stage,
            operation: Some(Operation::asked(work, request, at)),
            removals,
            ..self
        }
    }

    /// It could not be taken away yet.
    pub(crate) fn removal_failed(self, reason: &str, next_at: Timestamp) -> Self {
        self.operate(|op| op.failed(reason, Some(next_at)))
    }

    /// What a failure may have left is gone, or was given up.
    pub(crate) fn orphan_removed(self) -> Self {
        if self.is_going() {
            return self;
        }
        let stage = Stage::Failed { nothing: true };
        Self { stage, ..self }.operate(Operation::succeeded)
    }

    /// The status of it alone.
    pub(crate) fn status(&self) -> Status {
        match self.stage {
            Stage::Waiting => Status::Initialized,
            Stage::Making => Status::Creating,
            Stage::Made => Status::Ready,
            Stage::Failed { .. } | Stage::Orphaned => Status::Error,
            Stage::Going(_) | Stage::Removing => Status::Deleting,
        }
    }

    /// Why it is not ready; nothing while it waits, because others know what for.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let remark = || self.remark().into_iter().collect();
        let failed = || self.failed.clone().unwrap_or_default();
        match self.stage {
            Stage::Waiting | Stage::Made | Stage::Going(Past::Nothing) => Vec::new(),
            Stage::Making => remark(),
            Stage::Failed { .. } => {
                let next = "`dispatch retry` tries again, `dispatch delete` takes it away";
                vec![failed(), next.to_owned()]
            }
            Stage::Orphaned => {
                let (failed, removals) = (failed(), self.removals);
                let being = "what may have been left at the broker is being removed";
                let remark = self
                    .remark()
                    .map_or_else(String::new, |remark| format!(": {remark}"));
                vec![format!("{failed}; {being} (attempt {removals}){remark}")]
            }
            Stage::Going(Past::Asked) => {
                vec!["waits for the broker's answer to the request to make it".into()]
            }
            Stage::Going(Past::Something) => vec!["waits for what has to go first".into()],
            Stage::Removing => {
                let mut reasons: Vec<String> = remark();
                if self.removals >= REMOVALS_MANY {
                    reasons.push(format!(
                        "asked {} times; if the broker is gone for good, `dispatch abandon` ends \
                         it on record without a call to the broker",
                        self.removals
                    ));
                }
                reasons
            }
        }
    }

    /// What is to be said of the request under way.
    pub(crate) fn remark(&self) -> Option<String> {
        let operation = self.operation.as_ref().filter(|_| self.is_underway());
        operation.and_then(Operation::remark)
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

    /// Whether it is there, and is to stay.
    pub(crate) fn is_made(&self) -> bool {
        self.stage == Stage::Made
    }

    /// Whether its end was asked for.
    pub(crate) fn is_going(&self) -> bool {
        matches!(self.stage, Stage::Going(_) | Stage::Removing)
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
