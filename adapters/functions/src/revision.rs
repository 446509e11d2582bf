//! A function revision: as it is given, and as it is ready to be started again and again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adapter_kit::Digest;
use adapter_sandbox::{Endpoint, Limits};
use engine_model::spec::{self, Isolation};
use serde_json::Value;

use crate::blueprint::{Blueprint, NetworkPolicy};
use crate::call::schema::Schema;
use crate::error::Failure;
use crate::packs::compiled::Folder;
use crate::packs::language::{FUNCTION_DIR, Language};
use crate::packs::source::{Source, Unpacked};
use crate::workers::floor::{Floor, Need};
use crate::workers::frame::{self, Init};
use crate::workers::worker::Worker;

/// One immutable version of a function. Its id is the caller's choice, and never used for another.
#[derive(Debug, Clone)]
pub struct Revision {
    /// The id that calls name.
    pub id: String,
    /// The language of its base image.
    pub language: Language,
    /// The root of its image; none for the host's own interpreter.
    pub root: Option<spec::Root>,
    /// The dependency layer of its image, if that has one.
    pub layer: Option<Digest>,
    /// Its source.
    pub source: Source,
    /// `module.function` for Python, a path such as `./hello.js` for Node; may be empty for a
    /// single file.
    pub handler: String,
    /// What its input must be.
    pub schema_in: Option<Value>,
    /// What its output must be.
    pub schema_out: Option<Value>,
    /// How long a call may take; 0 sets none.
    pub timeout_ms: u64,
    /// What a worker may use up; `None` takes the node's defaults.
    pub limits: Option<Limits>,
    /// What is kept of what one run prints, on each of its two streams; `None` takes 256 KiB.
    pub output_bytes: Option<usize>,
    /// How many workers it has.
    pub scale: Scale,
    /// What of one call the next one may see.
    pub isolation: Isolation,
    /// What of the network it can reach.
    pub network: NetworkPolicy,
    /// The endpoints of its services, for [`NetworkPolicy::Services`].
    pub endpoints: Vec<Endpoint>,
}

impl Revision {
    /// One on the host's interpreter, with the node's own choice in all that can be chosen.
    #[must_use]
    pub fn new(id: impl Into<String>, language: Language, source: Source) -> Self {
        Self {
            id: id.into(),
            language,
            root: None,
            layer: None,
            source,
            handler: String::new(),
            schema_in: None,
            schema_out: None,
            timeout_ms: 0,
            limits: None,
            output_bytes: None,
            scale: Scale::default(),
            isolation: Isolation::Shared,
            network: NetworkPolicy::None,
            endpoints: Vec::new(),
        }
    }
}

/// How many workers a function has; what is not set is the node's own choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scale {
    /// Kept even when nobody calls.
    pub min: usize,
    /// Never more.
    pub max: Option<usize>,
    /// How long a worker beyond `min` may be idle before it is ended.
    pub idle: Option<Duration>,
}

/// Everything needed to make workers of a revision and to judge what goes in and out.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: String,
    pub(crate) blueprint: Arc<Blueprint>,
    /// Without its files where what was compiled of them stands for them.
    pub(crate) source: Unpacked,
    pub(crate) _compiled: Option<Arc<Folder>>,
    pub(crate) has_layer: bool,
    pub(crate) schema_in: Option<Schema>,
    pub(crate) schema_out: Option<Schema>,
    pub(crate) timeout_ms: u64,
    pub(crate) output_bytes: usize,
    pub(crate) scale: Scale,
    pub(crate) isolation: Isolation,
    /// What was compiled of it: before its first worker, or by that.
    pub(crate) code: OnceLock<String>,
}

impl Prepared {
    /// A worker with this function in it, from a stem if there is one and it need not step back
    /// behind all others.
    pub(crate) async fn hire(
        &self,
        floor: &Arc<Floor>,
        need: Need,
        background: bool,
    ) -> Result<Worker, Failure> {
        let order = frame::init(&self.init());
        let mut worker = if background {
            let blueprint = self.blueprint.in_background();
            floor.start(&blueprint, need, Some(&order)).await?
        } else {
            floor.hire(&self.blueprint, need, &order).await?
        };
        worker.background = background;
        let compiled = worker
            .become_function(&order, floor.settings.load_max)
            .await?;
        if let Some(code) = compiled {
            let _ = self.code.set(code); // one worker's is as good as another's
        }
        Ok(worker)
    }

    fn init(&self) -> Init<'_> {
        let layer = self.blueprint.language.manifest().layer.mount.as_str();
        let layer = self.has_layer.then_some(layer);
        Init {
            files: &self.source.files,
            dir: FUNCTION_DIR,
            handler: &self.source.handler,
            layer,
            code: self.code.get().map(String::as_str),
            fork: self.forks(),
            compile: false,
        }
    }

    /// Whether its workers give each call a process of its own, so that they are not used up by one.
    pub(crate) fn forks(&self) -> bool {
        self.isolation == Isolation::Call && self.blueprint.language.manifest().worker.forks
    }

    /// How long a call may take: what the function says, and never longer than the node allows.
    pub(crate) fn timeout(&self, call_max: Duration) -> Duration {
        match self.timeout_ms {
            0 => call_max,
            ms => Duration::from_millis(ms).min(call_max),
        }
    }
}
