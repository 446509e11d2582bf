//! HTTP endpoints: served when their function is.

use engine_model::spec::{ApiSpec, Spec};
use engine_model::{ApiEvent, ApiOutcome, Command, Event, Kind, Rejection, ResourceKey};

use super::{Ask, Decision, delete};
use crate::aggregate::api::Stage;
use crate::refuse;
use crate::world::World;

/// Methods that a gateway knows.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let events = match ask.command {
        Command::Create(Spec::API(spec)) => {
            ask.must_be_free()?;
            check(spec)?;
            let created = ApiEvent::Created {
                id: ask.new_id(),
                spec: spec.clone(),
            };
            with_serve(ask, created, spec, 1)
        }
        Command::Update(Spec::API(spec)) => {
            ask.must_be_there()?;
            check(spec)?;
            let generation = ask.world.api(ask.key).map_or(1, |api| api.generation + 1);
            let updated = ApiEvent::Updated { spec: spec.clone() };
            with_serve(ask, updated, spec, generation)
        }
        Command::Retry => {
            ask.must_be_there()?;
            retry(ask)?
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_)
        | Command::Update(_)
        | Command::Refresh
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => {
            return Err(ask.unknown());
        }
    };
    Ok(Decision::of(ask.key, events))
}

fn with_serve(ask: &Ask<'_>, first: ApiEvent, spec: &ApiSpec, generation: u32) -> Vec<Event> {
    let mut events = vec![Event::API(first)];
    if missing(ask.world, ask.key, spec).is_none() {
        events.push(Event::API(ApiEvent::ServeRequested { generation }));
    }
    events
}

fn retry(ask: &Ask<'_>) -> Result<Vec<Event>, Rejection> {
    let Some(api) = ask.world.api(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if !matches!(api.stage, Stage::Failed { .. }) {
        return Err(refuse::not_ready(ask.key, "nothing has failed"));
    }
    let generation = api.generation + 1;
    Ok(vec![Event::API(ApiEvent::ServeRequested { generation })])
}

fn check(spec: &ApiSpec) -> Result<(), Rejection> {
    if spec.uris.is_empty() {
        return Err(refuse::invalid(
            "uris",
            "name at least one path, such as /hello",
        ));
    }
    for uri in &spec.uris {
        if !uri.starts_with('/') || uri.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(refuse::invalid(
                "uris",
                "each path begins with / and has no spaces",
            ));
        }
        if uri.contains(['?', '#']) {
            return Err(refuse::invalid(
                "uris",
                "a path has no query and no fragment",
            ));
        }
    }
    if let Some(method) = spec
        .methods
        .iter()
        .find(|method| !METHODS.contains(&&***method))
    {
        let method: String = method.chars().take(20).collect();
        let why = format!("{method} is none of {}", METHODS.join(", "));
        return Err(refuse::invalid("methods", why));
    }
    let known = |protocol: &String| protocol == "http" || protocol == "https";
    if spec.protocols.is_empty() || !spec.protocols.iter().all(known) {
        return Err(refuse::invalid("protocols", "http, https or both"));
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if spec
        .hosts
        .iter()
        .any(|host| host.is_empty() || host.contains(bad))
    {
        return Err(refuse::invalid(
            "hosts",
            "host names, as in api.example.com",
        ));
    }
    Ok(())
}

/// What an endpoint waits for.
pub(crate) fn missing(world: &World, key: &ResourceKey, spec: &ApiSpec) -> Option<String> {
    let name = &spec.function;
    match world.function(&key.neighbour(Kind::Function, name)) {
        None => Some(format!("function {name} does not exist yet")),
        Some(function) if function.serving.is_none() => {
            Some(format!("function {name} is not ready yet"))
        }
        Some(_) => None,
    }
}

pub(crate) fn next(world: &World, key: &ResourceKey) -> Vec<Event> {
    let Some(api) = world.api(key) else {
        return Vec::new();
    };
    if api.stage != Stage::Waiting || missing(world, key, &api.spec).is_some() {
        return Vec::new();
    }
    let generation = api.generation + 1;
    vec![Event::API(ApiEvent::ServeRequested { generation })]
}

pub(crate) fn learn(world: &World, key: &ResourceKey, outcome: &ApiOutcome) -> Decision {
    let Some(api) = world.api(key) else {
        return Decision::nothing();
    };
    let event = match outcome {
        ApiOutcome::Served { generation } if api.awaits(*generation) => ApiEvent::Served {
            generation: *generation,
        },
        ApiOutcome::Failed { generation, reason } if api.awaits(*generation) => {
            ApiEvent::ServeFailed {
                generation: *generation,
                reason: reason.clone(),
            }
        }
        ApiOutcome::Served { .. } | ApiOutcome::Failed { .. } => return Decision::nothing(),
    };
    Decision::of(key, vec![Event::API(event)])
}
