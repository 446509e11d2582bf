//! `--wait`: says on standard error how it is going, until it is READY, in ERROR, or gone.

use std::time::Duration;

use adapter_kit::ClientError;
use anyhow::{Result, bail};
use engine_model::{Code, ResourceKey, Seq};
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::args::Global;
use crate::client::Connection;
use crate::exit::Exit;
use crate::output::note;

/// How often the view is asked: completion is noticed soon, and the server is not kept busy.
const EVERY: Duration = Duration::from_millis(100);

/// How often an interactive person sees the spinner turn.
const TURN: Duration = Duration::from_millis(120);

/// Shows progress: a spinner for people, a line per change for files.
struct Progress {
    bar: ProgressBar,
    last: String,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(TURN);
        Self {
            bar,
            last: String::new(),
        }
    }

    fn say(&mut self, text: String) {
        if text == self.last {
            return;
        }
        if self.bar.is_hidden() {
            note(&text);
        } else {
            self.bar.set_message(text.clone());
        }
        self.last = text;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Waits until a resource is READY or in ERROR; returns it as it is then.
pub(super) async fn until_settled(
    connection: &Connection,
    global: &Global,
    key: &ResourceKey,
    at_least: Seq,
) -> Result<(Value, Exit)> {
    let settled = |document: &Value| match document["status"].as_str() {
        Some("READY") | None => Some(Exit::Done),
        Some("ERROR") if !will_go_on(document) => Some(Exit::EndedInError),
        Some(_) => None,
    };
    until(connection, global, key, at_least, settled).await
}

/// Waits until `ended` says how it ended; returns the resource as it is then.
pub(super) async fn until(
    connection: &Connection,
    global: &Global,
    key: &ResourceKey,
    at_least: Seq,
    ended: impl Fn(&Value) -> Option<Exit>,
) -> Result<(Value, Exit)> {
    let mut progress = Progress::new();
    let deadline = Instant::now() + global.wait_within();
    loop {
        let document = connection.one(key.kind, &key.name, at_least).await?;
        if let Some(exit) = ended(&document) {
            return Ok((document, exit));
        }
        let status = document["status"].as_str().unwrap_or_default();
        progress.say(describe(key, status, &document));
        pause(deadline, global, &progress).await?;
    }
}

/// Waits until a resource is no longer there.
pub(super) async fn until_gone(
    connection: &Connection,
    global: &Global,
    key: &ResourceKey,
    at_least: Seq,
) -> Result<()> {
    let mut progress = Progress::new();
    let deadline = Instant::now() + global.wait_within();
    loop {
        match connection.one(key.kind, &key.name, at_least).await {
            Ok(document) => {
                let status = document["status"].as_str().unwrap_or("DELETING");
                progress.say(describe(key, status, &document));
            }
            Err(ClientError::Rejected(rejection)) if rejection.code == Code::NotFound => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        pause(deadline, global, &progress).await?;
    }
}

async fn pause(deadline: Instant, global: &Global, progress: &Progress) -> Result<()> {
    if Instant::now() >= deadline {
        let waited = global.wait_within();
        bail!(
            "waited {waited:?}, and it still is: {} (--wait-timeout waits longer)",
            progress.last
        );
    }
    sleep(EVERY).await;
    Ok(())
}

/// Whether an ERROR is one that Dispatch itself goes on working on.
fn will_go_on(document: &Value) -> bool {
    !document["lastOperation"]["nextAt"].is_null()
}

fn describe(key: &ResourceKey, status: &str, document: &Value) -> String {
    let mut text = format!("{} {}: {status}", key.kind.token(), key.name);
    let binding = document["binding"]["status"].as_str();
    if let Some(binding) = binding {
        text = format!("{text}, binding {binding}");
    }
    let operation = &document["lastOperation"];
    if let (Some("in progress"), Some(words)) = (
        operation["state"].as_str(),
        operation["description"].as_str(),
    ) {
        text = format!("{text} ({words})");
    }
    if let Some(reason) = document["reason"][0].as_str() {
        text = format!("{text}: {reason}");
    }
    text
}
