//! What runs, gateways and workers ask of the world.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_model::broker::BoundCredentials;
use engine_model::spec::ApiSpec;
use engine_model::{
    Code, FunctionId, FunctionLoad, Kind, Name, OrgName, Rejection, ResourceKey, RevisionId,
    RunError, RunErrorKind, RunId, Sealed,
};

use crate::aggregate::function::{Fate, Function};
use crate::service::{Service, service, shared};
use crate::state::State;
use crate::world::{World, as_instance};
use crate::{decide, refuse};

/// All that a run needs, as it is at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// The function.
    pub function: FunctionId,
    /// The revision that it takes.
    pub revision: RevisionId,
    /// The function's name.
    pub name: Name,
    /// What to load when no worker has it.
    pub load: Arc<FunctionLoad>,
    /// The secrets of the function, then those of the request; later ones win.
    pub secrets: Vec<(Name, Sealed)>,
    /// The function's services; those that have no credentials are left out.
    pub services: Vec<BoundService>,
    /// Milliseconds that the run may take; 0 for the node's own limit.
    pub timeout_ms: u64,
}

/// A service that a function is bound to.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundService {
    /// The instance, by name.
    pub name: Name,
    /// Its class: what kind of service it is.
    pub class: String,
    /// Its broker, by name: who provides it.
    pub broker: String,
    /// The credentials.
    pub bound: BoundCredentials,
}

/// Why a run cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such function, or it is not ready.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// The run has failed before it began.
    #[error("{}", .0.message)]
    Error(RunError),
}

/// Plans the run `run` of `function` with `secrets` besides its own. It takes the revision that it
/// was `begun_on`, if that is still kept; otherwise the one that runs are routed to, and always the
/// same one while they are routed so.
///
/// # Errors
/// `Rejection` with `not-found` or `not-ready`; `Error` when a secret is missing or a service is
/// not bound.
pub fn plan_run(
    world: &World,
    org: &OrgName,
    function: &Name,
    secrets: &[Name],
    run: RunId,
    begun_on: Option<RevisionId>,
) -> Result<RunPlan, Refused> {
    let key = ResourceKey::new(org.clone(), Kind::Function, function.clone());
    let Some(state) = world.function(&key) else {
        return Err(refuse::not_found(&key).into());
    };
    let Some(load) = state.of_run(run, begun_on) else {
        let (status, reason) = world
            .status(&key)
            .unwrap_or((engine_model::Status::Creating, vec![]));
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(": {}", reason.join("; "))
        };
        let text = format!(
            "function {function} is not READY but {}{why}",
            status.as_str()
        );
        return Err(Rejection::new(Code::NotReady, text).into());
    };
    let mut opened = Vec::new();
    for name in load.spec.secrets.iter().chain(secrets) {
        opened.push((name.clone(), secret(world, &key, name)?));
    }
    let mut services = Vec::new();
    for used in &load.spec.services {
        match service(world, &key, used) {
            Service::Bound(bound) => {
                services.push(bound_service(world, &key, &used.instance, bound))
            }
            Service::Unbindable => {}
            Service::NotReady(status, reason) => {
                return Err(input_error(format!(
                    "error when retrieving bindings from service manager: failed to get service \
                     bindings current status {}: {reason}",
                    status.as_str()
                )));
            }
        }
    }
    Ok(RunPlan {
        function: state.id,
        revision: load.revision,
        name: function.clone(),
        load: at_present(world, &key, load),
        secrets: opened,
        services,
        timeout_ms: load.spec.timeout,
    })
}

fn bound_service(
    world: &World,
    function: &ResourceKey,
    name: &Name,
    bound: &BoundCredentials,
) -> BoundService {
    let instance = world.instance(&function.neighbour(Kind::ServiceInstance, name));
    let ordered = instance.and_then(|instance| instance.life.attempt());
    BoundService {
        name: name.clone(),
        class: instance.map_or_else(String::new, |instance| instance.wish.class.to_string()),
        broker: ordered.map_or_else(String::new, |attempt| attempt.what.broker.to_string()),
        bound: bound.clone(),
    }
}

