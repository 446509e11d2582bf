//! Tells of schedules what no view can, because it changes with the time: when they are due next,
//! and how their last run went.

use std::sync::Arc;
use std::time::Duration;

use engine_core::{before, next_due, recorded};
use engine_model::{Answer, Filter, Kind, Name, OrgName, Query, ResourceKey, Seq};
use engine_runtime::{Fold, now};
use projections::Views;
use serde_json::{Value, json};

/// How many occurrences are looked back for one whose run the view shows: the latest may not have
/// begun, and older ones are not kept for ever.
const LOOK_BACK_MAX: usize = 3;

/// How long the node may lag behind its own views.
const PATIENCE: Duration = Duration::from_secs(1);

/// Completes what the views show of schedules.
pub(crate) async fn complete(
    fold: &Arc<Fold>,
    views: &Views,
    org: &OrgName,
    at_least: Seq,
    mut answer: Answer,
) -> Answer {
    // What it does not know by then, it does not tell.
    let _ = tokio::time::timeout(PATIENCE, fold.reached(at_least)).await;
    for document in &mut answer.documents {
        let name = document["name"]
            .as_str()
            .and_then(|name| Name::new(name).ok());
        if let Some(name) = name {
            let key = ResourceKey::new(org.clone(), Kind::Schedule, name);
            tell(fold, views, &key, document).await;
        }
    }
    answer
}

async fn tell(fold: &Fold, views: &Views, key: &ResourceKey, document: &mut Value) {
    let now = now();
    let (active, next) = fold.read(|world| {
        let active = recorded(world, key).is_some();
        (active, next_due(world, key, now))
    });
    document["nextTime"] = json!(next.map(|next| next.unix_seconds()));
    if active && next.is_none() {
        let (status, reason) = fold.read(|world| world.status(key)).unzip();
        document["status"] = json!(status);
        document["reason"] = json!(reason);
    }
    document["lastRun"] = last_run(fold, views, key).await;
}

async fn last_run(fold: &Fold, views: &Views, key: &ResourceKey) -> Value {
    let mut until = now().plus_ms(1);
    for _ in 0..LOOK_BACK_MAX {
        let Some(due) = fold.read(|world| before(world, key, until)) else {
            break;
        };
        let query = Query {
            org: key.org.clone(),
            filter: Filter::Run { id: due.run },
            at_least: Seq(0),
            runs_at_least: Seq(0),
        };
        if let Ok(found) = views.query(query).await
            && let Some(run) = found.documents.first()
        {
            return json!({
                "name": due.run,
                "dueTime": due.at.unix_seconds(),
                "status": run["status"],
            });
        }
        until = due.at;
    }
    Value::Null
}
