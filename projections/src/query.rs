//! Answers queries from what is shown.

use engine_model::{
    Answer, AsOf, Code, Filter, Kind, Name, OrgName, Query, Rejection, ResourceKey, Seq,
};
use engine_stream::Log;
use serde_json::Value;
use tracing::error;

use crate::Error;
use crate::history::entries;
use crate::runs::{self, RunFilter};
use crate::shown::at_least;
use crate::store::Stream;
use crate::table::Reader;
use crate::tag::TagFilter;
use crate::view::{
    Apis, Applications, BaseImages, Bindings, Brokers, Classes, Functions, Images, Instances,
    Organizations, Schedules, Secrets, ServiceAccounts, class, function, json,
};
use crate::views::{PATIENCE, Views};

/// The most runs that one answer holds.
const RUNS_PER_ANSWER_MAX: usize = 10_000;

/// Answers a query.
pub(crate) async fn answer(views: &Views, query: Query) -> Result<Answer, Rejection> {
    let Query {
        org,
        filter,
        at_least: seq,
        runs_at_least,
    } = query;
    match filter {
        Filter::One { kind, name } => resource(views, org, kind, name, seq).await,
        Filter::All { kind, tag } => {
            let tags = TagFilter::parse(tag.as_deref())?;
            let shown = at_least(Stream::Events, views.events(), seq, PATIENCE).await?;
            let documents = blocking(move || all(&shown.tree, kind, &org, &tags)).await?;
            Ok(Answer {
                as_of: shown.as_of,
                documents,
            })
        }
        Filter::History { kind, name } => {
            let log = views.log().ok_or_else(not_following)?;
            history(&*log, ResourceKey::new(org, kind, name)).await
        }
        Filter::Revisions { function: name } => {
            let shown = at_least(Stream::Events, views.events(), seq, PATIENCE).await?;
            let found = function::revisions(&Reader(&shown.tree), &org, name.as_str());
            let found = found.map_err(internal)?;
            let documents = found.ok_or_else(|| not_found(format!("{} {name}", Kind::Function)))?;
            Ok(Answer {
                as_of: shown.as_of,
                documents,
            })
        }
        Filter::Run { id } => {
            let shown = at_least(Stream::Runs, views.runs(), runs_at_least, PATIENCE).await?;
            let found = runs::one(&shown.tree, &org, id).map_err(internal)?;
            let document = found.ok_or_else(|| not_found(format!("run {id}")))?;
            Ok(Answer {
                as_of: shown.as_of,
                documents: vec![document],
            })
        }
        Filter::Runs {
            function,
            since,
            limit,
        } => {
            let shown = at_least(Stream::Runs, views.runs(), runs_at_least, PATIENCE).await?;
            let limit = usize::try_from(limit)
                .unwrap_or(usize::MAX)
                .min(RUNS_PER_ANSWER_MAX);
            let filter = RunFilter {
                function,
                since,
                limit,
            };
            let find = move || runs::runs(&shown.tree, &org, &filter).map_err(internal);
            Ok(Answer {
                as_of: shown.as_of,
                documents: blocking(find).await?,
            })
        }
        Filter::Rebuild => {
            let rebuilt = views.rebuild().await.map_err(internal)?;
            Ok(Answer {
                as_of: rebuilt.events,
                documents: Vec::new(),
            })
        }
        Filter::Info
        | Filter::DeadLetters { .. }
        | Filter::Revive { .. }
        | Filter::Live { .. }
        | Filter::Orphans => {
            let message = "the node answers this, and its views were asked";
            Err(Rejection::new(Code::Internal, message))
        }
    }
}

async fn resource(
    views: &Views,
    org: OrgName,
    kind: Kind,
    name: Name,
    seq: Seq,
) -> Result<Answer, Rejection> {
    let shown = at_least(Stream::Events, views.events(), seq, PATIENCE).await?;
    let found = one(&Reader(&shown.tree), kind, &org, name.as_str())?;
    let document = found.ok_or_else(|| not_found(format!("{kind} {name}")))?;
    Ok(Answer {
        as_of: shown.as_of,
        documents: vec![document],
    })
}

