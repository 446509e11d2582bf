//! The role `worker` as the engine sees it: performs the effects on images and functions, and runs
//! what is asked to be run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_kit::{Blobs, Digest, Later, LineSink, Performer, RunCall, Runner, Standing};
use adapter_sandbox::Limits;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine_model::spec::FunctionSpec;
use engine_model::{
    BaseImageOutcome, Code, Effect, EffectId, FunctionLoad, FunctionOutcome, ImageBuild,
    ImageOutcome, Outcome, ResourceKey, RevisionId, RunErrorKind, RunLogs, RunResult, Used, spec,
};
use serde_json::Value;
use tracing::debug;

use crate::{
    Built, Call, Completion, Endpoint, ErrorType, Failure, Functions, Language, LayerSpec,
    NetworkPolicy, Order, Revision, Scale, Source, SystemPackage, call::run::CANCELLED,
};

/// Wait before what failed for this node's own reasons is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A node's functions, in the engine's words.
#[derive(Clone)]
pub struct Workers {
    functions: Functions,
    blobs: Arc<dyn Blobs>,
    slots: usize,
    builds: Option<BuildSinks>,
}

/// Who is told what the build of an image prints, by the image.
pub type BuildSinks = Arc<dyn Fn(&ResourceKey) -> Arc<dyn LineSink> + Send + Sync>;

/// Why a revision was not loaded.
enum NotLoaded {
    /// It never will be.
    Failed(String),
    /// This node could not, now.
    Later(String),
}

impl From<Failure> for NotLoaded {
    fn from(failure: Failure) -> Self {
        if failure.transient {
            Self::Later(failure.reason)
        } else {
            Self::Failed(failure.reason)
        }
    }
}

impl Workers {
    /// The workers of `functions`, which take up to `slots` calls at once.
    #[must_use]
    pub fn new(functions: Functions, blobs: Arc<dyn Blobs>, slots: usize) -> Self {
        Self {
            functions,
            blobs,
            slots,
            builds: None,
        }
    }

    /// The same, telling somebody what builds of images print.
    #[must_use]
    pub fn telling(self, builds: BuildSinks) -> Self {
        Self {
            builds: Some(builds),
            ..self
        }
    }

    async fn prepare(&self, generation: u32, language: &str, url: &str) -> Result<Outcome, Later> {
        let outcome = match self.functions.base_image(language, url).await {
            Ok(base) => {
                let version = format!("{} {}", base.language.label(), base.version);
                let digest = base.root.map(|root| root.digest);
                BaseImageOutcome::Prepared {
                    generation,
                    version,
                    digest,
                }
            }
            Err(failure) if failure.transient => return Err(later(failure.reason)),
            Err(failure) => BaseImageOutcome::Failed {
                generation,
                reason: failure.reason,
            },
        };
        Ok(Outcome::BaseImage(outcome))
    }

    async fn build(&self, key: &ResourceKey, build: &ImageBuild) -> Result<Outcome, Later> {
        let number = build.build;
        let built = self.layer(key, build).await;
        let built = built.unwrap_or_else(|failure| Built {
            layer: Err(failure),
            log: None,
        });
        let log = built.log.map(|digest| digest.to_string());
        let outcome = match built.layer {
            Ok(None) => ImageOutcome::Built {
                build: number,
                layer: None,
                bytes: 0,
                log,
            },
            Ok(Some(layer)) => ImageOutcome::Built {
                build: number,
                layer: Some(layer.digest.to_string()),
                bytes: layer.bytes,
                log,
            },
            Err(failure) if failure.transient => return Err(later(failure.reason)),
            Err(failure) => ImageOutcome::Failed {
                build: number,
                reason: failure.reason,
                log,
            },
        };
        Ok(Outcome::Image(outcome))
    }

    async fn layer(&self, key: &ResourceKey, build: &ImageBuild) -> Result<Built, Failure> {
        let language = Language::parse(&build.language);
        let language = language.ok_or_else(|| no_pack(&build.language))?;
        let root = build.root.as_ref();
        let base = self.functions.base_image_of(language, root).await?;
        let manifest = (!build.manifest.trim().is_empty()).then(|| build.manifest.clone());
        let packages = build.packages.iter().map(|package| SystemPackage {
            name: package.name.clone(),
            version: package.version.clone(),
        });
        let spec = LayerSpec {
            manifest,
            system_packages: packages.collect(),
        };
        let order = Order {
            organization: Some(key.org.clone()),
            lines: self.builds.as_ref().map(|sinks| sinks(key)),
        };
        Ok(self.functions.build(&base, &spec, &order).await)
    }

