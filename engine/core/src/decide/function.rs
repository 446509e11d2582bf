//! Functions: loaded when all that they name is there, and again when it changes.

use std::collections::BTreeSet;

use engine_model::broker::Endpoint;
use engine_model::spec::{BindingChoice, FunctionSpec, Root, RunPolicy, Source, Spec, WorkerScale};
use engine_model::{
    Because, Code, Command, Event, FunctionEvent, FunctionId, FunctionLoad, FunctionOutcome, Kind,
    Name, Rejection, ResourceKey, RevisionId,
};

use super::{Ask, Decision, delete};
use crate::aggregate::function::{Function, Stage};
use crate::aggregate::image;
use crate::aggregate::instance::Instance;
use crate::refuse;
use crate::schema;
use crate::service::{Service, service, shared};
use crate::world::{World, as_instance};

mod revisions;

/// Largest source that a document carries itself, in characters: a commit must fit a message of
/// 1 MiB together with all that is around it.
const SOURCE_CHARS_MAX: usize = 512 * 1024;

/// Attempts at one run: what failed so often does not become right by another.
const ATTEMPTS_MAX: u32 = 100;

/// Longest wait between two attempts, in milliseconds: nobody waits longer than a day.
const BACKOFF_MS_MAX: u64 = 24 * 3600 * 1000;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let events = match ask.command {
        Command::Create(Spec::Function(spec)) => {
            ask.must_be_free()?;
            check(ask, spec)?;
            let id = FunctionId::from(ask.new_id());
            let created = FunctionEvent::Created {
                id,
                spec: spec.clone(),
            };
            let mut events = vec![Event::Function(created)];
            if let Ok(wanted) = wanted(ask.world, ask.key, spec) {
                events.push(load(id, 1, wanted, Because::Created));
            }
            events
        }
        Command::Update(Spec::Function(spec)) => {
            ask.must_be_there()?;
            check(ask, spec)?;
            update(ask, spec)
        }
        Command::Retry => {
            ask.must_be_there()?;
            retry(ask)?
        }
        Command::Rollback { revision } => {
            ask.must_be_there()?;
            revisions::rollback(ask, *revision)?
        }
        Command::Route { shares } => {
            ask.must_be_there()?;
            revisions::route(ask, shares)?
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_)
        | Command::Update(_)
        | Command::Refresh
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. } => {
            return Err(ask.unknown());
        }
    };
    Ok(Decision::of(ask.key, events))
}

fn update(ask: &Ask<'_>, spec: &FunctionSpec) -> Vec<Event> {
    let mut events = vec![Event::Function(FunctionEvent::Updated {
        spec: spec.clone(),
    })];
    let Some(function) = ask.world.function(ask.key) else {
        return events;
    };
    let because = match function.number {
        0 => Because::Created,
        _ => Because::Updated,
    };
    if !function.covers(spec)
        && let Ok(wanted) = wanted(ask.world, ask.key, spec)
    {
        events.push(load(function.id, function.number + 1, wanted, because));
    }
    events
}

