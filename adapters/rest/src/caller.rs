//! Who sends a request, and in which organization it is meant.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use engine_model::{Actor, Code, CommandId, OrgName, Seq};
use http::HeaderMap;
use http::request::Parts;
use uuid::Uuid;

use crate::app::App;
use crate::ports::{Identity, Scope};
use crate::refusal::Refusal;

/// Names the organization of a request.
pub(crate) const ORG: &str = "x-dispatch-org";
/// Names the command of a request, so that a repeat is known. Every answer to a command bears it.
pub(crate) const COMMAND_ID: &str = "x-dispatch-command-id";
/// The position that an answer must at least show, and, in an answer, the one that it shows.
pub(crate) const AT_LEAST: &str = "x-dispatch-at-least";

/// Who sends a request, and in which organization it is meant.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who the token says it is. What a client says of itself is not heard.
    pub(crate) actor: Actor,
    /// The organization.
    pub(crate) org: OrgName,
    /// Whether it may act on the installation itself.
    pub(crate) everywhere: bool,
    /// The id of its command: its own choice, else a new one.
    pub(crate) command: CommandId,
    /// What it must at least be shown.
    pub(crate) at_least: Seq,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let identity = parts.extensions.get::<Identity>().cloned();
        let identity = identity.expect("the guard lets nobody in without an identity");
        let headers = &parts.headers;
        let everywhere = identity.scope == Scope::All;
        Ok(Self {
            org: org(headers, identity.scope, app.config.default_org.as_ref())?,
            actor: identity.actor,
            everywhere,
            command: header(headers, COMMAND_ID)?.unwrap_or_else(|| CommandId(Uuid::now_v7())),
            at_least: Seq(header(headers, AT_LEAST)?.unwrap_or_default()),
        })
    }
}

fn header<T: FromStr<Err: Display>>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let bad = |why: &dyn Display| {
        Refusal::new(
            Code::InvalidField,
            format!("the header {name} cannot be read: {why}"),
        )
    };
    let text = value.to_str().map_err(|error| bad(&error))?;
    text.parse().map(Some).map_err(|error: T::Err| bad(&error))
}

/// Whoever belongs to one organization need not name it where a default is known, and may not
/// name another.
fn org(headers: &HeaderMap, scope: Scope, default: Option<&OrgName>) -> Result<OrgName, Refusal> {
    let named = header::<OrgName>(headers, ORG).map_err(|refusal| Refusal {
        code: Code::InvalidName,
        ..refusal
    })?;
    match (named, scope, default) {
        (Some(org), Scope::All, _) => Ok(org),
        (Some(org), Scope::Org(own), _) if org == own => Ok(org),
        (Some(org), Scope::Org(_), _) => {
            let message = format!("this token is not for the organization '{org}'");
            Err(Refusal::new(Code::Forbidden, message))
        }
        (None, Scope::Org(own), Some(_)) => Ok(own),
        (None, Scope::All, Some(default)) => Ok(default.clone()),
        (None, _, None) => {
            let message = "the header X-Dispatch-Org is required: it names the organization";
            Err(Refusal::new(Code::InvalidField, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn resolve(
        named: Option<&str>,
        own: Option<&str>,
        default: Option<&str>,
    ) -> Result<String, Code> {
        let name = |text: &str| OrgName::new(text).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(named) = named {
            headers.insert(ORG, HeaderValue::from_str(named).unwrap());
        }
        let scope = own.map_or(Scope::All, |own| Scope::Org(name(own)));
        let found = org(&headers, scope, default.map(name).as_ref());
        found
            .map(|org| org.to_string())
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_organization_is_the_named_one_within_the_scope() {
        assert_eq!(resolve(Some("a"), None, None), Ok("a".into()));
        assert_eq!(resolve(Some("a"), Some("a"), Some("d")), Ok("a".into()));
        assert_eq!(
            resolve(Some("b"), Some("a"), Some("b")),
            Err(Code::Forbidden)
        );
        assert_eq!(resolve(Some("a.b"), None, None), Err(Code::InvalidName));
    }

    #[test]
    fn a_default_stands_in_for_what_is_not_said() {
        assert_eq!(resolve(None, None, Some("d")), Ok("d".into()));
        assert_eq!(resolve(None, Some("a"), Some("d")), Ok("a".into()));
        assert_eq!(resolve(None, None, None), Err(Code::InvalidField));
        assert_eq!(resolve(None, Some("a"), None), Err(Code::InvalidField));
    }
}