    async fn load(&self, load: &FunctionLoad) -> Result<(), NotLoaded> {
        let id = load.revision.to_string();
        if self.functions.is_loaded(&id) {
            return Ok(());
        }
        let revision = self.revision(id, load).await?;
        Ok(self.functions.load(revision).await?)
    }

    async fn revision(&self, id: String, load: &FunctionLoad) -> Result<Revision, NotLoaded> {
        let spec = &load.spec;
        let language = Language::parse(&load.language);
        let language = language.ok_or_else(|| no_pack(&load.language))?;
        let layer = match &load.layer {
            Some(layer) => Some(digest(layer)?),
            None => None,
        };
        let schema = |value: &Value| (!value.is_null()).then(|| value.clone());
        let endpoints = load.endpoints.iter();
        Ok(Revision {
            id,
            language,
            root: load.root.clone(),
            layer,
            source: self.source(&spec.source).await?,
            handler: spec.handler.clone(),
            schema_in: schema(&spec.schema.input),
            schema_out: schema(&spec.schema.output),
            timeout_ms: spec.timeout,
            limits: Some(self.limits(spec)),
            output_bytes: (spec.limits.output > 0).then_some((spec.limits.output as usize) << 10),
            scale: Scale {
                min: spec.workers.min as usize,
                max: (spec.workers.max > 0).then_some(spec.workers.max as usize),
                idle: (spec.workers.idle > 0)
                    .then(|| Duration::from_secs(u64::from(spec.workers.idle))),
            },
            isolation: spec.isolation,
            network: match spec.network {
                spec::NetworkPolicy::None => NetworkPolicy::None,
                spec::NetworkPolicy::Services => NetworkPolicy::Services,
                spec::NetworkPolicy::Host => NetworkPolicy::Host,
            },
            endpoints: endpoints
                .map(|endpoint| Endpoint {
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                })
                .collect(),
        })
    }

    /// The node's own limits, with what the function says in their place.
    fn limits(&self, spec: &FunctionSpec) -> Limits {
        let own = self.functions.limits();
        let asked = &spec.limits;
        let or = |asked: u32, own: u32| if asked > 0 { asked } else { own };
        Limits {
            memory_bytes: if spec.memory > 0 {
                Some(spec.memory << 20)
            } else {
                own.memory_bytes
            },
            cpu_hundredths: (asked.cpu > 0).then_some(asked.cpu).or(own.cpu_hundredths),
            processes: or(asked.processes, own.processes),
            open_files: or(asked.open_files, own.open_files),
            tmp_bytes: if asked.tmp > 0 {
                u64::from(asked.tmp) << 20
            } else {
                own.tmp_bytes
            },
            file_bytes: own.file_bytes,
            address_space_bytes: own.address_space_bytes,
        }
    }

    async fn source(&self, source: &spec::Source) -> Result<Source, NotLoaded> {
        match source {
            spec::Source::File { name, text } => Ok(Source::File {
                name: name.clone(),
                text: text.clone(),
            }),
            spec::Source::Archive(base64) => {
                let bytes = STANDARD.decode(base64).map_err(|error| {
                    NotLoaded::Failed(format!("the source is not base64: {error}"))
                })?;
                Ok(Source::Archive(bytes.into()))
            }
            spec::Source::Blob(blob) => {
                let got = self.blobs.get(&digest(blob)?).await;
                got.map(Source::Archive).map_err(|error| match error {
                    adapter_kit::BlobError::Absent(_) => {
                        NotLoaded::Failed(format!("the source is not there: {error}"))
                    }
                    adapter_kit::BlobError::Corrupt(_) | adapter_kit::BlobError::Store(_) => {
                        NotLoaded::Later(error.to_string())
                    }
                })
            }
        }
    }
}

fn no_pack(language: &str) -> Failure {
    Failure::of(format!("this node has no language pack for {language}"))
}

fn digest(text: &str) -> Result<Digest, NotLoaded> {
    Digest::parse(text)
        .ok_or_else(|| NotLoaded::Failed("a digest is 64 lower-case hexadecimal digits".into()))
}

fn later(reason: String) -> Later {
    Later {
        reason,
        delay: AGAIN,
    }
}

