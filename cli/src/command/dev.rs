//! `dispatch dev`: serves a function from its sources, and anew whenever they change.
//!
//! It is a function like any other: with its services, its secrets, its limits, and called by
//! whoever calls it. The version before serves until the new one is loaded.

mod dependencies;
mod deploy;
mod others;
mod watch;

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use engine_model::{Command, Deletion, Kind, RevisionId, RunCommand, RunEvent, RunReply};
use tokio::time::{Instant, sleep};

use super::report;
use crate::args::{Dev, Global};
use crate::client::{Connection, add_packs};
use crate::exit::Exit;
use crate::output::{json as pretty, note, print};
use crate::server::asked_to_end;
use deploy::{Deployment, Outcome};
use others::{News, Others};
use watch::Watch;

/// How long a node may take to hear of a new version.
const AGAIN: Duration = Duration::from_millis(50);

/// How often a run that was of an earlier version is repeated.
const AGAIN_MAX: u32 = 3;

/// What the loop hears.
enum Event {
    Changed(Result<Instant>),
    End,
    Others(News),
}

/// Serves until Ctrl-C.
pub(super) async fn run(connection: &Connection, global: &Global, dev: Dev) -> Result<Exit> {
    add_packs(global)?;
    let mut end = pin!(asked_to_end());
    // Before the sources are read, so that no change is missed.
    let mut watch = Watch::on(&dev.path)?;
    let (input, rm) = (dev.input.clone(), dev.rm);
    if let Some(input) = &input {
        report::value_or_file("--input", input)?;
    }
    let mut deployment = Deployment::of(connection, global, dev).await?;
    let mut others = Others::of(connection, deployment.name.clone()).await;
    let mut since = Some(Instant::now());
    loop {
        if let Some(since) = since.take() {
            let serving = serve(&mut deployment, &mut others, input.as_deref(), since);
            tokio::select! {
                () = serving => {}
                _ = &mut end => break,
            }
        }
        let event = tokio::select! {
            changed = watch.changed() => Event::Changed(changed),
            _ = &mut end => Event::End,
            news = others.news() => Event::Others(news),
        };
        match event {
            Event::Changed(at) => since = Some(at?),
            Event::End => break,
            Event::Others(news) => others.say(news).await,
        }
    }
    if rm {
        remove(connection, &deployment).await?;
    }
    Ok(Exit::Done)
}

/// Deploys the sources as they are and runs them. What goes wrong is said: the next change may
/// put it right.
async fn serve(
    deployment: &mut Deployment<'_>,
    others: &mut Others<'_>,
    input: Option<&str>,
    since: Instant,
) {
    let name = deployment.name.clone();
    match deployment.serve().await {
        Ok(Outcome::Unchanged) => return,
        Ok(Outcome::Served) => {
            note(&format!(
                "Served {name} in {}",
                report::time(since.elapsed())
            ));
        }
        Ok(Outcome::Failed(reasons)) => {
            for reason in reasons {
                note(&format!("{name}: ERROR: {reason}"));
            }
            if deployment.serves() {
                note(&format!("{name}: the version before goes on serving"));
            }
            return;
        }
        Err(error) => return note(&format!("{name}: {error:#}")),
    }
    if let Some(input) = input
        && let Err(error) = try_out(deployment, others, input).await
    {
        note(&format!("{name}: {error:#}"));
    }
}

/// Runs the function once and shows what came of it.
async fn try_out(deployment: &Deployment<'_>, others: &mut Others<'_>, input: &str) -> Result<()> {
    let command = RunCommand {
        input: report::value_or_file("--input", input)?,
        blocking: true,
        ..RunCommand::default()
    };
    let within = deployment.global.wait_within();
    let (connection, name) = (deployment.connection, &deployment.name);
    let mut ran = report::run(connection, name, command.clone(), within).await?;
    others.knows(ran.reply.run);
    // A node may hear of the new version a moment later than this session. Who routes runs to
    // earlier versions means it, so that it is tried only a few times.
    for _ in 0..AGAIN_MAX {
        if is_of(&ran.reply, deployment.revision()) {
            break;
        }
        sleep(AGAIN).await;
        ran = report::run(connection, name, command.clone(), within).await?;
        others.knows(ran.reply.run);
    }
    let result = &ran.reply.result;
    report::say_logs(&result.logs);
    match &result.error {
        Some(error) => report::say_error(error),
        None => print(&pretty(&result.output)?)?,
    }
    note(&format!("Ran in {}", report::time(ran.took)));
    Ok(())
}

/// Whether a run was of this version, if one is known.
fn is_of(reply: &RunReply, wanted: Option<RevisionId>) -> bool {
    match (&reply.started, wanted) {
        (Some(RunEvent::Started { revision, .. }), Some(wanted)) => *revision == wanted,
        _ => true,
    }
}

/// Takes away what this session served, the function first, as it uses the image.
async fn remove(connection: &Connection, deployment: &Deployment<'_>) -> Result<()> {
    let function = deployment.serves().then(|| deployment.name.to_string());
    let image = deployment.own_image();
    let gone = [
        (Kind::Function, function.as_deref()),
        (Kind::Image, image.as_deref()),
    ];
    for (kind, name) in gone {
        let Some(name) = name else { continue };
        let delete = Command::Delete(Deletion { cascade: false });
        connection
            .submit(connection.key(kind, name)?, delete)
            .await?;
        note(&format!("Deleted {}: {name}", kind.token()));
    }
    Ok(())
}