fn retry(ask: &Ask<'_>) -> Result<Vec<Event>, Rejection> {
    let Some(function) = ask.world.function(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if !matches!(function.stage, Stage::Failed { .. }) {
        return Err(refuse::not_ready(ask.key, "nothing has failed"));
    }
    let wanted = wanted(ask.world, ask.key, &function.spec)
        .map_err(|missing| refuse::not_ready(ask.key, &missing.join("; ")))?;
    let number = function.number + 1;
    Ok(vec![load(function.id, number, wanted, Because::Retried)])
}

fn check(ask: &Ask<'_>, spec: &FunctionSpec) -> Result<(), Rejection> {
    check_source(&spec.source)?;
    check_policy(&spec.runs)?;
    check_workers(&spec.workers)?;
    for (field, schema) in [
        ("schema.in", &spec.schema.input),
        ("schema.out", &spec.schema.output),
    ] {
        if schema.is_null() {
            continue;
        }
        if let Err(reason) = schema::compile(schema) {
            return Err(Rejection::new(
                Code::InvalidSchema,
                format!("{field}: {reason}"),
            ));
        }
    }
    let key = ask.key;
    refuse::unless_going(ask.world, &key.neighbour(Kind::Image, &spec.image))?;
    for secret in &spec.secrets {
        refuse::unless_going(ask.world, &key.neighbour(Kind::Secret, secret))?;
    }
    let mut instances = BTreeSet::new();
    for used in &spec.services {
        let instance = &used.instance;
        refuse::unless_going(ask.world, &key.neighbour(Kind::ServiceInstance, instance))?;
        if !instances.insert(instance) {
            let why =
                format!("service instance {instance} is named twice; name one of its bindings");
            return Err(refuse::invalid("services", why));
        }
    }
    Ok(())
}

fn check_policy(policy: &RunPolicy) -> Result<(), Rejection> {
    if policy.attempts > ATTEMPTS_MAX {
        let why = format!("at most {ATTEMPTS_MAX}");
        return Err(refuse::invalid("runs.attempts", why));
    }
    for (field, ms) in [
        ("runs.backoff", policy.backoff),
        ("runs.backoffMax", policy.backoff_max),
    ] {
        if ms > BACKOFF_MS_MAX {
            let why = format!("at most {BACKOFF_MS_MAX} milliseconds, which are 24 hours");
            return Err(refuse::invalid(field, why));
        }
    }
    Ok(())
}

fn check_workers(workers: &WorkerScale) -> Result<(), Rejection> {
    let WorkerScale { min, max, .. } = *workers;
    if max > 0 && min > max {
        let why = format!("{min} are to be kept, but {max} at most (workers.max)");
        return Err(refuse::invalid("workers.min", why));
    }
    Ok(())
}

fn check_source(source: &Source) -> Result<(), Rejection> {
    let size = match source {
        Source::File { name, text } => {
            let inside = name.contains(['/', '\\', '\0']) || name == "." || name == "..";
            if name.is_empty() || inside {
                let why = "the name of one file, without directories, such as hello.py";
                return Err(refuse::invalid("source.name", why));
            }
            text.len()
        }
        Source::Archive(base64) => base64.len(),
        Source::Blob(digest) => {
            if !is_sha256(digest) {
                let why = "a digest is 64 hexadecimal digits in lower case";
                return Err(refuse::invalid("source.blob", why));
            }
            0
        }
    };
    if size == 0 && !matches!(source, Source::Blob(_)) {
        return Err(refuse::invalid("source", "it is empty"));
    }
    if size > SOURCE_CHARS_MAX {
        let why = format!(
            "a document carries at most {SOURCE_CHARS_MAX} bytes of source; put a larger one \
             into the blob store and name its digest"
        );
        return Err(Rejection::new(Code::TooLarge, format!("source: {why}")));
    }
    Ok(())
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What a revision is made of besides the document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    language: String,
    layer: Option<String>,
    root: Option<Root>,
    endpoints: Vec<Endpoint>,
}

/// What a revision would be made of now, or all that is missing.
pub(crate) fn wanted(
    world: &World,
    key: &ResourceKey,
    spec: &FunctionSpec,
) -> Result<Wanted, Vec<String>> {
    let mut missing = Vec::new();
    let image = built(world, key, &spec.image)
        .map_err(|reason| missing.push(reason))
        .ok();
    for secret in &spec.secrets {
        if let Err(reason) = stored(world, key, secret) {
            missing.push(reason);
        }
    }
    for used in &spec.services {
        if let Service::NotReady(_, reason) = service(world, key, used) {
            missing.push(reason);
        }
    }
    let endpoints = endpoints(world, key, spec);
    match image {
        Some((base, layer)) if missing.is_empty() => Ok(Wanted {
            language: base.language,
            layer,
            root: base.root,
            endpoints,
        }),
        Some(_) | None => Err(missing),
    }
}

/// Where the services of a function listen now, as far as they are bound.
pub(crate) fn endpoints(world: &World, key: &ResourceKey, spec: &FunctionSpec) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for used in &spec.services {
        if let Service::Bound(bound) = service(world, key, used) {
            endpoints.extend(bound.endpoints.iter().cloned());
        }
    }
    endpoints.sort();
    endpoints.dedup();
    endpoints
}

