//! The command loop: pulls what was accepted, has it decided, tells the sender, acknowledges.

use std::sync::Arc;
use std::time::Duration;

use adapter_kit::Vault;
use engine_model::{Cause, CommandEnvelope, CommandId, OrgName, Rejection, Reply, Seq};
use engine_stream::{Ack, CommandDelivery, DeadLetter, Error, Log, Unreadable};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::now;
use crate::ledger::{Ask, Ledger, LedgerError, Pending, Request};
use crate::pull;
use crate::sealing::{self, reseal};

/// Commands pulled at once: as many as the ledger decides in one group.
const PULL_MAX: usize = 512;

/// Commands that wait for their commit at once.
const UNDECIDED_MAX: usize = 4096;

/// Wait before a command that could not be decided for our own fault comes again.
const AGAIN: Duration = Duration::from_millis(500);

/// Deliveries of one command before it becomes a dead letter: an hour of trying.
const DELIVERIES_MAX: u32 = 7200;

/// Decides commands until `stop`.
pub(crate) async fn work(
    log: Arc<dyn Log>,
    ledger: Ledger,
    vault: Arc<dyn Vault>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut inbox = log.commands().await?;
    let mut undecided = JoinSet::new();
    loop {
        let pulled = pull::next(inbox.as_mut(), PULL_MAX, "command stream", &stop).await?;
        let Some(deliveries) = pulled else {
            break;
        };
        for delivery in deliveries {
            while undecided.len() >= UNDECIDED_MAX {
                undecided.join_next().await;
            }
            take(&log, &ledger, vault.as_ref(), delivery, &mut undecided).await;
        }
        while undecided.try_join_next().is_some() {}
    }
    while undecided.join_next().await.is_some() {}
    Ok(())
}

/// Hands a command to the ledger, in the order of the stream, and leaves its end to a task.
async fn take(
    log: &Arc<dyn Log>,
    ledger: &Ledger,
    vault: &dyn Vault,
    delivery: CommandDelivery,
    undecided: &mut JoinSet<()>,
) {
    let CommandDelivery {
        item,
        seq,
        deliveries,
        ack,
    } = delivery;
    let envelope = match item {
        Ok(envelope) => envelope,
        Err(unreadable) => {
            let log = log.clone();
            undecided.spawn(async move { refuse(log.as_ref(), unreadable, ack.as_ref()).await });
            return;
        }
    };
    let (sender, command) = (Sender::of(&envelope), envelope.id);
    if deliveries > DELIVERIES_MAX {
        bury(log.as_ref(), &envelope, seq, deliveries, ack.as_ref()).await;
        return;
    }
    let sealed = match reseal(vault, &envelope).await {
        Ok(sealed) => sealed,
        Err(sealing::Error::Rejected(rejection)) => {
            end(
                log.as_ref(),
                &sender,
                &Reply::Rejected { command, rejection },
                ack.as_ref(),
            )
            .await;
            return;
        }
        Err(error @ sealing::Error::Vault(_)) => {
            warn!(command.id = %command, %error, "command waits for the vault");
            again(ack.as_ref()).await;
            return;
        }
    };
    let request = Request {
        key: envelope.key,
        ask: Ask::Command {
            id: command,
            command: Box::new(envelope.command),
            sealed,
        },
        actor: envelope.actor,
        cause: Cause::Command(command),
        correlation: envelope.correlation,
    };
    let Ok(pending) = ledger.hand_in(request).await else {
        again(ack.as_ref()).await;
        return;
    };
    let log = log.clone();
    undecided.spawn(async move { finish(log.as_ref(), command, sender, pending, ack).await });
}

async fn finish(
    log: &dyn Log,
    command: CommandId,
    sender: Sender,
    pending: Pending,
    ack: Box<dyn Ack>,
) {
    match pending.await.unwrap_or(Err(LedgerError::Stopping)) {
        Ok(decided) => {
            debug!(command.id = %command, seq = %decided.seq, "command decided");
            end(
                log,
                &sender,
                &Reply::Done {
                    command,
                    seq: decided.seq,
                },
                ack.as_ref(),
            )
            .await;
        }
        Err(LedgerError::Rejected(rejection)) => {
            debug!(command.id = %command, code = %rejection.code, "command refused");
            end(
                log,
                &sender,
                &Reply::Rejected { command, rejection },
                ack.as_ref(),
            )
            .await;
        }
        Err(error @ (LedgerError::Log(_) | LedgerError::Stopping)) => {
            warn!(command.id = %command, %error, "command comes again");
            again(ack.as_ref()).await;
        }
    }
}

/// Who hears the outcome of a command.
struct Sender {
    org: Option<OrgName>,
    reply_to: Option<String>,
}

impl Sender {
    fn of(envelope: &CommandEnvelope) -> Self {
        Self {
            org: Some(envelope.key.org.clone()),
            reply_to: envelope.reply_to.clone(),
        }
    }
}

async fn refuse(log: &dyn Log, unreadable: Unreadable, ack: &dyn Ack) {
    let Unreadable {
        org,
        command,
        reply_to,
        rejection,
    } = unreadable;
    debug!(command.id = %command, code = %rejection.code, "unreadable command refused");
    end(
        log,
        &Sender { org, reply_to },
        &Reply::Rejected { command, rejection },
        ack,
    )
    .await;
}

/// Tells the sender, then acknowledges: a crash in between repeats the answer, not the command.
async fn end(log: &dyn Log, sender: &Sender, reply: &Reply, ack: &dyn Ack) {
    let told = log
        .answer(sender.org.as_ref(), sender.reply_to.as_deref(), reply)
        .await;
    if let Err(error) = told {
        warn!(%error, "answer to a command was not delivered");
        again(ack).await;
        return;
    }
    if let Err(error) = ack.ack().await {
        warn!(%error, "command was not acknowledged and comes again");
    }
}

async fn bury(log: &dyn Log, envelope: &CommandEnvelope, seq: Seq, tries: u32, ack: &dyn Ack) {
    let letter = DeadLetter {
        seq: Seq(0),
        org: Some(envelope.key.org.clone()),
        stream: "commands".into(),
        origin: seq,
        subject: engine_model::subject::command(&envelope.key),
        reason: "it could not be decided, because the log or the vault failed each time".into(),
        tries,
        at: now(),
    };
    if log.bury(&letter).await.is_err() {
        again(ack).await;
        return;
    }
    let text = "it was given up after many tries; `dispatch deadletters` shows it";
    let rejection = Rejection::new(engine_model::Code::Unavailable, text);
    let reply = Reply::Rejected {
        command: envelope.id,
        rejection,
    };
    end(log, &Sender::of(envelope), &reply, ack).await;
}

async fn again(ack: &dyn Ack) {
    if let Err(error) = ack.again(AGAIN).await {
        debug!(%error, "the command comes again when its delivery times out");
    }
}
