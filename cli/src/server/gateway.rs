//! The gateway role: follows the endpoints in the world, and serves them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adapter_gateway::{Api, Gateway, Routes};
use adapter_kit::{Later, Performer, Standing};
use async_trait::async_trait;
use engine_core::routes;
use engine_model::{ApiOutcome, Effect, EffectId, Outcome, ResourceKey};
use engine_runtime::Fold;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Wait for a gateway that is still starting.
const STARTING: Duration = Duration::from_millis(200);

/// Performs `ServeApi`: puts the endpoints of the world into the gateway's table.
pub(crate) struct Endpoints {
    fold: Arc<Fold>,
    gateway: Arc<OnceLock<Gateway>>,
}

impl Endpoints {
    pub(crate) fn new(fold: Arc<Fold>, gateway: Arc<OnceLock<Gateway>>) -> Self {
        Self { fold, gateway }
    }

    fn serve(&self) -> Option<()> {
        let gateway = self.gateway.get()?;
        let built = Routes::build(self.fold.read(|world| {
            routes(world)
                .into_iter()
                .map(|route| Api {
                    org: route.org.to_string(),
                    name: route.name.to_string(),
                    function: route.spec.function.to_string(),
                    hosts: route.spec.hosts,
                    methods: route.spec.methods,
                    protocols: route.spec.protocols,
                    paths: route.spec.uris,
                    authentication: route.spec.authentication,
                    cors: route.spec.cors,
                    record: route.spec.record,
                    enabled: route.spec.enabled,
                })
                .collect()
        }));
        for conflict in built.conflicts() {
            warn!(path = %conflict.path, winner = %conflict.winner.name,
                loser = %conflict.loser.name, "two endpoints claim one path");
        }
        gateway.set_routes(built);
        Some(())
    }

    /// Follows the world: another node may have been the one that performed the effect.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let mut changes = self.fold.changes();
        self.serve();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    // What else has come in meanwhile is served by the same table.
                    changes = changes.resubscribe();
                    self.serve();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[async_trait]
impl Performer for Endpoints {
    fn performs(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::ServeApi { .. })
    }

    async fn perform(
        &self,
        _id: EffectId,
        _key: &ResourceKey,
        effect: &Effect,
        _standing: &dyn Standing,
    ) -> Result<Option<Outcome>, Later> {
        let Effect::ServeApi { generation } = effect else {
            return Ok(None);
        };
        match self.serve() {
            Some(()) => Ok(Some(Outcome::Api(ApiOutcome::Served {
                generation: *generation,
            }))),
            None => Err(Later {
                reason: "the gateway is starting".into(),
                delay: STARTING,
            }),
        }
    }
}
