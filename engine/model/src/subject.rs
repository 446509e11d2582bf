//! The one place that builds and parses subjects.

use crate::{Alarm, CommandId, Kind, Name, OrgName, ResourceKey, RunId};

/// All commands.
pub const COMMANDS: &str = "dispatch.cmd.>";
/// All commits.
pub const EVENTS: &str = "dispatch.evt.>";
/// All run commands, and all requests to end runs.
pub const RUN_COMMANDS: &str = "dispatch.runcmd.>";
/// All run commands.
pub const RUN_REQUESTS: &str = "dispatch.runcmd.*.*.*";
/// All requests to end runs.
pub const RUN_CANCELS: &str = "dispatch.runcmd.*.*.*.cancel";
/// All runs that wait for room.
pub const WAITING: &str = "dispatch.waiting.>";
/// All events of runs.
pub const RUNS: &str = "dispatch.run.>";
/// All schedules.
pub const TIMERS: &str = "dispatch.timer.>";
/// All schedules that have fired.
pub const DUE: &str = "dispatch.due.>";
/// All refusals.
pub const REJECTED: &str = "dispatch.rejected.>";
/// The lines of all runs that are under way.
pub const LOGS: &str = "dispatch.logs.>";
/// All that could not be processed.
pub const DEAD: &str = "dispatch.dead.>";
/// Says which run is to end, to whichever node carries it out; never stored.
pub const CANCELS: &str = "dispatch.signal.cancel";
/// The query service.
pub const QUERY: &str = "dispatch.query";

/// `dispatch.cmd.<org>.<kind>.<name>`
#[must_use]
pub fn command(key: &ResourceKey) -> String {
    of_key("dispatch.cmd", key)
}

/// `dispatch.evt.<org>.<kind>.<name>`
#[must_use]
pub fn event(key: &ResourceKey) -> String {
    of_key("dispatch.evt", key)
}

/// `dispatch.timer.<org>.<kind>.<name>.<what>`
#[must_use]
pub fn timer(key: &ResourceKey, alarm: Alarm) -> String {
    format!("{}.{}", of_key("dispatch.timer", key), alarm.token())
}

/// `dispatch.due.<org>.<kind>.<name>.<what>`
#[must_use]
pub fn due(key: &ResourceKey, alarm: Alarm) -> String {
    format!("{}.{}", of_key("dispatch.due", key), alarm.token())
}

/// `dispatch.runcmd.<org>.<function>.<run id>`
#[must_use]
pub fn run_command(org: &OrgName, function: &Name, run: RunId) -> String {
    format!("dispatch.runcmd.{org}.{function}.{run}")
}

/// `dispatch.runcmd.<org>.<function>.<run id>.cancel`
#[must_use]
pub fn run_cancel(org: &OrgName, function: &Name, run: RunId) -> String {
    format!("{}.cancel", run_command(org, function, run))
}

/// `dispatch.waiting.<org>.<function>`
#[must_use]
pub fn waiting(org: &OrgName, function: &Name) -> String {
    format!("dispatch.waiting.{org}.{function}")
}

/// `dispatch.run.<org>.<function>.<run id>`
#[must_use]
pub fn run(org: &OrgName, function: &Name, run: RunId) -> String {
    format!("dispatch.run.{org}.{function}.{run}")
}

/// `dispatch.logs.<org>.<function>.<run id>`: the lines of a run while it runs, which no stream keeps
#[must_use]
pub fn logs(org: &OrgName, function: &Name, run: RunId) -> String {
    format!("dispatch.logs.{org}.{function}.{run}")
}

/// The lines of all runs of a function.
#[must_use]
pub fn logs_of(org: &OrgName, function: &Name) -> String {
    format!("dispatch.logs.{org}.{function}.*")
}

/// `dispatch.logs.<org>.image.<image>.build`: the lines of a build while it goes on, which no stream
/// keeps
#[must_use]
pub fn build_log(org: &OrgName, image: &Name) -> String {
    format!("dispatch.logs.{org}.image.{image}.build")
}

/// `dispatch.rejected.<org>.<command id>`; `_` stands for an organization that could not be read.
#[must_use]
pub fn rejected(org: Option<&OrgName>, command: CommandId) -> String {
    format!(
        "dispatch.rejected.{}.{command}",
        org.map_or("_", OrgName::as_str)
    )
}

