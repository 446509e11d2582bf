//! The streams: one table declares them, and at start each is made, or compared with what is
//! there.

use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use engine_model::subject;

use crate::link::{Link, OpenError};
use crate::settings::{Durability, Replicas, Settings};

/// Accepted and not yet decided commands.
pub(crate) const COMMANDS: &str = "DISPATCH_COMMANDS";
/// Every commit of every resource.
pub(crate) const EVENTS: &str = "DISPATCH_EVENTS";
/// Run commands and run events.
pub(crate) const RUNS: &str = "DISPATCH_RUNS";
/// Runs that wait for room.
pub(crate) const WAITING: &str = "DISPATCH_WAITING";
/// Schedules, and alarms that have come due.
pub(crate) const TIMERS: &str = "DISPATCH_TIMERS";
/// Refusals.
pub(crate) const REJECTED: &str = "DISPATCH_REJECTED";
/// What could not be processed.
pub(crate) const DEADLETTERS: &str = "DISPATCH_DEADLETTERS";
/// Commits that reactors are to look at once more, because someone revived a dead letter.
pub(crate) const REDO: &str = "DISPATCH_REDO";
/// Wrapped data keys; readable as the key-value bucket `dispatch_keys`.
pub(crate) const KEYS: &str = "KV_dispatch_keys";
/// Function sources and layers; readable as the object bucket `dispatch_blobs`.
pub(crate) const BLOBS: &str = "OBJ_dispatch_blobs";
/// The object bucket.
pub(crate) const BLOBS_BUCKET: &str = "dispatch_blobs";

/// Revived commits: `dispatch.redo.<position of the commit>`.
pub(crate) const REDO_PREFIX: &str = "dispatch.redo";
/// Beginning of the subjects on which the server repeats each stored commit with its position,
/// for those who watch. A plain subscription to the event subjects also shows what was refused.
pub(crate) const COMMITTED_PREFIX: &str = "dispatch.committed";
/// Beginning of the subjects of wrapped keys.
pub(crate) const KEY_PREFIX: &str = "$KV.dispatch_keys";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// For how long the server recognises a repeated message id. Each id of the window costs it a
/// quarter of a kilobyte of memory; clients repeat within seconds.
const DEDUP: Duration = Duration::from_secs(120);

/// The same for runs, of which there are thousands a second.
const DEDUP_RUNS: Duration = Duration::from_secs(20);

/// Declares every stream.
pub(crate) fn table(settings: &Settings) -> Vec<Config> {
    let single = settings.replicas == Replicas::One;
    // Acknowledged before it is written; only a stream of one replica may do that.
    let fast = single.then_some(PersistenceMode::Async);
    let runs = settings.run_retention;
    let base = |name: &str, description: &str, subjects: &[&str]| Config {
        name: name.into(),
        description: Some(description.into()),
        subjects: subjects
            .iter()
            .map(|subject| (*subject).to_owned())
            .collect(),
        storage: StorageType::File,
        num_replicas: settings.replicas.count(),
        duplicate_window: DEDUP,
        allow_direct: true,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        ..Config::default()
    };
    vec![
        Config {
            retention: RetentionPolicy::WorkQueue,
            ..base(
                COMMANDS,
                "commands, accepted and not yet decided",
                &[subject::COMMANDS],
            )
        },
        Config {
            deny_delete: true,
            deny_purge: true,
            allow_atomic_publish: true,
            republish: Some(Republish {
                source: subject::EVENTS.into(),
                destination: format!("{COMMITTED_PREFIX}.>"),
                headers_only: false,
            }),
            ..base(EVENTS, "every commit of every resource", &[subject::EVENTS])
        },
        Config {
            max_age: runs.age,
            max_bytes: i64::try_from(runs.bytes).unwrap_or(i64::MAX),
            max_messages: i64::try_from(runs.messages).unwrap_or(i64::MAX),
            duplicate_window: DEDUP_RUNS,
            persist_mode: match settings.run_durability {
                Durability::Fast => fast,
                Durability::Fsync => None,
            },
            ..base(
                RUNS,
                "run commands and run events",
                &[subject::RUN_COMMANDS, subject::RUNS],
            )
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            // As long as what is known of the run itself; what is over stays where it came from.
            max_age: runs.age,
            max_bytes: i64::try_from(runs.bytes).unwrap_or(i64::MAX),
            max_messages: i64::try_from(runs.messages).unwrap_or(i64::MAX),
            discard: DiscardPolicy::New,
            duplicate_window: DEDUP_RUNS,
            persist_mode: match settings.run_durability {
                Durability::Fast => fast,
                Durability::Fsync => None,
            },
            ..base(WAITING, "runs that wait for room", &[subject::WAITING])
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            // A schedule that is set again replaces the one before.
            max_messages_per_subject: 1,
            allow_message_schedules: true,
            allow_rollup: true,
            ..base(
                TIMERS,
                "schedules, and alarms come due",
                &[subject::TIMERS, subject::DUE],
            )
        },
        Config {
            max_age: 7 * DAY,
            // A refusal repeated is the same refusal.
            max_messages_per_subject: 1,
            persist_mode: fast,
            ..base(REJECTED, "refusals", &[subject::REJECTED])
        },
        Config {
            // What is buried twice is one letter.
            max_messages_per_subject: 1,
            ..base(DEADLETTERS, "what could not be processed", &[subject::DEAD])
        },
        Config {
            max_age: 7 * DAY,
            max_messages_per_subject: 1,
            ..base(
                REDO,
                "commits to be reacted to once more",
                &[&format!("{REDO_PREFIX}.>")],
            )
        },
        Config {
            // As the key-value layer makes it, but for `deny_delete`: a key is erased by deleting
            // its message, which overwrites it on the disk.
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            ..base(KEYS, "wrapped data keys", &[&format!("{KEY_PREFIX}.>")])
        },
        Config {
            discard: DiscardPolicy::New,
            allow_rollup: true,
            ..base(
                BLOBS,
                "function sources and layers",
                &["$O.dispatch_blobs.C.>", "$O.dispatch_blobs.M.>"],
            )
        },
    ]
}