/// Calls `$call::<V>` for the view `V` of a kind.
macro_rules! of_kind {
    ($kind:expr, $reader:ident . $call:ident ( $($arg:expr),* )) => {
        match $kind {
            Kind::BaseImage => $reader.$call::<BaseImages>($($arg),*),
            Kind::Image => $reader.$call::<Images>($($arg),*),
            Kind::Function => $reader.$call::<Functions>($($arg),*),
            Kind::Secret => $reader.$call::<Secrets>($($arg),*),
            Kind::ServiceBroker => $reader.$call::<Brokers>($($arg),*),
            Kind::ServiceClass => $reader.$call::<Classes>($($arg),*),
            Kind::ServiceInstance => $reader.$call::<Instances>($($arg),*),
            Kind::ServiceBinding => $reader.$call::<Bindings>($($arg),*),
            Kind::API => $reader.$call::<Apis>($($arg),*),
            Kind::Schedule => $reader.$call::<Schedules>($($arg),*),
            Kind::Organization => $reader.$call::<Organizations>($($arg),*),
            Kind::ServiceAccount => $reader.$call::<ServiceAccounts>($($arg),*),
            Kind::Application => $reader.$call::<Applications>($($arg),*),
            Kind::Run => return Err(run_is_no_resource()),
        }
        .map_err(internal)
    };
}

fn one(
    reader: &Reader<'_>,
    kind: Kind,
    org: &OrgName,
    name: &str,
) -> Result<Option<Value>, Rejection> {
    if kind == Kind::ServiceClass {
        // Brokers of another organization may serve this one.
        return class::one(reader, org, name).map_err(internal);
    }
    of_kind!(kind, reader.one(org, name))
}

fn all(
    tree: &sled::Tree,
    kind: Kind,
    org: &OrgName,
    tags: &TagFilter,
) -> Result<Vec<Value>, Rejection> {
    let reader = Reader(tree);
    let documents = match kind {
        Kind::ServiceClass => class::all(&reader, org).map_err(internal)?,
        _ => all_own(&reader, kind, org)?,
    };
    Ok(documents
        .into_iter()
        .filter(|document| tags.takes(document))
        .collect())
}

fn all_own(reader: &Reader<'_>, kind: Kind, org: &OrgName) -> Result<Vec<Value>, Rejection> {
    of_kind!(kind, reader.all(org))
}

async fn history(log: &dyn Log, key: ResourceKey) -> Result<Answer, Rejection> {
    if key.kind == Kind::Run {
        return Err(run_is_no_resource());
    }
    let read = log.history(&key).await;
    let commits = read.map_err(|error| Rejection::new(Code::Unavailable, error.to_string()))?;
    let Some(last) = commits.last() else {
        return Err(not_found(format!("{} {}", key.kind, key.name)));
    };
    let as_of = AsOf {
        seq: last.seq,
        at: last.commit.at,
    };
    let documents = commits
        .iter()
        .flat_map(entries)
        .map(|entry| json(&entry))
        .collect();
    Ok(Answer { as_of, documents })
}

/// Reads much outside the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Rejection::new(Code::Unavailable, "the node is stopping")),
        },
    }
}

fn not_found(what: String) -> Rejection {
    Rejection::new(Code::NotFound, format!("{what} not found"))
}

fn not_following() -> Rejection {
    Rejection::new(Code::Unavailable, "the node is starting; ask again")
}

fn run_is_no_resource() -> Rejection {
    let message = "runs are no resources: ask for them by their id or their function";
    Rejection::new(Code::UnknownKind, message)
}

fn internal(error: Error) -> Rejection {
    error!(%error, "view not readable");
    Rejection::new(Code::Internal, format!("failed to {error}"))
}
