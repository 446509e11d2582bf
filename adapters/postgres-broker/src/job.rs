//! The work of one operation. It may be repeated after having ended anywhere, and it stops between
//! two steps when it is halted.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{Limits, Secret};
use crate::decide::binding::Address;
use crate::names::Names;
use crate::record::{Backing, Home, Instance, Spec};
use crate::sql::Admin;
use crate::{server, sql};

/// Pauses between attempts at what failed for a passing reason: long enough for a server to restart.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("work in the PostgreSQL server")]
    Sql(#[from] sql::Error),
    #[error("work on the dedicated server")]
    Server(#[from] server::Error),
    #[error("find the server of the instance: none is configured")]
    NoServer,
    #[error("end in time")]
    TimedOut,
}

/// How work ended that was not done.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// It was halted, or the broker is stopping: it may still be due.
    Unfinished,
    /// It failed. The text is for the platform's user.
    Failed(String),
}

impl Error {
    fn is_unfinished(&self) -> bool {
        matches!(
            self,
            Self::Sql(sql::Error::Halted) | Self::Server(server::Error::Stopping)
        )
    }
}

/// What is to be done, with what it needs.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Create,
    Update {
        to: Spec,
    },
    Delete,
    Bind {
        binding_id: String,
        password: Secret,
        /// In seconds of Unix time.
        expires_at: Option<i64>,
    },
    Unbind {
        binding_id: String,
    },
}

impl Work {
    /// What a poller is told while it is done.
    pub(crate) fn progress(&self) -> &'static str {
        match self {
            Self::Create => "creating the database",
            Self::Update { .. } => "updating the instance",
            Self::Delete => "deleting the database",
            Self::Bind { .. } => "creating the login role",
            Self::Unbind { .. } => "dropping the login role",
        }
    }
}

/// What jobs work with.
pub(crate) struct Workshop {
    pub(crate) shared: Option<(Admin, Address)>,
    pub(crate) yard: Option<Arc<server::Yard>>,
    pub(crate) limits: Limits,
    pub(crate) permits: Semaphore,
}

impl Workshop {
    /// Where clients find an instance.
    pub(crate) fn address(&self, home: Home) -> Option<Address> {
        match home {
            Home::Shared => self.shared.as_ref().map(|(_, address)| address.clone()),
            Home::Dedicated { port } => self.yard.as_ref().map(|yard| yard.address(port)),
        }
    }

    fn admin(&self, home: Home) -> Result<Admin, Error> {
        match home {
            Home::Shared => self
                .shared
                .as_ref()
                .map(|(admin, _)| admin.clone())
                .ok_or(Error::NoServer),
            Home::Dedicated { port } => {
                Ok(self.yard.as_ref().ok_or(Error::NoServer)?.admin(port)?)
            }
        }
    }
}

/// Does the work, in its turn, within its time.
pub(crate) async fn perform(
    workshop: Arc<Workshop>,
    instance: Instance,
    server: Option<server::Handle>,
    work: Work,
    halt: CancellationToken,
) -> Result<(), Failure> {
    let permit = tokio::select! {
        permit = workshop.permits.acquire() => permit,
        () = halt.cancelled() => return Err(Failure::Unfinished),
    };
    let _permit = permit.map_err(|_| Failure::Unfinished)?;
    let worked = with_retries(&workshop, &instance, server.as_ref(), &work, &halt);
    let result = match timeout(workshop.limits.operation_timeout, worked).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut),
    };
    let Err(error) = result else { return Ok(()) };
    if error.is_unfinished() {
        return Err(Failure::Unfinished);
    }
    make_good(&instance, server.as_ref(), &work).await;
    let text = format!("failed to {}", chain(&error));
    tracing::warn!(instance.id = %instance.id, work = work.progress(), error = text, "work failed");
    Err(Failure::Failed(text))
}

async fn with_retries(
    workshop: &Workshop,
    instance: &Instance,
    server: Option<&server::Handle>,
    work: &Work,
    halt: &CancellationToken,
) -> Result<(), Error> {
    for pause in RETRY_PAUSES {
        match attempt(workshop, instance, server, work, halt).await {
            Err(Error::Sql(error)) if error.is_transient() && !halt.is_cancelled() => {
                tracing::debug!(instance.id = %instance.id, error = chain(&error), "trying again");
                sleep(pause).await;
            }
            ended => return ended,
        }
    }
    attempt(workshop, instance, server, work, halt).await
}

async fn attempt(
    workshop: &Workshop,
    instance: &Instance,
    server: Option<&server::Handle>,
    work: &Work,
    halt: &CancellationToken,
) -> Result<(), Error> {
    let names = Names::of(&instance.id);
    let home = instance.home;
    match work {
        Work::Create => {
            bring_up(home, server, &instance.spec).await?;
            if halt.is_cancelled() {
                return Err(sql::Error::Halted.into());
            }
            let plan = plan(&instance.spec.backing);
            Ok(sql::create_database(&workshop.admin(home)?, &names, plan, halt).await?)
        }
        Work::Update { to } => {
            bring_up(home, server, to).await?;
            Ok(sql::settle_plan(&workshop.admin(home)?, &names, plan(&to.backing)).await?)
        }
        Work::Delete => match home {
            Home::Shared => Ok(sql::drop_database(&workshop.admin(home)?, &names).await?),
            Home::Dedicated { .. } => Ok(server.ok_or(Error::NoServer)?.stop(true).await?),
        },
        Work::Bind {
            binding_id,
            password,
            expires_at,
        } => {
            let admin = workshop.admin(home)?;
            Ok(sql::create_login(&admin, &names, binding_id, &password.0, *expires_at).await?)
        }
        Work::Unbind { binding_id } => {
            Ok(sql::drop_login(&workshop.admin(home)?, &names, binding_id).await?)
        }
    }
}

async fn bring_up(home: Home, server: Option<&server::Handle>, spec: &Spec) -> Result<(), Error> {
    match home {
        Home::Shared => Ok(()),
        Home::Dedicated { port } => Ok(server.ok_or(Error::NoServer)?.run(port, spec).await?),
    }
}

/// A failed create leaves no server trying to start; a failed update leaves things as they were.
async fn make_good(instance: &Instance, server: Option<&server::Handle>, work: &Work) {
    let (Some(server), Home::Dedicated { port }) = (server, instance.home) else {
        return;
    };
    let result = match work {
        Work::Create => server.stop(false).await,
        Work::Update { .. } => server.run(port, &instance.spec).await,
        Work::Delete | Work::Bind { .. } | Work::Unbind { .. } => Ok(()),
    };
    if let Err(error) = result {
        tracing::warn!(instance.id = %instance.id, error = chain(&error), "failure not made good");
    }
}

/// What a plan gives a database. A dedicated server limits all of its connections instead.
fn plan(backing: &Backing) -> sql::Plan<'_> {
    let connections_max = match backing {
        Backing::Shared {
            connections_max, ..
        } => *connections_max,
        Backing::Dedicated { .. } => None,
    };
    sql::Plan {
        connections_max,
        extensions: backing.extensions(),
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat their source in their own text.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