/// Makes each stream, or checks the one that is there.
pub(crate) async fn ensure(link: &Link, settings: &Settings) -> Result<(), OpenError> {
    for asked in table(settings) {
        ensure_one(&link.jetstream, asked).await?;
    }
    Ok(())
}

async fn ensure_one(jetstream: &Context, asked: Config) -> Result<(), OpenError> {
    let name = asked.name.clone();
    let refused = |reason: String| OpenError::Refused {
        stream: name.clone(),
        reason,
    };
    let found = match jetstream.get_stream(&name).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_absent(&error) => match jetstream.create_stream(asked.clone()).await {
            Ok(stream) => stream.cached_info().config.clone(),
            // Another node may have made it in this moment.
            Err(error) => match jetstream.get_stream(&name).await {
                Ok(stream) => stream.cached_info().config.clone(),
                Err(_) => return Err(refused(error.to_string())),
            },
        },
        Err(error) => return Err(refused(error.to_string())),
    };
    if let Some((field, asked, found)) = difference(&asked, &found) {
        return Err(OpenError::Differs {
            stream: name,
            field,
            asked,
            found,
        });
    }
    if !limits_agree(&asked, &found) {
        tracing::info!(stream = %name, "limits of the stream are changed to the settings");
        let adjusted = with_limits(&asked, found);
        jetstream
            .update_stream(&adjusted)
            .await
            .map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

fn is_absent(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::context::GetStreamErrorKind as Kind;
    matches!(error.kind(), Kind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The first difference that would break a promise, with what was asked and what is there.
fn difference(asked: &Config, found: &Config) -> Option<(&'static str, String, String)> {
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(" ")
    };
    let persist = |config: &Config| format!("{:?}", config.persist_mode.unwrap_or_default());
    let facts = |c: &Config| -> [(&'static str, String); 13] {
        [
            ("subjects", sorted(&c.subjects)),
            ("retention", format!("{:?}", c.retention)),
            ("storage", format!("{:?}", c.storage)),
            ("replicas", c.num_replicas.to_string()),
            ("discard", format!("{:?}", c.discard)),
            (
                "max_msgs_per_subject",
                limit(c.max_messages_per_subject).to_string(),
            ),
            ("deny_delete", c.deny_delete.to_string()),
            ("deny_purge", c.deny_purge.to_string()),
            ("allow_direct", c.allow_direct.to_string()),
            ("allow_rollup_hdrs", c.allow_rollup.to_string()),
            ("allow_atomic", c.allow_atomic_publish.to_string()),
            ("allow_msg_schedules", c.allow_message_schedules.to_string()),
            ("persist_mode", persist(c)),
        ]
    };
    facts(asked)
        .into_iter()
        .zip(facts(found))
        .find(|(asked, found)| asked != found)
        .map(|((field, asked), (_, found))| (field, asked, found))
}

/// The server says -1 where 0 was asked for: both mean none.
fn limit(number: i64) -> i64 {
    if number <= 0 { -1 } else { number }
}

fn limits_agree(asked: &Config, found: &Config) -> bool {
    asked.max_age == found.max_age
        && limit(asked.max_bytes) == limit(found.max_bytes)
        && limit(asked.max_messages) == limit(found.max_messages)
        && asked.duplicate_window == found.duplicate_window
        && asked.republish == found.republish
}

fn with_limits(asked: &Config, found: Config) -> Config {
    Config {
        max_age: asked.max_age,
        max_bytes: asked.max_bytes,
        max_messages: asked.max_messages,
        duplicate_window: asked.duplicate_window,
        republish: asked.republish.clone(),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_streams_take_the_same_subject() {
        let all: Vec<String> = table(&Settings::default())
            .into_iter()
            .flat_map(|stream| stream.subjects)
            .collect();
        for (i, one) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                let stem = |s: &str| s.trim_end_matches('>').to_owned();
                assert!(
                    !stem(one).starts_with(&stem(other)) && !stem(other).starts_with(&stem(one)),
                    "{one} and {other}"
                );
            }
        }
    }

    #[test]
    fn a_difference_that_breaks_a_promise_is_named() {
        let asked = table(&Settings::default()).remove(1);
        assert_eq!(difference(&asked, &asked), None);
        let found = Config {
            allow_atomic_publish: false,
            ..asked.clone()
        };
        assert_eq!(
            difference(&asked, &found),
            Some(("allow_atomic", "true".into(), "false".into()))
        );
    }

    #[test]
    fn only_a_single_replica_acknowledges_before_it_writes() {
        let three = Settings {
            replicas: Replicas::Three,
            ..Settings::default()
        };
        assert!(
            table(&three)
                .iter()
                .all(|stream| stream.persist_mode.is_none())
        );
        let fsync = Settings {
            run_durability: Durability::Fsync,
            ..Settings::default()
        };
        let mode = |settings| {
            table(settings)
                .into_iter()
                .find(|s| s.name == RUNS)
                .unwrap()
                .persist_mode
        };
        assert_eq!(mode(&fsync), None);
        assert_eq!(mode(&Settings::default()), Some(PersistenceMode::Async));
    }
}
