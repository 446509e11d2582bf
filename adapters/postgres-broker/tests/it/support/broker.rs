//! A broker in a runtime of its own, so that it can be killed as a process is: at once, without a
//! chance to tidy up.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adapter_postgres_broker::{Broker, Config, Error};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Platform};

pub(crate) struct TestBroker {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    join: Option<JoinHandle<Result<bool, Error>>>,
    state_dir: PathBuf,
    pub(crate) platform: Platform,
}

impl TestBroker {
    /// Starts a broker; waits for the state directory if a killed one still holds it.
    pub(crate) async fn start(config: Config) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        loop {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let stop = CancellationToken::new();
            let started = runtime.spawn(Broker::start(config.clone(), stop.clone()));
            match started.await.unwrap() {
                Ok(running) => {
                    return Self {
                        runtime: Some(runtime),
                        stop,
                        join: Some(running.join),
                        state_dir: config.state_dir,
                        platform: Platform::new(&format!("{scheme}://{}", running.local_addr)),
                    };
                }
                Err(error) => {
                    runtime.shutdown_background();
                    let held = format!("{error:?}").contains("InUse");
                    assert!(held && Instant::now() < deadline, "not started: {error:?}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Ends it at once, leaving its servers running and its work where it stands.
    pub(crate) fn kill(mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
        self.state_dir = PathBuf::new();
    }

    /// Stops it; returns whether it ended gracefully.
    pub(crate) async fn stop(mut self) -> bool {
        self.stop.cancel();
        let graceful = self.join.take().expect("it runs").await.unwrap().unwrap();
        super::seed::keep(&self.state_dir);
        graceful
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for pid in postmasters(&self.state_dir) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// The PostgreSQL servers that run in a state directory.
pub(crate) fn postmasters(state_dir: &Path) -> Vec<Pid> {
    let entries = std::fs::read_dir(state_dir.join("servers"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let data = entry.path().join("data");
            let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
            let pid = text.lines().next()?.trim().parse().ok()?;
            let works_in = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            (works_in == data.canonicalize().ok()?).then(|| Pid::from_raw(pid))?
        })
        .collect()
}