fn built(
    world: &World,
    key: &ResourceKey,
    name: &Name,
) -> Result<(image::Base, Option<String>), String> {
    let Some(image) = world.image(&key.neighbour(Kind::Image, name)) else {
        return Err(format!("image {name} does not exist yet"));
    };
    match &image.stage {
        image::Stage::Built { base, layer } => Ok((base.clone(), layer.clone())),
        image::Stage::Waiting => Err(format!("image {name} waits for its base image")),
        image::Stage::Building { .. } => Err(format!("image {name} is being built")),
        image::Stage::Failed { reason, .. } => Err(format!("image {name} is in error: {reason}")),
    }
}

/// Whether a secret is there, or the binding of the instance that it is named by.
pub(crate) fn stored(world: &World, key: &ResourceKey, name: &Name) -> Result<(), String> {
    if world.secret(&key.neighbour(Kind::Secret, name)).is_some() {
        return Ok(());
    }
    let instance = as_instance(name).and_then(|id| world.instance_key(id));
    match instance.filter(|instance| instance.org == key.org) {
        Some(instance) => match shared(world, instance) {
            Service::Bound(_) => Ok(()),
            Service::Unbindable => Err(format!("service instance {name} has no credentials")),
            Service::NotReady(_, reason) => Err(reason),
        },
        None => Err(format!("secret {name} does not exist yet")),
    }
}

fn load(id: FunctionId, number: u32, wanted: Wanted, because: Because) -> Event {
    Event::Function(FunctionEvent::LoadRequested {
        revision: RevisionId::derived(format_args!("{id}:revision:{number}")),
        number,
        language: wanted.language,
        layer: wanted.layer,
        root: wanted.root,
        endpoints: wanted.endpoints,
        because,
    })
}

fn made_of(load: &FunctionLoad, wanted: &Wanted) -> bool {
    load.language == wanted.language
        && load.layer == wanted.layer
        && load.root == wanted.root
        && load.endpoints == wanted.endpoints
}

pub(crate) fn next(world: &World, key: &ResourceKey) -> Vec<Event> {
    let Some(function) = world.function(key) else {
        return Vec::new();
    };
    let Ok(wanted) = wanted(world, key, &function.spec) else {
        return Vec::new();
    };
    let because = match function.newest() {
        Some(newest) if made_of(newest, &wanted) => return Vec::new(),
        Some(newest) if newest.endpoints == wanted.endpoints => Because::Image,
        Some(_) => Because::Services,
        None => function.because,
    };
    vec![load(function.id, function.number + 1, wanted, because)]
}

/// The bindings of its own that it lacks, each with its instance.
pub(crate) fn own_bindings<'a>(
    world: &'a World,
    key: &'a ResourceKey,
    function: &'a Function,
) -> impl Iterator<Item = (ResourceKey, &'a Instance, &'a Name)> {
    let routed = function.routed().flat_map(|own| &own.load.spec.services);
    let all = function.spec.services.iter().chain(routed);
    let mut seen = BTreeSet::new();
    let own = all.filter(move |used| {
        used.binding == BindingChoice::Own && seen.insert(used.binding_name(&key.name))
    });
    own.filter_map(move |used| {
        let binding = key.neighbour(Kind::ServiceBinding, &used.binding_name(&key.name));
        let instance = world.instance(&key.neighbour(Kind::ServiceInstance, &used.instance))?;
        let lacks = super::binding::is_wanted(instance) && world.binding(&binding).is_none();
        lacks.then_some((binding, instance, &used.instance))
    })
}

/// What a waiting function waits for.
pub(crate) fn waits_for(world: &World, key: &ResourceKey, function: &Function) -> Vec<String> {
    wanted(world, key, &function.spec).err().unwrap_or_default()
}

pub(crate) fn learn(world: &World, key: &ResourceKey, outcome: &FunctionOutcome) -> Decision {
    let Some(function) = world.function(key) else {
        return Decision::nothing();
    };
    let event = match outcome {
        FunctionOutcome::Loaded { revision } if function.awaited(*revision).is_some() => {
            FunctionEvent::Loaded {
                revision: *revision,
            }
        }
        FunctionOutcome::Failed { revision, reason } if function.awaited(*revision).is_some() => {
            FunctionEvent::LoadFailed {
                revision: *revision,
                reason: reason.clone(),
            }
        }
        FunctionOutcome::Loaded { .. } | FunctionOutcome::Failed { .. } => {
            return Decision::nothing();
        }
    };
    Decision::of(key, vec![Event::Function(event)])
}
