//! Organizations, service accounts and applications.

use engine_model::spec::Spec;
use engine_model::{
    ApplicationEvent, Command, Event, OrganizationEvent, Rejection, ServiceAccountEvent,
};

use super::function::is_sha256;
use super::{Ask, Decision, delete};
use crate::refuse;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let event = match ask.command {
        Command::Create(spec) => {
            ask.must_be_free()?;
            create(ask, spec)?
        }
        Command::Update(spec) => {
            ask.must_be_there()?;
            update(ask, spec)?
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Refresh
        | Command::Retry
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => return Err(ask.unknown()),
    };
    Ok(Decision::of(ask.key, vec![event]))
}

fn create(ask: &Ask<'_>, spec: &Spec) -> Result<Event, Rejection> {
    let id = ask.new_id();
    match spec.clone() {
        Spec::Organization(spec) => {
            Ok(Event::Organization(OrganizationEvent::Created { id, spec }))
        }
        Spec::ServiceAccount(spec) => {
            check_token(&spec.token_sha256)?;
            Ok(Event::ServiceAccount(ServiceAccountEvent::Created {
                id,
                spec,
            }))
        }
        Spec::Application(spec) => Ok(Event::Application(ApplicationEvent::Created { id, spec })),
        Spec::BaseImage(_)
        | Spec::Image(_)
        | Spec::Function(_)
        | Spec::Secret(_)
        | Spec::ServiceBroker(_)
        | Spec::ServiceInstance(_)
        | Spec::ServiceBinding(_)
        | Spec::API(_)
        | Spec::Schedule(_) => Err(ask.unknown()),
    }
}

fn update(ask: &Ask<'_>, spec: &Spec) -> Result<Event, Rejection> {
    match spec.clone() {
        Spec::ServiceAccount(spec) => {
            check_token(&spec.token_sha256)?;
            Ok(Event::ServiceAccount(ServiceAccountEvent::Updated { spec }))
        }
        Spec::Application(spec) => Ok(Event::Application(ApplicationEvent::Updated { spec })),
        Spec::Organization(_) => Err(refuse::read_only(
            ask.key,
            "an organization has nothing that could be changed",
        )),
        Spec::BaseImage(_)
        | Spec::Image(_)
        | Spec::Function(_)
        | Spec::Secret(_)
        | Spec::ServiceBroker(_)
        | Spec::ServiceInstance(_)
        | Spec::ServiceBinding(_)
        | Spec::API(_)
        | Spec::Schedule(_) => Err(ask.unknown()),
    }
}

fn check_token(sha256: &str) -> Result<(), Rejection> {
    if is_sha256(sha256) {
        return Ok(());
    }
    let why = "the SHA-256 of the token, as 64 hexadecimal digits in lower case; never the token";
    Err(refuse::invalid("tokenSha256", why))
}
