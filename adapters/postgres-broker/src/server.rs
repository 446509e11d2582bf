//! Dedicated PostgreSQL servers: making their directories, running them, ending them.
//!
//! ```text
//! Handle ── Run, Stop ──► supervisor (one task per instance) ── owns ──► postmaster
//! ```

mod binaries;
mod conf;
mod firewall;
mod home;
mod launcher;
mod postmaster;
mod supervisor;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) use supervisor::Handle;

use crate::certificates::{self, ADMIN_ROLE, Authority};
use crate::config::DedicatedServers;
use crate::decide::binding::Address;
use crate::sql::Admin;
use binaries::Binaries;
use launcher::Launcher;

/// Servers that start at once: each recovers its log first, which takes a core and the disk.
const STARTS_AT_ONCE: usize = 4;

/// Why a dedicated server does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PostgreSQL programs were not found.
    #[error("find `postgres` and `initdb` in {searched}: install the package postgresql")]
    NoBinaries {
        /// Where they were looked for.
        searched: String,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error("find the user {name} to run PostgreSQL as, which refuses to run as root")]
    NoUser {
        /// The user.
        name: String,
    },
    /// A file or directory cannot be read or written.
    #[error("access {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("run {program}: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// Certificates cannot be made or used.
    #[error("use the certificates")]
    Certificates(#[from] certificates::Error),
    /// The server did not become ready.
    #[error("start PostgreSQL: {log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// The server did not end.
    #[error("end the PostgreSQL process {pid}")]
    NotEnding {
        /// Its process id.
        pid: i32,
    },
    /// The broker is stopping.
    #[error("work on the server: the broker is stopping")]
    Stopping,
}

/// What all servers of a broker have in common.
#[derive(Debug)]
pub(crate) struct Yard {
    config: DedicatedServers,
    binaries: Binaries,
    launcher: Launcher,
    authority: Authority,
    /// Holds one directory per server, and the template that they are copied from.
    directory: PathBuf,
    template: OnceCell<PathBuf>,
    starts: Semaphore,
    /// No server is waited for any more to become ready.
    pub(crate) stopping: CancellationToken,
}

impl Yard {
    /// Finds the programs and the user; makes certificates at first start.
    pub(crate) async fn open(
        config: &DedicatedServers,
        state_dir: &std::path::Path,
    ) -> Result<Self, Error> {
        let directory = state_dir.join("servers");
        crate::disk::create_private_dir(&directory).map_err(io_error(&directory))?;
        Ok(Self {
            config: config.clone(),
            binaries: Binaries::find(config.binaries.as_deref()).await?,
            launcher: Launcher::choose(config.user.as_deref())?,
            authority: Authority::load_or_create(&state_dir.join("authority.json"))?,
            directory,
            template: OnceCell::new(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            stopping: CancellationToken::new(),
        })
    }

    /// Where clients find a server.
    pub(crate) fn address(&self, port: u16) -> Address {
        let host = self.config.host.clone();
        Address {
            host: host.unwrap_or_else(|| self.config.listen.to_string()),
            port,
        }
    }

    /// How the broker connects to a server.
    pub(crate) fn admin(&self, port: u16) -> Result<Admin, Error> {
        let host = reachable(self.config.listen).to_string();
        Ok(Admin::with_certificate(
            &host,
            port,
            ADMIN_ROLE,
            self.authority.client()?,
        ))
    }

    /// A port that nobody listens on and that is not among those in use by other instances.
    pub(crate) fn free_port(&self, taken: &std::collections::HashSet<u16>) -> Option<u16> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let count = u32::from(last.checked_sub(first)?) + 1;
        let start = rand::random::<u32>() % count;
        (0..count)
            .map(|step| first + u16::try_from((start + step) % count).unwrap_or(0))
            .find(|port| !taken.contains(port) && self.is_free(*port))
    }

    /// Whether nobody listens on a port.
    pub(crate) fn is_free(&self, port: u16) -> bool {
        std::net::TcpListener::bind((self.config.listen, port)).is_ok()
    }
}

/// An address of ourselves by which a server is reached that listens on an address.
fn reachable(listen: std::net::IpAddr) -> std::net::IpAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        specified => specified,
    }
}

fn io_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

/// How long a server may take to start: recovery after a crash replays at most `max_wal_size`.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take: it writes one checkpoint.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an immediate shutdown may take: it writes nothing.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
