//! The language of Dispatch: ids, commands, events, effects, outcomes, envelopes, subjects, error
//! codes. Everything that is stored or sent is defined here, and nothing here does anything.

mod commit;
mod effect;
mod envelope;
mod event;
mod function_spec;
mod id;
mod kind;
mod outcome;
mod query;
mod rejection;
mod resource;
mod revision;
mod run;
mod schedule;
mod sealed;
mod service_use;
mod status;
mod time;

pub mod broker;
pub mod document;
pub mod spec;
pub mod subject;

pub use commit::{Cause, Commit, Recorded};
pub use effect::{
    Effect, EffectId, FunctionLoad, ImageBuild, Role, ServiceCall, ServiceTarget, TimerRequest,
    UpdateCall, Used,
};
pub use envelope::{Actor, Command, CommandEnvelope, Deletion, Reply, header};
pub use event::{
    ApiEvent, ApplicationEvent, BaseImageEvent, BindingEvent, BrokerEvent, ClassEvent, Event,
    FunctionEvent, ImageEvent, InstanceEvent, OrganizationEvent, SecretEvent, ServiceAccountEvent,
};
pub use id::{
    BindingId, CommandId, CommitId, FunctionId, InstanceId, InvalidName, Name, OrgName, RequestId,
    ResourceId, RevisionId, RunId, Seq,
};
pub use kind::Kind;
pub use outcome::{
    ApiOutcome, BaseImageOutcome, BindingOutcome, BrokerOutcome, FunctionOutcome, ImageOutcome,
    InstanceOutcome, Outcome,
};
pub use query::{Answer, AsOf, Filter, Query, QueryError};
pub use rejection::{Code, Rejection};
pub use resource::ResourceKey;
pub use revision::{Because, LOADED_KEPT, SHARES_MAX, Share, UNLOADED_KEPT};
pub use run::{
    LogLine, LogStream, RunCommand, RunEnvelope, RunError, RunErrorKind, RunEvent, RunLogs,
    RunReply, RunResult, RunTimings, RunWake,
};
pub use schedule::{Overlap, ScheduleEvent, ScheduleOutcome, StillGoing};
pub use sealed::{ClientSealed, KeyId, Sealed};
pub use status::Status;
pub use time::{Alarm, Due, Timestamp};
