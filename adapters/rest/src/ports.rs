//! What the API needs of the rest of Dispatch.

use std::fmt;
use std::sync::Arc;

use adapter_kit::{Blobs, Commands, Queries, Runs};
use async_trait::async_trait;
use engine_model::{Actor, ClientSealed, OrgName};
use serde::Serialize;

/// Seals a secret to the engine's public key.
pub type Seal = Arc<dyn Fn(&[u8]) -> ClientSealed + Send + Sync>;

/// What the API needs of the rest of Dispatch.
#[derive(Clone)]
pub struct Ports {
    /// Takes commands.
    pub commands: Arc<dyn Commands>,
    /// Starts runs.
    pub runs: Arc<dyn Runs>,
    /// Answers queries.
    pub queries: Arc<dyn Queries>,
    /// Keeps what is too large for a message.
    pub blobs: Arc<dyn Blobs>,
    /// Knows who bears which token.
    pub authenticator: Arc<dyn Authenticator>,
    /// Seals the secrets of documents.
    pub seal: Seal,
    /// What `/v1/version` says.
    pub info: Info,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// Knows who bears which token.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Whose token this is; `None` when it is nobody's. How long it takes must not tell how much
    /// of the token was right.
    async fn authenticate(&self, bearer: &str) -> Option<Identity>;
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The actor that goes on record.
    pub actor: Actor,
    /// Where it may act.
    pub scope: Scope,
}

/// Where an identity may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In one organization.
    Org(OrgName),
    /// In every organization, and on the installation itself.
    All,
}

/// The build of the server, with the field names of the v1 API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The version of Dispatch.
    pub version: String,
    /// The commit that it was built from; empty when it is not known.
    pub commit: String,
    /// When it was built; empty when it is not known.
    pub build_date: String,
    /// What it was built with; empty when it is not known.
    pub compiler: String,
    /// The operating system and the processor that it runs on.
    pub platform: String,
}

impl Info {
    /// What this build knows of itself.
    #[must_use]
    pub fn of_this_build() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: String::new(),
            build_date: String::new(),
            compiler: format!("rustc {}", env!("CARGO_PKG_RUST_VERSION")),
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}
