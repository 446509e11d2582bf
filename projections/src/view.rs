//! One file per view: the document that people see, the row that is stored, and the fold.
//!
//! Documents bear the field names of Dispatch's v1 API. Times are whole seconds since the Unix
//! epoch, `reason` is null unless something went wrong, and tags are a list of `{key, value}`.

mod api;
mod application;
mod base_image;
mod binding;
mod broker;
pub(crate) mod class;
pub(crate) mod function;
mod image;
mod instance;
mod life;
mod operation;
mod organization;
mod revision;
mod schedule;
mod secret;
mod service_account;
mod waits;

use engine_model::Status;
use serde::Serialize;
use serde_json::Value;

use crate::Error;

pub use api::ApiDocument;
pub use application::ApplicationDocument;
pub use base_image::BaseImageDocument;
pub use binding::{BindingDocument, ReplacedDocument, RotationDocument};
pub use broker::{BrokerDocument, CircuitDocument};
pub use class::{ClassDocument, PlanDocument};
pub use function::FunctionDocument;
pub use image::ImageDocument;
pub use instance::{EmbeddedBinding, InstanceDocument, UpdateDocument};
pub use operation::OperationDocument;
pub use organization::OrganizationDocument;
pub use revision::{RevisionDocument, RevisionStatus};
pub use schedule::{MissedDocument, ScheduleDocument};
pub use secret::SecretDocument;
pub use service_account::ServiceAccountDocument;

pub(crate) use api::Apis;
pub(crate) use application::Applications;
pub(crate) use base_image::BaseImages;
pub(crate) use binding::Bindings;
pub(crate) use broker::Brokers;
pub(crate) use class::Classes;
pub(crate) use function::Functions;
pub(crate) use image::Images;
pub(crate) use instance::Instances;
pub(crate) use organization::Organizations;
pub(crate) use schedule::Schedules;
pub(crate) use secret::Secrets;
pub(crate) use service_account::ServiceAccounts;

/// A document as JSON; its keys come out in alphabetical order.
pub(crate) fn json<T: Serialize>(document: &T) -> Value {
    serde_json::to_value(document).expect("documents are plain data with text keys")
}

/// A list of reasons, which is null when there is none.
pub(crate) fn reasons(reasons: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
    let reasons: Vec<String> = reasons.into_iter().collect();
    (!reasons.is_empty()).then_some(reasons)
}

/// Why something is still there whose end was asked for.
pub(crate) fn going(going: bool) -> Option<Vec<String>> {
    reasons(going.then(|| "waits until those that use it are gone".into()))
}

/// How far something has come that is made by one kind of step, again after each change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Making {
    /// It can be used, as it was when it was last made.
    made: bool,
    /// A step is under way.
    pending: bool,
    /// The last change could not be made.
    failed: Option<String>,
    /// It is as it is asked to be.
    current: bool,
}

impl Making {
    /// It was asked for, or asked to be otherwise.
    pub(crate) fn wanted(self) -> Self {
        Self {
            made: self.made,
            ..Self::default()
        }
    }

    /// A step is under way.
    pub(crate) fn begun(self) -> Self {
        Self {
            made: self.made,
            pending: true,
            ..Self::default()
        }
    }

    /// The step came to its end.
    pub(crate) fn done(self) -> Self {
        Self {
            made: true,
            current: true,
            ..Self::default()
        }
    }

    /// The step failed.
    pub(crate) fn failed(self, reason: &str) -> Self {
        Self {
            made: self.made,
            failed: Some(reason.to_owned()),
            ..Self::default()
        }
    }

    /// Whether it is, or is being made, as it is asked to be.
    pub(crate) fn is_underway(&self) -> bool {
        self.pending || self.current
    }

    /// The status that people see.
    pub(crate) fn status(&self) -> Status {
        if self.failed.is_some() {
            Status::Error
        } else if self.current {
            Status::Ready
        } else if self.made {
            Status::Updating
        } else if self.pending {
            Status::Creating
        } else {
            Status::Initialized
        }
    }

    /// Whether it is as it is asked to be.
    pub(crate) fn is_current(&self) -> bool {
        self.current
    }

    /// Why the last change could not be made.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether the next step waits for something else.
    pub(crate) fn is_waiting(&self) -> bool {
        self.failed.is_none() && !self.current && !self.pending
    }

    /// Whether it can be used, as it is or as it was.
    pub(crate) fn is_made(&self) -> bool {
        self.made
    }

    /// Why it is in error, or what it waits for.
    pub(crate) fn reason(
        &self,
        waits_for: impl FnOnce() -> Result<Vec<String>, Error>,
    ) -> Result<Option<Vec<String>>, Error> {
        Ok(match &self.failed {
            Some(failed) => reasons([failed.clone()]),
            None if self.is_waiting() => reasons(waits_for()?),
            None => None,
        })
    }
}
