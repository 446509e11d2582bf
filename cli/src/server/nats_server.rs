//! The embedded NATS server: found, configured, started, watched, started again when it dies, and
//! stopped in lame-duck mode.

mod find;
mod options;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use find::find;
pub(crate) use options::{Options, server_options};

/// How long the server may take until it listens: a million messages take one second.
const START_MAX: Duration = Duration::from_secs(60);

/// How often a starting server is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// First wait before a dead server is started again; doubled each time up to the last.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(10);

/// How often a running server is asked for a sign of life, how long it may take, and how many
/// silences in a row end it: a busy machine is slow, a stopped server never answers.
const PROBE: Duration = Duration::from_secs(5);
const PROBE_MAX: Duration = Duration::from_secs(5);
const SILENCES_MAX: u32 = 3;

/// A server that lived so long is started again without a wait.
const HEALTHY: Duration = Duration::from_secs(60);

/// How long a lame duck may take before it is killed. Clients are gone by then, so it is short.
const LAME_DUCK_MAX: Duration = Duration::from_secs(5);

/// A NATS server under supervision.
pub(crate) struct NatsServer {
    stop: CancellationToken,
    watched: tokio::task::JoinHandle<()>,
}

impl NatsServer {
    /// Starts the server and returns when it listens.
    pub(crate) async fn start(
        executable: PathBuf,
        directory: PathBuf,
        port: u16,
        options: Options,
    ) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        let config = directory.join("nats.conf");
        crate::config::write_private(&config, options.render(&directory).as_bytes())?;
        let host = options.host;
        let mut child = spawn(&executable, &config, &directory)?;
        if let Err(error) = listening(&mut child, (host, port).into()).await {
            let _ = child.kill().await;
            return Err(error.context(last_words(&directory)));
        }
        let stop = CancellationToken::new();
        let watch = Watch {
            executable,
            config,
            directory,
            address: (host, port).into(),
        };
        let watched = tokio::spawn(watch.keep_alive(child, stop.clone()));
        Ok(Self { stop, watched })
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if self.watched.await.is_err() {
            error!("the supervisor of nats-server failed");
        }
    }
}

struct Watch {
    executable: PathBuf,
    config: PathBuf,
    directory: PathBuf,
    address: std::net::SocketAddr,
}

impl Watch {
    async fn keep_alive(self, mut child: Child, stop: CancellationToken) {
        let mut pause = RESTART_FIRST;
        loop {
            let since = Instant::now();
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = self.silent() => {
                    error!("nats-server does not answer and is killed");
                    let _ = child.start_kill();
                    child.wait().await
                }
                () = stop.cancelled() => return lame_duck(child).await,
            };
            let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            error!(%status, "nats-server ended; starting it again");
            if since.elapsed() >= HEALTHY {
                pause = RESTART_FIRST;
            }
            child = loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(RESTART_LAST);
                match self.again().await {
                    Ok(child) => break child,
                    Err(error) => error!(%error, "nats-server does not start"),
                }
            };
            info!("nats-server is back");
        }
    }

    /// Returns when the server has not answered several times in a row.
    async fn silent(&self) {
        let mut silences = 0;
        while silences < SILENCES_MAX {
            sleep(PROBE).await;
            let greeted = timeout(PROBE_MAX, greeted(self.address)).await;
            silences = if matches!(greeted, Ok(Ok(()))) {
                0
            } else {
                silences + 1
            };
        }
    }

    async fn again(&self) -> Result<Child> {
        let mut child = spawn(&self.executable, &self.config, &self.directory)?;
        match listening(&mut child, self.address).await {
            Ok(()) => Ok(child),
            Err(error) => {
                let _ = child.kill().await;
                Err(error.context(last_words(&self.directory)))
            }
        }
    }
}

/// Starts the process. It dies with this one: nothing but this process watches it.
fn spawn(executable: &Path, config: &Path, directory: &Path) -> Result<Child> {
    let log = fs::File::create(directory.join("nats.log"))?;
    let mut command = Command::new(executable);
    command
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .kill_on_drop(true);
    adapter_sandbox::die_with_parent(command.as_std_mut());
    // Its own group: a Ctrl-C at the terminal is for us, and we stop it when all else is drained.
    command.process_group(0);
    command
        .spawn()
        .with_context(|| format!("cannot run {}", executable.display()))
}

async fn listening(child: &mut Child, address: std::net::SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("nats-server ended at once ({status})");
        }
        if let Ok(Ok(())) = timeout(LOOK * 10, greeted(address)).await {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("nats-server does not listen on {address} after {START_MAX:?}");
        }
        sleep(LOOK).await;
    }
}

/// A NATS server greets whoever connects.
async fn greeted(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut greeting = [0; 4];
    TcpStream::connect(address)
        .await?
        .read_exact(&mut greeting)
        .await?;
    Ok(())
}

/// The end of its log, for the error that a person sees.
fn last_words(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("nats.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    let said = lines.into_iter().rev().collect::<Vec<_>>().join("; ");
    format!("nats-server did not start; it said: {said}")
}

async fn lame_duck(mut child: Child) {
    if let Some(pid) = child.id() {
        adapter_sandbox::signal(pid, adapter_sandbox::Signal::LameDuck);
    }
    match timeout(LAME_DUCK_MAX, child.wait()).await {
        Ok(Ok(_)) => info!("nats-server stopped"),
        Ok(Err(error)) => warn!(%error, "nats-server cannot be waited for"),
        Err(_) => {
            warn!("nats-server did not stop in time and is killed");
            let _ = child.kill().await;
        }
    }
}
