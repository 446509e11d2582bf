//! Service brokers.

use engine_model::spec::{BrokerSpec, Spec};
use engine_model::{BrokerEvent, Command, Event, Rejection};

use super::{Ask, Decision, delete};
use crate::aggregate::broker::Catalog;
use crate::refuse;

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
                tags: spec.tags.clone(),
            }
        }
        Command::Refresh => {
            ask.must_be_there()?;
            BrokerEvent::RefreshRequested
        }
        Command::Retry => {
            ask.must_be_there()?;
            let failed = ask
                .world
                .broker(ask.key)
                .is_some_and(|broker| matches!(broker.catalog, Catalog::Failed { .. }));
            if !failed {
                return Err(refuse::not_ready(ask.key, "nothing has failed"));
            }
            BrokerEvent::RefreshRequested
        }
        Command::Delete(deletion) => return delete::ask(ask.world, ask.key, deletion.cascade),
        Command::Create(_) | Command::Update(_) | Command::Abandon { .. } => {
            return Err(ask.unknown());
        }
    };
    Ok(Decision::of(ask.key, vec![Event::ServiceBroker(event)]))
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
