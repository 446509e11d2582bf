//! Service brokers.

use engine_model::spec::{BrokerSpec, Scope, Spec};
use engine_model::{BrokerEvent, Command, Event, Rejection, ResourceKey};

use super::{Ask, Decision, delete};
use crate::aggregate::broker::Catalog;
use crate::refuse;
use crate::world::World;

pub(crate) fn ask(ask: &Ask<'_>) -> Result<Decision, Rejection> {
    let event = match ask.command {
        Command::Create(Spec::ServiceBroker(spec)) => {
            ask.must_be_free()?;
            check(spec)?;
            BrokerEvent::Registered {
                id: ask.new_id(),
                url: trimmed(&spec.url),
                credentials: super::secret::sealed(ask)?,
                ca: spec.ca.clone(),
                scope: scope(ask, spec)?,
                limits: spec.limits,
                tags: spec.tags.clone(),
            }
        }
        Command::Update(Spec::ServiceBroker(spec)) => {
            ask.must_be_there()?;
            check(spec)?;
            BrokerEvent::Updated {
                url: trimmed(&spec.url),
                credentials: super::secret::sealed(ask)?,
                ca: spec.ca.clone(),
                scope: scope(ask, spec)?,
                limits: spec.limits,
                tags: spec.tags.clone(),
            }
        }
        Command::Refresh => {
            ask.must_be_there()?;
            return Ok(by_hand(ask));
        }
        Command::Retry => {
            ask.must_be_there()?;
            let failed = ask.world.broker(ask.key).is_some_and(|broker| {
                matches!(broker.catalog, Catalog::Failed { .. }) || broker.circuit.is_some()
            });
            if !failed {
                return Err(refuse::not_ready(ask.key, "nothing has failed"));
            }
            return Ok(by_hand(ask));
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_)
        | Command::Update(_)
        | Command::Abandon { .. }
        | Command::Rotate
        | Command::Adopt { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => {
            return Err(ask.unknown());
        }
    };
    Ok(Decision::of(ask.key, vec![Event::ServiceBroker(event)]))
}

/// Someone wants the broker to be asked now: an open circuit is no reason not to.
fn by_hand(ask: &Ask<'_>) -> Decision {
    let open = ask
        .world
        .broker(ask.key)
        .is_some_and(|broker| broker.circuit.is_some());
    let closed = open.then_some(BrokerEvent::CircuitClosed);
    let events = closed.into_iter().chain([BrokerEvent::RefreshRequested]);
    Decision::of(ask.key, events.map(Event::ServiceBroker).collect())
}

/// The organization whose brokers may serve all others.
const COMMON_ORG: &str = "dispatch";

/// Who may use its classes. A broker is given others' parameters, so that not everyone may offer
/// to everyone; nor may its classes be withdrawn from those who use them.
fn scope(ask: &Ask<'_>, spec: &BrokerSpec) -> Result<Scope, Rejection> {
    let org = &ask.key.org;
    if spec.scope == Scope::All && org.as_str() != COMMON_ORG {
        let why = format!(
            "'all' can be given in organization {COMMON_ORG} only, not in {org}; use 'organization'"
        );
        return Err(refuse::invalid("scope", &why));
    }
    if spec.scope == Scope::Organization {
        let elsewhere: Vec<_> = delete::users(ask.world, ask.key)
            .into_iter()
            .filter(|user| user.org != *org)
            .collect();
        if !elsewhere.is_empty() {
            return Err(refuse::in_use(ask.key, &elsewhere));
        }
    }
    Ok(spec.scope)
}

/// Its catalog was found stale: it is read, unless that is under way.
pub(crate) fn refresh(world: &World, key: &ResourceKey) -> Decision {
    match world.broker(key) {
        Some(broker) if !broker.deleting && !matches!(broker.catalog, Catalog::Reading { .. }) => {
            let event = Event::ServiceBroker(BrokerEvent::RefreshRequested);
            Decision::of(key, vec![event])
        }
        Some(_) | None => Decision::nothing(),
    }
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

fn check(spec: &BrokerSpec) -> Result<(), Rejection> {
    let url = &spec.url;
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return Err(refuse::invalid("url", "begins with http:// or https://"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || url.contains(char::is_whitespace) {
        return Err(refuse::invalid(
            "url",
            "names a host, as in https://broker.example:8443",
        ));
    }
    if host.contains('@') {
        let why =
            "carries no user name or password; put them into the credentials, which are sealed";
        return Err(refuse::invalid("url", why));
    }
    if rest.contains(['?', '#']) {
        return Err(refuse::invalid(
            "url",
            "is the URL below which /v2/catalog lies, without a query",
        ));
    }
    if !spec.ca.is_empty() && !spec.ca.contains("-----BEGIN CERTIFICATE-----") {
        return Err(refuse::invalid("ca", "holds PEM certificates, or nothing"));
    }
    Ok(())
}