#[async_trait]
impl Performer for Workers {
    fn performs(&self, effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::PrepareBaseImage { .. }
                | Effect::BuildImage(_)
                | Effect::LoadFunction(_)
                | Effect::RetireRevision(_)
        )
    }

    async fn perform(
        &self,
        id: EffectId,
        key: &ResourceKey,
        effect: &Effect,
        _standing: &dyn Standing,
    ) -> Result<Option<Outcome>, Later> {
        debug!(effect.id = %id, resource = %key, "worker effect");
        match effect {
            Effect::PrepareBaseImage {
                generation,
                language,
                docker_url,
            } => self
                .prepare(*generation, language, docker_url)
                .await
                .map(Some),
            Effect::BuildImage(build) => self.build(key, build).await.map(Some),
            Effect::LoadFunction(load) => {
                let revision = load.revision;
                let outcome = match self.load(load).await {
                    Ok(()) => FunctionOutcome::Loaded { revision },
                    Err(NotLoaded::Failed(reason)) => FunctionOutcome::Failed { revision, reason },
                    Err(NotLoaded::Later(reason)) => return Err(later(reason)),
                };
                Ok(Some(Outcome::Function(outcome)))
            }
            Effect::RetireRevision(revision) => {
                self.functions.retire(&revision.to_string());
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Runner for Workers {
    async fn run(&self, call: RunCall) -> RunResult {
        let begun = Instant::now();
        let id = call.load.revision.to_string();
        let there = self.functions.is_loaded(&id);
        // Another node may have been the one that loaded it first.
        let loaded = match there {
            true => Ok(()),
            false => tokio::select! {
                loaded = self.load(&call.load) => loaded,
                () = call.cancel.cancelled() => return failed(CANCELLED.into()),
            },
        };
        if let Err(NotLoaded::Failed(reason) | NotLoaded::Later(reason)) = loaded {
            return failed(format!(
                "the function cannot be loaded on this node: {reason}"
            ));
        }
        let loading = if there {
            Duration::ZERO
        } else {
            begun.elapsed()
        };
        let invocation = Call {
            run_id: call.run.to_string(),
            context: call.context,
            services: call.services,
            input: call.input,
            // The revision knows the function's own timeout.
            deadline: None,
            patient: !call.blocking,
            ahead: !call.on_record,
            lines: call.lines,
            cancel: call.cancel,
        };
        let mut completion = match self.functions.call_if_loaded(&id, invocation).await {
            Ok(completion) => completion,
            Err(invocation) => {
                // It was retired in between.
                if let Err(NotLoaded::Failed(reason) | NotLoaded::Later(reason)) =
                    self.load(&call.load).await
                {
                    return failed(format!(
                        "the function cannot be loaded on this node: {reason}"
                    ));
                }
                self.functions.call(&id, *invocation).await
            }
        };
        completion.timings.start_us += u64::try_from(loading.as_micros()).unwrap_or(u64::MAX);
        result(completion, call.timings)
    }

    fn slots(&self) -> usize {
        self.slots
    }

    async fn clear(&self, used: Used) {
        match self.functions.clear(used).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed images and layers that nothing uses"),
            Err(failure) => tracing::warn!(reason = %failure, "images and layers are not cleared"),
        }
    }

    fn keep(&self, active: &BTreeSet<RevisionId>) {
        for id in self.functions.loaded() {
            let known: Result<RevisionId, _> = id.parse();
            if known.is_ok_and(|revision| !active.contains(&revision)) {
                debug!(revision = %id, "revision is no longer called");
                self.functions.retire(&id);
            }
        }
    }
}

fn failed(message: String) -> RunResult {
    let kind = RunErrorKind::SystemError;
    let error = engine_model::RunError {
        kind,
        message,
        stacktrace: Vec::new(),
    };
    RunResult {
        error: Some(error),
        ..RunResult::default()
    }
}

fn result(completion: Completion, timings: bool) -> RunResult {
    let error = completion.error.map(|error| engine_model::RunError {
        kind: match error.kind {
            ErrorType::InputError => RunErrorKind::InputError,
            ErrorType::FunctionError => RunErrorKind::FunctionError,
            ErrorType::SystemError => RunErrorKind::SystemError,
        },
        message: error.message,
        stacktrace: error.stacktrace,
    });
    RunResult {
        output: completion.output,
        output_blob: None,
        error,
        logs: RunLogs {
            stderr: completion.logs.stderr,
            stdout: completion.logs.stdout,
        },
        refused: completion.busy.then_some(Code::Busy),
        timings: timings.then_some(completion.timings),
    }
}
