//! Base images.

use engine_model::spec::{BaseImageSpec, Spec};
use engine_model::{BaseImageEvent, BaseImageOutcome, Command, Event, Rejection, ResourceKey};

use super::{Ask, Decision, delete};
use crate::aggregate::base_image::Stage;
use crate::refuse;
use crate::world::World;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let event = match ask.command {
        Command::Create(Spec::BaseImage(spec)) => {
            ask.must_be_free()?;
            check(spec)?;
            BaseImageEvent::Created {
                id: ask.new_id(),
                spec: spec.clone(),
            }
        }
        Command::Update(Spec::BaseImage(spec)) => {
            ask.must_be_there()?;
            check(spec)?;
            BaseImageEvent::Updated { spec: spec.clone() }
        }
        Command::Retry => {
            ask.must_be_there()?;
            match ask.world.base_image(ask.key) {
                Some(state) if matches!(state.stage, Stage::Failed { .. }) => {
                    BaseImageEvent::Updated {
                        spec: state.spec.clone(),
                    }
                }
                Some(_) | None => return Err(refuse::not_ready(ask.key, "nothing has failed")),
            }
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
    Ok(Decision::of(ask.key, vec![Event::BaseImage(event)]))
}

fn check(spec: &BaseImageSpec) -> Result<(), Rejection> {
    if spec.language.trim().is_empty() {
        return Err(refuse::invalid(
            "language",
            "name a language pack, such as python3 or nodejs",
        ));
    }
    Ok(())
}

pub(crate) fn learn(world: &World, key: &ResourceKey, outcome: &BaseImageOutcome) -> Decision {
    let Some(state) = world.base_image(key) else {
        return Decision::nothing();
    };
    let event = match outcome {
        BaseImageOutcome::Prepared {
            generation,
            version,
            digest,
        } if state.awaits(*generation) => BaseImageEvent::Prepared {
            generation: *generation,
            version: version.clone(),
            digest: digest.clone(),
        },
        BaseImageOutcome::Failed { generation, reason } if state.awaits(*generation) => {
            BaseImageEvent::PrepareFailed {
                generation: *generation,
                reason: reason.clone(),
            }
        }
        BaseImageOutcome::Prepared { .. } | BaseImageOutcome::Failed { .. } => {
            return Decision::nothing();
        }
    };
    Decision::of(key, vec![Event::BaseImage(event)])
}