/// A secret by name, or the credentials of the instance whose id the name is.
fn secret(world: &World, key: &ResourceKey, name: &Name) -> Result<Sealed, Refused> {
    if let Some(secret) = world.secret(&key.neighbour(Kind::Secret, name)) {
        return Ok(secret.sealed.clone());
    }
    let instance = as_instance(name).and_then(|id| world.instance_key(id));
    if let Some(instance) = instance.filter(|instance| instance.org == key.org)
        && let Service::Bound(bound) = shared(world, instance)
    {
        return Ok(bound.credentials.clone());
    }
    Err(input_error(format!(
        "error when retrieving secrets from secret store: secret {name} does not exist"
    )))
}

fn input_error(message: String) -> Refused {
    Refused::Error(RunError {
        kind: RunErrorKind::InputError,
        message,
        stacktrace: Vec::new(),
    })
}

/// An endpoint to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whose it is.
    pub org: OrgName,
    /// The endpoint's name.
    pub name: Name,
    /// What it matches, and what it calls.
    pub spec: ApiSpec,
}

/// A revision as its workers have to be now: runs may be routed to one whose services have moved
/// since it was loaded, and a sandbox reaches nothing but what it was made for. Workers for other
/// endpoints are kept under an id of their own, which belongs to these.
fn at_present(world: &World, key: &ResourceKey, load: &Arc<FunctionLoad>) -> Arc<FunctionLoad> {
    let endpoints = decide::function::endpoints(world, key, &load.spec);
    if endpoints == load.endpoints {
        return load.clone();
    }
    let places: Vec<String> = endpoints
        .iter()
        .map(|own| format!("{}:{}", own.host, own.port))
        .collect();
    let revision = load.revision;
    Arc::new(FunctionLoad {
        revision: RevisionId::derived(format_args!("{revision}:at:{}", places.join(","))),
        endpoints,
        ..(**load).clone()
    })
}

/// The endpoints to be served: those that are enabled and whose function is there, by name.
#[must_use]
pub fn routes(world: &World) -> Vec<Route> {
    let mut routes: Vec<Route> = world
        .states()
        .filter_map(|(key, state)| match state {
            State::Api(api) if api.spec.enabled => {
                let function = key.neighbour(Kind::Function, &api.spec.function);
                world.function(&function).map(|_| Route {
                    org: key.org.clone(),
                    name: key.name.clone(),
                    spec: api.spec.clone(),
                })
            }
            _ => None,
        })
        .collect();
    routes.sort_by(|a, b| (&a.org, &a.name).cmp(&(&b.org, &b.name)));
    routes
}

/// The revisions that have traffic now, for a worker that starts.
#[must_use]
pub fn loads(world: &World) -> Vec<(ResourceKey, Arc<FunctionLoad>)> {
    let of = |function: &Function| function.with_traffic().into_iter().cloned().collect();
    let mut loads = by_function(world, of);
    for (key, load) in &mut loads {
        *load = at_present(world, key, load);
    }
    loads
}

/// Every revision that runs may still be routed to, or go back to: what these are made of is to
/// stay, in the blob store as well.
#[must_use]
pub fn kept(world: &World) -> Vec<(ResourceKey, Arc<FunctionLoad>)> {
    let of = |function: &Function| {
        let kept = function.revisions.iter();
        let kept = kept.filter(|own| matches!(own.fate, Fate::Loaded | Fate::Loading));
        kept.map(|own| own.load.clone()).collect()
    };
    by_function(world, of)
}

fn by_function(
    world: &World,
    of: impl Fn(&Function) -> Vec<Arc<FunctionLoad>>,
) -> Vec<(ResourceKey, Arc<FunctionLoad>)> {
    let mut loads = Vec::new();
    for (key, state) in world.states() {
        if let State::Function(function) = state {
            let own = of(function).into_iter();
            loads.extend(own.map(|load| ((**key).clone(), load)));
        }
    }
    loads.sort_by(|a, b| a.0.cmp(&b.0));
    loads
}

/// The revisions whose workers are of use: those that have traffic, are the newest loaded one, or
/// are being loaded.
#[must_use]
pub fn active(world: &World) -> BTreeSet<RevisionId> {
    let mut active = BTreeSet::new();
    for (key, state) in world.states() {
        if let State::Function(function) = state {
            for load in function.of_use() {
                active.insert(load.revision);
                active.insert(at_present(world, key, load).revision);
            }
        }
    }
    active
}