/// `dispatch.dead.<org>.<stream>.<seq>`; `_` stands for an organization that could not be read.
#[must_use]
pub fn dead(org: Option<&OrgName>, stream: &str, seq: u64) -> String {
    format!(
        "dispatch.dead.{}.{stream}.{seq}",
        org.map_or("_", OrgName::as_str)
    )
}

fn of_key(prefix: &str, key: &ResourceKey) -> String {
    format!("{prefix}.{}.{}.{}", key.org, key.kind.token(), key.name)
}

/// Why a subject names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has another number of tokens, or another beginning.
    #[error("'{0}' is not a subject of the form <prefix>.<org>.<kind>.<name>")]
    Shape(String),
    /// Its third token is no kind.
    #[error("'{0}' is no kind of resource")]
    Kind(String),
    /// A token is no name.
    #[error(transparent)]
    Name(#[from] crate::InvalidName),
}

/// Reads the resource from `dispatch.cmd.…` or `dispatch.evt.…`.
///
/// # Errors
/// `Error` says which part names nothing.
pub fn parse_key(subject: &str) -> Result<ResourceKey, Error> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["dispatch", "cmd" | "evt", org, kind, name] = tokens[..] else {
        return Err(Error::Shape(subject.chars().take(200).collect()));
    };
    let kind = Kind::from_token(kind).ok_or_else(|| Error::Kind(kind.to_owned()))?;
    Ok(ResourceKey::new(OrgName::new(org)?, kind, Name::new(name)?))
}

/// Reads organization, function and run from `dispatch.runcmd.…`, `dispatch.run.…` or
/// `dispatch.logs.…`.
#[must_use]
pub fn parse_run(subject: &str) -> Option<(OrgName, Name, RunId)> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["dispatch", "runcmd" | "run" | "logs", org, function, run] = tokens[..] else {
        return None;
    };
    Some((
        OrgName::new(org).ok()?,
        Name::new(function).ok()?,
        run.parse().ok()?,
    ))
}

/// Reads organization and function from `dispatch.waiting.…`.
#[must_use]
pub fn parse_waiting(subject: &str) -> Option<(OrgName, Name)> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["dispatch", "waiting", org, function] = tokens[..] else {
        return None;
    };
    Some((OrgName::new(org).ok()?, Name::new(function).ok()?))
}

/// The organization that a subject of any shape names as its third token.
#[must_use]
pub fn parse_org(subject: &str) -> Option<OrgName> {
    subject
        .split('.')
        .nth(2)
        .and_then(|org| OrgName::new(org).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ResourceKey {
        ResourceKey::new(
            OrgName::new("acme").unwrap(),
            Kind::ServiceInstance,
            Name::new("azure-pg").unwrap(),
        )
    }

    #[test]
    fn a_subject_reads_back() {
        assert_eq!(
            command(&key()),
            "dispatch.cmd.acme.serviceinstance.azure-pg"
        );
        assert_eq!(parse_key(&command(&key())), Ok(key()));
        assert_eq!(parse_key(&event(&key())), Ok(key()));
    }

    #[test]
    fn a_run_subject_reads_back() {
        let id = RunId::derived(format_args!("1"));
        let (org, function) = (OrgName::new("acme").unwrap(), Name::new("f").unwrap());
        for subject in [
            run_command(&org, &function, id),
            run(&org, &function, id),
            logs(&org, &function, id),
        ] {
            assert_eq!(
                parse_run(&subject),
                Some((org.clone(), function.clone(), id))
            );
        }
    }

    #[test]
    fn the_subject_of_waiting_runs_reads_back() {
        let (org, function) = (OrgName::new("acme").unwrap(), Name::new("f").unwrap());
        let subject = waiting(&org, &function);
        assert_eq!(parse_waiting(&subject), Some((org, function)));
        assert_eq!(parse_waiting("dispatch.waiting.acme"), None);
    }

    #[test]
    fn a_foreign_subject_is_refused_with_the_part_that_is_wrong() {
        assert!(matches!(
            parse_key("dispatch.cmd.acme.gizmo.x"),
            Err(Error::Kind(_))
        ));
        assert!(matches!(
            parse_key("dispatch.cmd.acme.image"),
            Err(Error::Shape(_))
        ));
        assert!(matches!(
            parse_key("dispatch.cmd.acme.image.-x"),
            Err(Error::Name(_))
        ));
    }
}
