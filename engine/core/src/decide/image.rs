//! Images: built when their base image is ready, and again when its language or root changes.

use engine_model::spec::{ImageSpec, Spec};
use engine_model::{Command, Event, ImageEvent, ImageOutcome, Kind, Rejection, ResourceKey};

use super::{Ask, Decision, delete};
use crate::aggregate::base_image;
use crate::aggregate::image::{Base, Stage};
use crate::refuse;
use crate::world::World;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let events = match ask.command {
        Command::Create(Spec::Image(spec)) => {
            ask.must_be_free()?;
            check(spec)?;
            let created = ImageEvent::Created {
                id: ask.new_id(),
                spec: spec.clone(),
            };
            with_build(ask, created, spec, 1)
        }
        Command::Update(Spec::Image(spec)) => {
            ask.must_be_there()?;
            check(spec)?;
            let updated = ImageEvent::Updated { spec: spec.clone() };
            let build = ask.world.image(ask.key).map_or(1, |image| image.build + 1);
            with_build(ask, updated, spec, build)
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

fn with_build(ask: &Ask<'_>, first: ImageEvent, spec: &ImageSpec, build: u32) -> Vec<Event> {
    let mut events = vec![Event::Image(first)];
    if let Ok(base) = base(ask.world, ask.key, spec) {
        events.push(requested(build, base));
    }
    events
}

fn retry(ask: &Ask<'_>) -> Result<Vec<Event>, Rejection> {
    let Some(image) = ask.world.image(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if !matches!(image.stage, Stage::Failed { .. }) {
        return Err(refuse::not_ready(ask.key, "nothing has failed"));
    }
    let base = base(ask.world, ask.key, &image.spec)
        .map_err(|missing| refuse::not_ready(ask.key, &missing))?;
    Ok(vec![requested(image.build + 1, base)])
}

fn requested(build: u32, base: Base) -> Event {
    Event::Image(ImageEvent::BuildRequested {
        build,
        language: base.language,
        root: base.root,
    })
}

fn check(spec: &ImageSpec) -> Result<(), Rejection> {
    match spec
        .system_dependencies
        .packages
        .iter()
        .position(|package| package.name.is_empty())
    {
        Some(index) => Err(refuse::invalid(
            &format!("systemDependencies.packages[{index}].name"),
            "a package has a name",
        )),
        None => Ok(()),
    }
}

/// What the base image comes to, or what is missing of it.
pub(crate) fn base(world: &World, key: &ResourceKey, spec: &ImageSpec) -> Result<Base, String> {
    let name = &spec.base_image_name;
    let Some(base) = world.base_image(&key.neighbour(Kind::BaseImage, name)) else {
        return Err(format!("base image {name} does not exist yet"));
    };
    match &base.stage {
        base_image::Stage::Prepared { root } => Ok(Base {
            language: base.spec.language.clone(),
            root: root.clone(),
        }),
        base_image::Stage::Preparing { .. } => Err(format!("base image {name} is being prepared")),
        base_image::Stage::Failed { reason } => {
            Err(format!("base image {name} is in error: {reason}"))
        }
    }
}

pub(crate) fn next(world: &World, key: &ResourceKey) -> Vec<Event> {
    let Some(image) = world.image(key) else {
        return Vec::new();
    };
    let Ok(wanted) = base(world, key, &image.spec) else {
        return Vec::new();
    };
    let wants = match &image.stage {
        Stage::Waiting => true,
        Stage::Building { base, .. } | Stage::Built { base, .. } | Stage::Failed { base, .. } => {
            *base != wanted
        }
    };
    if wants {
        vec![requested(image.build + 1, wanted)]
    } else {
        Vec::new()
    }
}

pub(crate) fn learn(world: &World, key: &ResourceKey, outcome: &ImageOutcome) -> Decision {
    let Some(image) = world.image(key) else {
        return Decision::nothing();
    };
    let event = match outcome {
        ImageOutcome::Built {
            build,
            layer,
            bytes,
            log,
        } if image.awaited(*build).is_some() => ImageEvent::Built {
            build: *build,
            layer: layer.clone(),
            bytes: *bytes,
            log: log.clone(),
        },
        ImageOutcome::Failed { build, reason, log } if image.awaited(*build).is_some() => {
            ImageEvent::BuildFailed {
                build: *build,
                reason: reason.clone(),
                log: log.clone(),
            }
        }
        ImageOutcome::Built { .. } | ImageOutcome::Failed { .. } => return Decision::nothing(),
    };
    Decision::of(key, vec![Event::Image(event)])
}
