//! A broker and what is known of its catalog.
//!
//! ```text
//!  Reading ──read──► Read ──refresh, update──► Reading
//!     └────failed──► Failed ──────────────────────┘
//! ```
//!
//! Its circuit is open while its requests fail one after the other.

use engine_model::spec::{BrokerLimits, Scope};
use engine_model::{BrokerEvent, ResourceId, Sealed, Timestamp};

use super::{Illegal, Leftover, Scene};

/// A broker of services.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Broker {
    pub(crate) id: ResourceId,
    pub(crate) url: String,
    pub(crate) credentials: Sealed,
    pub(crate) ca: String,
    pub(crate) scope: Scope,
    pub(crate) limits: BrokerLimits,
    pub(crate) api_version: Option<String>,
    pub(crate) circuit: Option<Circuit>,
    pub(crate) etag: Option<String>,
    /// Names of the classes of the catalog as it was last read.
    pub(crate) classes: Vec<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) catalog: Catalog,
    /// Whether it goes as soon as its instances are gone.
    pub(crate) deleting: bool,
}

/// Nothing is sent for a while.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Circuit {
    pub(crate) reason: String,
    pub(crate) failures: u32,
    /// Counts the openings since it last answered, from 1.
    pub(crate) opened: u32,
    pub(crate) until: Timestamp,
}

/// How the catalog stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Catalog {
    /// It is being read because someone asked.
    Reading { since: Timestamp },
    /// It was read.
    Read { next_at: Timestamp },
    /// It could not be read.
    Failed {
        reason: String,
        failures: u32,
        next_at: Timestamp,
    },
}

impl Broker {
    pub(crate) fn evolve(
        state: Option<Self>,
        event: &BrokerEvent,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Self>, Illegal> {
        let Some(mut state) = state else {
            let BrokerEvent::Registered {
                id,
                url,
                credentials,
                ca,
                scope,
                limits,
                ..
            } = event
            else {
                return Err(());
            };
            return Ok(Some(Self {
                id: *id,
                url: url.clone(),
                credentials: credentials.clone(),
                ca: ca.clone(),
                scope: *scope,
                limits: *limits,
                api_version: None,
                circuit: None,
                etag: None,
                classes: Vec::new(),
                refused: Vec::new(),
                catalog: Catalog::Reading { since: scene.at },
                deleting: false,
            }));
        };
        match event {
            BrokerEvent::Registered { .. } => return Err(()),
            BrokerEvent::Updated {
                url,
                credentials,
                ca,
                scope,
                limits,
                ..
            } => {
                if credentials.key != state.credentials.key {
                    let old = state.credentials.key.clone();
                    scene.leftovers.push(Leftover::Key(old));
                }
                state.url.clone_from(url);
                state.credentials = credentials.clone();
                state.ca.clone_from(ca);
                state.scope = *scope;
                state.limits = *limits;
                // It may be another one, or well again.
                state.api_version = None;
                state.circuit = None;
                state.etag = None;
                state.catalog = Catalog::Reading { since: scene.at };
            }
            BrokerEvent::RefreshRequested => {
                state.catalog = Catalog::Reading { since: scene.at };
            }
            BrokerEvent::CatalogRead {
                etag,
                classes,
                refused,
                api_version,
                next_at,
            } => {
                state.api_version.clone_from(api_version);
                state.etag.clone_from(etag);
                state.classes.clone_from(classes);
                state.refused.clone_from(refused);
                state.catalog = Catalog::Read { next_at: *next_at };
            }
            BrokerEvent::CatalogFailed {
                reason,
                failures,
                next_at,
            } => {
                state.catalog = Catalog::Failed {
                    reason: reason.clone(),
                    failures: *failures,
                    next_at: *next_at,
                };
            }
            BrokerEvent::CircuitOpened {
                reason,
                failures,
                opened,
                until,
            } => {
                state.circuit = Some(Circuit {
                    reason: reason.clone(),
                    failures: *failures,
                    opened: *opened,
                    until: *until,
                });
            }
            BrokerEvent::CircuitClosed => state.circuit = None,
            BrokerEvent::DeleteRequested => state.deleting = true,
            BrokerEvent::Deleted => {
                scene.leftovers.push(Leftover::Key(state.credentials.key));
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    /// When the catalog is read next, unless that is under way.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        match self.catalog {
            Catalog::Reading { .. } => None,
            Catalog::Read { next_at } | Catalog::Failed { next_at, .. } => Some(next_at),
        }
    }
}
