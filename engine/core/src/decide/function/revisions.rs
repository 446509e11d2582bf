//! Going back to an earlier revision's document, and dividing runs among revisions.

use std::collections::BTreeSet;

use engine_model::spec::FunctionSpec;
use engine_model::{Because, Event, FunctionEvent, Rejection, SHARES_MAX, Share};

use super::{Ask, check, load, stored, wanted};
use crate::aggregate::function::{Function, Revision, makes_up_all};
use crate::refuse;

/// A new revision with the document of revision `number`, or of the newest loaded one whose
/// document is another than the present one.
pub(super) fn rollback(ask: &Ask<'_>, number: Option<u32>) -> Result<Vec<Event>, Rejection> {
    let Some(function) = ask.world.function(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    let earlier = match number {
        Some(number) => named(function, "revision", number)?,
        None => previous(function).ok_or_else(|| {
            let why = "no revision with another document is kept that was loaded";
            refuse::not_ready(ask.key, why)
        })?,
    };
    let (to, spec) = (earlier.number, &earlier.load.spec);
    if function.covers(spec) {
        let why = format!(
            "revision {to} has the document that the function has already; `dispatch route` sends \
             runs to an earlier revision as it was built then"
        );
        return Err(refuse::not_ready(ask.key, &why));
    }
    check(ask, spec)?;
    let spec = FunctionSpec::clone(spec);
    let wanted = wanted(ask.world, ask.key, &spec);
    let mut events = vec![Event::Function(FunctionEvent::RolledBack { to, spec })];
    if let Ok(wanted) = wanted {
        let because = Because::RolledBack { to };
        events.push(load(function.id, function.number + 1, wanted, because));
    }
    Ok(events)
}

fn previous(function: &Function) -> Option<&Revision> {
    let mut newest_first = function.loaded().rev();
    newest_first.find(|own| own.load.spec != function.spec)
}

/// A revision that can be called.
fn named<'a>(function: &'a Function, field: &str, number: u32) -> Result<&'a Revision, Rejection> {
    function.loaded_as(number).ok_or_else(|| {
        let kept: Vec<String> = function
            .loaded()
            .map(|own| own.number.to_string())
            .collect();
        let kept = match kept.as_slice() {
            [] => "none was loaded yet".to_owned(),
            some => format!("those that were loaded and are kept: {}", some.join(", ")),
        };
        refuse::invalid(
            field,
            format!("there is no revision {number} to call; {kept}"),
        )
    })
}

/// Divides runs among revisions.
pub(super) fn route(ask: &Ask<'_>, shares: &[Share]) -> Result<Vec<Event>, Rejection> {
    let Some(function) = ask.world.function(ask.key) else {
        return Err(refuse::not_found(ask.key));
    };
    if shares.len() > SHARES_MAX {
        let why = format!("runs are divided among {SHARES_MAX} revisions at most");
        return Err(refuse::invalid("shares", why));
    }
    if !shares.is_empty() && !makes_up_all(shares) {
        let why = "each revision is named once, with a share of 1 to 100, and all make up 100";
        return Err(refuse::invalid("shares", why));
    }
    let mut secrets = BTreeSet::new();
    for share in shares {
        let revision = named(function, "shares", share.revision)?;
        check(ask, &revision.load.spec)?;
        secrets.extend(&revision.load.spec.secrets);
    }
    // What it had when it was built may be gone since.
    for secret in secrets {
        if let Err(missing) = stored(ask.world, ask.key, secret) {
            return Err(refuse::not_ready(ask.key, &missing));
        }
    }
    let shares = shares.to_vec();
    Ok(vec![Event::Function(FunctionEvent::Routed { shares })])
}
