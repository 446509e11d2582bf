//! Secrets.

use engine_model::spec::{SecretSpec, Spec};
use engine_model::{Code, Command, Event, Rejection, Sealed, SecretEvent};

use super::{Ask, Decision, delete};
use crate::refuse;
use crate::world::as_instance;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let event = match ask.command {
        Command::Create(Spec::Secret(SecretSpec { tags, .. })) => {
            ask.must_be_free()?;
            // The credentials of an instance are shown as a secret of that name.
            if as_instance(&ask.key.name).is_some_and(|id| ask.world.instance_key(id).is_some()) {
                return Err(refuse::already_exists(ask.key));
            }
            SecretEvent::Created {
                id: ask.new_id(),
                sealed: sealed(ask)?,
                tags: tags.clone(),
            }
        }
        Command::Update(Spec::Secret(SecretSpec { tags, .. })) => {
            ask.must_be_there()?;
            SecretEvent::Updated {
                sealed: sealed(ask)?,
                tags: tags.clone(),
            }
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_)
        | Command::Update(_)
        | Command::Refresh
        | Command::Retry
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => return Err(ask.unknown()),
    };
    Ok(Decision::of(ask.key, vec![Event::Secret(event)]))
}

/// The secret as the vault sealed it.
pub(super) fn sealed(ask: &Ask<'_>) -> Result<Sealed, Rejection> {
    ask.sealed.cloned().ok_or_else(|| {
        let text = "the sealed value was not opened by the vault; seal it to the server's key";
        Rejection::new(Code::CannotUnseal, text)
    })
}
