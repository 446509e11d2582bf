//! Starting and stopping the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::desk::Desk;
use crate::error::Error;
use crate::http::{Access, Listener};
use crate::job::Workshop;
use crate::record::{Backing, Home, Instance};
use crate::server::Yard;
use crate::sql::Admin;
use crate::store::Store;

/// An Open Service Broker for PostgreSQL.
#[derive(Debug)]
pub struct Broker;

/// A broker that accepts requests.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub local_addr: SocketAddr,
    /// Ends when the broker has ended: after `shutdown`, all its PostgreSQL servers stopped. The
    /// value says whether all work came to the end of a step in time; what did not is taken up at
    /// the next start.
    pub join: JoinHandle<Result<bool, Error>>,
}

impl Broker {
    /// Reads catalog and records, takes up what an earlier broker left, and listens.
    ///
    /// # Errors
    /// Whatever keeps the broker from keeping its promises: a catalog that breaks the rules, a state
    /// directory in use, an unreadable record, missing PostgreSQL programs.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, Error> {
        if config.username.is_empty() || config.password.0.is_empty() {
            return Err(Error::NoCredentials);
        }
        let catalog = Arc::new(read_catalog(&config)?);
        let store = Store::open(&config.state_dir)?;
        let records = store.load()?;
        let workshop = Arc::new(open_workshop(&config, &catalog, records.values()).await?);
        let tls = config.tls.as_ref().map(crate::http::tls).transpose()?;
        let socket = TcpListener::bind(config.listen)
            .await
            .map_err(|source| Error::Listen {
                address: config.listen,
                source,
            })?;
        let local_addr = socket.local_addr().map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        let desk_stop = CancellationToken::new();
        let (desk, at_desk) =
            Desk::new(Arc::clone(&catalog), store, records, workshop).open(desk_stop.clone());
        let access = Access::new(&config.username, &config.password);
        let router = crate::http::router(desk, catalog, access, &config.limits);
        let listener = Listener {
            socket,
            tls,
            router,
        };
        tracing::info!(address = %local_addr, "broker listening");
        let join = tokio::spawn(async move {
            // Aborted with this task, so that the state directory is free when that has ended.
            let mut at_desk = tokio::task::JoinSet::from_iter([at_desk]);
            tokio::select! {
                () = listener.serve(shutdown) => {}
                _ = at_desk.join_next() => return Err(Error::TaskLost),
            }
            desk_stop.cancel();
            match at_desk.join_next().await {
                Some(Ok(graceful)) => {
                    tracing::info!(graceful, "broker stopped");
                    Ok(graceful)
                }
                _ => Err(Error::TaskLost),
            }
        });
        Ok(Running { local_addr, join })
    }
}

/// Runs a broker until `shutdown`; returns whether it ended gracefully.
///
/// # Errors
/// As [`Broker::start`]; or a task of the broker broke down.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<bool, Error> {
    let running = Broker::start(config, shutdown).await?;
    running.join.await.map_err(|_| Error::TaskLost)?
}

fn read_catalog(config: &Config) -> Result<Catalog, Error> {
    let error = |source| Error::Catalog {
        path: config.catalog.clone(),
        source,
    };
    let yaml = std::fs::read_to_string(&config.catalog).map_err(|source| error(source.into()))?;
    let offered = |backing: &Backing| match backing {
        Backing::Shared { .. } => config.shared.is_some(),
        Backing::Dedicated { .. } => true,
    };
    Catalog::parse(&yaml, offered).map_err(error)
}

async fn open_workshop(
    config: &Config,
    catalog: &Catalog,
    records: impl Iterator<Item = &Instance>,
) -> Result<Workshop, Error> {
    let mut live = records.filter(|record| !record.is_gone());
    let dedicated = catalog.offers_dedicated()
        || live.any(|record| matches!(record.home, Home::Dedicated { .. }));
    let yard = if dedicated {
        Some(Arc::new(
            Yard::open(&config.dedicated, &config.state_dir).await?,
        ))
    } else {
        None
    };
    let shared = match &config.shared {
        None => None,
        Some(server) => {
            Some(Admin::from_url(&server.url.0, server.ca_file.as_deref()).map_err(Error::Shared)?)
        }
    };
    Ok(Workshop {
        shared,
        yard,
        limits: config.limits.clone(),
        permits: Semaphore::new(config.limits.concurrent_operations),
    })
}
