//! What came of an effect. An outcome goes to the same `decide` as a command.

use serde::{Deserialize, Serialize};

use crate::broker::{
    Aftermath, BoundCredentials, FetchedInstance, Offering, Progress, Provisioned, Verdict,
};
use crate::schedule::ScheduleOutcome;
use crate::{RequestId, RevisionId};

/// What came of an effect of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a base image.
    BaseImage(BaseImageOutcome),
    /// Of an image.
    Image(ImageOutcome),
    /// Of a function.
    Function(FunctionOutcome),
    /// Of a broker.
    Broker(BrokerOutcome),
    /// Of an instance.
    Instance(InstanceOutcome),
    /// Of a binding.
    Binding(BindingOutcome),
    /// Of an endpoint.
    Api(ApiOutcome),
    /// Of what a schedule had due.
    Schedule(ScheduleOutcome),
}

/// Of `PrepareBaseImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BaseImageOutcome {
    /// The interpreter runs.
    Prepared {
        /// Which preparation.
        generation: u32,
        /// What the interpreter says of itself.
        version: String,
        /// The digest of the image that is its root, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// It does not.
    Failed {
        /// Which preparation.
        generation: u32,
        /// Why.
        reason: String,
    },
}

/// Of `BuildImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageOutcome {
    /// The layer is stored.
    Built {
        /// Which build.
        build: u32,
        /// Its digest; none when there was nothing to build.
        layer: Option<String>,
        /// Its size.
        bytes: u64,
        /// Where in the blob store what the tools printed is, if they printed anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// It could not be built.
    Failed {
        /// Which build.
        build: u32,
        /// Why, with the tool's last lines.
        reason: String,
        /// Where in the blob store what the tools printed is, if they printed anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
}

/// Of `LoadFunction`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionOutcome {
    /// A worker has loaded the handler.
    Loaded {
        /// Which revision.
        revision: RevisionId,
    },
    /// The handler cannot be loaded.
    Failed {
        /// Which revision.
        revision: RevisionId,
        /// Why: exactly one reason.
        reason: String,
    },
}

/// Of `ReadCatalog`, and of any request: how the broker is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BrokerOutcome {
    /// The catalog, with what could not be taken of it.
    Read {
        /// The broker's word for this version.
        etag: Option<String>,
        /// Well-formed offerings.
        offerings: Vec<Offering>,
        /// Malformed entries, each with the reason.
        refused: Vec<String>,
        /// The API version that the broker answered to.
        api_version: Option<String>,
    },
    /// 304: it is what was known.
    Unchanged,
    /// It could not be read.
    Failed {
        /// Why.
        reason: String,
    },
    /// Requests to it fail, one after the other: it cannot be reached, or answers with errors.
    Unwell {
        /// What came of the last one.
        reason: String,
        /// How many in a row.
        failures: u32,
    },
    /// It answers again.
    Well,
}

/// Of the effects on an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InstanceOutcome {
    /// Of `Provision`.
    ProvisionAnswered {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<Provisioned>,
    },
    /// Of `FetchInstance`. `Gone` when the broker does not have it.
    Fetched {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<FetchedInstance>,
    },
    /// Of `UpdateInstance`.
    UpdateAnswered {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<Provisioned>,
        /// How a failure leaves the instance.
        aftermath: Aftermath,
    },
    /// Of `PollInstance`.
    Polled {
        /// The request that began the operation.
        request: RequestId,
        /// What came back.
        progress: Progress,
        /// How a failed update leaves the instance.
        aftermath: Aftermath,
    },
    /// Of `Deprovision`.
    DeprovisionAnswered {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<()>,
    },
}

/// Of the effects on a binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BindingOutcome {
    /// Of `Bind`, or of `PollBinding` when the bind is done and its credentials were fetched.
    BindAnswered {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<BoundCredentials>,
    },
    /// Of `PollBinding`.
    Polled {
        /// The request that began the operation.
        request: RequestId,
        /// What came back.
        progress: Progress,
    },
    /// Of `Unbind`.
    UnbindAnswered {
        /// The request.
        request: RequestId,
        /// What came back.
        verdict: Verdict<()>,
    },
}

/// Of `ServeApi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiOutcome {
    /// A gateway serves it.
    Served {
        /// Which change.
        generation: u32,
    },
    /// It cannot.
    Failed {
        /// Which change.
        generation: u32,
        /// Why.
        reason: String,
    },
}
